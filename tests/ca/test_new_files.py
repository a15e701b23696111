"""Files that must be new: all of them or none."""

from pathlib import Path

import pytest

from ca.new_files import write_new
from meshca.errors import Unavailable


def test_files_have_their_content_and_mode(tmp_path: Path) -> None:
    write_new([(tmp_path / "key", b"k", 0o600), (tmp_path / "certificate", b"c", 0o644)])
    assert (tmp_path / "key").read_bytes() == b"k"
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("taken", ["key", "certificate"])
def test_one_that_exists_keeps_its_content_and_no_other_is_made(taken: str, tmp_path: Path) -> None:
    (tmp_path / taken).write_text("precious")
    with pytest.raises(Unavailable, match=f"{taken} cannot be written: File exists"):
        write_new([(tmp_path / "key", b"k", 0o600), (tmp_path / "certificate", b"c", 0o644)])
    assert [path.name for path in tmp_path.iterdir()] == [taken]
    assert (tmp_path / taken).read_text() == "precious"


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unavailable, match="File exists"):
        write_new([(tmp_path / "key", b"k", 0o600)])
    assert not (tmp_path / "elsewhere").exists()


def test_a_second_file_that_cannot_be_written_takes_the_first_away(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="nothing was kept"):
        write_new([(tmp_path / "key", b"k", 0o600), (Path("/dev/null/x"), b"c", 0o644)])
    assert list(tmp_path.iterdir()) == []
