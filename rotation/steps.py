"""Carrying out a step: changes of stage with their audit entries, in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256

from audit.entry import Entry, Json
from ca.authority import Authority
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.logs import get_logger
from rotation.stages import Stage, Step
from rotation.standings import Row, StageChange

ITSELF: Final = "meshca"

log = get_logger("rotation")


@dataclass(frozen=True, slots=True)
class Steps:
    """Takes steps, whoever decided on them."""

    writer: GroupWriter
    clock: Clock

    async def take(
        self, step: Step, rows: Sequence[Row], *, actor: str = ITSELF, **details: Json
    ) -> None:
        """Carry out a change of stage, with its retirements, in one transaction.

        `details` go into the audit entries: what an operator did besides.
        """
        now = self.clock.now()
        stages = {row.standing.authority_id: row.standing.stage for row in rows}
        name = step.authority_id
        moves = [(name, stages[name], step.stage, step.reason)]
        moves += [
            (old, Stage.ACTIVE, Stage.RETIRING, f"succeeded by {name}")
            for old in step.retires
            if old != name
        ]
        changes = [StageChange(n, before, after, now, why) for n, before, after, why in moves]
        entries = [authority_entry(n, after, why, now, actor) for n, _, after, why in moves]
        noted = [replace(e, details={**e.details, **details}) for e in entries]
        await self.writer.submit(*changes, *noted)
        for n, _, after, why in moves:
            log.info("authority_stage", authority=n, stage=after.value, reason=why)


def authority_entry(
    authority_id: str,
    stage: Stage,
    reason: str,
    now: datetime,
    actor: str,
    authority: Authority | None = None,
) -> Entry:
    """Return the audit entry of a step: `actor` brought an authority to `stage`."""
    certificate = authority.certificate if authority is not None else None
    return Entry(
        time=now,
        kind="authority_change",
        outcome="done",
        actor=actor,
        serial=f"{certificate.serial_number:x}" if certificate is not None else "",
        fingerprint=certificate.fingerprint(SHA256()).hex() if certificate is not None else "",
        reason=reason,
        details={"authority": authority_id, "stage": stage.value}
        | (
            {}
            if authority is None or certificate is None
            else {
                "subject": certificate.subject.rfc4514_string(),
                "not_after": int(authority.not_after.timestamp()),
            }
        ),
    )
