"""The body of add-checkpoint: what is written is read again, and nothing else is."""

import pytest

from audit.note import NoteRefused
from audit.witness.request import (
    MAXIMUM_PROOF,
    MAXIMUM_REQUEST_BYTES,
    read_request,
    read_size,
    write_request,
)
from tests.audit.anchors.notes import SmallLog

LOG = SmallLog()
NOTE = LOG.at(7).note
PROOF = LOG.consistency_proof(3, 7)
BODY = write_request(3, PROOF, NOTE)


def test_reads_what_it_writes() -> None:
    asked = read_request(BODY)

    assert BODY.startswith(b"old 3\n")
    assert (asked.old, list(asked.proof), asked.checkpoint.size) == (3, PROOF, 7)
    assert asked.note == NOTE
    assert read_request(write_request(0, [], NOTE)).proof == ()


def changed(old: bytes, new: bytes) -> bytes:
    assert old in BODY
    return BODY.replace(old, new, 1)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(str(NOTE).encode(), id="only a checkpoint"),
        pytest.param(BODY.partition(b"\n\n")[0] + b"\n\n", id="no checkpoint"),
        pytest.param(changed(b"old 3\n", b""), id="no old size"),
        pytest.param(changed(b"old 3", b"old 03"), id="leading zero"),
        pytest.param(changed(b"old 3", b"old -3"), id="negative"),
        pytest.param(changed(b"old 3", b"old  3"), id="two spaces"),
        pytest.param(changed(b"old 3", b"old 3 "), id="space at the end"),
        pytest.param(changed(b"old 3", b"old %d" % 2**63), id="too large"),
        pytest.param(changed(b"old 3\n", b"old 3\r\n"), id="carriage return"),
        pytest.param(changed(b"old 3\n", b"old 3\nAAAA\n"), id="short hash"),
        pytest.param(changed(b"old 3\n", b"old 3\n!\n"), id="not base64"),
        pytest.param(BODY[:-1], id="cut off"),
        pytest.param(BODY + b"x", id="more behind"),
        pytest.param(b"x" * (MAXIMUM_REQUEST_BYTES + 1), id="too long"),
        pytest.param(write_request(3, [b"h" * 32] * (MAXIMUM_PROOF + 1), NOTE), id="long proof"),
        pytest.param(b"old 3\n\nnot a checkpoint\n\n\xe2\x80\x94 k AAAAAAA=\n", id="another note"),
    ],
)
def test_refuses_what_is_no_request(body: bytes) -> None:
    with pytest.raises(NoteRefused) as refused:
        read_request(body)
    assert refused.value.reason == "malformed"


def test_every_cut_is_refused() -> None:
    for end in range(len(BODY)):
        with pytest.raises(NoteRefused):
            read_request(BODY[:end])


def test_reads_a_size_and_nothing_like_it() -> None:
    assert read_size(b"20852014\n") == 20852014
    for body in (b"", b"1", b"01\n", b"-1\n", b"1\n\n", b"1 \n", b"%d\n" % 2**63):
        assert read_size(body) is None
