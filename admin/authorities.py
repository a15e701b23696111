"""Routes of authorities and roots: what they are, what they wait for, and the steps by hand.

Each step is audited by what takes it (rotation/), with who asked and why.
"""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from admin import views
from admin.changes import Reason
from admin.peer import get_peer
from admin.state import AdminState
from rotation.operations import AuthorityOperations
from rotation.propagation import Missing
from rotation.replicas import Replica
from rotation.root_progress import RootProgress, root_progress
from rotation.roots import Root
from rotation.standings import Row

Id = Annotated[str, Path(pattern="^[0-9a-f]{40,64}$")]
MAXIMUM_SHOWN = 1_000
"""Workloads listed by name; of the others the number is told."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Why(_Strict):
    """Why a step is taken by hand."""

    reason: Reason


class Activation(Why):
    """`anyway`: even though not every workload has its root."""

    anyway: StrictBool = False


class Replacement(Why):
    """`to`: the root that stays; without it, the newest."""

    to: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None


class WaivedWorkload(Why):
    """Whom a root shall wait for no more."""

    spiffe_id: str = Field(min_length=1, max_length=2048)
    pod: str = Field(default="", max_length=253)


def create_router(state: AdminState) -> APIRouter:
    """Return the routes."""
    router = APIRouter()
    operations = state.operations
    _add_reads(router, operations)
    _add_authority_steps(router, operations)
    _add_root_steps(router, operations)
    return router


def _add_reads(router: APIRouter, operations: AuthorityOperations) -> None:
    intermediates = operations.intermediates

    @router.get("/authorities")
    async def authorities() -> Any:
        rows = await asyncio.to_thread(intermediates.standings.of)
        waiting = await intermediates.waiting()
        names = [row.standing.authority_id for row in rows]
        live = await asyncio.to_thread(intermediates.standings.live_until, names)
        return {
            "replica": intermediates.replica,
            "signing": intermediates.signing(),
            "problem": intermediates.problem,
            "replicas": [_replica_json(replica) for replica in await intermediates.members.all()],
            "authorities": [
                _authority_json(
                    row,
                    waits_for=waiting.get(row.standing.authority_id, ""),
                    last_end=views.time_text(live.get(row.standing.authority_id)),
                    problem=intermediates.at_issuer.problems.get(row.standing.authority_id, ""),
                )
                for row in rows
            ],
        }

    @router.get("/roots")
    async def roots() -> Any:
        known = intermediates.trust.known
        progress = await root_progress(intermediates)
        return {"roots": [_root_json(root) for root in known], **_progress_json(progress)}


def _add_authority_steps(router: APIRouter, operations: AuthorityOperations) -> None:
    @router.post("/authorities/prepare")
    async def prepare(why: Why, request: Request) -> Any:
        name = await operations.prepare(actor=_actor(request), reason=why.reason)
        return {"authority_id": name}

    @router.post("/authorities/{authority_id}/activate")
    async def activate(authority_id: Id, what: Activation, request: Request) -> Any:
        await operations.activate(
            authority_id, actor=_actor(request), reason=what.reason, anyway=what.anyway
        )
        return {"authority_id": authority_id}

    @router.post("/authorities/{authority_id}/taint")
    async def taint(authority_id: Id, why: Why, request: Request) -> Any:
        await operations.taint(authority_id, actor=_actor(request), reason=why.reason)
        return {"authority_id": authority_id}

    @router.post("/authorities/{authority_id}/revoke")
    async def revoke(authority_id: Id, why: Why, request: Request) -> Any:
        await operations.revoke(authority_id, actor=_actor(request), reason=why.reason)
        return {"authority_id": authority_id}


def _add_root_steps(router: APIRouter, operations: AuthorityOperations) -> None:
    @router.post("/roots/replace")
    async def replace(what: Replacement, request: Request) -> Any:
        successor = await operations.replace_root(
            actor=_actor(request), reason=what.reason, to=what.to
        )
        return {"successor": successor}

    @router.post("/roots/keep")
    async def keep(why: Why, request: Request) -> Any:
        kept = await operations.keep_root(actor=_actor(request), reason=why.reason)
        return {"kept": kept}

    @router.post("/roots/{root_sha256}/drop")
    async def drop(root_sha256: Id, why: Why, request: Request) -> Any:
        await operations.drop_root(root_sha256, actor=_actor(request), reason=why.reason)
        return {"root_sha256": root_sha256}

    @router.post("/roots/{root_sha256}/waive")
    async def waive(root_sha256: Id, waived: WaivedWorkload, request: Request) -> Any:
        await operations.waive(
            root_sha256,
            waived.spiffe_id,
            waived.pod,
            actor=_actor(request),
            reason=waived.reason,
        )
        return {"root_sha256": root_sha256, "spiffe_id": waived.spiffe_id, "pod": waived.pod}


def _actor(request: Request) -> str:
    return get_peer(request.scope).actor


def _replica_json(replica: Replica) -> views.Json:
    return {
        "name": replica.name,
        "host": replica.host,
        "version": replica.version,
        "started_at": views.time_text(replica.started_at),
        "seen_at": views.time_text(replica.seen_at),
        "signing": replica.report.signing,
        "credentials": sum(replica.report.leaves.values()),
    }


def _authority_json(row: Row, *, waits_for: str, last_end: str | None, problem: str) -> views.Json:
    s = row.standing
    return {
        "authority_id": s.authority_id,
        "replica": s.replica,
        "stage": s.stage.value,
        "since": views.time_text(s.since),
        "reason": s.reason,
        "prepared_at": views.time_text(row.prepared_at),
        "not_before": views.time_text(s.not_before),
        "not_after": views.time_text(s.not_after),
        "root_sha256": row.root_sha256,
        "last_certificate_ends": last_end,
        "key_kept": row.key is not None,
        "waits_for": waits_for,
        "at_issuer": row.at_issuer or (f"not yet: {problem}" if problem else ""),
    }


def _root_json(root: Root) -> views.Json:
    return {
        "root_sha256": root.root_sha256,
        "number": root.number,
        "subject": root.certificate.subject.rfc4514_string(),
        "not_after": views.time_text(root.certificate.not_valid_after_utc),
        "stage": root.stage.value,
        "since": views.time_text(root.since),
        "reason": root.reason,
        "waived": [
            {
                "spiffe_id": w.spiffe_id,
                "pod": w.pod,
                "actor": w.actor,
                "reason": w.reason,
                "at": views.time_text(w.at),
            }
            for w in root.waived
        ],
    }


def _progress_json(progress: RootProgress) -> views.Json:
    return {
        "successor": None if progress.successor is None else progress.successor.root_sha256,
        "under_way": progress.is_under_way,
        "phases": [{"name": p.name, "remaining": p.remaining, "of": p.of} for p in progress.phases],
        "missing_count": len(progress.missing),
        "missing": _missing_json(progress.missing[:MAXIMUM_SHOWN]),
    }


def _missing_json(missing: Sequence[Missing]) -> list[views.Json]:
    return [
        {
            "spiffe_id": m.spiffe_id,
            "pod": m.pod,
            "replica": m.replica,
            "connected": m.is_connected,
            "why": m.why,
            "since": views.time_text(m.since),
            "until": views.time_text(m.until),
            "nack": m.nack,
        }
        for m in missing
    ]
