"""Signed notes: another implementation's note verifies, and everything malformed is refused."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from audit.note import (
    COSIGNATURE,
    MAXIMUM_NOTE_BYTES,
    MAXIMUM_SIGNATURES,
    Note,
    NoteRefused,
    Signature,
    SigningKey,
    VerifierKey,
    parse_note,
    verify_note,
)

# The example of Go's golang.org/x/mod/sumdb/note: made by another implementation than ours.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdng"
    "otpRZb6KE6RyyBwJnAM=\n"
)
LOG = SigningKey("example.org/log", Ed25519PrivateKey.from_private_bytes(b"l" * 32))
OTHER = SigningKey("example.org/log", Ed25519PrivateKey.from_private_bytes(b"o" * 32))
WITNESS = SigningKey("w.example", Ed25519PrivateKey.from_private_bytes(b"w" * 32), COSIGNATURE)
TEXT = "example.org/log\n1\nroot\n"
SIGNED = str(Note(TEXT, (LOG.sign(TEXT),)))


def test_verifies_what_another_implementation_signed() -> None:
    key = VerifierKey.parse(GO_KEY)

    assert [verified.key for verified in verify_note(parse_note(GO_NOTE), [key])] == [key]
    assert str(key) == GO_KEY
    assert str(parse_note(GO_NOTE)) == GO_NOTE


def test_verifies_a_log_and_its_witness_on_one_note() -> None:
    note = parse_note(SIGNED).signed_also([WITNESS.sign(TEXT, time_seconds=1679315147)])

    held = verify_note(parse_note(str(note)), [LOG.verifier, WITNESS.verifier])

    assert [(v.key.name, v.time_seconds) for v in held] == [
        ("example.org/log", None),
        ("w.example", 1679315147),
    ]


def test_ignores_signatures_of_unknown_keys() -> None:
    note = parse_note(SIGNED).signed_also([OTHER.sign(TEXT), WITNESS.sign(TEXT, time_seconds=1)])

    assert [v.key for v in verify_note(note, [LOG.verifier])] == [LOG.verifier]


def test_refuses_a_note_that_no_known_key_signed() -> None:
    with pytest.raises(NoteRefused) as refused:
        verify_note(parse_note(SIGNED), [OTHER.verifier])
    assert refused.value.reason == "not_signed"
    with pytest.raises(NoteRefused, match="no known key"):
        verify_note(parse_note(SIGNED), [])


@pytest.mark.parametrize("key", [LOG, WITNESS], ids=["log", "witness"])
def test_refuses_a_changed_text(key: SigningKey) -> None:
    time = 5 if key.algorithm == COSIGNATURE else None
    note = Note(TEXT.replace("1", "2"), (key.sign(TEXT, time_seconds=time),))

    with pytest.raises(NoteRefused) as refused:
        verify_note(note, [key.verifier])

    assert refused.value.reason == "bad_signature"


def test_refuses_a_cosignature_moved_in_time() -> None:
    signature = WITNESS.sign(TEXT, time_seconds=5)
    moved = Signature(signature.name, signature.key_id, b"\0" * 7 + b"\6" + signature.signature[8:])

    with pytest.raises(NoteRefused) as refused:
        verify_note(Note(TEXT, (moved,)), [WITNESS.verifier])

    assert refused.value.reason == "bad_signature"


def test_one_wrong_signature_of_a_known_key_refuses_the_note() -> None:
    wrong = Signature(OTHER.name, OTHER.verifier.key_id, b"x" * 64)

    with pytest.raises(NoteRefused) as refused:
        verify_note(parse_note(SIGNED).signed_also([wrong]), [LOG.verifier, OTHER.verifier])

    assert refused.value.reason == "bad_signature"


LINE = str(LOG.sign(TEXT))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("", id="empty"),
        pytest.param("\n", id="newline"),
        pytest.param(TEXT, id="no signature"),
        pytest.param(TEXT + "\n", id="no signature line"),
        pytest.param(TEXT + LINE, id="no empty line"),
        pytest.param(SIGNED[:-1], id="no last newline"),
        pytest.param(SIGNED + "\n", id="empty line at the end"),
        pytest.param(SIGNED + "x\n", id="text after the signatures"),
        pytest.param(SIGNED.replace("\u2014", "-"), id="hyphen"),
        pytest.param(SIGNED.replace("\n", "\r\n"), id="carriage return"),
        pytest.param("\t" + SIGNED, id="tab"),
        pytest.param("\0" + SIGNED, id="nul"),
        pytest.param("\ud800" + SIGNED, id="surrogate"),
        pytest.param(b"\xff" + SIGNED.encode(), id="not UTF-8"),
        pytest.param(SIGNED.replace("log ", "l+g "), id="plus in a name"),
        pytest.param(SIGNED.replace("log ", "log\u00a0x "), id="space in a name"),
        pytest.param(SIGNED.replace("log ", "log\u2028x "), id="line separator in a name"),
        pytest.param(f"{TEXT}\n\u2014  {LINE.split()[2]}\n", id="no name"),
        pytest.param(f"{TEXT}\n\u2014 log AAAAAA==\n", id="only a key ID"),
        pytest.param(f"{TEXT}\n\u2014 log !!!!!!!!!!!!\n", id="not base64"),
        pytest.param(f"{TEXT}\n\u2014 log AAAAAAB=\n", id="base64 of another spelling"),
        pytest.param(f"{TEXT}\n" + LINE * (MAXIMUM_SIGNATURES + 1), id="too many signatures"),
        pytest.param("x" * MAXIMUM_NOTE_BYTES + SIGNED, id="too long"),
    ],
)
def test_refuses_what_is_no_note(data: bytes | str) -> None:
    with pytest.raises(NoteRefused) as refused:
        parse_note(data)
    assert refused.value.reason == "malformed"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+c74f20a3",
        GO_KEY.replace("Peter", "Piter"),
        GO_KEY.replace("c74f20a3", "C74F20A3"),
        GO_KEY[:-4],
        "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "name+00000000+",
        "name+00000000+" + base64.b64encode(b"\x02" + b"k" * 32).decode(),
    ],
)
def test_refuses_what_is_no_verifier_key(text: str) -> None:
    with pytest.raises(NoteRefused) as refused:
        VerifierKey.parse(text)
    assert refused.value.reason == "malformed"


def test_a_signing_key_never_shows_its_private_key() -> None:
    assert "private" not in repr(LOG)


@given(st.text(max_size=60), st.data())
def test_any_text_that_can_be_signed_is_read_back(text: str, data: st.DataObject) -> None:
    try:
        signature = LOG.sign(text + "\n")
    except NoteRefused:
        return

    note = parse_note(str(Note(text + "\n", (signature,))))

    assert note.text == text + "\n"
    assert verify_note(note, [LOG.verifier])


@given(st.binary(max_size=200))
def test_no_bytes_make_the_parser_fail_otherwise(data: bytes) -> None:
    for candidate in (data, SIGNED.encode() + data, data + SIGNED.encode()):
        try:
            parse_note(candidate)
        except NoteRefused:
            continue
