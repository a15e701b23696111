"""The life of an intermediate authority: its stages, and what is to be done next.

    prepared ----> published ----> active ----> retiring ----> retired
        \\______________\\_____________\\_____________\\
                                                     `--> tainted ----> revoked

| stage | what it means | goes on when |
|---|---|---|
| prepared | signed by the upstream, checked, recorded | root and list are in the bundle we push |
| published | what verifies it is being sent to every proxy | all have it, and its time has come |
| active | it signs; one a replica | its successor becomes active, in the same step |
| retiring | signs no more; certificates under it are alive | the last of them has ended |
| retired | nothing chains to it | never |
| tainted | its key is believed stolen: its leaves are replaced | no certificate under it is alive |
| revoked | as retired, and never to be trusted again | never |

Rules
- A successor is prepared when half of the active one's life has passed (drawn: 0.50 to 0.55) and
  takes over between 0.60 and 0.70, so that an upstream may be away for weeks of a long life, and
  leaves issued near the end still get their whole lifetime. Not before every workload has its root
  and its revocation list: who lacks either refuses its leaves. From OVERDUE on, those that are not
  connected are not waited for; when nothing else can sign, nobody is for more than a few seconds.
- Draws are a function of the authority's id: the same after a restart, different for each replica.
- What has ended is retired, whatever it was. An authority whose key this process no longer holds
  (memory only, and restarted) signs no more.
- An authority whose root is to be replaced does not wait for its time: its successor is prepared
  at once and takes over as soon as every workload has what verifies it.
- A tainted authority never signs again, whoever asks. One that its issuer has revoked is tainted.
- `next_step` looks only at what it is given and returns one step; carrying that out and asking
  again leads, from any state, to one where nothing is to be done. So a process that is killed
  between two steps goes on where it was.

- Each replica steps its own authorities. Those of a replica that is gone are ended by the leader
  (`abandoned_step`): nobody has their keys, unless they were kept. A kept key may come back with
  its replica, but not under a root that is to be replaced.

Pure: no clock, no store.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Final

PREPARE: Final = (0.50, 0.55)
ACTIVATE: Final = (0.60, 0.70)
OVERDUE: Final = 5 / 6
"""The part of its life after which an authority still active raises an alarm: one sixth is left."""


class Stage(StrEnum):
    """Where an authority stands; the values are stored."""

    PREPARED = "prepared"
    PUBLISHED = "published"
    ACTIVE = "active"
    RETIRING = "retiring"
    RETIRED = "retired"
    TAINTED = "tainted"
    REVOKED = "revoked"


ENDED: Final = frozenset({Stage.RETIRED, Stage.REVOKED})
ALLOWED: Final[Mapping[Stage, Set[Stage]]] = {
    Stage.PREPARED: {Stage.PUBLISHED, Stage.RETIRED, Stage.TAINTED},
    Stage.PUBLISHED: {Stage.ACTIVE, Stage.RETIRED, Stage.TAINTED},
    Stage.ACTIVE: {Stage.RETIRING, Stage.RETIRED, Stage.TAINTED},
    Stage.RETIRING: {Stage.RETIRED, Stage.TAINTED, Stage.PREPARED},
    Stage.RETIRED: {Stage.TAINTED, Stage.PREPARED},
    Stage.TAINTED: {Stage.REVOKED},
    Stage.REVOKED: set(),
}
"""Where each stage may lead; everything else is refused, also when an operator asks.

Back to prepared only where an operator brings back the files of an authority (upstream `disk`)."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One authority and its stage; `since` is when it came to it and `reason` why."""

    authority_id: str
    replica: str
    stage: Stage
    not_before: datetime
    not_after: datetime
    since: datetime
    reason: str = ""

    def lives(self, now: datetime) -> bool:
        """Whether its certificate is valid."""
        return self.not_before <= now < self.not_after

    def at(self, part: float) -> datetime:
        """Return when `part` of its life has passed."""
        return self.not_before + (self.not_after - self.not_before) * part


