"""Keeping the lists of the CAs above in what is pushed: asked for, judged, and complained of.

Every half minute, and whenever what is pushed or an authority changes, it is looked at which CAs
stand above what may be shown, of every replica's authorities, and whether each has a list that will
do (ca/revocation/upper.py). An upstream that is away leaves its lists as they were last known, for
as long as they hold. When one is missing nothing of them is pushed, and that is an error in the log
and a metric with an alert: proxies of that flavour then refuse the revoked by request only.
"""

import asyncio
import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from ca.revocation.upper import Upper, find_upper
from ca.upstream.issuer_crl import IssuerCrl
from ca.upstream.provision import Upstream
from meshca.clock import Clock
from meshca.errors import AuthorityUnavailable
from meshca.logs import get_logger
from meshca.metrics import Metrics
from rotation.revocation_views import RevocationViews
from rotation.stages import Stage
from rotation.standings import Row, Standings
from rotation.trust import Trust

ASK_EVERY_SECONDS: Final = 30.0
LOOK_EVERY_SECONDS: Final = 5.0
KIND: Final = "above"
"""The label of our metrics: whose lists these are."""

log = get_logger("rotation")


@dataclass(slots=True, kw_only=True)
class UpperLists:
    """The lists of the CAs above: `views` has them, all or none."""

    upstream: Upstream
    trust: Trust
    standings: Standings
    views: RevocationViews
    clock: Clock
    metrics: Metrics
    _known: tuple[IssuerCrl, ...] = ()
    _current: Upper = field(default_factory=Upper)
    _asked_at: float = -math.inf
    _said: tuple[str, ...] = ()
    _warned: frozenset[bytes] = frozenset()
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def current(self) -> Upper:
        """Return what was found at the last look."""
        return self._current

    def heed(self) -> None:
        """Look again now: an authority, a root, or what is pushed has changed."""
        self._changed.set()

    async def run(self) -> None:
        """Look when it is time to, and when something has changed; until cancelled."""
        while True:
            self._changed.clear()
            await self.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_SECONDS):
                    await self._changed.wait()

    async def look(self) -> None:
        """Find out what is to be pushed, and have it pushed; raises StoreUnavailable."""
        await self._ask()
        rows = await asyncio.to_thread(self.standings.of, with_ended=False)
        roots = [r.certificate for r in self.trust.known if r.root_sha256 in self.trust.in_bundle]
        chains = [row.chain for row in self._shown(rows)]
        self._current = find_upper(chains, roots, self._known, self.clock.now())
        self.views.set_upper(self._current.pem)
        self._complain(self._current)
        self._measure(self._current)

    async def _ask(self) -> None:
        """Ask the upstream for its lists, every half minute."""
        if self.clock.monotonic() - self._asked_at < ASK_EVERY_SECONDS:
            return
        self._asked_at = self.clock.monotonic()
        try:
            self._known = await asyncio.to_thread(self.upstream.lists, self.clock.now())
        except AuthorityUnavailable as error:
            self.metrics.crl_failures.labels(KIND, "fetch").inc()
            log.warning("upper_lists_not_had", error=str(error))

    def _shown(self, rows: list[Row]) -> Iterator[Row]:
        """Yield those that somebody may show leaves of: not the tainted whose list is left out."""
        pushed = {crl.authority_id for crl in self.views.current().lists}
        for row in rows:
            if row.standing.stage is not Stage.TAINTED or row.standing.authority_id in pushed:
                yield row

    def _complain(self, upper: Upper) -> None:
        """Say what is missing and what ends, once each."""
        if upper.missing and upper.missing != self._said:
            log.error(
                "upper_lists_missing",
                missing=list(upper.missing),
                hint="proxies of the SPIFFE flavour get no revocation lists while a CA above our "
                "intermediates has none: a set that is not complete would refuse everybody",
            )
        elif self._said and not upper.missing:
            log.info("upper_lists_complete", lists=len(upper.lists))
        self._said = upper.missing
        ending = upper.ending(self.clock.now())
        for crl in ending:
            if crl.der not in self._warned:
                log.warning(
                    "upper_list_ends",
                    issuer=crl.issuer.subject.rfc4514_string(),
                    next_update=crl.next_update.isoformat(),
                )
        self._warned = frozenset(crl.der for crl in ending)

    def _measure(self, upper: Upper) -> None:
        ending, m = len(upper.ending(self.clock.now())), self.metrics
        m.upper_lists.labels("current").set(len(upper.lists) - ending)
        m.upper_lists.labels("ending").set(ending)
        m.upper_lists.labels("missing").set(len(upper.missing))
        m.crl_entries.labels(KIND).set(sum(len(crl.parsed) for crl in upper.lists))
        soonest = min((crl.next_update.timestamp() for crl in upper.lists), default=0.0)
        m.crl_soonest_end.labels(KIND).set(soonest)
