"""The log in the formats that others read, and verifying an export without the log."""
