"""Having the issuer revoke what is revoked here: an authority of ours whose key was stolen.

It is asked as soon as nothing under the authority is alive, so that a relying party that looks at
the issuer's list loses nobody. An issuer that does not answer, or refuses, is asked every minute;
one that cannot revoke (files) is not, and then `meshca root` does it. What became of it is kept and
audited. Only the leader asks.
"""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from ca.upstream.provision import Upstream
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import AuthorityUnavailable
from meshca.logs import get_logger
from meshca.metrics import Metrics
from rotation.stages import Stage
from rotation.standings import AtIssuer, Row, Standings
from rotation.steps import ITSELF, authority_entry

ASK_AGAIN: Final = timedelta(minutes=1)
REVOKED: Final = "revoked"
IMPOSSIBLE: Final = "the upstream cannot: sign a list that has it (`meshca root ceremony`)"
ENDED: Final = "not needed: its certificate has ended"

log = get_logger("rotation")


@dataclass(slots=True, kw_only=True)
class IssuerRevocation:
    """Tells issuers; `problems` says, by authority, why it has not worked yet."""

    upstream: Upstream
    standings: Standings
    writer: GroupWriter
    clock: Clock
    metrics: Metrics
    problems: dict[str, str] = field(default_factory=dict)
    _failed_at: dict[str, datetime] = field(default_factory=dict)

    async def look(self) -> None:
        """Tell the issuer of one authority that is revoked and not settled; it may take a while."""
        now = self.clock.now()
        for row in await asyncio.to_thread(self.standings.unsettled):
            failed_at = self._failed_at.get(row.standing.authority_id)
            if failed_at is None or abs(now - failed_at) >= ASK_AGAIN:
                await self._settle(row, now)
                return

    async def _settle(self, row: Row, now: datetime) -> None:
        name = row.standing.authority_id
        try:
            outcome = await self._ask(row, now)
        except AuthorityUnavailable as error:
            self.problems[name], self._failed_at[name] = str(error), now
            self.metrics.rotation_failures.inc()
            log.error("not_revoked_at_issuer", authority=name, error=str(error))
            return
        self.problems.pop(name, None)
        self._failed_at.pop(name, None)
        entry = authority_entry(name, Stage.REVOKED, outcome, now, ITSELF)
        details = {**entry.details, "at_issuer": outcome}
        await self.writer.submit(AtIssuer(name, outcome), replace(entry, details=details))
        log.info("told_issuer", authority=name, outcome=outcome)

    async def _ask(self, row: Row, now: datetime) -> str:
        if now >= row.standing.not_after:
            return ENDED
        done = await asyncio.to_thread(self.upstream.revoke, row.chain[0], now)
        return REVOKED if done else IMPOSSIBLE
