"""GET /audit/anchors: where checkpoints are kept outside, and how far behind each place is.

And as a witness: our key, and how far we have seen each log that is ours to watch. It is the state
that all replicas share, so any of them answers.
"""

from datetime import datetime, timedelta
from typing import Any, Final

from fastapi import APIRouter

from admin.state import AdminState
from admin.views import Json, time_text
from audit.anchors.store import AnchorState, read_anchor_states
from audit.checkpoints import newest_checkpoint
from audit.witness.store import read_all_seen

_RUNBOOK: Final = "docs/runbooks/audit-anchors.md"
_ADVICE: Final = {
    "contradicted": f"run `meshca audit verify`, then see {_RUNBOOK}",
    "failing": f"it is tried again at least once a minute; if that does not help, see {_RUNBOOK}",
}


def create_router(state: AdminState) -> APIRouter:
    """Return the route."""
    router = APIRouter()

    @router.get("/audit/anchors")
    def anchors() -> dict[str, Any]:
        size, standing = _standings(state)
        return {
            "origin": state.signer.origin,
            "size": size,
            "anchors": [
                {
                    **_short(anchor, size),
                    "every_seconds": every.total_seconds(),
                    "failures": anchor.failures,
                }
                for anchor, every in standing
            ],
            "witness": _witness(state) if state.outside.witness_key else None,
        }

    return router


def anchors_json(state: AdminState) -> list[Json]:
    """Return how each anchor stands, in short, for /status; raises StoreUnavailable."""
    size, standing = _standings(state)
    return [_short(anchor, size) for anchor, _ in standing]


def _standings(state: AdminState) -> tuple[int, list[tuple[AnchorState, timedelta]]]:
    """Return how many entries are signed, and each anchor with how often it is visited."""
    newest = newest_checkpoint(state.engine, state.signer.origin)
    states = read_anchor_states(state.engine)
    anchors = [(states.get(name, AnchorState(name)), e) for name, e in state.outside.anchors]
    return 0 if newest is None else newest.size, anchors


def _short(anchor: AnchorState, size: int) -> Json:
    standing = _standing(anchor)
    return {
        "anchor": anchor.name,
        "state": standing,
        "size": anchor.size,
        "behind": max(0, size - anchor.size),
        "confirmed_at": time_text(anchor.confirmed_at),
        "failing_since": time_text(anchor.failing_since),
        "problem": anchor.problem,
        "advice": _ADVICE.get(standing, ""),
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
