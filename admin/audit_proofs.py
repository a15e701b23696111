"""Routes of what the audit log commits to: checkpoints, and proofs that lead to them.

Hashes are in hex, checkpoints are C2SP signed notes. A proof file holds the entry itself, so it is
a read of evidence; the rest is what anybody may hold the log to.
"""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import PlainTextResponse

from admin import views
from admin.state import AdminState
from audit.checkpoints import Kept, checkpoint_of, checkpoints, newest_checkpoint
from audit.proof_file import EntryProof
from meshca.errors import Conflict, NotFound, RequestRefused

MAXIMUM_LIMIT: Final = 1_000
_Size = Annotated[int, Field(ge=0, le=2**63 - 1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Page(_Strict):
    """Which checkpoints: the largest first, below `cursor`, the size where a page ended."""

    limit: int = Field(default=100, ge=1, le=MAXIMUM_LIMIT)
    cursor: _Size | None = None


class Inclusion(_Strict):
    """Whose place is to be proven, in the log of `size` entries; by default the newest signed."""

    index: _Size
    size: _Size | None = None


class Consistency(_Strict):
    """Which log begins which; `new` is by default the newest that was signed."""

    old: _Size
    new: _Size | None = None


class EntryOf(_Strict):
    """An entry, by its index or by the serial of the certificate that it is about."""

    index: _Size | None = None
    serial: str | None = Field(default=None, max_length=128)


def create_router(state: AdminState) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.get("/audit/checkpoint")
    def newest() -> Any:
        return _checkpoint_json(_newest(state))

    @router.get("/audit/checkpoints")
    def kept(page: Annotated[Page, Query()]) -> Any:
        found = checkpoints(state.engine, state.signer.origin, limit=page.limit, below=page.cursor)
        is_full = len(found) == page.limit
        return {
            "checkpoints": [_checkpoint_json(each) for each in found],
            "next": found[-1].size if is_full else None,
        }

    @router.get("/audit/proof/inclusion")
    def inclusion(asked: Annotated[Inclusion, Query()]) -> Any:
        return _inclusion(state, asked)

    @router.get("/audit/proof/consistency")
    def consistency(asked: Annotated[Consistency, Query()]) -> Any:
        return _consistency(state, asked)

    @router.get("/audit/proof/entry")
    def entry(asked: Annotated[EntryOf, Query()]) -> PlainTextResponse:
        return PlainTextResponse(str(_proof_file(state, asked)))

    return router


def _newest(state: AdminState) -> Kept:
    kept = newest_checkpoint(state.engine, state.signer.origin)
    if kept is None:
        raise Conflict("nothing is signed yet; a checkpoint follows within a second")
    return kept


def _checkpoint_json(kept: Kept) -> views.Json:
    checkpoint, note = kept.parsed()
    return {
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "time": views.time_text(kept.time),
        "keys": [signature.key_id.hex() for signature in note.signatures],
        "checkpoint": kept.note,
    }


def _inclusion(state: AdminState, asked: Inclusion) -> views.Json:
    size = _newest(state).size if asked.size is None else _grown(state, asked.size)
    if asked.index >= size:
        raise _outside(state, asked.index, size, is_newest=asked.size is None)
    (stored,) = state.log.get([asked.index])
    proof = state.log.inclusion_proof(asked.index, size)
    return {
        "index": asked.index,
        "size": size,
        "leaf_hash": stored.leaf_hash.hex(),
        "root": state.log.root_at(size).hex(),
        "proof": [each.hex() for each in proof],
        "checkpoint": _note_of(state, size),
    }


def _consistency(state: AdminState, asked: Consistency) -> views.Json:
    new = _newest(state).size if asked.new is None else _grown(state, asked.new)
    if asked.old > new:
        raise RequestRefused("old", f"`old` is more than `new`, {new}")
    proof = state.log.consistency_proof(asked.old, new)
    return {
        "old": asked.old,
        "new": new,
        "old_root": state.log.root_at(asked.old).hex(),
        "new_root": state.log.root_at(new).hex(),
        "proof": [each.hex() for each in proof],
        "checkpoint": _note_of(state, new),
    }


def _proof_file(state: AdminState, asked: EntryOf) -> EntryProof:
    kept, index = _newest(state), _index(state, asked)
    if index >= kept.size:
        raise _outside(state, index, kept.size, is_newest=True)
    (stored,) = state.log.get([index])
    hashes = tuple(state.log.inclusion_proof(index, kept.size))
    return EntryProof(index, stored.leaf_hash, stored.body, hashes, kept.note)


def _index(state: AdminState, asked: EntryOf) -> int:
    """Return the index that is asked for; raises RequestRefused, or NotFound for a serial."""
    if (asked.index is None) == (asked.serial is None):
        raise RequestRefused("entry", "name the entry by its index or by a serial")
    if asked.index is not None:
        return asked.index
    index = state.inventory.get(asked.serial or "").log_index
    if index is None:
        raise NotFound("this certificate is older than the entries that certificates name")
    return index


def _grown(state: AdminState, size: int) -> int:
    """Return `size`; raises RequestRefused for more entries than there are."""
    if size > (there_are := state.log.head().size):
        raise RequestRefused("size", f"the log has {there_are} entries")
    return size


def _outside(
    state: AdminState, index: int, size: int, *, is_newest: bool
) -> NotFound | Conflict | RequestRefused:
    if index >= state.log.head().size:
        return NotFound(f"there is no entry {index}")
    if is_newest:
        return Conflict(f"entry {index} is not signed for yet; retry in a second")
    return RequestRefused("index", f"entry {index} is not among the first {size}")


def _note_of(state: AdminState, size: int) -> str | None:
    kept = checkpoint_of(state.engine, state.signer.origin, size)
    return None if kept is None else kept.note
