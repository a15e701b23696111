"""Writing an export: pages of the log as lines of one of the formats, in bounded memory.

JSON Lines carry the proof that they are the log (audit/export/json_lines.py); the other formats
are for reading. An export may be gone on with: `is_continued` leaves out what stands at the
beginning of the file, and the trailer is that of the newest checkpoint when the last entry is
written, whichever key has signed it, or of the newest that a witness has cosigned, if it is large
enough.

The generator reads the database: run it off the event loop.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from audit.anchors.store import newest_cosigned
from audit.checkpoints import newest_checkpoint
from audit.export import cef, comma, json_lines, ocsf
from audit.export.chosen import EVERYTHING, Chosen
from audit.export.partial import Format
from audit.export.proofs import keys_and_steps
from audit.log import Log, Stored
from audit.range_proof import Row, range_hashes
from audit.tree import StoredTree
from meshca.database import reading
from meshca.errors import RequestRefused, Unavailable

CHUNK_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Entries [start, stop) of the log `origin` that are `chosen`, written by this `version`."""

    origin: str
    version: str
    start: int
    stop: int
    format: Format = "jsonl"
    chosen: Chosen = EVERYTHING
    is_continued: bool = False


def plan(
    log: Log,
    *,
    origin: str,
    version: str,
    start: int = 0,
    stop: int | None = None,
    format: Format = "jsonl",  # noqa: A002  # what everybody calls it
    chosen: Chosen = EVERYTHING,
    is_continued: bool = False,
    is_witnessed: bool = False,
) -> Export:
    """Return what to export: up to `stop`, or all that the newest checkpoint holds.

    With `is_witnessed` it is the newest that a witness has cosigned. Raises RequestRefused for
    entries that it does not hold yet, Unavailable without any.
    """
    find = newest_cosigned if is_witnessed else newest_checkpoint
    kept = find(log.engine, origin)
    if kept is None and is_witnessed:
        raise Unavailable("no checkpoint is cosigned by a witness yet; see `meshca audit anchors`")
    if kept is None:
        raise Unavailable("the log has no checkpoint yet; one follows each entry within a second")
    end = kept.size if stop is None else stop
    if not 0 <= start <= end <= kept.size:
        raise RequestRefused(
            "range", f"the checkpoint holds entries 0 to {kept.size - 1}, not from {start} to {end}"
        )
    return Export(
        origin=origin,
        version=version,
        start=start,
        stop=end,
        format=format,
        chosen=chosen,
        is_continued=is_continued,
    )


def write(log: Log, export: Export) -> Iterator[bytes]:
    """Yield the export, a few hundred kilobytes at a time; raises StoreUnavailable."""
    lines = _provable(log, export) if export.format == "jsonl" else _readable(log, export)
    chunk: list[bytes] = []
    size = 0
    for line in lines:
        chunk.append(line)
        size += len(line)
        if size >= CHUNK_BYTES:
            yield b"".join(chunk)
            chunk, size = [], 0
    yield b"".join(chunk)


def _readable(log: Log, export: Export) -> Iterator[bytes]:
    write_one = _writer(export)
    if export.format == "csv" and not export.is_continued:
        yield comma.header()
    for stored in log.entries(export.start, export.stop):
        if _is_chosen(export.chosen, stored):
            yield write_one(stored)


def _writer(export: Export) -> Callable[[Stored], bytes]:
    if export.format == "csv":
        return comma.row
    event = ocsf.event if export.format == "ocsf" else cef.event
    return lambda stored: event(stored, origin=export.origin, version=export.version)


def _provable(log: Log, export: Export) -> Iterator[bytes]:
    if not export.is_continued:
        yield json_lines.header(
            origin=export.origin,
            start=export.start,
            stop=export.stop,
            left=_hashes(log.engine, 0, export.start),
            chosen=export.chosen.given(),
        )
    skipped = Row(export.start)
    for stored in log.entries(export.start, export.stop):
        if not _is_chosen(export.chosen, stored):
            skipped.extend([stored.leaf_hash])
            continue
        if skipped.stop > skipped.start:
            yield json_lines.skipped(skipped.start, skipped.stop, skipped.hashes())
        skipped = Row(stored.index + 1)
        yield json_lines.entry(stored)
    if skipped.stop > skipped.start:
        yield json_lines.skipped(skipped.start, skipped.stop, skipped.hashes())
    yield _trailer(log, export)


def _is_chosen(chosen: Chosen, stored: Stored) -> bool:
    """Return whether to show an entry; what is redacted is never left out."""
    if stored.body is None or chosen == EVERYTHING:
        return True
    return chosen.matches(stored.document() or {})


def _trailer(log: Log, export: Export) -> bytes:
    cosigned = newest_cosigned(log.engine, export.origin, at_least=export.stop)
    kept = cosigned or newest_checkpoint(log.engine, export.origin)
    if kept is None or kept.size < export.stop:
        raise Unavailable("the checkpoint is gone that this export began with")
    keys, steps = keys_and_steps(log, kept)
    return json_lines.trailer(
        checkpoint=kept.note,
        right=_hashes(log.engine, export.stop, kept.size),
        keys=keys,
        steps=steps,
    )


def _hashes(engine: sa.Engine, start: int, stop: int) -> list[bytes]:
    with reading(engine) as connection:
        return range_hashes(start, stop, StoredTree(connection).hash_at)
