"""GET /audit/anchors: where checkpoints are kept outside, and how far behind each place is.

And as a witness: our key, and how far we have seen each log that is ours to watch. It is the state
that all replicas share, so any of them answers.
"""

from datetime import datetime, timedelta
from typing import Any

from fastapi import APIRouter

from admin.state import AdminState
from admin.views import time_text
from audit.anchors.store import AnchorState, read_anchor_states
from audit.checkpoints import newest_checkpoint
from audit.witness.store import read_all_seen


def create_router(state: AdminState) -> APIRouter:
    """Return the route."""
    router = APIRouter()

    @router.get("/audit/anchors")
    def anchors() -> dict[str, Any]:
        newest = newest_checkpoint(state.engine, state.signer.origin)
        size = 0 if newest is None else newest.size
        states = read_anchor_states(state.engine)
        return {
            "origin": state.signer.origin,
            "size": size,
            "anchors": [
                _anchor(states.get(name, AnchorState(name)), every, size)
                for name, every in state.outside.anchors
            ],
            "witness": _witness(state) if state.outside.witness_key else None,
        }

    return router


def _anchor(anchor: AnchorState, every: timedelta, size: int) -> dict[str, Any]:
    return {
        "anchor": anchor.name,
        "state": _standing(anchor),
        "every_seconds": every.total_seconds(),
        "size": anchor.size,
        "behind": max(0, size - anchor.size),
        "confirmed_at": time_text(anchor.confirmed_at),
        "failures": anchor.failures,
        "failing_since": time_text(anchor.failing_since),
        "problem": anchor.problem,
    }


def _standing(anchor: AnchorState) -> str:
    if anchor.is_contradicted:
        return "contradicted"
    if anchor.failures:
        return "failing"
    return "new" if anchor.confirmed_at is None else "well"


def _witness(state: AdminState) -> dict[str, Any]:
    seen = read_all_seen(state.engine)
    return {
        "key": state.outside.witness_key,
        "logs": [_log(origin, *seen.get(origin, (0, None))) for origin in state.outside.watched],
    }


def _log(origin: str, size: int, seen_at: datetime | None) -> dict[str, Any]:
    return {"origin": origin, "size": size, "seen_at": time_text(seen_at)}
