"""Paths that were seen, as few templates: many identifiers in one place become `{*}`.

Paths are compared segment by segment. Where, below the same beginning, more different segments were
seen than names of resources would explain, all of them become one `{*}`; segments that look like
identifiers (numbers, UUIDs, long hexadecimal) need fewer. Everything that was seen is matched by
what comes out; what cannot be written as a template stays as it was.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from authz.paths import parse_template

MANY_NAMES: Final = 20
MANY_IDENTIFIERS: Final = 3
ANY: Final = "{*}"
_IDENTIFIER = re.compile(
    r"[0-9]+|[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|[0-9a-fA-F]{12,}|(?=[^/]*[0-9])[A-Za-z0-9_-]{16,}"
)


def generalise(paths: Iterable[str]) -> dict[str, str]:
    """Return for each path what stands for it: a template, or itself."""
    split = {path: tuple(path.split("/")) for path in set(paths)}
    general = _templates(sorted(set(split.values())), 0)
    return {path: _usable(path, general[segments]) for path, segments in split.items()}


_Segments = tuple[str, ...]


def _templates(rows: list[_Segments], depth: int) -> dict[_Segments, _Segments]:
    """Return what stands for each of `rows`, which agree in their first `depth` segments."""
    groups: dict[str, list[_Segments]] = defaultdict(list)
    result: dict[_Segments, _Segments] = {}
    for row in rows:
        if depth < len(row):
            groups[row[depth]].append(row)
        else:
            result[row] = row
    starred = _starred([segment for segment in groups if segment])
    merged: dict[str, list[_Segments]] = defaultdict(list)
    for segment, members in groups.items():
        merged[ANY if segment in starred else segment] += members
    for segment, members in merged.items():
        below = _below(members, segment, depth)
        result |= below
    return result


def _below(members: list[_Segments], segment: str, depth: int) -> dict[_Segments, _Segments]:
    alike = {row: (*row[:depth], segment, *row[depth + 1 :]) for row in members}
    general = _templates(sorted(set(alike.values())), depth + 1)
    return {row: general[alike[row]] for row in members}


def _starred(segments: list[str]) -> set[str]:
    """Return the segments, of those seen in one place, that one `{*}` stands for."""
    if len(segments) > MANY_NAMES:
        return set(segments)
    identifiers = {segment for segment in segments if _IDENTIFIER.fullmatch(segment)}
    return identifiers if len(identifiers) >= MANY_IDENTIFIERS else set()


def _usable(path: str, segments: _Segments) -> str:
    text = "/".join(segments)
    if text == path:
        return path
    try:
        template = parse_template(text)
    except ValueError:
        return path
    return text if template.regex.fullmatch(path) else path
