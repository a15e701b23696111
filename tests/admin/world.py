"""The admin door on real parts: a real socket, a real database, a real authority."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from admin.api import create_app
from admin.applications import Applications
from admin.entrance import Access
from admin.logins import Logins
from admin.proofs import NoPeople, Proofs
from admin.roles import Role, Roles, build_roles
from admin.serve import serve_unix
from admin.staging_entries import staging_entry
from admin.state import AdminState
from audit.log import Log
from audit.refusals import RefusalRecorder
from audit.retention.hold_operations import LegalHolds
from audit.retention.rules import Rules
from authz.policy import PolicySet
from authz.records.recorder import DecisionRecorder
from authz.sources import PolicyLoader, PolicyOptions
from authz.staging.parts import Staging, join
from authz.state import PolicyState
from ca.authority import Authorities
from ca.federation.federation import Federation
from ca.issuance import Issuance
from ca.profile import Profile
from ca.revocation.operations import RevocationOperations
from ca.revocation.state import RevocationState
from ca.revocation.store import Revocations
from ca.revocation.view import Crl
from ca.store import Intent, Inventory, Signed
from ca.upstream import self_signed
from identity.caller import Evidence
from meshca.change_feed import ChangeFeed
from meshca.database import GroupWriter
from meshca.metrics import Metrics
from meshca.settings_admin import AdminConfig
from rotation.intermediates import Intermediates
from rotation.leaves import Leaves
from rotation.operations import AuthorityOperations
from rotation.proxies import ProxyState, ResourceState
from tests.audit.signed_log import make_signer
from tests.ca.endpoints import FakeEndpoints
from tests.fakes import FakeClock
from tests.rotation.authorities import development_upstream, make_intermediates
from tests.stores import sqlite_engine, writer_of

TRUST_DOMAIN = "example.org"
ORDERS = "spiffe://example.org/ns/shop/sa/orders"

POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: orders-readers, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  action: ALLOW
  rules:
    - from:
        - source: {principals: [example.org/ns/shop/sa/frontend]}
      to:
        - operation: {methods: [GET]}
"""


@dataclass
class FakeProxies:
    """Connected proxies as the test says."""

    proxies: list[ProxyState] = field(default_factory=list)

    def connected(self) -> Sequence[ProxyState]:
        """Return them."""
        return self.proxies


@dataclass
class World:
    """A running admin door and what it stands on."""

    state: AdminState
    socket: Path
    clock: FakeClock
    proxies: FakeProxies
    engine: sa.Engine
    writer: GroupWriter
    client: httpx.AsyncClient
    endpoints: FakeEndpoints
    renewed: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    lists: dict[str, Crl] = field(default_factory=dict)

    async def get(self, path: str, **params: str) -> Any:
        """Return the JSON at `path`, which must answer."""
        response = await self.client.get(path, params=params)
        assert response.status_code == 200, response.text
        return response.json()


def issuance_of(authorities: Authorities, writer: GroupWriter, clock: FakeClock) -> Issuance:
    """Return what issues for an hour."""
    profile = Profile(TRUST_DOMAIN, timedelta(hours=1), timedelta(hours=24), timedelta(seconds=60))
    return Issuance(
        authorities=authorities, profile=profile, writer=writer, clock=clock, metrics=Metrics()
    )


async def intermediates(
    directory: Path, engine: sa.Engine, writer: GroupWriter, clock: FakeClock, proxies: FakeProxies
) -> Intermediates:
    """Return what keeps a development authority, loaded."""
    self_signed.create(directory, trust_domain=TRUST_DOMAIN, now=clock.now())
    held, metrics = Authorities(TRUST_DOMAIN), Metrics()
    issuance = issuance_of(held, writer, clock)
    made = make_intermediates(
        development_upstream(directory, TRUST_DOMAIN),
        engine=engine,
        authorities=held,
        leaves=Leaves(issuance=issuance, authorities=held, clock=clock, metrics=metrics),
        writer=writer,
        clock=clock,
        metrics=metrics,
        proxies=proxies,
    )
    await made.load()
    return made


def revocation_operations(
    engine: sa.Engine, writer: GroupWriter, clock: FakeClock
) -> RevocationOperations:
    """Return what revokes; more than two certificates must be confirmed."""
    revocations = Revocations(engine)
    return RevocationOperations(
        trust_domain=TRUST_DOMAIN,
        revocations=revocations,
        inventory=Inventory(engine),
        state=RevocationState(revocations=revocations, clock=clock),
        writer=writer,
        clock=clock,
        confirm_above=2,
    )


def loader(
    engine: sa.Engine, clock: FakeClock, state: PolicyState, directory: Path | None
) -> PolicyLoader:
    """Return a loader of `directory` and the applied set."""
    options = PolicyOptions(TRUST_DOMAIN, "meshca", "deny", (directory,) if directory else ())
    return PolicyLoader(state=state, options=options, engine=engine, clock=clock, metrics=Metrics())


def staging(
    engine: sa.Engine, writer: GroupWriter, clock: FakeClock, loader: PolicyLoader
) -> Staging:
    """Return what stages changes over `loader`; two denied pairs take a canary back."""
    return join(
        loader,
        engine=engine,
        writer=writer,
        feed=ChangeFeed(engine),
        clock=clock,
        metrics=Metrics(),
        entry_of=staging_entry,
        denials=2,
        window=timedelta(minutes=5),
        replica="one",
    )


