"""Entries of the log as answers to questions hold them: as logged, with what proves them."""

from dataclasses import replace
from datetime import datetime
from itertools import islice

from admin.state import AdminState
from admin.views import Json, entry_json
from audit.checkpoints import newest_checkpoint
from audit.counting import MAXIMUM_READ
from audit.merkle import verify_inclusion
from audit.query import Found, Query, find, find_all


def entries_about(state: AdminState, query: Query) -> Json:
    """Return one page of entries, and the cursor of the next; raises StoreUnavailable."""
    page = find(state.engine, query)
    return {"events": [entry_json(one) for one in page], "next": page.next}


def first_of(state: AdminState, query: Query, *, maximum_read: int = MAXIMUM_READ) -> Found | None:
    """Return the first entry that `query` asks for, however far a search must go.

    It reads at most `maximum_read` entries at once.
    """
    one = replace(query, limit=1)
    return next(find_all(state.engine, one, maximum_read=maximum_read), None)


def entry_at(state: AdminState, index: int | None) -> Json | None:
    """Return entry `index`, and whether the newest checkpoint holds it; None without an index.

    `proven` is true when its inclusion proof leads to the root that was signed, false when it does
    not, and null while no checkpoint reaches it.
    """
    if index is None:
        return None
    stored = state.log.get([index])
    if not stored:
        return {"index": index, "body": None, "proven": False, "checkpoint": None}
    (entry,) = stored
    proven, size = _proven(state, index, entry.leaf_hash)
    return {
        "index": index,
        "body": entry.document(),
        "leaf_hash": entry.leaf_hash.hex(),
        "proven": proven,
        "checkpoint": size,
    }


def _proven(state: AdminState, index: int, leaf: bytes) -> tuple[bool | None, int | None]:
    kept = newest_checkpoint(state.engine, state.signer.origin)
    if kept is None:
        return None, None
    checkpoint, _ = kept.parsed()
    if index >= checkpoint.size:
        return None, checkpoint.size
    proof = state.log.inclusion_proof(index, checkpoint.size)
    is_in = verify_inclusion(index, checkpoint.size, leaf, proof, checkpoint.root)
    return is_in, checkpoint.size


def of_kinds(
    state: AdminState, kinds: tuple[str, ...], *, until: datetime, limit: int
) -> list[Json]:
    """Return the newest entries of `kinds` before `until`, the newest first."""
    return of_kinds_between(state, kinds, Query(until=until), limit)[::-1]


def of_kinds_between(
    state: AdminState,
    kinds: tuple[str, ...],
    query: Query,
    limit: int,
    *,
    maximum_read: int = MAXIMUM_READ,
) -> list[Json]:
    """Return the newest `limit` entries of `kinds` that `query` asks for, the oldest first.

    However far a search must go; it reads at most `maximum_read` entries at once.
    """
    wanted = (replace(query, kind=kind, limit=limit) for kind in kinds)
    pages = (find_all(state.engine, each, maximum_read=maximum_read) for each in wanted)
    found = [one for each in pages for one in islice(each, limit)]
    newest = sorted(found, key=lambda one: -one.index)[:limit]
    return [entry_json(one) for one in reversed(newest)]
