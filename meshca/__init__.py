"""meshca: a mesh certificate authority and zero-trust identity service.

This package holds the kernel every other package may use (clock, errors, SPIFFE IDs, settings,
database, metrics, logs) and, above them all, the wiring and the command line.
"""
