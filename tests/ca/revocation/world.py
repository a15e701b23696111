"""Revocation on real databases: certificates on record, and a process that revokes them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final

import sqlalchemy as sa

from audit.tree import audit_entries, audit_head, audit_nodes
from ca.revocation.operations import RevocationOperations
from ca.revocation.state import RevocationState
from ca.revocation.store import Revocations, bans, decisions, revocations
from ca.store import Intent, Inventory, Signed, SignedSink, certificates
from identity.caller import Caller, Evidence
from meshca.database import GroupWriter, Sink
from meshca.spiffe_id import SpiffeId
from tests.fakes import FakeClock
from tests.stores import SINKS, Document, IntentSink, documents, writer_of

TRUST_DOMAIN: Final = "example.org"
ORDERS: Final = "spiffe://example.org/ns/shop/sa/orders"
AUTHORITY: Final = "ab" * 20
WHO: Final[dict[str, Any]] = {"actor": "uid:0", "why": "INC-7"}
EVIDENCE: Final = {
    "method": "kubernetes_jwks",
    "cluster": "prod-eu",
    "namespace": "shop",
    "service_account": "orders",
    "pod_uid": "uid-1",
    "node": "node-1",
    "token_id": "token-1",
}


@dataclass
class World:
    """One process that revokes."""

    engine: sa.Engine
    clock: FakeClock
    writer: GroupWriter
    operations: RevocationOperations

    @property
    def state(self) -> RevocationState:
        """Return what the process knows."""
        return self.operations.state

    def revoked(self) -> set[str]:
        """Return the serials that are revoked, as the process knows it."""
        return set(self.state.live())

    def entries(self, kind: str) -> list[Document]:
        """Return the audit entries of a kind, the oldest first."""
        return [one for one in documents(self.engine) if one["kind"] == kind]


@asynccontextmanager
async def revoking(
    engine: sa.Engine,
    *,
    clock: FakeClock | None = None,
    sinks: Mapping[type, Sink] = SINKS,
    confirm_above: int = 10,
) -> AsyncIterator[World]:
    """Run a process on `engine` that knows what is revoked there."""
    clock = clock or FakeClock()
    store = Revocations(engine)
    async with writer_of(engine, clock=clock, sinks=sinks) as writer:
        operations = RevocationOperations(
            trust_domain=TRUST_DOMAIN,
            revocations=store,
            inventory=Inventory(engine),
            state=RevocationState(revocations=store, clock=clock),
            writer=writer,
            clock=clock,
            confirm_above=confirm_above,
        )
        await operations.state.load()
        yield World(engine, clock, writer, operations)


def intent(serial: str, clock: FakeClock, **changes: Any) -> Intent:
    """Return a certificate of `orders` that lives an hour; evidence may be changed, too."""
    evidence = {**EVIDENCE, **{name: changes.pop(name) for name in EVIDENCE if name in changes}}
    values: dict[str, Any] = {
        "serial": serial,
        "spiffe_id": ORDERS,
        "authority_id": AUTHORITY,
        "key_sha256": "cd" * 32,
        "not_before": clock.now() - timedelta(seconds=60),
        "not_after": clock.now() + timedelta(hours=1),
        "evidence": Evidence(**evidence),
    }
    return Intent(**{**values, **changes})


def issue(engine: sa.Engine, *intents: Intent, sign: bool = True) -> None:
    """Put certificates on record, as another process does."""
    with engine.connect().execution_options(meshca_writes=True) as connection, connection.begin():
        IntentSink().write(connection, intents)
        if sign:
            SignedSink().write(connection, [Signed(i.serial, der(i.serial)) for i in intents])


def der(serial: str) -> bytes:
    """Return what stands for the certificate with that serial."""
    return f"certificate {serial}".encode()


def fingerprint(serial: str) -> str:
    """Return the SHA-256 of what stands for it."""
    return sha256(der(serial)).hexdigest()


def caller(clock: FakeClock, spiffe_id: str = ORDERS, **evidence: str) -> Caller:
    """Return who asks for another certificate on the evidence of `intent`."""
    proof = Evidence(**{**EVIDENCE, **evidence})
    return Caller(SpiffeId.parse(spiffe_id), proof, clock.now() + timedelta(hours=24))


LOG_TABLES = (audit_entries, audit_nodes, audit_head)


def clear(engine: sa.Engine) -> None:
    """Empty the tables that these tests write."""
    with engine.connect().execution_options(meshca_writes=True) as connection, connection.begin():
        for table in (certificates, revocations, decisions, bans, *LOG_TABLES):
            connection.execute(sa.delete(table))
