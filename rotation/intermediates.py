"""The intermediate we sign with: loaded at start, replaced at half of its life.

A fresh intermediate may sign at once, since the root above it is in every bundle already; leaves
under the old one stay valid, as they carry their chain. An upstream that cannot give a fresh one
(files) is watched instead: the warnings grow louder as the end comes nearer. An intermediate that
has expired never signs: the server does not start, and one that runs is not ready.
"""

import asyncio
import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from audit.entry import Entry
from ca.authority import Authorities, Authority
from ca.upstream.provision import Provision, Upstream
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.durations import format_duration
from meshca.errors import MeshcaError
from meshca.logs import get_logger
from meshca.metrics import Metrics
from rotation.leaves import Leaves
from rotation.schedule import is_due, renewal_instant, retry_delay

TICK_SECONDS: Final = 5.0
WARN_EVERY: Final = timedelta(hours=1)
URGENT: Final = timedelta(hours=1)

log = get_logger("rotation")


@dataclass(slots=True, kw_only=True)
class Intermediates:
    """Keeps `authorities` supplied by `upstream`."""

    upstream: Upstream
    authorities: Authorities
    leaves: Leaves
    writer: GroupWriter
    clock: Clock
    metrics: Metrics
    draw: random.Random = field(default_factory=random.SystemRandom)
    _authority: Authority | None = None
    _loaded_at: datetime | None = None
    _failures: int = 0
    _not_before: datetime | None = None
    _warned_at: datetime | None = None

    async def load(self) -> None:
        """Activate the first authority; raises AuthorityUnavailable, saying what is wrong."""
        await self._replace(await self._provide(), "loaded at start")

    async def run(self) -> None:
        """Replace what is due, warn of what cannot be replaced, measure; until cancelled."""
        while True:
            await self.tick()
            await asyncio.sleep(TICK_SECONDS)

    async def tick(self) -> None:
        """Do what is due now."""
        now = self.clock.now()
        self._measure()
        if not self._is_due(now):
            return
        if not self.upstream.can_renew:
            self._warn(now)
            return
        if self._not_before is not None and now < self._not_before:
            return
        try:
            await self._replace(await self._provide(), "half of its life has passed")
        except MeshcaError as error:
            self._failed(now, error)

    async def _provide(self) -> Provision:
        return await asyncio.to_thread(self.upstream.provide, self.clock.now())

    async def _replace(self, provision: Provision, reason: str) -> None:
        authority, now = provision.authority, self.clock.now()
        await self.writer.submit(_entry(authority, reason, now))
        self.authorities.activate(authority, provision.roots, sequence=int(now.timestamp()))
        self._authority, self._loaded_at = authority, now
        self._failures, self._not_before, self._warned_at = 0, None, None
        log.info(
            "authority_active",
            authority=authority.authority_id,
            not_after=authority.not_after.isoformat(),
            remaining=format_duration(authority.not_after - now),
        )
        self._measure()
        if authority.not_after - now <= URGENT:
            self._warn(now)

    def _is_due(self, now: datetime) -> bool:
        authority = self._authority
        if authority is None or self._loaded_at is None:
            return True
        begin = max(authority.not_before, authority.certificate.not_valid_before_utc)
        instant = renewal_instant(
            authority.authority_id, issued_at=begin, not_after=authority.not_after
        )
        return is_due(now, issued_at=begin, renew_at=instant)

    def _warn(self, now: datetime) -> None:
        """Say, at most hourly, how long an intermediate that we cannot replace will live."""
        assert self._authority is not None  # noqa: S101  # due only once there is one
        if self._warned_at is not None and now - self._warned_at < WARN_EVERY:
            return
        self._warned_at = now
        remaining = self._authority.not_after - now
        say = log.error if remaining <= URGENT else log.warning
        say(
            "authority_ends",
            authority=self._authority.authority_id,
            not_after=self._authority.not_after.isoformat(),
            remaining=format_duration(remaining),
            hint="replace the intermediate's files (upstream.chain, upstream.key) and restart; "
            "no certificate outlives it",
        )

    def _failed(self, now: datetime, error: MeshcaError) -> None:
        self._failures += 1
        self.metrics.rotation_failures.inc()
        delay = retry_delay(self._failures, self.draw)
        self._not_before = now + delay
        log.error(
            "authority_not_replaced",
            error=str(error),
            attempt=self._failures,
            next_try_seconds=round(delay.total_seconds(), 1),
        )

    def _measure(self) -> None:
        """Publish when the first certificate of each kind ends."""
        if self._authority is None:
            return
        soonest = self.metrics.soonest_expiry
        roots = self.authorities.bundle.roots
        soonest.labels("root").set(min(r.not_valid_after_utc for r in roots).timestamp())
        soonest.labels("intermediate").set(self._authority.not_after.timestamp())
        ends = [c.svid.not_after for c in self.leaves.credentials()]
        if ends:
            soonest.labels("leaf").set(min(ends).timestamp())


def _entry(authority: Authority, reason: str, now: datetime) -> Entry:
    return Entry(
        time=now,
        kind="authority_change",
        outcome="done",
        actor="meshca",
        serial=f"{authority.certificate.serial_number:x}",
        reason=reason,
        details={
            "authority": authority.authority_id,
            "subject": authority.certificate.subject.rfc4514_string(),
            "not_after": int(authority.not_after.timestamp()),
        },
    )
