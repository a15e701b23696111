"""Checkpoints: the text of a log's signed note, and nothing that only looks like one."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.checkpoint import (
    CUT_OFF,
    MAXIMUM_SIZE,
    Checkpoint,
    open_checkpoint,
    parse_checkpoint,
    read_notes,
    split_notes,
)
from audit.note import Note, NoteRefused, SigningKey

# The example of C2SP tlog-checkpoint.
C2SP = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
ROOT = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
KEY = SigningKey("example.com/behind-the-sofa", Ed25519PrivateKey.from_private_bytes(b"k" * 32))


def signed(text: str) -> str:
    return str(Note(text, (KEY.sign(text),)))


def test_reads_and_writes_the_example_of_the_specification() -> None:
    checkpoint = parse_checkpoint(C2SP)

    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.root.hex().startswith("0ac5186a91863e8e")
    assert str(checkpoint) == C2SP


def test_carries_extension_lines() -> None:
    text = C2SP + "one\ntwo\n"

    assert parse_checkpoint(text).extensions == ("one", "two")
    assert str(parse_checkpoint(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("o\n1\n", id="two lines"),
        pytest.param(C2SP[:-1], id="no last newline"),
        pytest.param(f"\n1\n{ROOT}\n", id="no origin"),
        pytest.param(f"o\n\n{ROOT}\n", id="no size"),
        pytest.param(f"o\n01\n{ROOT}\n", id="leading zero"),
        pytest.param(f"o\n-1\n{ROOT}\n", id="negative"),
        pytest.param(f"o\n+1\n{ROOT}\n", id="plus"),
        pytest.param(f"o\n1_0\n{ROOT}\n", id="underscore"),
        pytest.param(f"o\n\u0661\n{ROOT}\n", id="digit of another script"),
        pytest.param(f"o\n{MAXIMUM_SIZE + 1}\n{ROOT}\n", id="too large"),
        pytest.param("o\n1\nAAAA\n", id="short root"),
        pytest.param(f"o\n1\n{ROOT[:-2]}J=\n", id="root of another spelling"),
        pytest.param(f"o\n1\n{ROOT[:-1]}\n", id="no padding"),
        pytest.param(C2SP + "\n", id="empty extension line"),
    ],
)
def test_refuses_what_is_no_checkpoint(text: str) -> None:
    with pytest.raises(NoteRefused) as refused:
        parse_checkpoint(text)
    assert refused.value.reason == "malformed"


def test_opens_only_what_a_known_key_signed() -> None:
    other = SigningKey(KEY.name, Ed25519PrivateKey.from_private_bytes(b"x" * 32))

    assert open_checkpoint(signed(C2SP), [KEY.verifier])[0].size == 20852163
    with pytest.raises(NoteRefused) as refused:
        open_checkpoint(signed(C2SP), [other.verifier])
    assert refused.value.reason == "not_signed"


def test_refuses_another_logs_checkpoint() -> None:
    with pytest.raises(NoteRefused, match="another log"):
        open_checkpoint(signed(C2SP), [KEY.verifier], origin="example.com/mine")


def test_a_key_of_one_log_says_nothing_of_another() -> None:
    partner = SigningKey("partner.test/log", Ed25519PrivateKey.from_private_bytes(b"p" * 32))
    note = str(Note(C2SP, (partner.sign(C2SP),)))
    with pytest.raises(NoteRefused, match="another log's") as refused:
        open_checkpoint(note, [KEY.verifier, partner.verifier])
    assert refused.value.reason == "not_signed"
    both = str(Note(C2SP, (KEY.sign(C2SP), partner.sign(C2SP))))
    assert open_checkpoint(both, [KEY.verifier, partner.verifier])[0].size == 20852163


def test_a_signed_text_that_is_no_checkpoint_is_refused() -> None:
    with pytest.raises(NoteRefused, match="at least three lines"):
        open_checkpoint(signed("only\nsigned\n"), [KEY.verifier])


def test_splits_a_file_of_notes() -> None:
    notes = [signed(str(Checkpoint(KEY.name, size, bytes(32)))) for size in range(3)]

    assert split_notes("\n".join(notes)) == notes
    assert split_notes("\n".join(notes) + "\n") == notes
    assert split_notes("\n".join(notes)[:-5])[:2] == notes[:2]
    assert split_notes("") == split_notes("\n\n") == []


def test_of_a_file_only_what_was_cut_off_and_closed_is_left_out() -> None:
    one, two = (signed(str(Checkpoint(KEY.name, size, bytes(32)))) for size in (1, 2))
    begun = one[:-9]

    assert split_notes(f"{begun}{CUT_OFF}\n{two}") == [two]
    assert split_notes(f"{one}\n{begun}{CUT_OFF}\n{CUT_OFF}\n{two}") == [one, two]
    assert split_notes(f"{one}{CUT_OFF}\n{two}") == [one, two]  # a whole note stays, whoever says
    for damaged in (f"{begun}\n\n{two}", f"{begun}{CUT_OFF[1:]}\n{two}", f"{one}x\n\n{two}"):
        assert split_notes(damaged) != [two]
        with pytest.raises(NoteRefused):
            open_checkpoint(split_notes(damaged)[0], [KEY.verifier])


def test_a_character_that_was_cut_off_is_left_out_and_no_other() -> None:
    note = signed(str(Checkpoint(KEY.name, 1, bytes(32))))
    half = "\u2014".encode()[:2]

    assert read_notes(half + f"{CUT_OFF}\n{note}".encode()) == [note]
    for damaged in (half + note.encode(), note.encode() + half):
        with pytest.raises(UnicodeDecodeError):
            read_notes(damaged)
