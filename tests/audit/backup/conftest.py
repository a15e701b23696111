"""Databases with an empty log, as for retention."""

from tests.audit.retention.conftest import engine, server

__all__ = ["engine", "server"]