@dataclass(frozen=True, slots=True)
class Facts:
    """What `next_step` must know of the world besides the standings.

    `held`: authorities whose key this process holds. `published`: those whose root and revocation
    list are in the bundle that is pushed. `reached`: those of which every connected proxy has both,
    or had time enough. `propagated`: those of which every workload has; late, every connected one.
    `live_until`: when the last certificate under an authority ends, for those that issued any.
    `leaving`: those whose root is to be replaced. `revoked_above`: those that their issuer has
    revoked. `can_prepare`: whether the upstream can be asked for another now.
    """

    held: Set[str]
    published: Set[str]
    reached: Set[str]
    propagated: Set[str]
    live_until: Mapping[str, datetime]
    can_prepare: bool
    leaving: Set[str] = frozenset()
    revoked_above: Set[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Step:
    """Bring `authority_id` to `stage`; PREPARED without an id asks the upstream for a new one.

    `retires` are those that the same transaction brings from active to retiring.
    """

    stage: Stage
    reason: str
    authority_id: str = ""
    retires: tuple[str, ...] = ()


def next_step(standings: Sequence[Standing], facts: Facts, now: datetime) -> Step | None:
    """Return what one replica is to do next with its `standings`, or None."""
    active = _newest(standings, Stage.ACTIVE, now)
    is_moving = active is not None and active.authority_id not in facts.leaving
    for standing in standings:
        step = _ending(standing, facts, now, is_moving=is_moving)
        if step is not None:
            return step
    return _succession(standings, facts, now)


def abandoned_step(standings: Sequence[Standing], facts: Facts, now: datetime) -> Step | None:
    """Return the next step of authorities whose replica is gone; `held`: those with a kept key."""
    for s in standings:
        step = _ending(s, facts, now, is_moving=True)
        if step is not None:
            return step
        if s.stage is Stage.ACTIVE and s.authority_id in facts.leaving:
            return Step(
                Stage.RETIRING, "its replica is gone, its root to be replaced", s.authority_id
            )
    return None


def _ending(s: Standing, facts: Facts, now: datetime, *, is_moving: bool) -> Step | None:
    """Return the step that ends, or leads to the end of, an authority that cannot go on.

    `is_moving`: what signs has a root that stays, so spares under a leaving one are not needed.
    """
    if s.stage in ENDED:
        return None
    if s.stage is Stage.TAINTED:
        if _has_live(s, facts, now):
            return None
        return Step(Stage.REVOKED, "no certificate under it is alive", s.authority_id)
    if now >= s.not_after:
        return Step(Stage.RETIRED, "its certificate has ended", s.authority_id)
    if s.authority_id in facts.revoked_above:
        return Step(Stage.TAINTED, "its issuer has revoked it", s.authority_id)
    if s.stage is Stage.RETIRING:
        if _has_live(s, facts, now):
            return None
        return Step(Stage.RETIRED, "no certificate under it is alive", s.authority_id)
    if is_moving and s.authority_id in facts.leaving and s.stage is not Stage.ACTIVE:
        return Step(Stage.RETIRED, "its root is to be replaced", s.authority_id)
    if s.authority_id not in facts.held:
        stage = Stage.RETIRING if s.stage is Stage.ACTIVE else Stage.RETIRED
        return Step(stage, "no process has its key any more", s.authority_id)
    return None


def _has_live(s: Standing, facts: Facts, now: datetime) -> bool:
    until = facts.live_until.get(s.authority_id)
    return until is not None and now < min(until, s.not_after)


def _succession(standings: Sequence[Standing], facts: Facts, now: datetime) -> Step | None:
    """Return the step towards the authority that signs after the present one."""
    active = _newest(standings, Stage.ACTIVE, now)
    if active is None:
        return _rescue(standings, facts, now)
    staying = [s for s in standings if s.authority_id not in facts.leaving]
    published = _newest(staying, Stage.PUBLISHED, now)
    if published is not None:
        return _takeover(active, published, standings, facts, now)
    prepared = _newest(staying, Stage.PREPARED, now)
    if prepared is not None:
        return _publication(prepared, facts)
    if not facts.can_prepare:
        return None
    if active.authority_id in facts.leaving:
        return Step(Stage.PREPARED, "the active one's root is to be replaced")
    if now >= prepare_at(active):
        return Step(Stage.PREPARED, "half of the active one's life has passed")
    return None


def _rescue(standings: Sequence[Standing], facts: Facts, now: datetime) -> Step | None:
    """Return the step to have any authority sign: one that everybody can verify, if there is one.

    Whether its root is to be replaced does not matter here: it is trusted until it is removed.
    """
    published = [s for s in standings if s.stage is Stage.PUBLISHED and s.lives(now)]
    ready = [s for s in published if s.authority_id in facts.reached]
    if published and not ready:
        return None
    if ready:
        best = max(ready, key=lambda s: _preference(s, facts))
        retires = _actives(standings)
        return Step(Stage.ACTIVE, "no other authority can sign", best.authority_id, retires)
    prepared = _newest(standings, Stage.PREPARED, now)
    if prepared is not None:
        return _publication(prepared, facts)
    return Step(Stage.PREPARED, "no authority can sign") if facts.can_prepare else None


def _preference(s: Standing, facts: Facts) -> tuple[bool, bool, datetime, str]:
    name = s.authority_id
    return name in facts.propagated, name not in facts.leaving, s.not_after, name


def _publication(prepared: Standing, facts: Facts) -> Step | None:
    if prepared.authority_id not in facts.published:
        return None
    return Step(Stage.PUBLISHED, "its root and list are in the bundle", prepared.authority_id)


def _takeover(
    active: Standing,
    successor: Standing,
    standings: Sequence[Standing],
    facts: Facts,
    now: datetime,
) -> Step | None:
    is_leaving = active.authority_id in facts.leaving
    is_time = is_leaving or now >= activate_at(active)
    if successor.authority_id not in facts.propagated or not is_time:
        return None
    why = "the other's root is replaced" if is_leaving else "its time has come"
    reason = f"{why}, and everybody can verify it"
    return Step(Stage.ACTIVE, reason, successor.authority_id, _actives(standings))


def _actives(standings: Sequence[Standing]) -> tuple[str, ...]:
    return tuple(s.authority_id for s in standings if s.stage is Stage.ACTIVE)


def _newest(standings: Sequence[Standing], stage: Stage, now: datetime) -> Standing | None:
    """Return the one of `stage` that lives longest, of those that are valid now."""
    found = [s for s in standings if s.stage is stage and s.lives(now)]
    return max(found, key=lambda s: (s.not_after, s.authority_id), default=None)


def prepare_at(active: Standing) -> datetime:
    """Return when the successor of `active` is to be prepared."""
    return active.at(_draw(active.authority_id, "prepare", PREPARE))


def activate_at(active: Standing) -> datetime:
    """Return when the successor of `active` is to take over."""
    return active.at(_draw(active.authority_id, "activate", ACTIVATE))


def waits_for(standings: Sequence[Standing], facts: Facts, now: datetime) -> dict[str, str]:
    """Return what each authority that has not ended waits for, by id: for people."""
    active = _newest(standings, Stage.ACTIVE, now)
    return {s.authority_id: _wait(s, active, facts) for s in standings if s.stage not in ENDED}


def _wait(s: Standing, active: Standing | None, facts: Facts) -> str:
    match s.stage:
        case Stage.PREPARED:
            return "its root and its list to be in the bundle"
        case Stage.PUBLISHED if s.authority_id not in facts.reached:
            return "every connected proxy to have its root and its list"
        case Stage.PUBLISHED if s.authority_id not in facts.propagated:
            return "every workload to have its root and its list"
        case Stage.PUBLISHED:
            return f"its turn at {_text(activate_at(active))}" if active else "nothing"
        case Stage.ACTIVE if s.authority_id not in facts.held:
            return "nothing: its key is with another process, or gone"
        case Stage.ACTIVE:
            return f"its successor, to be prepared at {_text(prepare_at(s))}"
        case _:
            until = facts.live_until.get(s.authority_id)
            return f"the last certificate under it to end at {_text(until)}" if until else "nothing"


def _text(at: datetime) -> str:
    return at.isoformat(timespec="seconds")


def _draw(authority_id: str, purpose: str, within: tuple[float, float]) -> float:
    drawn = int.from_bytes(sha256(f"{purpose} {authority_id}".encode()).digest()[:8], "big") / 2**64
    return within[0] + (within[1] - within[0]) * drawn
