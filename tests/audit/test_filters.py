"""What a filter may say: every mistake is named, with what would be none."""

from datetime import UTC, datetime
from typing import Any

import pytest

from audit.filters import MAXIMUM_TEXT
from audit.query import Query
from meshca.errors import RequestRefused

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)

REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("an unknown kind", {"kind": "isuance"}, "unknown_kind", "'isuance'; known: issuance, refusal"),
    ("an unknown outcome", {"outcome": "ok"}, "unknown_outcome", "known: done, refused, failed"),
    ("a serial that is no number", {"serial": "ab:xy"}, "serial", "1 to 40 digits"),
    ("a serial too long", {"serial": "a" * 41}, "serial", "1 to 40 digits"),
    ("a fingerprint cut short", {"fingerprint": "ab" * 31}, "fingerprint", "64 hexadecimal digits"),
    ("a fingerprint of SHA-1", {"fingerprint": "ab" * 20}, "fingerprint", "SHA-256"),
    ("no identity", {"spiffe_id": "shop/orders"}, "spiffe_id", "begin with spiffe://"),
    ("an empty namespace", {"namespace": ""}, "empty_filter", "namespace is empty"),
    ("a blank text", {"text": "  "}, "empty_filter", "text is empty"),
    ("an empty serial", {"serial": ""}, "empty_filter", "serial is empty"),
    ("a value too long", {"pod": "p" * (MAXIMUM_TEXT + 1)}, "pod", "longer than 2048"),
    ("no limit", {"limit": 0}, "limit", "1 to 1000"),
    ("a negative limit", {"limit": -1}, "limit", "1 to 1000"),
    ("a limit too high", {"limit": 1_001}, "limit", "1 to 1000"),
    ("a cursor of no page", {"cursor": -1}, "cursor", "of the page before"),
    ("a time without its zone", {"since": datetime(2026, 11, 1)}, "time", "time zone"),  # noqa: DTZ001  # it is what is refused
    ("an end before the start", {"since": NOON, "until": NOON}, "time", "before until"),
]


@pytest.mark.parametrize(
    ("name", "filters", "reason", "message"), REFUSED, ids=[c[0] for c in REFUSED]
)
def test_refuses(name: str, filters: dict[str, Any], reason: str, message: str) -> None:
    with pytest.raises(RequestRefused, match=message) as caught:
        Query(**filters)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "spelling", ["ab12", "AB12", "00:AB:12", "0xab12", "0x00AB12", "serial=AB12", " ab 12 "]
)
def test_a_serial_is_the_same_however_it_is_written(spelling: str) -> None:
    assert Query(serial=spelling).serial == "ab12"


def test_the_serial_zero_is_one() -> None:
    assert Query(serial="00").serial == "0"


@pytest.mark.parametrize(
    "spelling",
    [
        "0a" * 32,
        "0A" * 32,
        ":".join(["0A"] * 32),
        "sha256:" + "0a" * 32,
        "sha256 Fingerprint=" + ":".join(["0A"] * 32),
        "0x" + "0a" * 32,
    ],
)
def test_a_fingerprint_is_the_same_however_it_is_written(spelling: str) -> None:
    assert Query(fingerprint=spelling).fingerprint == "0a" * 32


def test_what_is_shown_of_a_value_is_bounded_and_quoted() -> None:
    with pytest.raises(RequestRefused) as caught:
        Query(kind="\x1b[31m" + "x" * 2_000)
    assert len(str(caught.value)) < 600
    assert "\x1b" not in str(caught.value)
