"""Durations as text (`90s`, `1h`, `7d`, `1h30m`), as people write them in files and commands."""

import re
from datetime import timedelta

_UNITS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
_PATTERN = re.compile(r"(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", re.ASCII)


def parse_duration(text: str) -> timedelta:
    """Return the duration that `text` names.

    Raises ValueError for anything but whole numbers with the units w, d, h, m, s in that order.
    """
    match = _PATTERN.fullmatch(text)
    if not text or match is None or len(text) > 32:
        raise ValueError(f"{text!r} is not a duration; write it like 90s, 30m, 1h, 7d or 1h30m")
    pairs = zip(match.groups(), _UNITS.values(), strict=True)
    try:
        return timedelta(seconds=sum(int(number) * unit for number, unit in pairs if number))
    except OverflowError as error:
        raise ValueError(f"{text!r} is longer than any duration") from error


def format_duration(duration: timedelta) -> str:
    """Return `duration` in its two largest units, as a person reads it: `6d 23h`, `59m`, `4s`."""
    seconds = int(duration.total_seconds())
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if number := seconds // size:
            parts.append(f"{number}{unit}")
        seconds %= size
    return sign + (" ".join(parts[:2]) or "0s")
