"""Sending the audit log to collectors as it grows."""
