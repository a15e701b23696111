"""Routes of federation: which trust domains, how their bundles stand, and changes with a reason."""

from datetime import timedelta
from typing import Annotated, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from admin.changes import Reason
from admin.peer import get_peer
from admin.state import AdminState
from admin.views import time_text
from ca.federation.document import MAXIMUM_BYTES
from ca.federation.member import Member
from ca.federation.store import Profile, Relation

_Text = Annotated[str, Field(max_length=2048)]
_Document = Annotated[str, Field(max_length=MAXIMUM_BYTES)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class NewRelation(_Strict):
    """A trust domain to federate with, what verifies its endpoint, and why.

    `bundle` is its bundle (SPIFFE JWKS or PEM), `web_roots` (PEM) replace the system's roots.
    """

    trust_domain: _Text
    url: _Text
    profile: Profile
    endpoint_id: _Text = ""
    web_roots: _Document = ""
    bundle: _Document = ""
    replace: StrictBool = False
    reason: Reason


class Removal(_Strict):
    """Why a trust domain is trusted no longer."""

    reason: Reason


def create_router(state: AdminState) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/federation")

    @router.get("")
    async def listed() -> Any:
        return {"trust_domains": [_member_json(state, m) for m in state.federation.members()]}

    @router.post("")
    async def add(new: NewRelation, request: Request) -> Any:
        relation = Relation(new.trust_domain, new.url, new.profile, new.endpoint_id, new.web_roots)
        member = await state.federation.add(
            relation,
            new.bundle.encode(),
            actor=get_peer(request.scope).actor,
            reason=new.reason,
            replaces=new.replace,
        )
        return _member_json(state, member)

    @router.post("/{trust_domain}/refresh")
    async def refresh(trust_domain: str) -> Any:
        return _member_json(state, await state.federation.refresh(trust_domain))

    @router.post("/{trust_domain}/remove")
    async def remove(trust_domain: str, removal: Removal, request: Request) -> Any:
        actor = get_peer(request.scope).actor
        await state.federation.remove(trust_domain, actor=actor, reason=removal.reason)
        return {"trust_domain": trust_domain, "removed": True}

    return router


def _member_json(state: AdminState, member: Member) -> dict[str, Any]:
    relation, bundle, now = member.relation, member.bundle, state.clock.now()
    wait = timedelta(seconds=max(member.due - state.clock.monotonic(), 0.0))
    return {
        "trust_domain": relation.trust_domain,
        "url": relation.url,
        "profile": relation.profile,
        "endpoint_id": relation.endpoint_id,
        "since": time_text(member.since),
        "sequence": bundle.sequence if bundle else None,
        "refresh_seconds": member.interval,
        "fetched_at": time_text(member.fetched_at),
        "next_fetch_at": time_text(now + wait),
        "stale": member.is_stale(now),
        "failures": member.failures,
        "last_error": member.last_error,
        "roots": [_root_json(root) for root in bundle.roots] if bundle else [],
    }


def _root_json(root: x509.Certificate) -> dict[str, Any]:
    return {
        "sha256": root.fingerprint(hashes.SHA256()).hex(),
        "subject": root.subject.rfc4514_string(),
        "not_after": time_text(root.not_valid_after_utc),
    }
