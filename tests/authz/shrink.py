"""Making a failing set of documents small: whatever can go while it still fails, goes."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

Documents = list[dict[str, Any]]
_KEPT = ("apiVersion", "kind", "name", "namespace")
_ROUNDS = 60


def shrink(
    documents: Documents, failures: Callable[[list[Documents]], list[str]]
) -> tuple[Documents, str]:
    """Return the smallest documents that still fail, and how they do.

    `failures` says of each candidate how it fails, or nothing. Each round takes one part out: a
    document, a rule, a field, a value.
    """
    how = failures([documents])[0] or "failed once, and not again"
    for _ in range(_ROUNDS):
        candidates = list(smaller(documents))
        failing = zip(candidates, failures(candidates) if candidates else (), strict=True)
        found = next(((each, said) for each, said in failing if said), None)
        if found is None:
            break
        documents, how = found
    return documents, how


def smaller(documents: Documents) -> Iterator[Documents]:
    """Yield copies of `documents` that lack one part, large parts first."""
    for path in sorted(_parts(documents, ()), key=len):
        candidate = copy.deepcopy(documents)
        holder: Any = candidate
        for key in path[:-1]:
            holder = holder[key]
        del holder[path[-1]]
        yield candidate


def _parts(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    items = enumerate(value) if isinstance(value, list) else ()
    for key, item in value.items() if isinstance(value, dict) else items:
        if key not in _KEPT:
            yield (*path, key)
            yield from _parts(item, (*path, key))
