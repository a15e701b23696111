"""Entries for tests of exports: one of every kind, and texts that mean harm."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from audit.entry import KINDS, Entry
from audit.log import Stored, body_of, microseconds
from audit.merkle import leaf_hash

TIME: Final = datetime(2026, 11, 1, 12, 0, 0, 123456, tzinfo=UTC)
ORDERS: Final = "spiffe://example.org/ns/shop/sa/orders"

ATTACKS: Final = {
    "a second line": 'x\n{"actor":"uid:0","kind":"read"}\r\nCEF:0|evil|',
    "a formula": "=cmd|' /C calc'!A0",
    "a full-width formula": "\uff1dcmd",
    "a tab and a formula": "\t=1+1",
    "a carriage return": "\r=1+1",
    "an at sign": "@SUM(1+1)*cmd|' /C calc'!A0",
    "quotes and commas": '","=1+1","',
    "pipes and equals": "a|b\\|c act=allowed cs1=forged\\",
    "a terminal escape": "\x1b[2J\x1b]0;owned\x07\x9b31m",
    "text that turns around": "abc\u202egnp.exe\u2066",
    "line separators": "a\u2028b\u2029c\x85d\x0be\x0cf",
    "NUL": "a\x00b",
    "a lone surrogate": "a\ud800b",
    "ten mebibytes": "A" * (10 << 20),
    "markup": "<script>alert(1)</script>&amp;",
}

TEXTS: Final = (
    "actor",
    "spiffe_id",
    "serial",
    "fingerprint",
    "cluster",
    "namespace",
    "service_account",
    "pod",
    "node",
    "destination",
    "policy",
    "request_id",
    "reason",
)


def stored(entry: Entry, index: int = 7) -> Stored:
    """Return `entry` as the log keeps it."""
    entry, body = body_of(entry, index, "00" * 16)
    return Stored(index, microseconds(entry.time), entry.kind, leaf_hash(body), body)


def an_entry(kind: Any = "issuance", number: Any = 0, **changes: Any) -> Entry:
    """Return an entry of `kind` with something in every field."""
    values: dict[str, Any] = {
        "time": TIME + timedelta(seconds=number),
        "kind": kind,
        "outcome": "done",
        "actor": "uid:0",
        "spiffe_id": ORDERS,
        "serial": f"{number + 0xAB:x}",
        "fingerprint": "cd" * 32,
        "cluster": "prod-eu",
        "namespace": "shop",
        "service_account": "orders",
        "pod": "orders-1",
        "node": "node-a",
        "destination": "shop/app=orders",
        "policy": "shop/orders-readers",
        "request_id": "r-1",
        "reason": "because",
        "details": {"what": "made", "count": 3, "peer": "unix", "version": "0.1.0"},
    }
    return Entry(**{**values, **changes})


def one_of_each() -> list[Stored]:
    """Return an entry of every kind, full and nearly empty."""
    full = [stored(an_entry(kind, number), number) for number, kind in enumerate(KINDS)]
    bare = [stored(Entry(TIME, kind, "refused"), 1000) for kind in KINDS]
    return [*full, *bare]


def redacted(of: Stored) -> Stored:
    """Return `of` as retention leaves it."""
    return Stored(of.index, of.time_us, of.kind, of.leaf_hash, None)


def of_the_chain() -> Stored:
    """Return an entry that version 0.1 wrote, which had fewer fields."""
    document = {"actor": "uid:0", "details": {}, "kind": "ban", "outcome": "done", "sequence": 8}
    texts = dict.fromkeys(("cluster", "namespace", "node", "pod", "reason", "serial"), "")
    more = {"service_account": "", "spiffe_id": ORDERS, "time": TIME.isoformat(), "v": 1}
    body = orjson.dumps({**document, **texts, **more}, option=orjson.OPT_SORT_KEYS)
    return Stored(7, microseconds(TIME), "ban", leaf_hash(body), body)
