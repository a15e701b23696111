"""Placing legal holds, and releasing them with a second person: each step is an entry.

Whoever asks for a release cannot also release; an attempt that this refuses is on record, too. One
person's word is enough to keep evidence longer, never to let it go.
"""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from audit.entry import Entry
from audit.retention.holds import Hold, HoldChange, Scope, Step, read_holds
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import Conflict, NotFound, RequestRefused
from meshca.logs import get_logger

log = get_logger("audit")


@dataclass(frozen=True, slots=True, kw_only=True)
class LegalHolds:
    """The operations of `meshca audit hold|holds|release`."""

    engine: sa.Engine
    writer: GroupWriter
    clock: Clock

    async def holds(self, *, in_force: bool = True) -> list[Hold]:
        """Return the holds in force, or all that there ever were; raises StoreUnavailable."""
        return await asyncio.to_thread(read_holds, self.engine, in_force=in_force)

    async def place(self, scope: Scope, *, actor: str, reason: str, reference: str = "") -> Hold:
        """Keep what `scope` speaks of from now on; raises StoreUnavailable."""
        hold = Hold(
            name=f"hold-{secrets.token_hex(4)}",
            scope=scope,
            placed=Step(self.clock.now(), actor, reason),
            reference=reference,
        )
        await self._take(HoldChange(hold), "placed", hold.placed)
        return hold

    async def release(self, name: str, *, actor: str, reason: str) -> Hold:
        """Ask for the release of a hold or, if somebody else has asked, release it.

        Raises NotFound; Conflict for one that is released; RequestRefused for who has asked.
        """
        hold = await self._find(name)
        step = Step(self.clock.now(), actor, reason)
        if not hold.is_asked(step.at):
            asked = replace(hold, asked=step)
            await self._take(HoldChange(asked, hold), "release_asked", step)
            return asked
        assert hold.asked is not None  # noqa: S101  # is_asked says so
        if hold.asked.actor == actor:
            await self.writer.submit(_entry(hold, "release", step, "refused"))
            message = f"{actor} has asked for the release of {name}: somebody else has to release"
            raise RequestRefused("same_person", message)
        released = replace(hold, released=step)
        await self._take(HoldChange(released, hold), "released", step)
        return released

    async def _find(self, name: str) -> Hold:
        for hold in await self.holds(in_force=False):
            if hold.name != name:
                continue
            if hold.released is not None:
                raise Conflict(f"{name} is released already")
            return hold
        raise NotFound(f"there is no hold {name[:64]}; see meshca audit holds")

    async def _take(self, change: HoldChange, what: str, step: Step) -> None:
        await self.writer.submit(change, _entry(change.hold, what, step, "done"))
        log.warning("legal_hold", hold=change.hold.name, step=what, by=step.actor)


def _entry(hold: Hold, what: str, step: Step, outcome: str) -> Entry:
    scope = hold.scope
    return Entry(
        time=step.at,
        kind="legal_hold",
        outcome=outcome,
        actor=step.actor,
        spiffe_id=scope.spiffe_id,
        serial=scope.serial,
        cluster=scope.cluster,
        namespace=scope.namespace,
        reason=step.reason,
        details={
            "hold": hold.name,
            "step": what,
            "scope": scope.as_json(),
            "reference": hold.reference,
            **({"asked_by": hold.asked.actor} if what == "released" and hold.asked else {}),
        },
    )


def hold_json(hold: Hold, now: datetime) -> dict[str, Any]:
    """Return `hold` as the REST API has it; docs/cli.md documents it."""
    asked = hold.asked if hold.released is not None or hold.is_asked(now) else None
    state = "released" if hold.released else "release_asked" if asked else "in_force"
    return {
        "hold": hold.name,
        "state": state,
        "scope": hold.scope.as_json(),
        "reference": hold.reference,
        "placed": _step_json(hold.placed),
        "release_asked": _step_json(asked),
        "released": _step_json(hold.released),
    }


def _step_json(step: Step | None) -> Mapping[str, str] | None:
    if step is None:
        return None
    at = step.at.isoformat().replace("+00:00", "Z")
    return {"at": at, "actor": step.actor, "reason": step.reason}
