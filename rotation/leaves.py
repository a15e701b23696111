"""The credentials of connected workloads: made when first needed, renewed while someone watches.

Rules
- One credential a holder (a workload instance), shared by all of its streams.
- A first issuance is a renewal that is due at once: one path for both.
- Renewal needs a live proof: when the last watcher has gone, the credential stays until its renewal
  instant (a proxy that reconnects finds it) and is then forgotten, key and all.
- Who comes with a certificate of before (the server was restarted) keeps it while `defers` says so:
  nobody else may know yet who signs now.
- If issuance fails, the old credential stays, the next try waits with jitter, and
  `renewals_overdue` rises while at least 30 % of the life is left.
- Wall time decides what is due; a clock set back makes everything issued "later" due.

Not here: what a proxy is sent (sds/snapshot.py), how an SVID is made (ca/issuance.py).
"""

import asyncio
import contextlib
import heapq
import random
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ca.authority import Authorities
from ca.issuance import Issuance
from ca.request import generate
from identity.caller import Caller
from meshca.clock import Clock
from meshca.errors import MeshcaError
from meshca.logs import get_logger
from meshca.metrics import Metrics
from rotation.credential import Credential, make_credential
from rotation.schedule import is_due, retry_delay

TICK_SECONDS = 0.5
AT_ONCE = 64
DEFERRAL = timedelta(seconds=0.5)

log = get_logger("rotation")


@dataclass(slots=True, eq=False)
class Holding:
    """One holder's credential, who watches it, and how its renewal stands."""

    caller: Caller
    dns_names: tuple[str, ...] = ()
    credential: Credential | None = None
    failures: int = 0
    due_since: datetime | None = None
    last_error: str = ""
    scheduled: datetime | None = None
    has_one: bool = False
    _watchers: dict[int, Callable[[], None]] = field(default_factory=dict)
    _renewing: bool = False

    @property
    def is_watched(self) -> bool:
        """Whether a stream still wants this credential."""
        return bool(self._watchers)


