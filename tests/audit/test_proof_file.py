"""Proof files: verified with nothing but a public key, and refused when any bit is another."""

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.checkpoint import Checkpoint
from audit.merkle import leaf_hash
from audit.note import Note, NoteRefused, SigningKey
from audit.proof_file import MAXIMUM_BYTES, EntryProof, parse_proof, verify_proof
from meshca.errors import EvidenceBroken, RequestRefused
from tests.audit.naive import naive_path, naive_root

ORIGIN = "example.org/meshca/audit"
KEY = SigningKey(ORIGIN, Ed25519PrivateKey.from_private_bytes(b"k" * 32))
OTHER = SigningKey(ORIGIN, Ed25519PrivateKey.from_private_bytes(b"o" * 32))
BODIES = [f'{{"index":{number}}}'.encode() for number in range(11)]
LEAVES = [leaf_hash(body) for body in BODIES]


def proof_of(index: int, *, key: SigningKey = KEY, is_redacted: bool = False) -> EntryProof:
    text = str(Checkpoint(ORIGIN, len(LEAVES), naive_root(LEAVES)))
    return EntryProof(
        index,
        LEAVES[index],
        None if is_redacted else BODIES[index],
        tuple(naive_path(index, LEAVES)),
        str(Note(text, (key.sign(text),))),
    )


@pytest.mark.parametrize("index", range(len(LEAVES)))
def test_a_proof_is_read_back_and_verified(index: int) -> None:
    proof = parse_proof(str(proof_of(index)).encode())

    assert proof == proof_of(index)
    assert verify_proof(proof, [KEY.verifier], origin=ORIGIN).checkpoint.size == len(LEAVES)


def test_a_proof_is_written_as_c2sp_says() -> None:
    lines = str(proof_of(3)).split("\n")

    assert lines[0] == "c2sp.org/tlog-proof@v1"
    assert lines[1].startswith("extra ")
    assert lines[2] == "index 3"
    assert lines[7:9] == ["", ORIGIN]


def test_a_redacted_entry_proves_its_leaf() -> None:
    proof = parse_proof(str(proof_of(4, is_redacted=True)).encode())

    assert (proof.body, proof.leaf) == (None, LEAVES[4])
    verify_proof(proof, [KEY.verifier])


def test_every_line_counts() -> None:
    lines = str(proof_of(5)).split("\n")
    for number in range(1, len(lines) - 4):
        if lines[number]:
            other = str(proof_of(6)).split("\n")[number]
            changed = "\n".join([*lines[:number], other, *lines[number + 1 :]])
            if changed == "\n".join(lines):
                continue
            with pytest.raises((EvidenceBroken, NoteRefused, RequestRefused)):
                verify_proof(parse_proof(changed.encode()), [KEY.verifier])


def test_an_entry_that_is_not_under_the_checkpoint_is_refused() -> None:
    proof = proof_of(5)
    forged = EntryProof(5, leaf_hash(b"{}"), b"{}", proof.hashes, proof.checkpoint)

    with pytest.raises(EvidenceBroken, match="not number 5"):
        verify_proof(forged, [KEY.verifier])


def test_a_checkpoint_of_another_key_or_log_is_refused() -> None:
    with pytest.raises(NoteRefused) as refused:
        verify_proof(proof_of(5, key=OTHER), [KEY.verifier])
    assert refused.value.reason == "not_signed"
    with pytest.raises(NoteRefused, match="another log"):
        verify_proof(proof_of(5), [KEY.verifier], origin="example.org/other")


def test_a_proof_says_who_signed_and_sees_a_retirement_that_it_shows() -> None:
    assert verify_proof(proof_of(3), [OTHER.verifier, KEY.verifier]).by == (KEY.verifier,)
    details = {"verifier": str(KEY.verifier), "origin": ORIGIN, "stage": "retired"}
    body = orjson.dumps({"kind": "log_key", "index": 0, "details": details})
    text = str(Checkpoint(ORIGIN, 1, leaf_hash(body)))
    proof = EntryProof(0, leaf_hash(body), body, (), str(Note(text, (KEY.sign(text),))))
    with pytest.raises(NoteRefused) as refused:
        verify_proof(proof, [KEY.verifier])
    assert refused.value.reason == "not_signed"


@pytest.mark.parametrize("body", [b"no JSON", b"[]", b'{"kind":"log_key","details":{}}'])
def test_an_entry_that_is_none_is_proven_or_refused(body: bytes) -> None:
    text = str(Checkpoint(ORIGIN, 1, leaf_hash(body)))
    proof = EntryProof(0, leaf_hash(body), body, (), str(Note(text, (KEY.sign(text),))))
    if body.startswith(b"{"):  # of no log
        assert verify_proof(proof, [KEY.verifier]).checkpoint.size == 1
        return
    with pytest.raises(EvidenceBroken, match="is none"):
        verify_proof(proof, [KEY.verifier])


def test_a_proof_cut_at_any_byte_is_refused() -> None:
    whole = str(proof_of(5)).encode()
    for end in range(len(whole)):
        with pytest.raises((EvidenceBroken, NoteRefused, RequestRefused)):
            verify_proof(parse_proof(whole[:end]), [KEY.verifier])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        str(proof_of(5)).replace("@v1", "@v2"),
        str(proof_of(5)).replace("index 5", "index 05"),
        str(proof_of(5)).replace("index 5", "index -5"),
        str(proof_of(5)).replace("index", "place"),
        str(proof_of(5)).replace("extra ", "extra!"),
        str(proof_of(5)).replace("index 5\n", "index 5\nAAAA\n"),
        str(proof_of(5)).replace("index 5\n", "index 5\n!!!!\n"),
        "\udcff",
        "x" * (MAXIMUM_BYTES + 1),
    ],
)
def test_what_is_no_proof_is_refused(text: str) -> None:
    with pytest.raises(RequestRefused):
        parse_proof(text.encode(errors="surrogateescape"))
