"""The form of a backup: gzip over lines, each a letter, a space and what it holds.

    H {"backup":1,"checkpoint":"<signed note>","size":N,...}    what this is; the first line
    E <body>                                                    an entry, byte for byte
    R {"index":..,"kind":..,"leaf_hash":..,"time":..}           one whose body was redacted
    T {"row":{...},"table":"audit_holds"}                       a row of what belongs to the log
    Z {"lines":N,"sha256":".."}                                 over all bytes before it; the last

Entries are in the order of the log, from the first to the last that the checkpoint covers. What
shows that nothing was changed is the checkpoint: the root over all leaves, signed. The hash at the
end shows damage, also of what is no entry.
"""

import gzip
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import IO, Any, Final

import orjson

from meshca.errors import RequestRefused

VERSION: Final = 1
MAXIMUM_LINE: Final = 1024 * 1024
HEADER, ENTRY, REDACTED, ROW, END = b"H", b"E", b"R", b"T", b"Z"
_TOGETHER: Final = 256
_LEVEL: Final = 1


class BackupRefused(RequestRefused):
    """A backup that is not restored.

    `reason` is `malformed`, `cut`, `changed`, `not_signed`, `other_log`, `older`,
    `same_name` or `not_empty`.
    """


@dataclass(frozen=True, slots=True)
class Header:
    """What a backup holds: the entries of `origin` up to the signed `checkpoint` of `size`."""

    origin: str
    size: int
    checkpoint: str
    made_at: str

    def as_json(self) -> dict[str, Any]:
        """Return what the first line says."""
        return {
            "backup": VERSION,
            "origin": self.origin,
            "size": self.size,
            "checkpoint": self.checkpoint,
            "made_at": self.made_at,
        }


def parse_header(document: Mapping[str, Any]) -> Header:
    """Return the header in the first line; raises BackupRefused."""
    try:
        if document["backup"] != VERSION:
            raise BackupRefused("malformed", "the backup is of another version of this program")
        return Header(
            str(document["origin"]),
            int(document["size"]),
            str(document["checkpoint"]),
            str(document["made_at"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BackupRefused("malformed", "this is no backup of an audit log") from error


@dataclass(slots=True)
class Packer:
    """Makes the bytes of a backup out of its lines, piece by piece."""

    _zip: Any = field(default_factory=lambda: zlib.compressobj(_LEVEL, wbits=31))
    _digest: Any = field(default_factory=sha256)
    _lines: int = 0
    _waiting: list[bytes] = field(default_factory=list)

    def pack(self, letter: bytes, content: bytes) -> bytes:
        """Return the bytes that are ready after one more line: most often none."""
        self._waiting.append(b"%b %b\n" % (letter, content))
        return self._packed() if len(self._waiting) == _TOGETHER else b""

    def _packed(self) -> bytes:
        lines = b"".join(self._waiting)
        self._lines += len(self._waiting)
        self._waiting.clear()
        self._digest.update(lines)
        return bytes(self._zip.compress(lines))

    def end(self) -> bytes:
        """Return the last bytes, with the line that ends the backup."""
        rest = self._packed()
        said = {"lines": self._lines, "sha256": self._digest.hexdigest()}
        last = b"%b %b\n" % (END, canonical(said))
        return rest + bytes(self._zip.compress(last) + self._zip.flush())


def unpack(file: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield letter and content of each line but the last; return once that says all was there.

    Raises BackupRefused, at the latest after the last line: trust nothing before.
    """
    digest = sha256()
    read = _lines(file)
    for lines, line in enumerate(read):
        letter, content = line[:1], line[2:-1]
        if letter == END:
            if _parsed(content) != {"lines": lines, "sha256": digest.hexdigest()}:
                raise BackupRefused("changed", "the backup is not as it was written")
            if next(read, None) is not None:
                raise BackupRefused("malformed", "the backup goes on after its end")
            return
        yield letter, content
        digest.update(line)
    raise BackupRefused("cut", "the backup ends before its end: it was cut")


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as content:
            while line := content.readline(MAXIMUM_LINE):
                if not line.endswith(b"\n") or line[1:2] != b" ":
                    raise BackupRefused("malformed", "this is no backup of an audit log")
                yield line
    except EOFError as error:
        raise BackupRefused("cut", "the backup ends before its end: it was cut") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise BackupRefused("changed", f"the backup is damaged: {error}") from error


def canonical(document: Mapping[str, Any]) -> bytes:
    """Return `document` as JSON with sorted keys."""
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def parsed(content: bytes) -> dict[str, Any]:
    """Return the JSON object that a line holds; raises BackupRefused."""
    document = _parsed(content)
    if not isinstance(document, dict):
        raise BackupRefused("malformed", "a line of the backup is no JSON object")
    return document


def _parsed(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise BackupRefused("malformed", "a line of the backup is no JSON") from error