def access_for(
    roles: Roles,
    *,
    authorities: Authorities,
    engine: sa.Engine,
    writer: GroupWriter,
    clock: FakeClock,
    revoked: RevocationState,
) -> Access:
    """Return an entrance for whoever has `roles`."""
    refusals = RefusalRecorder(writer, clock, Metrics())
    proofs = Proofs(
        roles=roles,
        trust_domain=TRUST_DOMAIN,
        authorities=authorities,
        inventory=Inventory(engine),
        clock=clock,
        people=NoPeople(),
        check_caller=revoked.check_caller,
        check_serial=revoked.check_serial,
    )
    logins = Logins(writer=writer, recorder=refusals, clock=clock)
    return Access(proofs=proofs, refusals=refusals, logins=logins, writer=writer, clock=clock)


def local_admins(*uids: int) -> Roles:
    """Return roles that make admins of users of this machine."""
    return Roles({f"uid:{uid}": frozenset({Role.ADMIN}) for uid in uids})


@asynccontextmanager
async def running(
    directory: Path,
    *,
    policy_directory: Path | None = None,
    roles: Roles | None = None,
    **changes: Any,
) -> AsyncIterator[World]:
    """Run the admin door in `directory`; `changes` replace fields of its AdminState."""
    roles = roles or build_roles(AdminConfig(), {0, os.geteuid()})
    clock, proxies = FakeClock(), FakeProxies()
    async with AsyncExitStack() as stack:
        engine = stack.enter_context(sqlite_engine(directory))
        writer = await stack.enter_async_context(writer_of(engine))
        policies = PolicyState(PolicySet.empty(trust_domain=TRUST_DOMAIN, root_namespace="meshca"))
        socket = directory / "admin.sock"
        client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(socket)), base_url="http://meshca/v1"
        )

        async def renew(spiffe_id: str) -> int:
            world.renewed.append(spiffe_id)
            return 1 if spiffe_id == ORDERS else 0

        async def ready() -> list[str]:
            return world.problems

        kept = await intermediates(directory, engine, writer, clock, proxies)
        endpoints, revocations = FakeEndpoints(), revocation_operations(engine, writer, clock)
        loaded = loader(engine, clock, policies, policy_directory)
        state = AdminState(
            trust_domain=TRUST_DOMAIN,
            version="0.1.0",
            started_at=clock.now(),
            access=access_for(
                roles,
                authorities=kept.authorities,
                engine=engine,
                writer=writer,
                clock=clock,
                revoked=revocations.state,
            ),
            applications=Applications(
                roles=roles,
                workload_of=lambda _caller: None,
                policies=lambda: policies.current,
                recorder=DecisionRecorder(writer, clock, Metrics()),
                clock=clock,
            ),
            clock=clock,
            engine=engine,
            writer=writer,
            inventory=Inventory(engine),
            log=Log(engine),
            signer=make_signer(engine, directory, writer=writer, clock=clock),
            rules=Rules(kinds={"read": timedelta(days=90)}),
            holds=LegalHolds(engine=engine, writer=writer, clock=clock),
            authorities=kept.authorities,
            operations=AuthorityOperations(kept),
            revocations=revocations,
            lists=lambda: world.lists,
            proxies=proxies,
            policies=policies,
            loader=loaded,
            staging=staging(engine, writer, clock, loaded),
            bundle=lambda: kept.authorities.bundle,
            federation=Federation(
                trust_domain=TRUST_DOMAIN,
                own=lambda: kept.authorities.bundle,
                endpoints=endpoints,
                engine=engine,
                writer=writer,
                clock=clock,
                metrics=Metrics(),
            ),
            renew=renew,
            ready=ready,
        )
        state = replace(state, **changes)
        world = World(state, socket, clock, proxies, engine, writer, client, endpoints)
        await asyncio.to_thread(state.loader.start)
        await state.staging.load()
        await stack.enter_async_context(serve_unix(create_app(state), socket))
        await stack.enter_async_context(client)
        yield world


def intent(serial: str, clock: FakeClock, *, authority_id: str = "ab", **evidence: str) -> Intent:
    """Return a certificate of `orders` that lives an hour."""
    values = {"method": "kubernetes_jwks", "namespace": "shop", "service_account": "orders"}
    return Intent(
        serial=serial,
        spiffe_id=ORDERS,
        authority_id=authority_id,
        key_sha256="cd",
        not_before=clock.now(),
        not_after=clock.now() + timedelta(hours=1),
        evidence=Evidence(**{**values, **evidence}),
    )


def signed(serial: str, state: AdminState) -> Signed:
    """Return the signature of `serial`; the certificate is the authority's own."""
    from cryptography.hazmat.primitives.serialization import Encoding

    certificate = state.authorities.active(state.clock.now()).certificate
    return Signed(serial, certificate.public_bytes(Encoding.DER))


def proxy(clock: FakeClock, **changes: Any) -> ProxyState:
    """Return a connected proxy of `orders` that has what was pushed."""
    resource = ResourceState(
        type="tls",
        name="default",
        pushed_version="v1",
        acknowledged_version="v1",
        pushed_at=clock.now(),
        acknowledged_at=clock.now(),
    )
    state = ProxyState(
        spiffe_id=ORDERS,
        cluster="demo",
        namespace="shop",
        pod="orders-0",
        node_id="envoy",
        peer="127.0.0.1:5000",
        connected_at=clock.now(),
        proof_expires_at=clock.now() + timedelta(hours=1),
        streams=1,
        nacks=0,
        unanswered=(),
        resources=(resource,),
    )
    return replace(state, **changes)


def error(response: Any) -> tuple[int, str, str]:
    """Return status, code and message of a refusal, which has the one shape of all."""
    body = response.json()["error"]
    assert set(body) == {"code", "message", "problems"}
    return response.status_code, body["code"], body["message"]
