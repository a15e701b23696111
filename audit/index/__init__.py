"""The search index: a projection of the log, built behind the appends; it can be dropped."""
