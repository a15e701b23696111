"""JSON Lines: the export that proves itself. Pure.

    {"audit_export":1,"filter":{...},"from":A,"left":[...],"log":ORIGIN,"to":B}       header
    {"actor":...}                        an entry: its body, the bytes that its leaf hashes
    {"index":N,"leaf_hash":H,"redacted":true}             an entry whose body is redacted
    {"hashes":[...],"skipped":[N,M]}     entries [N,M) that the filter leaves out
    {"audit_export_end":{"checkpoint":NOTE,"keys":[...],"right":[...],"steps":[...]}}

Entries [A,B) follow one another without a gap. `left`, `right` and `hashes` are the roots of the
complete subtrees that stand for the entries not shown (audit/range_proof.py), so that everything
comes to the root that the checkpoint has signed. Each line of ours is canonical: sorted keys, no
spaces, one newline; there is one spelling of an export, and any other byte is a fault.

`keys` and `steps` lead from an older key of the log to the one that signed: see `Step`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:  # who verifies an export needs no database
    from audit.log import Stored

FORMAT: Final = 1
BODY: Final = b'{"actor":'
"""How the body of an entry begins, and no other line does."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """The `log_key` entry number `index`, which introduces a key; `inclusion` proves it.

    Like all of the trailer's proofs it leads to the root of the trailer's checkpoint.
    """

    index: int
    body: str
    inclusion: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """A checkpoint that an older key signed; `consistency` proves that its log begins ours.

    Who trusts a key that signed it learns from the `log_key` entries below its size which other
    keys speak for the log.
    """

    checkpoint: str
    consistency: tuple[bytes, ...]


def header(*, origin: str, start: int, stop: int, left: Sequence[bytes], chosen: Json) -> bytes:
    """Return the first line of the export of entries [start, stop) of the log `origin`."""
    return line(
        {
            "audit_export": FORMAT,
            "filter": chosen,
            "from": start,
            "left": hexes(left),
            "log": origin,
            "to": stop,
        }
    )


def entry(stored: "Stored") -> bytes:
    """Return the line of one entry."""
    if stored.body is not None:
        return stored.body + b"\n"
    return line({"index": stored.index, "leaf_hash": stored.leaf_hash.hex(), "redacted": True})


def skipped(start: int, stop: int, hashes: Sequence[bytes]) -> bytes:
    """Return the line that stands for entries [start, stop)."""
    return line({"hashes": hexes(hashes), "skipped": [start, stop]})


def trailer(
    *,
    checkpoint: str,
    right: Sequence[bytes],
    keys: Sequence[KeyEntry] = (),
    steps: Sequence[Step] = (),
) -> bytes:
    """Return the last line; `right` stands for the entries behind the last."""
    return line(
        {
            "audit_export_end": {
                "checkpoint": checkpoint,
                "keys": [
                    {"entry": k.body, "inclusion": hexes(k.inclusion), "index": k.index}
                    for k in keys
                ],
                "right": hexes(right),
                "steps": [
                    {"checkpoint": step.checkpoint, "consistency": hexes(step.consistency)}
                    for step in steps
                ],
            }
        }
    )


def line(document: Mapping[str, object]) -> bytes:
    """Return `document` in its one spelling."""
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS) + b"\n"


def hexes(hashes: Sequence[bytes]) -> list[str]:
    """Return `hashes` as JSON has them."""
    return [one.hex() for one in hashes]


def index_of(text: bytes) -> int | None:
    """Return the index of the last entry that a line stands for; None for header and trailer."""
    try:
        document = orjson.loads(text)
        if "skipped" in document:
            found = document["skipped"][1] - 1
        else:
            found = document["index"] if "index" in document else document["sequence"] - 1
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError):
        return None
    return found if type(found) is int else None
