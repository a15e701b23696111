"""The trust domains we federate with: added by hand, fetched by themselves, never merged.

Rules
- A relation is made and ended by an operator, with a reason; each change and each new content of a
  bundle is audited, in the transaction that stores it, before proxies hear of it.
- The last good bundle stays, over restarts too, whatever the endpoint answers: a bundle that is
  late, older, or wrong changes nothing but the metrics and the log.
- Replicas share the table; each fetches for itself and takes what another has stored.
- A failing endpoint, or a failing database, never holds up issuance or another domain.

Not here: what a document means (document.py), who may answer (endpoint.py), what proxies are sent
(sds/resources.py).
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

import sqlalchemy as sa
from cryptography import x509

from ca.bundle import NO_FEDERATION, Federated, TrustBundle, unnumbered_json
from ca.federation.acceptance import check_bundle, check_relation
from ca.federation.document import ForeignBundle, read_bundle, read_seed
from ca.federation.entries import bundle_entry, relation_entry
from ca.federation.member import Member
from ca.federation.schedule import next_wait
from ca.federation.store import ACTIVE, REMOVED, Received, Relation, Stored, read_all
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import MeshcaError, NotFound, Refused, RequestRefused, StoreUnavailable
from meshca.logs import clip, get_logger
from meshca.metrics import Metrics
from meshca.spiffe_id import SpiffeId

MAXIMUM_DOMAINS: Final = 64
TICK_SECONDS: Final = 1.0
RELOAD_SECONDS: Final = 5.0
AT_ONCE: Final = 8

log = get_logger("federation")


class Endpoints(Protocol):
    """Whoever asks bundle endpoints."""

    async def fetch(self, relation: Relation, roots: Sequence[x509.Certificate]) -> bytes:
        """Return the document; raises Unavailable or Refused."""
        ...


@dataclass(slots=True, kw_only=True)
class Federation:
    """Every federated domain of this process; `run` is its loop.

    `own` is our bundle: its roots may be nobody else's.
    """

    trust_domain: str
    own: Callable[[], TrustBundle]
    endpoints: Endpoints
    engine: sa.Engine
    writer: GroupWriter
    clock: Clock
    metrics: Metrics
    draw: random.Random = field(default_factory=random.SystemRandom)
    _members: dict[str, Member] = field(default_factory=dict)
    _removed: set[str] = field(default_factory=set)
    _federated: Federated = NO_FEDERATION
    _subscribers: list[Callable[[], None]] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _reload_at: float = 0.0
    _changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def current(self) -> Federated:
        """Return the bundles held now; the same object until one changes."""
        return self._federated

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each change of `current`, on the event loop."""
        self._subscribers.append(callback)

    def members(self) -> list[Member]:
        """Return the federated domains, by name."""
        return [self._members[name] for name in sorted(self._members)]

    async def load(self) -> None:
        """Take what the database holds; raises StoreUnavailable."""
        async with self._changing:
            rows = await asyncio.to_thread(read_all, self.engine)
            active = {row.relation.trust_domain: row for row in rows if row.status == ACTIVE}
            self._removed = {row.relation.trust_domain for row in rows} - set(active)
            for name in set(self._members) - set(active):
                self._forget(name)
            for name, row in active.items():
                self._take(name, row)
            self._rebuild()

    async def add(
        self, relation: Relation, seed: bytes, *, actor: str, reason: str, replaces: bool
    ) -> Member:
        """Federate with a trust domain, from now on; return it after a first fetch was tried.

        `seed` is its bundle (SPIFFE JWKS or PEM) or empty. Without `replaces` a domain that is
        federated already is refused; with it, and without a seed, its bundle is kept. Raises
        RequestRefused and StoreUnavailable.
        """
        check_relation(relation, self.trust_domain)
        name = relation.trust_domain
        async with self._changing:
            held = self._members.get(name)
            bundle = self._first_bundle(relation, seed, held, replaces=replaces)
            now, change = self.clock.now(), "added" if held is None else "replaced"
            entry = relation_entry(change, relation, bundle, now=now, actor=actor, reason=reason)
            await self.writer.submit(_row(relation, bundle, now), entry)
            self._members[name] = Member(relation, now, bundle)
            self._removed.discard(name)
            self._rebuild()
        log.info("federation_changed", trust_domain=name, change=change, url=relation.url)
        return await self.refresh(name)

    async def remove(self, trust_domain: str, *, actor: str, reason: str) -> None:
        """Trust a domain no longer; raises NotFound and StoreUnavailable."""
        async with self._changing:
            member, now = self._get(trust_domain), self.clock.now()
            entry = relation_entry(
                "removed", member.relation, member.bundle, now=now, actor=actor, reason=reason
            )
            await self.writer.submit(Stored(member.relation, REMOVED, now), entry)
            self._forget(trust_domain)
            self._removed.add(trust_domain)
            self._rebuild()
        log.info("federation_changed", trust_domain=trust_domain, change="removed")

    async def refresh(self, trust_domain: str) -> Member:
        """Fetch a domain's bundle now and return how it went; raises NotFound."""
        member = self._get(trust_domain)
        await self._fetch(member)
        return member

    async def run(self) -> None:
        """Fetch what is due and take what other replicas stored, until cancelled."""
        try:
            while True:
                await self._tick()
                await asyncio.sleep(TICK_SECONDS)
        finally:
            for task in self._tasks:
                task.cancel()

    async def _tick(self) -> None:
        now = self.clock.monotonic()
        if now >= self._reload_at:
            self._reload_at = now + RELOAD_SECONDS
            try:
                await self.load()
            except StoreUnavailable as error:
                log.error("federation_not_loaded", error=str(error))
        for member in self.members():
            if member.due <= now and not member.lock.locked() and len(self._tasks) < AT_ONCE:
                member.due = now + member.interval
                task = asyncio.get_running_loop().create_task(self._fetch(member))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        self._measure()

    async def _fetch(self, member: Member) -> None:
        """Fetch, check and store one bundle; what goes wrong is in the member and the log."""
        async with member.lock:
            polls, name = self.metrics.federation_polls, member.relation.trust_domain
            try:
                await self._fetch_or_raise(member)
            except Exception as error:  # noqa: BLE001  # outermost: whatever fails, the next try comes
                polls.labels(name, "refused" if isinstance(error, Refused) else "failed").inc()
                self._failed(member, error)
            else:
                polls.labels(name, "ok").inc()
                member.failures, member.last_error = 0, ""
            wait = next_wait(member.interval, member.failures, self.draw)
            member.due = self.clock.monotonic() + wait
        self._measure()

    async def _fetch_or_raise(self, member: Member) -> None:
        relation = member.relation
        document = await self.endpoints.fetch(relation, self._roots_for(relation, member.bundle))
        received = read_bundle(document, relation.trust_domain)
        check_bundle(received, member.bundle, self._other_roots(relation.trust_domain))
        if self._members.get(relation.trust_domain) is not member:
            return  # removed or replaced meanwhile
        now, held = self.clock.now(), member.bundle
        stored = Received(relation.trust_domain, member.since, received.sequence, document, now)
        if held is not None and held.fingerprints == received.fingerprints:
            await self.writer.submit(stored)
        else:
            await self.writer.submit(stored, bundle_entry(relation, held, received, now=now))
            log.info(
                "federated_bundle_changed",
                trust_domain=relation.trust_domain,
                sequence=received.sequence,
                roots=len(received.roots),
            )
        member.bundle, member.fetched_at = received, now
        self._rebuild()

    def _failed(self, member: Member, error: Exception) -> None:
        member.failures += 1
        member.last_error = clip(str(error) if isinstance(error, MeshcaError) else repr(error))
        log.warning(
            "federated_bundle_not_fetched",
            trust_domain=member.relation.trust_domain,
            url=member.relation.url,
            error=member.last_error,
            attempt=member.failures,
            hint="the last good bundle stays in force",
        )

    def _take(self, name: str, row: Stored) -> None:
        """Take a row of the database: ours of before, or what another replica stored."""
        member = self._members.get(name)
        if member is None or member.relation != row.relation or member.since < row.changed_at:
            member = self._members[name] = Member(row.relation, row.changed_at)
        newer = row.fetched_at is not None and (
            member.fetched_at is None or row.fetched_at > member.fetched_at
        )
        if row.document is None or (member.bundle is not None and not newer):
            return
        try:
            bundle = read_bundle(row.document, name)
        except RequestRefused as error:
            log.error("federated_bundle_not_loaded", trust_domain=name, error=str(error))
            return
        member.bundle, member.fetched_at = bundle, row.fetched_at

    def _rebuild(self) -> None:
        """Make `current` anew, and tell subscribers if it is another."""
        bundles = {
            name: TrustBundle(name, member.bundle.roots, member.bundle.sequence or 0)
            for name, member in self._members.items()
            if member.bundle is not None and member.bundle.roots
        }
        without = (set(self._members) | self._removed) - set(bundles)
        federated = Federated(bundles, frozenset(without))
        if federated != self._federated:
            self._federated = federated
            for callback in tuple(self._subscribers):
                callback()

    def _forget(self, name: str) -> None:
        if self._members.pop(name, None) is not None:
            for gauge in (self.metrics.federation_refreshed, self.metrics.federation_stale):
                with contextlib.suppress(KeyError):
                    gauge.remove(name)

    def _measure(self) -> None:
        now = self.clock.now()
        for name, member in self._members.items():
            at = (member.fetched_at or member.since).timestamp()
            self.metrics.federation_refreshed.labels(name).set(at)
            self.metrics.federation_stale.labels(name).set(member.is_stale(now))

    def _get(self, trust_domain: str) -> Member:
        member = self._members.get(trust_domain)
        if member is None:
            raise NotFound(f"{trust_domain} is not federated")
        return member

    def _other_roots(self, name: str) -> list[x509.Certificate]:
        others = [b for n, b in self._federated.bundles.items() if n != name]
        return [root for bundle in (self.own(), *others) for root in bundle.roots]

    def _roots_for(
        self, relation: Relation, bundle: ForeignBundle | None
    ) -> Sequence[x509.Certificate]:
        """Return the roots that verify an `https_spiffe` endpoint: those of its own trust domain.

        Federation 5.2.2.2: an endpoint may belong to a third domain, federated in its own right.
        """
        if relation.profile == "https_web":
            return ()
        endpoint = SpiffeId.parse(relation.endpoint_id).trust_domain
        if endpoint == relation.trust_domain:
            return bundle.roots if bundle is not None else ()
        if endpoint == self.trust_domain:
            return self.own().roots
        known = self._federated.bundles.get(endpoint)
        return known.roots if known is not None else ()

    def _first_bundle(
        self, relation: Relation, seed: bytes, held: Member | None, *, replaces: bool
    ) -> ForeignBundle | None:
        """Return the bundle that a relation begins with, if any; raises RequestRefused."""
        name = relation.trust_domain
        if held is not None and not replaces:
            raise RequestRefused("exists", f"{name} is federated already; see --replace")
        if held is None and len(self._members) >= MAXIMUM_DOMAINS:
            raise RequestRefused("too_many", f"{MAXIMUM_DOMAINS} trust domains are federated")
        bundle = held.bundle if held is not None else None
        if seed:
            bundle = read_seed(seed, name)
            check_bundle(bundle, None, self._other_roots(name))
        if relation.profile == "https_spiffe" and not self._roots_for(relation, bundle):
            raise RequestRefused("no_seed", _what_is_missing(relation))
        return bundle


def _what_is_missing(relation: Relation) -> str:
    endpoint = SpiffeId.parse(relation.endpoint_id).trust_domain
    if endpoint == relation.trust_domain:
        hint = f"give the bundle of {endpoint}, had over a way that is trusted already"
    else:
        hint = f"federate with {endpoint} first"
    return f"nothing verifies {relation.endpoint_id}: {hint}"


def _row(relation: Relation, bundle: ForeignBundle | None, now: datetime) -> Stored:
    if bundle is None:
        return Stored(relation, ACTIVE, now)
    document = unnumbered_json(bundle.roots)
    if bundle.sequence is not None:
        numbered = TrustBundle(bundle.trust_domain, bundle.roots, bundle.sequence)
        document = numbered.spiffe_json()
    return Stored(relation, ACTIVE, now, bundle.sequence, document)
