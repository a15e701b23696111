"""The signed note of a report: which files belong to it, by hash. Pure."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Final

from audit.note import NoteRefused, VerifierKey, parse_note, verify_note

TITLE: Final = "meshca audit report of "
NAME: Final = "report.sig"
_PART: Final = re.compile(r"(report\.[a-z]{1,8}) sha256:([0-9a-f]{64})")


def statement(origin: str, times: str, parts: Mapping[str, bytes]) -> str:
    """Return what is signed: whose report, of which times, and the SHA-256 of each part."""
    hashes = [f"{name} sha256:{hashlib.sha256(data).hexdigest()}" for name, data in parts.items()]
    return "\n".join([f"{TITLE}{origin}", times, *hashes]) + "\n"


def named_parts(note: bytes | str, keys: Iterable[VerifierKey]) -> tuple[str, str, dict[str, str]]:
    """Return origin, times, and the hash of each part of a report whose note is `note`.

    Raises NoteRefused unless one of `keys` has signed it, and for a note of something else.
    """
    parsed = parse_note(note)
    verified = verify_note(parsed, keys)
    first, times, *rest = parsed.text.rstrip("\n").split("\n")
    matches = [_PART.fullmatch(line) for line in rest]
    if not first.startswith(TITLE) or not matches or not all(matches):
        raise NoteRefused("malformed", "the note is not that of a report")
    origin = first.removeprefix(TITLE)
    if all(one.key.name != origin for one in verified):
        raise NoteRefused("unknown_key", f"no key of {origin} has signed the report")
    return origin, times, {match[1]: match[2] for match in matches if match}


def check_part(name: str, data: bytes, expected: str) -> None:
    """Raise NoteRefused unless `data` has the hash `expected`."""
    if hashlib.sha256(data).hexdigest() != expected:
        raise NoteRefused("changed", f"{name} is not the file that was signed")
