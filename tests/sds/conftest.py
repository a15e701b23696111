"""A small mesh in memory, on real parts: a development root, SQLite, the real issuance."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from audit.entry import Entry
from authz.load import load_policies
from authz.policy import PolicySet
from ca.authority import Authorities
from ca.issuance import Issuance
from ca.profile import Profile
from ca.revocation.effects import Effects
from ca.revocation.state import RevocationState
from ca.revocation.store import Revocations
from ca.revocation.view import NOTHING_REVOKED, RevocationView
from ca.store import Inventory
from ca.upstream import self_signed
from identity.caller import Caller, Evidence
from meshca.database import GroupWriter
from meshca.errors import ProofRefused
from meshca.metrics import Metrics
from meshca.spiffe_id import SpiffeId
from rotation.leaves import Leaves
from sds.admission import Admission
from sds.doors import Doors
from sds.effects import EffectTracker
from sds.istio_ca import IstioCertificates
from sds.ledger import Ledger
from sds.meters import meters_by_type
from sds.snapshot import Shared
from tests.fakes import FakeClock
from tests.stores import open_sqlite, writer_of

TRUST_DOMAIN = "example.org"


def make_policies(text: str = "") -> PolicySet:
    """Return the policy set of one YAML text."""
    return load_policies(
        [("test.yaml", text)], trust_domain=TRUST_DOMAIN, root_namespace="meshca", default="deny"
    )


@dataclass
class Tokens:
    """An authenticator whose tokens are the names of its callers."""

    clock: FakeClock
    lifetime: timedelta = timedelta(hours=1)
    calls: int = 0

    async def authenticate(self, token: str) -> Caller:
        """Return the caller `namespace/service-account/pod`; any other token is refused."""
        self.calls += 1
        parts = token.split("/")
        if len(parts) != 3:
            raise ProofRefused("malformed", "not a token", claimed={"sub": token})
        namespace, account, pod = parts
        return Caller(
            SpiffeId.parse(f"spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{account}"),
            Evidence("fake", "test", "", namespace, account, "", pod, f"uid-{pod}", "node-1", "t"),
            self.clock.now() + self.lifetime,
        )


@dataclass
class Refusals:
    """A recorder that keeps what it is given."""

    entries: list[Entry] = field(default_factory=list)

    def record(self, entry: Entry) -> None:
        """Keep `entry`."""
        self.entries.append(entry)


@dataclass
class Mesh:
    """Everything behind the doors, and the doors."""

    directory: Path
    clock: FakeClock
    metrics: Metrics
    authorities: Authorities
    leaves: Leaves
    ledger: Ledger
    tokens: Tokens
    refusals: Refusals
    doors: Doors
    writer: GroupWriter
    policies: PolicySet
    revocation: RevocationState
    effects: EffectTracker
    view: RevocationView = NOTHING_REVOKED


def build_mesh(directory: Path, clock: FakeClock) -> Mesh:
    """Return a mesh whose loops do not run yet; a second one is another replica."""
    metrics = Metrics()
    engine = open_sqlite(directory)
    writer = writer_of(engine, clock=clock, metrics=metrics)
    if not (directory / self_signed.DIRECTORY).exists():
        self_signed.create(directory, trust_domain=TRUST_DOMAIN, now=clock.now())
    upstream = self_signed.unsafe_self_signed(
        directory, trust_domain=TRUST_DOMAIN, lifetime=timedelta(days=7)
    )
    provision = upstream.provide(clock.now())
    authorities = Authorities(TRUST_DOMAIN)
    authorities.activate(provision.authority, provision.roots)
    profile = Profile(TRUST_DOMAIN, timedelta(hours=1), timedelta(hours=24), timedelta(seconds=60))
    revocation = RevocationState(revocations=Revocations(engine), clock=clock)
    issuance = Issuance(
        authorities=authorities,
        profile=profile,
        writer=writer,
        clock=clock,
        metrics=metrics,
        check_caller=revocation.check_caller,
    )
    leaves = Leaves(issuance=issuance, authorities=authorities, clock=clock, metrics=metrics)
    ledger, tokens, refusals = Ledger(), Tokens(clock), Refusals()
    mesh = Mesh(
        directory, clock, metrics, authorities, leaves, ledger, tokens, refusals,
        None, writer, make_policies(), revocation, None,  # type: ignore[arg-type]  # follow at once
    )  # fmt: skip
    authorities.subscribe(ledger.wake_all)
    shared = Shared(
        lambda: mesh.policies,
        lambda: authorities.bundle,
        revocation=lambda: mesh.view,
        clock=clock,
    )
    mesh.effects = EffectTracker(
        view=lambda: mesh.view,
        ledger=ledger,
        carried=shared.carried,
        effects=Effects(engine),
        writer=writer,
        clock=clock,
        metrics=metrics,
        trust_domain=TRUST_DOMAIN,
        replica="main",
    )
    mesh.doors = Doors(
        admission=Admission(
            authenticator=tokens,
            authorities=authorities,
            inventory=Inventory(engine),
            refusals=refusals,
            clock=clock,
            trust_domain=TRUST_DOMAIN,
            check_caller=revocation.check_caller,
            check_serial=revocation.check_serial,
        ),
        leaves=leaves,
        shared=shared,
        ledger=ledger,
        istio=IstioCertificates(issuance=issuance, authorities=authorities),
        clock=clock,
        metrics=metrics,
        meters=meters_by_type(metrics),
        heard=mesh.effects.heard,
    )
    return mesh


@contextlib.asynccontextmanager
async def running(mesh: Mesh) -> AsyncIterator[Mesh]:
    """Run the loops that issue and renew for the duration."""
    async with mesh.writer:
        loop = asyncio.create_task(mesh.leaves.run())
        try:
            yield mesh
        finally:
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    """A mesh in a directory of its own."""
    return build_mesh(tmp_path, FakeClock())
