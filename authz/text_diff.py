"""What changed in the texts of policies, as a unified diff of bounded size: for the audit record.

Only documents whose text differs are shown, under their names; where they stand in which file, and
in what order, is no part of it. What differs and has no name that can be read (several documents
that cannot be cut apart, comments) is shown under its source.
"""

import difflib
from collections.abc import Iterable
from typing import Final

from authz.directory import Texts
from authz.documents import find_name, split_documents

MAXIMUM_CHARACTERS: Final = 64 * 1024
_LONGEST_DIFFED: Final = 256 * 1024
_NO_SOURCE: Final = "without a name"


def text_diff(before: Texts, after: Texts, *, maximum: int = MAXIMUM_CHARACTERS) -> str:
    """Return the unified diff of each document that is not the same in both; at most `maximum`."""
    lists = [_parts(text for text in texts if text not in others)
             for texts, others in ((before, set(after)), (after, set(before)))]  # fmt: skip
    known = [{part for _, part in each} for each in lists]
    old, new = _named(lists[0], known[1]), _named(lists[1], known[0])
    parts: list[str] = []
    size = 0
    for name in sorted(old.keys() | new.keys()):
        part = _diff(name, old.get(name, ""), new.get(name, ""))
        parts.append(part)
        size += len(part)
        if size > maximum:
            break
    whole = "".join(parts)
    if len(whole) <= maximum:
        return whole
    return whole[:maximum] + "\n[the rest of the difference is left out]\n"


def _named(parts: list[tuple[str, str]], same: set[str]) -> dict[str, str]:
    """Return by name the documents of `parts` that are not among `same`."""
    found: dict[str, str] = {}
    for source, part in parts:
        if part and part not in same:
            name = str(find_name(part) or source or _NO_SOURCE)
            found[name] = f"{found[name]}\n---\n{part}" if name in found else part
    return found


def _parts(texts: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return source and text of each document, without the mark before and the blanks around."""
    return [
        (source, part.removeprefix("---").strip())
        for source, text in texts
        for part in split_documents(text)
    ]


def _diff(name: str, before: str, after: str) -> str:
    if len(before) + len(after) > _LONGEST_DIFFED:  # the comparison would take too long
        return f"--- {name}\n+++ {name}\n[{len(before)} and {len(after)} characters: too long]\n"
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(),
        fromfile=name if before else "/dev/null", tofile=name if after else "/dev/null",
        lineterm="",
    )  # fmt: skip
    return "".join(f"{line}\n" for line in lines)
