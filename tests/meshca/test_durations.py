"""Durations as text."""

from datetime import timedelta

import pytest

from meshca.durations import format_duration, parse_duration

READ = [
    ("90s", timedelta(seconds=90)),
    ("30m", timedelta(minutes=30)),
    ("1h", timedelta(hours=1)),
    ("7d", timedelta(days=7)),
    ("2w", timedelta(weeks=2)),
    ("1h30m", timedelta(minutes=90)),
    ("1d12h30m5s", timedelta(days=1, hours=12, minutes=30, seconds=5)),
    ("0s", timedelta()),
]


@pytest.mark.parametrize(("text", "expected"), READ)
def test_reads(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "h",
        "1.5h",
        "-1h",
        "1h ",
        " 1h",
        "1h\n",
        "30m1h",
        "1H",
        "1y",
        "\u0663h",
        "9" * 40 + "s",
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_refuses_what_no_clock_reaches() -> None:
    with pytest.raises(ValueError, match="longer than any duration"):
        parse_duration("9" * 20 + "w")


WRITTEN = [
    (timedelta(seconds=4), "4s"),
    (timedelta(), "0s"),
    (timedelta(minutes=59, seconds=59), "59m 59s"),
    (timedelta(days=6, hours=23, minutes=59), "6d 23h"),
    (timedelta(hours=1), "1h"),
    (timedelta(seconds=-61), "-1m 1s"),
    (timedelta(milliseconds=400), "0s"),
]


@pytest.mark.parametrize(("duration", "text"), WRITTEN)
def test_writes_the_two_largest_units(duration: timedelta, text: str) -> None:
    assert format_duration(duration) == text