@dataclass(slots=True, kw_only=True)
class Leaves:
    """Every credential this process holds; `run` is its loop."""

    issuance: Issuance
    authorities: Authorities
    clock: Clock
    metrics: Metrics
    defers: Callable[[], bool] = lambda: False
    draw: random.Random = field(default_factory=random.SystemRandom)
    _holdings: dict[str, Holding] = field(default_factory=dict)
    _queue: list[tuple[datetime, int, str]] = field(default_factory=list)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _late: dict[str, datetime] = field(default_factory=dict)
    _counter: int = 0
    _last_tick: datetime | None = None

    def hold(
        self,
        caller: Caller,
        watcher: Callable[[], None],
        *,
        dns_names: tuple[str, ...] = (),
        has_one: bool = False,
    ) -> tuple[Holding, Callable[[], None]]:
        """Return `caller`'s holding and the function that releases it.

        The credential may not be there yet; `watcher` is called whenever it has changed. `has_one`:
        the caller says that it has a certificate.
        """
        holding = self._holdings.get(caller.holder)
        if holding is None:
            holding = Holding(caller, dns_names, has_one=has_one)
            self._holdings[caller.holder] = holding
            self._schedule(self.clock.now(), caller.holder, holding)
            self._wake.set()
        if caller.expires_at > holding.caller.expires_at:
            holding.caller = caller
        self._counter += 1
        ticket = self._counter
        holding._watchers[ticket] = watcher
        return holding, lambda: self._release(caller.holder, holding, ticket)

    def renew_now(self, spiffe_id: str) -> int:
        """Let every credential of `spiffe_id` be renewed at once; return how many there are."""
        return self._renew_soon(lambda held: str(held.caller.spiffe_id) == spiffe_id)

    def renew_revoked(self, revoked: Container[str]) -> int:
        """Let every credential whose serial (hex) is in `revoked` be replaced; return how many."""
        return self._renew_soon(
            lambda held: (
                held.credential is not None
                and held.due_since is None
                and held.credential.svid.serial in revoked
            )
        )

    def renew_under(self, authority_id: str) -> int:
        """Let every credential that `authority_id` signed be replaced, the oldest first.

        Return how many were not being replaced already: it may be asked again and again.
        """
        return self._renew_soon(
            lambda held: (
                held.credential is not None
                and held.due_since is None
                and held.credential.svid.authority_id == authority_id
            )
        )

    def _renew_soon(self, wanted: Callable[[Holding], bool]) -> int:
        """Make due what is `wanted`; as many at once as ever, so that all else goes on."""
        found = [(holder, held) for holder, held in self._holdings.items() if wanted(held)]
        found.sort(key=lambda item: _issued_at(item[1]))
        now = self.clock.now()
        for holder, holding in found:
            holding.due_since = now
            self._schedule(now, holder, holding)
        self._wake.set()
        return len(found)

    def credentials(self) -> list[Credential]:
        """Return the credentials held now."""
        return [h.credential for h in self._holdings.values() if h.credential is not None]

    async def run(self) -> None:
        """Renew what is due until cancelled; then stop the renewals under way."""
        try:
            while True:
                self._tick(self.clock.now())
                self._wake.clear()
                # wait_for swallows a cancellation that comes with the wake (before Python 3.12)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK_SECONDS):
                        await self._wake.wait()
        finally:
            for task in self._tasks:
                task.cancel()

    def _tick(self, now: datetime) -> None:
        if self._last_tick is not None and now < self._last_tick:
            log.warning("clock_set_back", was=self._last_tick.isoformat(), now=now.isoformat())
            for holder, holding in self._holdings.items():
                self._schedule(now, holder, holding)
        self._last_tick = now
        while self._queue and self._queue[0][0] <= now and len(self._tasks) < AT_ONCE:
            at, _, holder = heapq.heappop(self._queue)
            held = self._holdings.get(holder)
            if held is not None and held.scheduled == at and not held._renewing:
                self._consider(holder, held, now)
        self._measure(now)

    def _consider(self, holder: str, holding: Holding, now: datetime) -> None:
        """Start the renewal of `holder` if it is due and wanted; forget it if nobody watches."""
        credential = holding.credential
        if credential is not None and holding.due_since is None:
            svid = credential.svid
            if not is_due(now, issued_at=svid.issued_at, renew_at=credential.renew_at):
                self._schedule(credential.renew_at, holder, holding)
                return
        if not holding.is_watched:
            self._forget(holder)
            return
        if credential is None and holding.has_one and self.defers():
            self._schedule(now + DEFERRAL, holder, holding)
            return
        holding.due_since = holding.due_since or now
        holding._renewing = True
        task = asyncio.get_running_loop().create_task(self._renew(holder, holding))
        self._tasks.add(task)
        task.add_done_callback(self._renewed)

    def _renewed(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._queue and self._queue[0][0] <= self.clock.now():
            self._wake.set()

    async def _renew(self, holder: str, holding: Holding) -> None:
        try:
            key = generate()
            before = "" if holding.credential is None else holding.credential.svid.serial
            svid = await self.issuance.issue(
                holding.caller, key.request, dns_names=holding.dns_names, renews=before
            )
            credential = make_credential(svid, key.private_pem, self.authorities.bundle.roots)
        except Exception as error:  # noqa: BLE001  # outermost: whatever fails, the next try comes
            self._failed(holder, holding, error)
            return
        finally:
            holding._renewing = False
        holding.credential = credential
        holding.failures, holding.due_since, holding.last_error = 0, None, ""
        self._late.pop(holder, None)
        self._schedule(credential.renew_at, holder, holding)
        for watcher in tuple(holding._watchers.values()):
            watcher()

    def _failed(self, holder: str, holding: Holding, error: Exception) -> None:
        holding.failures += 1
        holding.last_error = str(error) if isinstance(error, MeshcaError) else repr(error)
        delay = retry_delay(holding.failures, self.draw)
        self._late[holder] = holding.due_since or self.clock.now()
        self._schedule(self.clock.now() + delay, holder, holding)
        self.metrics.rotation_failures.inc()
        until = holding.credential.svid.not_after.isoformat() if holding.credential else "none"
        log.error(
            "renewal_failed",
            identity=str(holding.caller.spiffe_id),
            error=holding.last_error,
            attempt=holding.failures,
            next_try_seconds=round(delay.total_seconds(), 1),
            current_certificate_good_until=until,
        )

    def _release(self, holder: str, holding: Holding, ticket: int) -> None:
        holding._watchers.pop(ticket, None)
        if not holding.is_watched and holding.credential is None:
            self._forget(holder)

    def _forget(self, holder: str) -> None:
        self._holdings.pop(holder, None)
        self._late.pop(holder, None)

    def _schedule(self, at: datetime, holder: str, holding: Holding) -> None:
        """Look at `holder` again at `at`; an earlier appointment is void."""
        holding.scheduled = at
        self._counter += 1
        heapq.heappush(self._queue, (at, self._counter, holder))

    def _measure(self, now: datetime) -> None:
        lag = max((now - since for since in self._late.values()), default=timedelta(0))
        self.metrics.renewals_overdue.set(len(self._late))
        self.metrics.rotation_lag_seconds.set(max(lag.total_seconds(), 0.0))


def _issued_at(holding: Holding) -> float:
    return holding.credential.svid.issued_at.timestamp() if holding.credential else 0.0
