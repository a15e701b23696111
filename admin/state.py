"""What the admin door stands on: handed over by wiring, never looked up."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa

from admin.applications import Applications
from admin.entrance import Access
from audit.anchors.plan import OutsidePlan
from audit.log import Log
from audit.retention.hold_operations import LegalHolds
from audit.retention.rules import Rules
from audit.signing import CheckpointSigner
from authz.sources import PolicyLoader
from authz.staging.parts import Staging
from authz.state import PolicyState
from ca.authority import Authorities
from ca.bundle import TrustBundle
from ca.federation.federation import Federation
from ca.revocation.operations import RevocationOperations
from ca.revocation.view import Crl
from ca.store import Inventory
from meshca.clock import Clock
from meshca.database import GroupWriter
from rotation.operations import AuthorityOperations
from rotation.proxies import Proxies


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminState:
    """The parts of the service that administrators see and change.

    `bundle` is our trust bundle as it is published. `renew` renews every credential of a SPIFFE ID
    now and returns how many there are; `ready` returns what keeps the service from its work.
    `lists` returns the revocation list in force of each authority.
    `rules` say how long entries keep their bodies.
    `outside` are the anchors of the audit log, and the witness that we are. `stopping` is set when
    the server drains.
    `access` says who gets in, `applications` answers those that ask for decisions.
    """

    trust_domain: str
    version: str
    started_at: datetime
    access: Access
    applications: Applications
    clock: Clock
    engine: sa.Engine
    writer: GroupWriter
    inventory: Inventory
    log: Log
    signer: CheckpointSigner
    rules: Rules
    holds: LegalHolds
    authorities: Authorities
    proxies: Proxies
    policies: PolicyState
    loader: PolicyLoader
    staging: Staging
    bundle: Callable[[], TrustBundle]
    federation: Federation
    renew: Callable[[str], Awaitable[int]]
    operations: AuthorityOperations
    revocations: RevocationOperations
    lists: Callable[[], Mapping[str, Crl]]
    ready: Callable[[], Awaitable[list[str]]]
    outside: OutsidePlan = field(default_factory=OutsidePlan)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
