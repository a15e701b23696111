"""Watching the active authority: warnings that grow louder, and the metrics of what ends when."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from ca.authority import Authorities, Authority
from meshca.durations import format_duration
from meshca.errors import AuthorityUnavailable
from meshca.logs import get_logger
from meshca.metrics import Metrics
from rotation.leaves import Leaves
from rotation.stages import OVERDUE

WARN_EVERY: Final = timedelta(hours=1)
URGENT: Final = timedelta(hours=1)
FILES_DUE: Final = 0.5
_RENEWED: Final = "no certificate outlives it; what its successor waits for is in `meshca ca show`"
_FILES: Final = (
    "replace the intermediate's files (upstream.chain, upstream.key) and restart; "
    "no certificate outlives it"
)

log = get_logger("rotation")


@dataclass(slots=True, kw_only=True)
class AuthorityWatch:
    """Looks at what signs now; `can_renew` says whether the upstream can give a successor."""

    authorities: Authorities
    leaves: Leaves
    metrics: Metrics
    can_renew: bool
    _warned_at: datetime | None = None
    _warned_of: str = ""

    def look(self, now: datetime) -> None:
        """Warn, at most hourly, of an authority that is nearing its end; publish the metrics."""
        try:
            active = self.authorities.active(now)
        except AuthorityUnavailable:
            return
        self._measure(active)
        remaining = active.not_after - now
        if now < self._warn_at(active) and remaining > URGENT:
            return
        is_news = self._warned_of != active.authority_id
        if not is_news and self._warned_at is not None and abs(now - self._warned_at) < WARN_EVERY:
            return
        self._warned_at, self._warned_of = now, active.authority_id
        say = log.error if remaining <= URGENT else log.warning
        say(
            "authority_ends",
            authority=active.authority_id,
            not_after=active.not_after.isoformat(),
            remaining=format_duration(remaining),
            hint=_RENEWED if self.can_renew else _FILES,
        )

    def _warn_at(self, active: Authority) -> datetime:
        """Return when a successor is overdue; from files it must be somebody's work in time."""
        begin = max(active.not_before, active.certificate.not_valid_before_utc)
        part = OVERDUE if self.can_renew else FILES_DUE
        return begin + (active.not_after - begin) * part

    def _measure(self, active: Authority) -> None:
        soonest = self.metrics.soonest_expiry
        roots = self.authorities.bundle.roots
        soonest.labels("root").set(min(r.not_valid_after_utc for r in roots).timestamp())
        soonest.labels("intermediate").set(active.not_after.timestamp())
        ends = [c.svid.not_after for c in self.leaves.credentials()]
        if ends:
            soonest.labels("leaf").set(min(ends).timestamp())
