"""Making a failing case small: the least part of the documents that still fails.

Everything that can be left out is left out, one thing after another, as long as what remains still
fails. A part that does not load any more is no case.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

from meshca.errors import InvalidDocument

_Place = tuple[Any, ...]


def smallest(
    documents: list[dict[str, Any]], still_fails: Callable[[list[dict[str, Any]]], bool]
) -> list[dict[str, Any]]:
    """Return the least part of `documents` for which `still_fails`."""
    kept = documents
    progress = True
    while progress:
        progress = False
        for place in list(_places(kept)):
            tried = _without(kept, place)
            if _fails(tried, still_fails):
                kept, progress = tried, True
                break
    return kept


def _fails(
    documents: list[dict[str, Any]], still_fails: Callable[[list[dict[str, Any]]], bool]
) -> bool:
    try:
        return still_fails(documents)
    except (InvalidDocument, KeyError):
        return False


def _places(value: Any, place: _Place = ()) -> Iterator[_Place]:
    """Yield the place of each part of `value`, the large ones first."""
    if isinstance(value, dict):
        keys: list[Any] = list(value)
    else:
        keys = list(range(len(value))) if isinstance(value, list) else []
    yield from ((*place, key) for key in keys)
    for key in keys:
        yield from _places(value[key], (*place, key))


def _without(documents: list[dict[str, Any]], place: _Place) -> list[dict[str, Any]]:
    copied = copy.deepcopy(documents)
    value: Any = copied
    for key in place[:-1]:
        value = value[key]
    del value[place[-1]]
    return copied
