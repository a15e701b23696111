"""Verifying a JSON Lines export: with public keys, and nothing else. Reads it once.

    1. the header says which entries of which log                     (audit/export/json_lines.py)
    2. each line is the entry that comes next, and hashes to its leaf; a redacted one gives its
       leaf hash, one that the filter leaves out the hash of a subtree that it is in
    3. all of it, between what stands for the entries on the left and on the right, comes to one
       root (audit/range_proof.py), which is that of the trailer's checkpoint
    4. a key that is trusted has signed the checkpoint                (audit/export/trailer.py)

Nothing is believed before 4: what went before only says where a file is wrong. A byte that was
changed, moved, removed or inserted, and an end that is missing, is an error at its line.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, BinaryIO, Final

import orjson

from audit.checkpoint import Checkpoint
from audit.export.chosen import EVERYTHING, Chosen
from audit.export.json_lines import BODY, FORMAT, line
from audit.export.lines import ExportBroken, line_batches
from audit.export.trailer import Signed, hash_of, hashes, parse_end, verify_end
from audit.key_history import LOG_KEY_KIND
from audit.note import VerifierKey
from audit.range_proof import Row
from audit.retention.coverage import REDACTION, Coverage, Range
from meshca.errors import EvidenceBroken, RequestRefused

_HEARD: Final = (f'{LOG_KEY_KIND}"'.encode(), f'{REDACTION}"'.encode())
_MALFORMED: Final = (KeyError, TypeError, ValueError, IndexError)
_HEADER: Final = {"audit_export", "filter", "from", "left", "log", "to"}
_REDACTED: Final = {"index", "leaf_hash", "redacted"}
_SKIPPED: Final = {"hashes", "skipped"}
_TRAILER: Final = {"checkpoint", "keys", "right", "steps"}

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to believe: any of `keys` about the log, and every one of `witnesses`."""

    keys: Sequence[VerifierKey]
    witnesses: Sequence[VerifierKey] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an export has been proved to hold: entries [start, stop) of a log.

    `shown` are in the file, those in `redacted` as hashes only; `skipped` are not, because of the
    filter `chosen`. `unexplained` are those redacted that no `redaction` entry in the file names.
    """

    log: str
    start: int
    stop: int
    shown: int
    skipped: int
    redacted: tuple[Range, ...]
    unexplained: tuple[Range, ...]
    chosen: Chosen
    signed: Signed


def verify_export(stream: BinaryIO, trust: Trust) -> Verdict:
    """Return what the export in `stream` is proved to hold; raises ExportBroken."""
    reading: _Reading | None = None
    number = 0
    for batch in line_batches(stream):
        if reading is None:
            reading = _Reading(trust, _Header.parse(batch[0]))
            number, batch = 1, batch[1:]
        reading.take(batch, number)
        number += len(batch)
    if reading is None:
        raise ExportBroken(1, "the file is empty")
    if reading.verdict is None:
        raise ExportBroken(number + 1, "the export ends before its trailer: it was cut off")
    return reading.verdict


@dataclass(frozen=True, slots=True)
class _Header:
    log: str
    start: int
    stop: int
    left: Sequence[bytes]
    chosen: Chosen

    @classmethod
    def parse(cls, text: bytes) -> "_Header":
        try:
            document = _canonical(text, _HEADER)
            start, stop, log = document["from"], document["to"], document["log"]
            if _whole(document["audit_export"]) != FORMAT or type(log) is not str:
                raise ValueError(f"the format is not {FORMAT}")
            if not 0 <= _whole(start) <= _whole(stop):
                raise ValueError("it ends before it begins")
            chosen = Chosen.parse(document["filter"])
            return cls(log, start, stop, hashes(document["left"]), chosen)
        except (*_MALFORMED, RequestRefused) as error:
            raise ExportBroken(1, f"is not the header of an export: {error}") from error


@dataclass(slots=True)
class _Reading:
    """What has been read so far; `verdict` is there once the trailer was."""

    trust: Trust
    header: _Header
    verdict: Verdict | None = None
    _row: Row = field(default_factory=Row)
    _next: int = 0
    _shown: int = 0
    _leaves: list[bytes] = field(default_factory=list)
    _coverage: Coverage = field(default_factory=Coverage)
    _keys: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        try:
            self._row.skip(self.header.start, self.header.left)
        except ValueError as error:
            raise ExportBroken(1, f"is not the header of an export: {error}") from error
        self._next = self.header.start

    def take(self, lines: Sequence[bytes], after: int) -> None:
        """Go on with `lines`, which follow line `after`; raises ExportBroken."""
        chosen = None if self.header.chosen == EVERYTHING else self.header.chosen
        leaves = self._leaves
        for number, text in enumerate(lines, start=after + 1):
            if self.verdict is not None:
                raise ExportBroken(number, "there is more after the trailer")
            if not text.startswith(BODY):
                self._take_other(number, text)
                continue
            before = b',"index":%d,"kind":"' % self._next  # behind it no text has quotes
            at = text.rfind(before)
            if at < 0 or chosen is not None or text.startswith(_HEARD, at + len(before)):
                self._look_into(number, text, chosen)
            leaves.append(sha256(b"\x00" + text).digest())
            self._next += 1
            self._shown += 1
        self._flush()

    def _look_into(self, number: int, text: bytes, chosen: Chosen | None) -> None:
        """Read a body for more than its bytes; raises ExportBroken.

        The tree proves where an entry is; its own word on that makes a better message.
        """
        try:
            document = orjson.loads(text)
            if document.get("index", document.get("sequence", 0) - 1) != self._next:
                raise ValueError(f"it is not entry {self._next}, which comes next")
            if chosen is not None and not chosen.matches(document):
                raise ValueError("it is not an entry that the filter asks for")
            self._hear(document["kind"], text)
        except (*_MALFORMED, EvidenceBroken) as error:
            raise ExportBroken(number, f"is not an entry as it should be: {error}") from error

    def _hear(self, kind: str, body: bytes) -> None:
        """Take note of an entry that speaks of others, or of keys."""
        if kind == REDACTION:
            self._coverage.heed(self._next, kind, body)
        elif kind == LOG_KEY_KIND:
            self._keys.append(body)

    def _flush(self) -> None:
        self._row.extend(self._leaves)
        self._leaves.clear()

    def _take_other(self, number: int, text: bytes) -> None:
        try:
            document = _canonical(text, None)
            if document.keys() == _REDACTED:
                self._take_redacted(document)
            elif document.keys() == _SKIPPED:
                self._take_skipped(document)
            elif document.keys() == {"audit_export_end"}:
                self._flush()
                self.verdict = self._end(document["audit_export_end"])
            else:
                raise ValueError("neither an entry, nor what stands for some, nor the trailer")
        except (*_MALFORMED, EvidenceBroken, RequestRefused) as error:
            raise ExportBroken(number, f"is not as it should be: {error}") from error

    def _take_redacted(self, document: Json) -> None:
        index, leaf = _whole(document["index"]), hash_of(document["leaf_hash"])
        if document["redacted"] is not True or index != self._next:
            raise ValueError(f"not what is left of entry {self._next}, which comes next")
        self._leaves.append(leaf)
        self._next += 1
        self._shown += 1
        self._coverage.heed(index, "", None)

    def _take_skipped(self, document: Json) -> None:
        start, stop = document["skipped"]
        if self.header.chosen == EVERYTHING:
            raise ValueError("entries are left out, though no filter is named")
        if _whole(start) != self._next or not _whole(stop) > start:
            raise ValueError(f"entry {self._next} comes next")
        self._flush()
        self._row.skip(stop, hashes(document["hashes"]))
        self._next = stop

    def _end(self, document: Json) -> Verdict:
        header = self.header
        if document.keys() != _TRAILER:
            raise ValueError("the trailer has other keys")
        if self._next != header.stop:
            raise ValueError(f"entries end before {self._next}; the header says {header.stop}")
        checkpoint, _ = parse_end(document)
        self._check_root(checkpoint, hashes(document["right"]))
        signed = verify_end(document, self.trust.keys, self.trust.witnesses, self._keys)
        skipped = header.stop - header.start - self._shown
        return Verdict(
            header.log,
            header.start,
            header.stop,
            self._shown,
            skipped,
            tuple(self._coverage.blank),
            tuple(self._coverage.uncovered()),
            header.chosen,
            signed,
        )

    def _check_root(self, checkpoint: Checkpoint, right: Sequence[bytes]) -> None:
        if checkpoint.origin != self.header.log:
            raise ValueError("the checkpoint is another log's")
        self._row.skip(checkpoint.size, right)
        if self._row.root() != checkpoint.root:
            raise ValueError(
                "the entries are not those of the checkpoint: at least one was changed, moved, "
                "removed or inserted"
            )


def _canonical(text: bytes, names: set[str] | None) -> Json:
    """Return what a line of ours says; raises ValueError for any other spelling of it."""
    document = orjson.loads(text)
    if not isinstance(document, dict) or (names is not None and document.keys() != names):
        raise ValueError("it has other keys")
    if line(document) != text + b"\n":
        raise ValueError("it is not spelt as exports are")
    return document


def _whole(value: object) -> int:
    if type(value) is not int:
        raise ValueError("not a whole number")
    return value
