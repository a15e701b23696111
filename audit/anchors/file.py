"""An anchor in a file: one note after another, an empty line between, nothing ever taken away.

The file should be where whoever administers the database cannot write: another file system over the
network, a file that is append-only (chattr +a), a directory that is shipped elsewhere. It grows by
some 300 bytes a checkpoint. To begin another, configure another path: a file that is gone, or that
ends earlier than it did, contradicts us (audit/anchors/keeper.py).

A checkpoint counts once it is on the disk (fsync). A note that was cut off by a full disk or a
power failure was never anchored; it is taken out before the next is added. Where the file may only
grow it is closed instead: its line ends in `~ cut off`, an empty line follows, and who reads the
notes leaves it out (audit/checkpoint.py).
"""

import asyncio
import fcntl
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from audit.anchors.anchor import Published
from audit.checkpoint import CUT_OFF
from audit.note import MAXIMUM_NOTE_BYTES, NoteRefused, Signature
from meshca.errors import EvidenceBroken, Unavailable

_DASH: Final = b"\xe2\x80\x94 "
_MODE: Final = 0o644  # what it holds is public, and meant to be read by others


@dataclass(frozen=True, slots=True)
class FileAnchor:
    """The file `path`, for checkpoints of the log `origin` only."""

    path: Path
    origin: str

    @property
    def name(self) -> str:
        """Return the anchor's name."""
        return f"file:{self.path}"

    @property
    def is_readable(self) -> bool:
        """Return True."""
        return True

    async def newest(self) -> Published | None:
        """Return the last whole note; raises Unavailable, EvidenceBroken for another log's."""
        return await asyncio.to_thread(self._newest)

    async def publish(self, published: Published) -> Sequence[Signature]:
        """Add a note, on the disk before this returns; raises Unavailable."""
        await asyncio.to_thread(self._append, bytes(published))
        return ()

    def _newest(self) -> Published | None:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unavailable(error) from error
        try:
            whole, _ = self._split(_tail(descriptor)[1])
        except OSError as error:
            raise self._unavailable(error) from error
        finally:
            os.close(descriptor)
        return self._parse(_last_note(whole)) if whole else None

    def _parse(self, last: bytes) -> Published:
        try:
            published = Published.parse(last)
        except NoteRefused as error:
            raise EvidenceBroken(0, f"{self.name} ends in what is no checkpoint") from error
        if published.checkpoint.origin != self.origin:
            raise EvidenceBroken(0, f"{self.name} holds checkpoints of another log")
        return published

    def _append(self, note: bytes) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            descriptor = os.open(self.path, flags, _MODE)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._append_to(descriptor, note)
            finally:
                os.close(descriptor)
            _sync_directory(self.path.parent)
        except OSError as error:
            raise self._unavailable(error) from error

    def _append_to(self, descriptor: int, note: bytes) -> None:
        start, tail = _tail(descriptor)
        whole, cut_off = self._split(tail)
        data = (b"\n" if whole else b"") + note
        if cut_off and not self._taken_out(descriptor, start + len(whole)):
            data = CUT_OFF.encode() + b"\n" + note
        if os.write(descriptor, data) != len(data):
            raise OSError(0, "the note was not written whole")
        os.fsync(descriptor)

    def _taken_out(self, descriptor: int, end: int) -> bool:
        """Cut the file off at `end`; return False where a file may only grow."""
        try:
            os.ftruncate(descriptor, end)
        except PermissionError:
            return False
        return True

    def _split(self, tail: bytes) -> tuple[bytes, bytes]:
        """Return `tail` up to its last whole note, and what was cut off behind it.

        Raises EvidenceBroken when what follows is no beginning of ours: a file of somebody else.
        """
        whole = _whole(tail)
        cut_off = tail[len(whole) :]
        first, *others = cut_off.split(CUT_OFF.encode())
        is_signature = bool(whole) and _is_begun(first, _DASH) and b"\n" not in first
        if not all(map(self._is_begun, others if is_signature else [first, *others])):
            raise EvidenceBroken(0, f"{self.name} ends in what is no checkpoint of this log")
        return whole, cut_off

    def _is_begun(self, cut_off: bytes) -> bool:
        """Return whether this may be a checkpoint of our log that was cut off."""
        begun = cut_off.removeprefix(b"\n")
        return len(begun) <= MAXIMUM_NOTE_BYTES and _is_begun(begun, f"{self.origin}\n".encode())

    def _unavailable(self, error: OSError) -> Unavailable:
        return Unavailable(f"{self.name}: {error.strerror or error}")


def _tail(descriptor: int) -> tuple[int, bytes]:
    """Return the end of the file, and where it begins: room for one note and one cut off."""
    size = os.fstat(descriptor).st_size
    start = max(0, size - 2 * MAXIMUM_NOTE_BYTES)
    return start, os.pread(descriptor, size - start, start)


def _is_begun(data: bytes, whole: bytes) -> bool:
    return data[: len(whole)] == whole[: len(data)]


def _whole(tail: bytes) -> bytes:
    """Return `tail` up to the last line that is a whole signature."""
    end = len(tail)
    while end:
        start = tail.rfind(b"\n", 0, end - 1) + 1
        line = tail[start:end]
        is_whole = line.endswith(b"\n") and not line.endswith(CUT_OFF.encode())
        if is_whole and line.startswith(_DASH):
            return tail[:end]
        end = start
    return b""


def _last_note(whole: bytes) -> bytes:
    """Return the last of some whole notes."""
    signatures = whole.rfind(b"\n\n")
    before = whole.rfind(b"\n\n", 0, max(signatures, 0))
    return whole[before + 2 if before >= 0 else 0 :]


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
