"""What changed in the texts of policies, as a unified diff of bounded size: for the audit record.

Only documents whose text differs are shown, under their names; where they stand in which file, and
in what order, is no part of it. What differs and has no name that can be read (several documents
that cannot be cut apart, comments) is shown under its source.
"""

import difflib
from collections.abc import Iterable, Iterator
from typing import Final

from authz.directory import Texts
from authz.documents import find_name, split_documents, without_common_ends

MAXIMUM_CHARACTERS: Final = 64 * 1024
_LONGEST_DIFFED: Final = 256 * 1024
_NO_SOURCE: Final = "without a name"
_Part = tuple[str, str]


def text_diff(before: Texts, after: Texts, *, maximum: int = MAXIMUM_CHARACTERS) -> str:
    """Return the unified diff of each document that is not the same in both; at most `maximum`."""
    same = {*before} & {*after}
    lists = [[each for each in texts if each not in same] for texts in (before, after)]
    if len(lists[0]) == len(lists[1]) == 1:  # a large text of which little differs
        ((one, first),), ((other, second),) = lists
        first, second = without_common_ends(first, second)
        lists = [[(one, first)], [(other, second)]]
    old, new = (_named(parts) for parts in _differing(*lists))
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


def _differing(before: Iterable[_Part], after: Iterable[_Part]) -> Iterator[list[_Part]]:
    """Yield source and text of the documents that only `before` has, then those only `after` has.

    Nearly all are the same as they stand; only of the others the mark before and the blanks around
    are taken off, which are no part of them.
    """
    pairs = [
        [(source, part) for source, text in texts for part in split_documents(text)]
        for texts in (before, after)
    ]
    same = set.intersection(*({part for _, part in each} for each in pairs))
    bare = [
        [(s, part.removeprefix("---").strip()) for s, part in each if part not in same]
        for each in pairs
    ]
    same = set.intersection(*({part for _, part in each} for each in bare))
    yield from ([each for each in parts if each[1] not in same] for parts in bare)


def _named(parts: list[_Part]) -> dict[str, str]:
    """Return `parts` by name."""
    found: dict[str, str] = {}
    for source, part in parts:
        if part:
            name = str(find_name(part) or source or _NO_SOURCE)
            found[name] = f"{found[name]}\n---\n{part}" if name in found else part
    return found


def _diff(name: str, before: str, after: str) -> str:
    if len(before) + len(after) > _LONGEST_DIFFED:  # the comparison would take too long
        return f"--- {name}\n+++ {name}\n[{len(before)} and {len(after)} characters: too long]\n"
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(),
        fromfile=name if before else "/dev/null", tofile=name if after else "/dev/null",
        lineterm="",
    )  # fmt: skip
    return "".join(f"{line}\n" for line in lines)
