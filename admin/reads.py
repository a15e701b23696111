"""Routes that only read: status, certificates, bundle, proxies.

A parameter that is not known is an error: a filter with a typing mistake must not answer with
everything. Reads of the database run off the event loop.
"""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from admin import views
from admin.audit_anchors import anchors_json
from admin.revocation_views import revoked_json
from admin.staging_views import overlay_json
from admin.state import AdminState
from ca.revocation.listing import Listing
from ca.revocation.selector import parse_selector
from ca.store import Filter
from meshca.errors import AuthorityUnavailable

MAXIMUM_LIMIT = 1_000


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class SvidQuery(_Strict):
    """Filters of /svids; `cursor` is `next` of the page before."""

    spiffe_id: str | None = None
    cluster: str | None = None
    namespace: str | None = None
    service_account: str | None = None
    pod_uid: str | None = None
    node: str | None = None
    token_id: str | None = None
    serial: str | None = None
    fingerprint: str | None = None
    authority_id: str | None = None
    live: bool = False
    limit: int = Field(default=100, ge=1, le=MAXIMUM_LIMIT)
    cursor: int | None = None


class ProxyQuery(_Strict):
    """Filters of /proxies."""

    behind: bool = False


class BundleQuery(_Strict):
    """How /bundle is written."""

    format: Literal["pem", "spiffe"] = "pem"


def create_router(state: AdminState) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.get("/status")
    async def status() -> Any:
        return await _status(state)

    @router.get("/svids")
    def svids(query: Annotated[SvidQuery, Query()]) -> Any:
        return _svids(state, query)

    @router.get("/svids/{serial}")
    def svid(serial: str) -> Any:
        record = state.inventory.get(serial)
        revoked = Listing(state.engine).among([record.intent.serial]).get(record.intent.serial)
        return {
            **views.svid_json(record),
            "revoked": revoked_json(revoked),
            "pem": views.certificate_pem(record.certificate),
        }

    @router.get("/bundle")
    async def bundle(query: Annotated[BundleQuery, Query()]) -> Response:
        if query.format == "pem":
            return Response(state.bundle().pem(), media_type="application/x-pem-file")
        return Response(state.bundle().spiffe_json(), media_type="application/json")

    @router.get("/proxies")
    async def proxies(query: Annotated[ProxyQuery, Query()]) -> Any:
        connected = state.proxies.connected()
        shown = [p for p in connected if p.is_behind or not query.behind]
        return {"proxies": [views.proxy_json(proxy) for proxy in shown]}

    return router


async def _status(state: AdminState) -> views.Json:
    now = state.clock.now()
    problems = await state.ready()
    head = await asyncio.to_thread(state.log.head)
    anchors = await asyncio.to_thread(anchors_json, state)
    connected = state.proxies.connected()
    policies, federated = state.policies.current, state.federation.members()
    try:
        authority = views.authority_json(state.authorities.active(now))
        roots = [views.certificate_json(root) for root in state.authorities.bundle.roots]
    except AuthorityUnavailable:
        authority, roots = None, []
    return {
        "ready": not problems,
        "problems": problems,
        "trust_domain": state.trust_domain,
        "version": state.version,
        "time": views.time_text(now),
        "started_at": views.time_text(state.started_at),
        "authority": authority,
        "roots": roots,
        "proxies": {
            "connected": len(connected),
            "behind": sum(proxy.is_behind for proxy in connected),
            "nacks": sum(proxy.nacks for proxy in connected),
        },
        "policies": {
            "policies": len(policies.policies),
            "version": policies.version,
            "default": policies.default,
            "problems": [str(problem) for problem in state.loader.problems],
            "stale": [source.name for source in state.loader.sources() if source.problems],
            **overlay_json(policies),
        },
        "federation": {
            "trust_domains": len(federated),
            "stale": [m.relation.trust_domain for m in federated if m.is_stale(now)],
        },
        "audit": {"size": head.size, "root": head.root.hex(), "anchors": anchors},
    }


def _svids(state: AdminState, query: SvidQuery) -> views.Json:
    wanted = Filter(
        spiffe_id=query.spiffe_id,
        cluster=query.cluster,
        namespace=query.namespace,
        service_account=query.service_account,
        pod_uid=query.pod_uid,
        node=query.node,
        token_id=query.token_id,
        serial=_hex("serial", query.serial),
        fingerprint=_hex("fingerprint", query.fingerprint),
        authority_id=query.authority_id,
        live_at=state.clock.now() if query.live else None,
    )
    records = state.inventory.list(wanted, limit=query.limit, before_id=query.cursor)
    revoked = Listing(state.engine).among(record.intent.serial for record in records)
    is_full = len(records) == query.limit
    return {
        "svids": [
            {**views.svid_json(r), "revoked": revoked_json(revoked.get(r.intent.serial))}
            for r in records
        ],
        "next": records[-1].id if is_full else None,
    }


def _hex(name: str, text: str | None) -> str | None:
    """Return a serial or a fingerprint as it is kept; raises RequestRefused for anything else."""
    return None if text is None else parse_selector({name: text}).given()[name]
