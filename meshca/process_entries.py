"""What the audit log knows of a process: that it began and ended, and with which configuration.

A process that could not write its last entry (killed, or without a database) is found at the next
start of its replica: what it had only counted by then is lost, and a `gap` says since when that can
be. So every start has a stop or a gap after it.
"""

import platform
from datetime import datetime
from importlib.metadata import version
from typing import Any

import sqlalchemy as sa

from audit.entry import Entry
from audit.milestones import newest
from authz.sources import PolicyLoader
from meshca.configuration_audit import changed_configuration, digest_of, values_of
from meshca.policy_audit import policy_details
from meshca.settings import Settings


def start_entries(
    settings: Settings, policies: PolicyLoader, engine: sa.Engine, now: datetime
) -> list[Entry]:
    """Return what is to be written at a start, the start itself last; blocking.

    Raises StoreUnavailable.
    """
    return [
        *_unfinished(settings.replica, engine, now),
        *changed_configuration(settings, engine, now),
        _entry("server_start", settings, policies, now),
    ]


def stop_entry(settings: Settings, policies: PolicyLoader, now: datetime) -> Entry:
    """Return the last entry of a process."""
    return _entry("server_stop", settings, policies, now)


def _unfinished(replica: str, engine: sa.Engine, now: datetime) -> list[Entry]:
    """Return the gap after a start of `replica` that no stop follows."""
    for stored in newest(engine, "server_start", "server_stop"):
        document: dict[str, Any] = stored.document() or {}
        details = document.get("details", {})
        if details.get("replica") != replica:
            continue
        if document["kind"] == "server_stop":
            return []
        return [
            Entry(
                time=now,
                kind="gap",
                outcome="failed",
                actor="meshca",
                reason="stop_not_recorded",
                details={
                    "what": "process",
                    "unrecorded": None,
                    "by_reason": {},
                    "since": document["time"],
                    "replica": replica,
                    "host": details.get("host", ""),
                },
            )
        ]
    return []


def _entry(kind: str, settings: Settings, policies: PolicyLoader, now: datetime) -> Entry:
    return Entry(
        time=now,
        kind=kind,
        outcome="done",
        actor="meshca",
        details={
            "version": version("meshca"),
            "python": platform.python_version(),
            "host": platform.node(),
            "replica": settings.replica,
            "trust_domain": settings.trust_domain,
            "configuration": digest_of(values_of(settings)),
            **policy_details(policies),
        },
    )
