"""The whole life of an identity: what it has had, what was refused to it, what became of it."""

from collections.abc import Sequence
from datetime import datetime

from admin.questions.entries import entries_about, first_of
from admin.revocation_views import ban_json
from admin.state import AdminState
from admin.views import Json, svid_json, time_text
from audit.query import Query, group
from ca.holdings import Holdings
from ca.revocation.listing import Listing
from ca.revocation.store import Ban
from ca.store import Filter
from rotation.standings import Standings

NEWEST: int = 20


def identity_json(
    state: AdminState, holdings: Holdings, spiffe_id: str, *, limit: int, cursor: int | None
) -> Json:
    """Return what is known of `spiffe_id`; raises RequestRefused, StoreUnavailable."""
    now = state.clock.now()
    alive = [one.standing for one in Standings(state.engine).of() if now < one.standing.not_after]
    oldest = min((one.not_before for one in alive), default=now)
    had = holdings.had(spiffe_id, now, oldest)
    kinds = group(state.engine, Query(spiffe_id=spiffe_id), "kind")
    first = first_of(state, Query(spiffe_id=spiffe_id, oldest_first=True))
    newest = state.inventory.list(Filter(spiffe_id=spiffe_id), limit=NEWEST)
    serials = {*had.live, *(one.intent.serial for one in newest)}
    revoked = Listing(state.engine).among(serials)
    page = entries_about(state, Query(spiffe_id=spiffe_id, limit=limit, cursor=cursor))
    last = _last(state, spiffe_id, page["events"] if cursor is None else ())
    return {
        "spiffe_id": spiffe_id,
        "known": had.certificates > 0 or first is not None,
        "first_entry": first and first.body["time"],
        "last_entry": last,
        "certificates": {
            "total": had.certificates,
            "revoked": had.revoked,
            "live": sum(serial not in revoked for serial in had.live),
            "first_at": time_text(had.first_at),
            "last_until": time_text(had.last_until),
            "newest": [
                {**svid_json(one), "revoked": one.intent.serial in revoked} for one in newest
            ],
        },
        "entries": {
            "total": kinds.total.count,
            "exact": kinds.total.is_exact,
            "by_kind": dict(kinds.counts),
        },
        "bans": [ban_json(ban, now) for ban in _bans(state, spiffe_id, now)],
        **page,
    }


def _last(state: AdminState, spiffe_id: str, newest: Sequence[Json]) -> str | None:
    """Return the time of the newest entry; `newest` begin with it, if it is known already."""
    if newest:
        return str(newest[0]["time"])
    last = first_of(state, Query(spiffe_id=spiffe_id))
    return None if last is None else str(last.body["time"])


def _bans(state: AdminState, spiffe_id: str, now: datetime) -> list[Ban]:
    return [
        ban
        for ban in state.revocations.revocations.bans(now)
        if ban.selector.given().get("spiffe_id") == spiffe_id
    ]
