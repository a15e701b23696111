"""Going on with an export that was interrupted, wherever that was."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.export.chosen import Chosen
from audit.export.partial import look
from meshca.errors import RequestRefused
from tests.audit.export.entries import an_entry
from tests.audit.export.world import LogWorld, introduces, log_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LogWorld]:
    with log_world(tmp_path) as made:
        yield made


def gone_on_with(world: LogWorld, file: Path, **asked: object) -> bytes:
    """Return the file as the command line goes on with it."""
    partial = look(file)
    kept = file.read_bytes()[: partial.keep]
    if partial.is_complete:
        return kept
    if partial.keep == 0:
        return world.export(**asked)
    start = 0 if partial.next is None else partial.next
    return kept + world.export(**{**asked, "start": start}, is_continued=True)


@pytest.mark.parametrize("format_", ["csv", "ocsf", "cef"])
def test_readable_formats_are_gone_on_with_at_any_byte(
    world: LogWorld, tmp_path: Path, format_: str
) -> None:
    world.append(an_entry(), an_entry(number=1, reason="a\nb\r\n=c"), an_entry(number=2))
    world.sign()
    whole = world.export(format=format_)
    file = tmp_path / "export"
    for length in range(0, len(whole) + 1, 7):
        file.write_bytes(whole[:length])
        assert gone_on_with(world, file, format=format_) == whole


def test_a_provable_export_is_gone_on_with_at_any_byte(world: LogWorld, tmp_path: Path) -> None:
    world.append(introduces(world.key))
    world.append(*(an_entry("refusal" if n % 3 else "ban", n) for n in range(8)))
    world.redact(4)
    world.sign()
    file = tmp_path / "export"
    for chosen in (Chosen(), Chosen(kind="refusal")):
        whole = world.export(start=1, stop=9, chosen=chosen)
        for length in range(0, len(whole) + 1, 13):
            file.write_bytes(whole[:length])
            partial = look(file)
            made = gone_on_with(world, file, start=1, stop=9, chosen=chosen)
            assert world.verify(made).stop == 9
            assert partial.is_complete == (length == len(whole))


@pytest.mark.parametrize(
    "text", [b"hello\n", b"hello", b"{}\n", b'{"index": 3}\n', b"\x00" * 9, b"CEF:1|x\n"]
)
def test_what_is_no_export_is_not_touched(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(text)
    with pytest.raises(RequestRefused, match="is no export"):
        look(file)


def test_an_empty_file_begins_anew(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert (look(file).keep, look(file).next) == (0, None)
