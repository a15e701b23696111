"""What an export that was interrupted already has in its file, and where to go on."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import orjson

from audit.export import cef, comma, json_lines, ocsf
from audit.export.lines import MAXIMUM_LINE_BYTES
from meshca.errors import RequestRefused

Format = Literal["jsonl", "csv", "ocsf", "cef"]
_TAIL_BYTES: Final = 2 * MAXIMUM_LINE_BYTES
_END: Final = b'{"audit_export_end":'
_BEGIN: Final = b'{"audit_export":'
_BEGINNINGS: Final = (_BEGIN, b'"index",', b'{"activity_id":', b"CEF:0|")


@dataclass(frozen=True, slots=True)
class Partial:
    """The whole lines of a file: `keep` bytes. The next entry is `next`, None: the first wanted.

    `header` is that of JSON Lines; `is_complete` says that its trailer is there.
    """

    format: Format | None
    keep: int
    next: int | None = None
    header: dict[str, Any] | None = None
    is_complete: bool = False


def look(path: Path) -> Partial:
    """Return what there is of an export in `path`.

    Raises OSError, and RequestRefused for a file that is no export.
    """
    with path.open("rb") as stream:
        first = stream.readline(MAXIMUM_LINE_BYTES)
        if not first.endswith(b"\n"):
            if first and not _may_begin(first):
                raise RequestRefused("resume", f"{path} is no export")
            return Partial(None, 0)
        format_ = _format_of(first)
        if format_ is None:
            raise RequestRefused("resume", f"{path} is no export")
        return _look_back(stream, format_, first)


def _may_begin(text: bytes) -> bool:
    return any(begin.startswith(text[: len(begin)]) for begin in _BEGINNINGS)


def _format_of(first: bytes) -> Format | None:
    if first.startswith(_BEGIN):
        return "jsonl"
    if first == comma.header() or comma.index_of(first) is not None:
        return "csv"
    if cef.index_of(first) is not None:
        return "cef"
    return "ocsf" if ocsf.index_of(first) is not None else None


def _look_back(stream: BinaryIO, format_: Format, first: bytes) -> Partial:
    size = stream.seek(0, os.SEEK_END)
    begin = max(0, size - _TAIL_BYTES)
    stream.seek(begin)
    tail = stream.read()
    whole = tail[: tail.rfind(b"\n") + 1]
    if not whole:
        raise RequestRefused("resume", "the file ends in a line that no export has")
    keep = begin + len(whole)
    lines = whole.splitlines() if begin == 0 else whole.splitlines()[1:]
    header = orjson.loads(first) if format_ == "jsonl" else None
    if lines and lines[-1].startswith(_END):
        return Partial(format_, keep, header=header, is_complete=True)
    found = _last_index(lines, _INDEX_OF[format_])
    if found is not None:
        return Partial(format_, keep, found + 1, header)
    return Partial(format_, keep, None if header is None else header["from"], header)


def _last_index(lines: list[bytes], index_of: Callable[[bytes], int | None]) -> int | None:
    return next((i for line in reversed(lines) if (i := index_of(line)) is not None), None)


_INDEX_OF: Final[dict[Format, Callable[[bytes], int | None]]] = {
    "jsonl": json_lines.index_of,
    "csv": comma.index_of,
    "ocsf": ocsf.index_of,
    "cef": cef.index_of,
}
