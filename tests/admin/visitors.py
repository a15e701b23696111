"""Visitors of the admin door over the network: below TLS, above everything that decides."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from starlette.types import ASGIApp

from admin.api import create_app
from admin.peer import TlsPeer
from admin.roles import Roles, build_roles
from ca.request import generate
from identity.caller import Caller, Evidence
from identity.oidc import build_oidc
from meshca.settings_admin import AdminConfig, Jwks, Oidc, RoleConfig
from meshca.spiffe_id import SpiffeId
from tests.admin.world import World, issuance_of
from tests.identity.builders import EC_KEY, jwk, jwks
from tests.identity.test_oidc import AUDIENCE, ISSUER, claims, token
from tests.stores import documents

READER = "spiffe://example.org/ns/audit/sa/reader"


def roles(*, wide: dict[str, list[str]] | None = None, **named: Any) -> Roles:
    """Return the roles of a configuration that names these subjects; `wide` are `applications`."""
    config = AdminConfig.model_construct(
        oidc=None, roles=RoleConfig.model_construct(**named), applications=wide or {}
    )
    return build_roles(config, {0})


async def svid(world: World, spiffe_id: str, **evidence: str) -> tuple[x509.Certificate, ...]:
    """Return the chain of a fresh SVID, issued on this evidence and on record."""
    issuance = issuance_of(world.state.authorities, world.writer, world.clock)
    attested = Evidence(method="test", **evidence)
    caller = Caller(SpiffeId.parse(spiffe_id), attested, world.clock.now() + timedelta(hours=2))
    return (await issuance.issue(caller, generate().request)).chain


def bearer(world: World, person: str, **changes: Any) -> dict[str, str]:
    """Return the header with a token of `person`."""
    text = token(claims(world.clock, sub=person, jti=f"t-{person}", **changes))
    return {"authorization": f"Bearer {text}"}


def visitor(
    world: World,
    given: Roles,
    *,
    chain: Sequence[x509.Certificate] = (),
    headers: Mapping[str, str] | None = None,
    address: str = "192.0.2.1:4000",
) -> httpx.AsyncClient:
    """Return a client that comes over one connection of its own, to a door with these roles."""
    app, peer = app_for(world, given), TlsPeer(address, tuple(chain))

    async def door(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = {"tls": peer}
        await app(scope, receive, send)

    transport = httpx.ASGITransport(app=door)
    return httpx.AsyncClient(
        transport=transport, base_url="http://meshca/v1", headers=headers or {}
    )


def app_for(world: World, given: Roles) -> ASGIApp:
    """Return the app of a door with these roles, which believes the test's issuer."""
    access = world.state.access
    people = build_oidc(_oidc(world.socket.parent), clock=world.clock)
    proofs = replace(access.proofs, roles=given, people=people)
    applications = replace(world.state.applications, roles=given)
    return create_app(
        replace(world.state, access=replace(access, proofs=proofs), applications=applications)
    )


def _oidc(directory: Path) -> Oidc:
    path = directory / "idp.json"
    path.write_bytes(jwks(jwk(EC_KEY, "one")))
    return Oidc.model_construct(
        issuer=ISSUER, audience=AUDIENCE, jwks=Jwks.model_construct(file=path)
    )


def recorded(world: World, kind: str) -> list[dict[str, Any]]:
    """Return the entries of `kind`, the oldest first."""
    return [body for body in documents(world.engine) if body["kind"] == kind]
