"""The timeline of one revocation: decided, listed, pushed, acknowledged, and by whom not yet.

Put together from what each replica has written (ca/revocation/effects.py), as documented in
docs/cli.md. In force is what every running replica says so of.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa

from admin.views import Json, time_text
from ca.revocation.effects import Behind, Effect, Effects, SignedList
from ca.revocation.store import Decision, Revocation
from rotation.replicas import Replicas


def read_timeline(engine: sa.Engine, revocation: Revocation, decided: Decision) -> Json:
    """Return the timeline of `revocation`; of its release, once a hold has ended."""
    running = {replica.name for replica in Replicas(engine).all()}
    return timeline_json(revocation, decided, Effects(engine).of(revocation.revision), running)


def timeline_json(
    revocation: Revocation, decided: Decision, effects: Sequence[Effect], running: Collection[str]
) -> Json:
    """Return the timeline; a replica of `running` without an effect has not pushed it yet."""
    lists = [each for e in effects for each in e.lists]
    mine = [each for each in lists if each.authority_id == revocation.authority_id]
    silent = sorted(set(running) - {effect.replica for effect in effects})
    waited_for = [e for e in effects if e.replica in running or not running]
    is_all = bool(waited_for) and not silent and all(e.is_complete for e in waited_for)
    in_force_at = max(map(_in_force_at, waited_for)) if is_all else None
    since = decided.at if revocation.released_at is None else None
    return {
        "decided_at": time_text(decided.at),
        "recorded_at": time_text(revocation.revoked_at),
        "signed": [_list_json(min(mine, key=lambda each: each.signed_at))] if mine else [],
        "replicas": [
            *({**_effect_json(e), "running": e.replica in running} for e in effects),
            *(_silent_json(name) for name in silent),
        ],
        "in_force_at": time_text(in_force_at),
        "milliseconds": _milliseconds(since, in_force_at),
    }


def _in_force_at(effect: Effect) -> datetime:
    """Return when the last of it was done; without proxies that is the push, or the list."""
    signed = [each.signed_at for each in effect.lists]
    return max([effect.pushed_at, *signed] if effect.last_at is None else [effect.last_at])


def _milliseconds(since: datetime | None, until: datetime | None) -> int | None:
    if since is None or until is None:
        return None
    return max((until - since) // timedelta(milliseconds=1), 0)


def _list_json(signed: SignedList) -> Json:
    return {
        "authority_id": signed.authority_id,
        "number": signed.number,
        "at": time_text(signed.signed_at),
    }


def _effect_json(effect: Effect) -> Json:
    return {
        "replica": effect.replica,
        "pushed_at": time_text(effect.pushed_at),
        "proxies": effect.proxies,
        "acknowledged": effect.acknowledged,
        "left": effect.left,
        "requests_at": time_text(effect.requests_at),
        "handshakes_at": time_text(effect.handshakes_at),
        "last_acknowledged_at": time_text(effect.last_at),
        "complete": effect.is_complete,
        "seen_at": time_text(effect.seen_at),
        "without_list": effect.without_list,
        "without_filter": effect.without_filter,
        "unsigned": list(effect.unsigned),
        "behind": [_behind_json(each) for each in effect.behind],
        "behind_count": effect.behind_count,
    }


def _behind_json(behind: Behind) -> Json:
    return {
        "spiffe_id": behind.spiffe_id,
        "pod": behind.pod,
        "since": time_text(behind.since),
        "lacks": behind.lacks,
        "nack": behind.nack,
    }


def _silent_json(name: str) -> Json:
    """Return a replica that runs and has written nothing of it."""
    return {
        "replica": name,
        "pushed_at": None,
        "proxies": 0,
        "acknowledged": 0,
        "left": 0,
        "requests_at": None,
        "handshakes_at": None,
        "last_acknowledged_at": None,
        "complete": False,
        "seen_at": None,
        "without_list": 0,
        "without_filter": 0,
        "unsigned": [],
        "behind": [],
        "behind_count": 0,
        "running": True,
    }
