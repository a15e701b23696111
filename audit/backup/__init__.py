"""The whole log in one file, and back, verified before it is in force."""
