"""An anchor in a file: what is in it stays, what was cut off goes, what is not ours is told."""

import asyncio
import fcntl
import resource
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from audit.anchors.file import FileAnchor
from audit.checkpoint import CUT_OFF, read_notes, split_notes
from audit.note import Signature
from meshca.errors import EvidenceBroken, Unavailable
from tests.audit.anchors.notes import ORIGIN, SmallLog

LOG = SmallLog()


@pytest.fixture
def anchor(tmp_path: Path) -> FileAnchor:
    return FileAnchor(tmp_path / "anchor", ORIGIN)


def publish(anchor: FileAnchor, size: int, log: SmallLog = LOG) -> None:
    asyncio.run(anchor.publish(log.at(size)))


def newest(anchor: FileAnchor) -> int | None:
    held = asyncio.run(anchor.newest())
    return None if held is None else held.checkpoint.size


def test_every_note_stays_and_the_last_is_the_newest(anchor: FileAnchor) -> None:
    assert newest(anchor) is None

    for size in (1, 2, 300):
        publish(anchor, size)
        assert newest(anchor) == size

    notes = split_notes(anchor.path.read_text())
    assert notes == [str(LOG.at(size).note) for size in (1, 2, 300)]


def test_a_note_that_was_cut_off_anywhere_is_taken_out(anchor: FileAnchor) -> None:
    publish(anchor, 1)
    first = anchor.path.read_bytes()
    publish(anchor, 2)
    both = anchor.path.read_bytes()

    around = range(len(first) - 3, len(first) + 4)
    for end in {*range(0, len(both), 11), *around}:
        anchor.path.write_bytes(both[:end])
        whole = 1 if end >= len(first) else None
        assert newest(anchor) == whole, end
        publish(anchor, 2)
        assert anchor.path.read_bytes() == (both if whole else bytes(LOG.at(2))), end


@dataclass(frozen=True, slots=True)
class OnlyGrows(FileAnchor):
    """A file that is append-only (chattr +a), as the system answers there."""

    def _taken_out(self, descriptor: int, end: int) -> bool:
        return False


def test_what_was_cut_off_in_a_file_that_only_grows_is_closed_and_left_out(tmp_path: Path) -> None:
    anchor, other = OnlyGrows(tmp_path / "anchor", ORIGIN), SmallLog().at(2)
    signed = (*other.note.signatures, Signature("second", b"2222", b"2" * 64))
    both = bytes(LOG.at(1)) + b"\n" + str(replace(other.note, signatures=signed)).encode()
    first, second = len(bytes(LOG.at(1))), len(both) - len(str(signed[1]).encode())

    for end in range(1, len(both)):
        anchor.path.write_bytes(both[:end])
        whole = [str(LOG.at(1).note)] * (end >= first) + [str(other.note)] * (end >= second)
        assert newest(anchor) == (len(whole) or None), end
        for size in (3, 4):  # twice cut off at once, and then whole
            with anchor.path.open("ab") as file:
                file.write((CUT_OFF + "\n").encode() + bytes(LOG.at(size))[: end % 90])
        publish(anchor, 5)
        publish(anchor, 6)
        assert newest(anchor) == 6, end
        data = anchor.path.read_bytes()
        assert data.startswith(both[:end])
        notes = read_notes(data)
        assert notes == [*whole, str(LOG.at(5).note), str(LOG.at(6).note)], end


def test_a_file_that_is_append_only_goes_on_after_a_note_was_cut_off(anchor: FileAnchor) -> None:
    publish(anchor, 1)
    with anchor.path.open("ab") as file:
        file.write(b"\n" + bytes(LOG.at(2))[:60])
    able = shutil.which("chattr") and not _chattr("+a", anchor.path)
    if not able:
        pytest.skip("no append-only files here: chattr +a, as root, on ext4 or the like")
    try:
        publish(anchor, 3)
        assert newest(anchor) == 3
    finally:
        _chattr("-a", anchor.path)


def _chattr(change: str, path: Path) -> int:
    return subprocess.run(["chattr", change, path], check=False, capture_output=True).returncode


def test_a_file_of_somebody_else_is_left_as_it_is(anchor: FileAnchor) -> None:
    for content in (
        b"root:x:0:0::/root:/bin/sh\n",
        bytes(LOG.at(1)) + b"\nand more\n",
        b"\n\n",
        CUT_OFF.encode() + b"x",
    ):
        anchor.path.write_bytes(content)
        with pytest.raises(EvidenceBroken, match="no checkpoint of this log"):
            newest(anchor)
        with pytest.raises(EvidenceBroken, match="no checkpoint of this log"):
            publish(anchor, 2)
        assert anchor.path.read_bytes() == content


def test_the_file_of_another_log_is_told(anchor: FileAnchor) -> None:
    anchor.path.write_bytes(bytes(SmallLog(origin="other.test/log").at(1)))

    with pytest.raises(EvidenceBroken, match="checkpoints of another log"):
        newest(anchor)


def test_a_long_file_is_read_at_its_end_only(anchor: FileAnchor) -> None:
    many = b"\n".join([bytes(LOG.at(1))] * 4000)
    assert len(many) > 512 * 1024
    anchor.path.write_bytes(many)

    publish(anchor, 2)

    assert newest(anchor) == 2


def test_a_link_and_a_missing_directory_are_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for path in (tmp_path / "link", tmp_path / "no" / "anchor", tmp_path):
        with pytest.raises(Unavailable, match="file:"):
            publish(FileAnchor(path, ORIGIN), 1)
    assert not (tmp_path / "elsewhere").exists()


def test_two_writers_do_not_mix_their_notes(anchor: FileAnchor) -> None:
    publish(anchor, 1)
    with anchor.path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Unavailable):
            publish(anchor, 2)
    publish(anchor, 2)
    assert newest(anchor) == 2


@pytest.fixture
def full_disk(anchor: FileAnchor) -> Iterator[None]:
    """Let files grow by half a note only: what a full disk does."""
    publish(anchor, 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (anchor.path.stat().st_size + 100, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_a_failure_and_what_is_held_stays(
    anchor: FileAnchor, full_disk: None
) -> None:
    for _ in range(2):
        with pytest.raises(Unavailable, match="not written whole"):
            publish(anchor, 2)
        assert newest(anchor) == 1
