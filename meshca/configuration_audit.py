"""What the audit log knows of the configuration: a digest, and which keys differ from before.

At each start the configuration is compared with that of this replica's last entry about it. Values
are never recorded. Of what can be no secret the entry has salted digests, by which the next start
finds the keys that differ. A short password could be guessed from those: of what could be a secret
there is a digest under a key that never leaves the data directory, and that says nothing to whoever
has the log. Without that key (a new disk) the entry says that secrets could not be compared.

Not here: what the files hold whose paths are configured; policies have entries of their own.
"""

import re
import secrets
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from hmac import digest as keyed_digest
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import sqlalchemy as sa

from audit.entry import Entry, Json
from audit.files import make_private_directory, read_private, replace_file
from audit.milestones import newest
from meshca.errors import StoreUnavailable
from meshca.settings import Settings

MAXIMUM_KEYS: Final = 400
"""With more, what lies deep counts as one key."""
MAXIMUM_NAMED: Final = 200

KEY_FILE: Final = "configuration.key"

_KEY_BYTES: Final = 32
_DIGEST_DIGITS: Final = 16
_DEEPEST: Final = 12
_SECRET: Final = re.compile(r"pass|secret|token|credential|authorization|header|(^|_)(pin|key)$")
_NO_SECRET: Final = ("_file", "_label", "_url")
_SET: Final = "(set)"

_Value = tuple[Any, Any]
"""What of a value can be no secret, and what could be one: the rest, or None."""


def values_of(settings: Settings) -> dict[str, Any]:
    """Return every value by the path of its key (`listen.mesh`), without what could be a secret."""
    return {path: shown for path, (shown, _) in _values(settings).items()}


def digest_of(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a configuration in hex: equal for equal values."""
    return sha256(repr(sorted(values.items())).encode()).hexdigest()


def changed_configuration(
    settings: Settings, engine: sa.Engine, now: datetime, actor: str = "meshca"
) -> list[Entry]:
    """Return the entry of a configuration that this replica was not started with before; blocking.

    Raises StoreUnavailable.
    """
    both, before = _values(settings), _last(engine, settings.replica)
    values = {path: shown for path, (shown, _) in both.items()}
    secret = {path: held for path, (_, held) in both.items() if held is not None}
    key = _key(settings.data_dir / "audit" / KEY_FILE) if secret else b""
    difference = _difference(before, values)
    told = {path for paths in difference.values() for path in paths}
    secrets_changed, is_compared = _secrets_difference(before, secret, key)
    difference["changed_secret"] = [path for path in secrets_changed if path not in told]
    if before and is_compared and not any(difference.values()):
        return []
    salt = secrets.token_hex(16)
    details: dict[str, Json] = {
        "replica": settings.replica,
        "digest": digest_of(values),
        "before": before.get("digest"),
        **{what: [*paths[:MAXIMUM_NAMED]] for what, paths in difference.items() if paths},
        "secrets_compared": is_compared,
        "salt": salt,
        "keys": {path: _digest(salt, path, value) for path, value in values.items()},
        "secrets": {path: _keyed(key, salt, path, value) for path, value in secret.items()},
        "secrets_key": _name(key),
    }
    return [
        Entry(
            time=now,
            kind="configuration",
            outcome="done",
            actor=actor,
            reason=_reason(before, any(difference.values())),
            details=details,
        )
    ]


def _reason(before: Mapping[str, Any], is_changed: bool) -> str:
    if not before:
        return "first known"
    return "changed" if is_changed else "secrets not compared"


def _last(engine: sa.Engine, replica: str) -> Mapping[str, Any]:
    for stored in newest(engine, "configuration"):
        details: Mapping[str, Any] = (stored.document() or {}).get("details", {})
        if details.get("replica") == replica:
            return details
    return {}


def _difference(before: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the keys that differ from the entry `before`; nothing without one."""
    keys = before.get("keys")
    if not isinstance(keys, dict):
        return {}
    salt = str(before.get("salt", ""))
    return {
        "added": [path for path in values if path not in keys],
        "removed": [path for path in keys if path not in values],
        "changed": [
            path
            for path, value in values.items()
            if path in keys and keys[path] != _digest(salt, path, value)
        ],
    }


def _secrets_difference(
    before: Mapping[str, Any], secret: Mapping[str, Any], key: bytes
) -> tuple[list[str], bool]:
    """Return the keys whose secrets differ from the entry `before`, and whether all were compared.

    They are not after a start of a version that did not, or under another key.
    """
    held = before.get("secrets")
    if not isinstance(held, dict):
        return [], not secret
    salt = str(before.get("salt", ""))
    both = held.keys() & secret.keys()
    is_compared = not both or before.get("secrets_key") == _name(key)
    differ = held.keys() ^ secret.keys()
    if is_compared:
        differ |= {path for path in both if held[path] != _keyed(key, salt, path, secret[path])}
    return sorted(differ), is_compared


def _key(path: Path) -> bytes:
    """Return the key in `path`, made if there is none; raises StoreUnavailable."""
    try:
        key = read_private(path)
    except FileNotFoundError:
        key = secrets.token_bytes(_KEY_BYTES)
        make_private_directory(path.parent)
        replace_file(path, key)
    if len(key) != _KEY_BYTES:
        raise StoreUnavailable(f"{path} is no key of {_KEY_BYTES} bytes: remove it")
    return key


def _name(key: bytes) -> str:
    """Return what tells one key from another, and nothing about either."""
    return _keyed(key, "", "", "name") if key else ""


def _keyed(key: bytes, salt: str, path: str, value: Any) -> str:
    text = f"{salt}\0{path}\0{value!r}"
    return keyed_digest(key, text.encode(), "sha256").hex()[:_DIGEST_DIGITS]


def _digest(salt: str, path: str, value: Any) -> str:
    return sha256(f"{salt}\0{path}\0{value!r}".encode()).hexdigest()[:_DIGEST_DIGITS]


def _values(settings: Settings) -> dict[str, _Value]:
    """Return every value by the path of its key."""
    whole = settings.model_dump(mode="json")
    flat: dict[str, _Value] = {}
    for depth in range(_DEEPEST, 0, -1):
        flat = dict(_flat(whole, (), depth))
        if len(flat) <= MAXIMUM_KEYS:
            break
    return flat


def _flat(value: Any, path: tuple[str, ...], depth: int) -> list[tuple[str, _Value]]:
    name = ".".join(path)
    if path and _may_be_secret(path[-1]) and not isinstance(value, dict | bool):
        return [(name, (_SET, value) if value else (None, None))]
    items: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        items = [(str(key), each) for key, each in value.items()]
    elif isinstance(value, list):
        items = [(str(number), each) for number, each in enumerate(value)]
    if not items:
        shown = _without_secret(value) if isinstance(value, str) else value
        return [(name, (shown, value if shown != value else None))]
    found = [pair for key, each in items for pair in _flat(each, (*path, key), depth)]
    return found if len(path) < depth else [(name, _as_one(found))]


def _as_one(found: list[tuple[str, _Value]]) -> _Value:
    """Return a whole branch as one value."""
    hidden = [(name, held) for name, (_, held) in found if held is not None]
    return [(name, shown) for name, (shown, _) in found], hidden or None


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
