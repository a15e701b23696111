"""What the audit log knows of the configuration: a digest, and which keys differ from before.

At each start the configuration is compared with that of this replica's last entry about it. Values
are never recorded. What could be a secret is no part of any digest, only whether it is set: a short
password could be guessed from a hash. Of the other values the entry has salted digests, by which
the next start finds the keys that differ.

Not here: what the files hold whose paths are configured; policies have entries of their own.
"""

import re
import secrets
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import sqlalchemy as sa

from audit.entry import Entry, Json
from audit.milestones import newest
from meshca.settings import Settings

MAXIMUM_KEYS: Final = 400
"""With more, what lies deep counts as one key."""
MAXIMUM_NAMED: Final = 200

_DIGEST_DIGITS: Final = 16
_DEEPEST: Final = 12
_SECRET: Final = re.compile(r"pass|secret|token|credential|authorization|header|(^|_)(pin|key)$")
_NO_SECRET: Final = ("_file", "_label", "_url")
_SET: Final = "(set)"


def values_of(settings: Settings) -> dict[str, Any]:
    """Return every value by the path of its key (`listen.mesh`), without what could be a secret."""
    whole = settings.model_dump(mode="json")
    flat: dict[str, Any] = {}
    for depth in range(_DEEPEST, 0, -1):
        flat = dict(_flat(whole, (), depth))
        if len(flat) <= MAXIMUM_KEYS:
            break
    return flat


def digest_of(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a configuration in hex: equal for equal values."""
    return sha256(repr(sorted(values.items())).encode()).hexdigest()


def changed_configuration(
    settings: Settings, engine: sa.Engine, now: datetime, actor: str = "meshca"
) -> list[Entry]:
    """Return the entry of a configuration that this replica was not started with before; blocking.

    Raises StoreUnavailable.
    """
    values = values_of(settings)
    digest, before = digest_of(values), _last(engine, settings.replica)
    if before.get("digest") == digest:
        return []
    salt = secrets.token_hex(16)
    details: dict[str, Json] = {
        "replica": settings.replica,
        "digest": digest,
        "before": before.get("digest"),
        **_difference(before, values),
        "salt": salt,
        "keys": {path: _digest(salt, path, value) for path, value in values.items()},
    }
    reason = "changed" if before else "first known"
    return [
        Entry(
            time=now,
            kind="configuration",
            outcome="done",
            actor=actor,
            reason=reason,
            details=details,
        )
    ]


def _last(engine: sa.Engine, replica: str) -> Mapping[str, Any]:
    for stored in newest(engine, "configuration"):
        details: Mapping[str, Any] = (stored.document() or {}).get("details", {})
        if details.get("replica") == replica:
            return details
    return {}


def _difference(before: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Json]:
    """Return the keys that differ from the entry `before`; nothing without one."""
    keys = before.get("keys")
    if not isinstance(keys, dict):
        return {}
    salt = str(before.get("salt", ""))
    differ = {
        "added": [path for path in values if path not in keys],
        "removed": [path for path in keys if path not in values],
        "changed": [
            path
            for path, value in values.items()
            if path in keys and keys[path] != _digest(salt, path, value)
        ],
    }
    return {what: [*paths[:MAXIMUM_NAMED]] for what, paths in differ.items() if paths}


def _digest(salt: str, path: str, value: Any) -> str:
    return sha256(f"{salt}\0{path}\0{value!r}".encode()).hexdigest()[:_DIGEST_DIGITS]


def _flat(value: Any, path: tuple[str, ...], depth: int) -> list[tuple[str, Any]]:
    name = ".".join(path)
    if path and _may_be_secret(path[-1]) and not isinstance(value, dict | bool):
        return [(name, _SET if value else None)]
    items: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        items = [(str(key), each) for key, each in value.items()]
    elif isinstance(value, list):
        items = [(str(number), each) for number, each in enumerate(value)]
    if not items:
        return [(name, _without_secret(value) if isinstance(value, str) else value)]
    found = [pair for key, each in items for pair in _flat(each, (*path, key), depth)]
    return found if len(path) < depth else [(name, found)]


def _may_be_secret(key: str) -> bool:
    return not key.endswith(_NO_SECRET) and _SECRET.search(key) is not None


def _without_secret(text: str) -> str:
    """Return a URL without what may prove something to its server; other text as it is."""
    if "://" not in text:
        return text
    try:
        url = urlsplit(text)
        where = url.netloc.rpartition("@")[2]
        who = url.username or ""
    except ValueError:
        return _SET
    return urlunsplit((url.scheme, f"{who}@{where}" if who else where, url.path, "", ""))
