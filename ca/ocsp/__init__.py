"""Telling the status of one certificate to whoever asks (RFC 6960, RFC 8954, RFC 5019)."""
