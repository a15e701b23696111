"""The framing of the simulated proxies."""

import pytest

from benchmarks.http2 import Connection, Ended, Message, Reply, call, message

SETTINGS = bytes.fromhex("000000040000000000")
SETTINGS_ACK = bytes.fromhex("000000040100000000")
PING = bytes.fromhex("000008060000000000") + b"12345678"
PING_ACK = bytes.fromhex("000008060100000000") + b"12345678"
RESET = bytes.fromhex("000004030000000003") + (7).to_bytes(4)
GOAWAY = bytes.fromhex("000008070000000000") + bytes(4) + (11).to_bytes(4)
TRAILERS = bytes.fromhex("000000010500000001")


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_messages_are_whole_however_their_octets_arrive(size: int) -> None:
    sent = message(1, b"one") + message(3, b"") + message(1, b"x" * 300)
    connection, seen = Connection(), []

    for start in range(0, len(sent), size):
        seen += list(connection.feed(sent[start : start + size]))

    assert seen == [Message(1, b"one"), Message(3, b""), Message(1, b"x" * 300)]


def test_a_message_may_span_frames() -> None:
    whole = message(1, b"hello")[9:]
    frames = b"".join(
        len(part).to_bytes(3) + bytes.fromhex("000000000001") + part
        for part in (whole[:7], whole[7:])
    )
    assert list(Connection().feed(frames)) == [Message(1, b"hello")]


def test_settings_and_pings_are_answered() -> None:
    seen = list(Connection().feed(SETTINGS + PING + SETTINGS_ACK + PING_ACK))
    assert seen == [Reply(SETTINGS_ACK), Reply(PING_ACK)]


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (RESET, "reset, code 7"),
        (GOAWAY, "goaway, code 11"),
        (TRAILERS, "closed by the server"),
    ],
)
def test_an_end_says_why(frame: bytes, why: str) -> None:
    assert list(Connection().feed(frame)) == [Ended(why)]


@pytest.mark.parametrize("length", [0, 126, 127, 128, 254, 255, 300, 2000])
def test_header_values_of_any_length_are_literals(length: int) -> None:
    block = call(1, [("n", "v" * length)])[9:]
    assert block[:3] == b"\x00\x01n"
    decoded, rest = _integer(block[3:])
    assert (decoded, rest) == (length, b"v" * length)


def _integer(octets: bytes) -> tuple[int, bytes]:
    """Decode an integer of a seven-bit prefix as RFC 7541 5.1 writes it down."""
    value, octets = octets[0], octets[1:]
    if value < 127:
        return value, octets
    shift = 0
    while True:
        octet, octets = octets[0], octets[1:]
        value += (octet & 127) << shift
        shift += 7
        if not octet & 128:
            return value, octets
