"""An anchor in a file: one note after another, an empty line between, nothing ever taken away.

The file should be where whoever administers the database cannot write: another file system over the
network, a volume that is append-only (chattr +a), a directory that is shipped elsewhere. It grows
by some 300 bytes a checkpoint; rotating it is the operator's, and a file that was rotated away is
begun again.

A checkpoint counts once it is on the disk (fsync). A note that was cut off by a full disk or a
power failure was never anchored; it is taken out before the next is added.
"""

import asyncio
import fcntl
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from audit.anchors.anchor import Published
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
        if cut_off:
            os.ftruncate(descriptor, start + len(whole))
        data = (b"\n" if whole else b"") + note
        if os.write(descriptor, data) != len(data):
            raise OSError(0, "the note was not written whole")
        os.fsync(descriptor)

    def _split(self, tail: bytes) -> tuple[bytes, bytes]:
        """Return `tail` up to its last whole note, and the beginning of one that follows.

        Raises EvidenceBroken when what follows is no beginning of ours: a file of somebody else.
        """
        whole = _whole(tail)
        cut_off = tail[len(whole) :]
        begun, ours = cut_off.removeprefix(b"\n"), f"{self.origin}\n".encode()
        if len(begun) > MAXIMUM_NOTE_BYTES or begun[: len(ours)] != ours[: len(begun)]:
            raise EvidenceBroken(0, f"{self.name} ends in what is no checkpoint of this log")
        return whole, cut_off

    def _unavailable(self, error: OSError) -> Unavailable:
        return Unavailable(f"{self.name}: {error.strerror or error}")


def _tail(descriptor: int) -> tuple[int, bytes]:
    """Return the end of the file, and where it begins: room for one note and one cut off."""
    size = os.fstat(descriptor).st_size
    start = max(0, size - 2 * MAXIMUM_NOTE_BYTES)
    return start, os.pread(descriptor, size - start, start)


def _whole(tail: bytes) -> bytes:
    """Return `tail` without a note that was cut off at its end."""
    end = len(tail)
    while end:
        line = tail.rfind(b"\n", 0, end - 1) + 1
        if tail[end - 1 : end] == b"\n" and tail.startswith(_DASH, line):
            return tail[:end]
        end = line
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
