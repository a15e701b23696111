"""The report of a period, for an audit: what was issued, refused, revoked and changed, and proof.

One JSON document; the HTML (report_page.py) shows the same. A signed note names the hash of each,
so that both can be checked with the log's public key alone. The proof of completeness is the two
checkpoints around the period and that the later log begins with the earlier one: who keeps an
earlier report, or an anchored checkpoint, can see that nothing before it was changed.

Lists are bounded; of what does not fit the number is there, and the entries are in the log.
"""

import base64
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from admin.questions.entries import first_of, of_kinds_between
from admin.revocation_timeline import read_timeline
from admin.revocation_views import decision_json, hit_json
from admin.state import AdminState
from admin.views import Json, time_text
from audit.checkpoints import Kept, checkpoint_from, checkpoints
from audit.query import Query, count, group
from authz.history import changes_between
from ca.holdings import Holdings
from ca.revocation.listing import Listing, Wanted
from meshca.errors import RequestRefused
from rotation.standings import Standings

SCHEMA: Final = 1
MAXIMUM_ROWS: Final = 1_000
_ALL: Final = 2**63
"""A report is signed: what it counts is counted to the end, whatever is not indexed yet."""

_POLICY: Final = ("policy_change", "policy_stage", "break_glass")
_EXCEPTIONS: Final = (
    "break_glass",
    "ban",
    "gap",
    "redaction",
    "legal_hold",
    "restore",
    "federation_change",
)
_AUTHORITIES: Final = ("authority_change", "root_change", "log_key")


@dataclass(frozen=True, slots=True)
class Period:
    """From `since` up to `until`; raises RequestRefused for one that is none or not over."""

    since: datetime
    until: datetime
    now: datetime

    def __post_init__(self) -> None:
        if not self.since < self.until:
            raise RequestRefused("time", "the report's beginning must be before its end")
        if self.until > self.now:
            raise RequestRefused("time", "the period is not over: --to lies in the future")

    def __str__(self) -> str:
        return f"{time_text(self.since)} {time_text(self.until)}"

    def query(self, **filters: Any) -> Query:
        """Return the question for what happened in the period."""
        return Query(since=self.since, until=self.until, **filters)


def report_json(state: AdminState, holdings: Holdings, period: Period, *, actor: str) -> Json:
    """Return the report; raises StoreUnavailable, EvidenceBroken. Reads the database, at length."""
    rows = Standings(state.engine).of()
    at_end = [row.standing for row in rows if row.standing.not_before <= period.until]
    live = [one.authority_id for one in at_end if period.until < one.not_after]
    valid = holdings.valid_at(period.until, live, limit=MAXIMUM_ROWS)
    return {
        "meshca_report": SCHEMA,
        "trust_domain": state.trust_domain,
        "log": state.signer.origin,
        "from": time_text(period.since),
        "to": time_text(period.until),
        "made_at": time_text(period.now),
        "made_by": actor,
        "version": state.version,
        "summary": _groups(state, period.query(), "kind"),
        "outcomes": _groups(state, period.query(), "outcome"),
        "inventory_at_end": {
            "valid": valid.certificates,
            "revoked": valid.revoked,
            "identities": valid.identities,
            "by_identity": dict(valid.by_identity),
        },
        "issuance_by_identity": _groups(state, period.query(kind="issuance"), "spiffe_id"),
        "refusals_by_reason": _groups(state, period.query(kind="refusal"), "reason"),
        "revocations": _revocations(state, period),
        "policy_sets": [
            {"version": kept.version, "since": time_text(kept.since)}
            for kept in changes_between(state.engine, period.since, period.until)[:MAXIMUM_ROWS]
        ],
        "policy_changes": of_kinds_between(state, _POLICY, period.query(), MAXIMUM_ROWS),
        "authority_changes": of_kinds_between(state, _AUTHORITIES, period.query(), MAXIMUM_ROWS),
        "exceptions": of_kinds_between(state, _EXCEPTIONS, period.query(), MAXIMUM_ROWS),
        "completeness": _completeness(state, period),
    }


def _groups(state: AdminState, query: Query, field: str) -> Json:
    found = group(state.engine, query, field, maximum_read=_ALL)
    return {
        "total": found.total.count,
        "exact": found.total.is_exact,
        "values": found.values,
        "counts": dict(found.counts),
    }


def _revocations(state: AdminState, period: Period) -> list[Json]:
    listing = Listing(state.engine)
    made = listing.decided_between(period.since, period.until, limit=MAXIMUM_ROWS)
    told = []
    for decided in made:
        wanted = Wanted(decision=decided.decision)
        hit = listing.page(wanted, now=decided.at, limit=1)
        timeline = read_timeline(state.engine, hit[0], decided) if hit else None
        told.append(
            {
                **decision_json(decided),
                "first": hit_json(hit[0]) if hit else None,
                "in_force_at": timeline and timeline["in_force_at"],
                "milliseconds_to_effect": timeline and timeline["milliseconds"],
            }
        )
    return told


def _completeness(state: AdminState, period: Period) -> Json:
    """Return the checkpoints around the period, and that the later log begins with the earlier."""
    first, after = (_first_from(state, time) for time in (period.since, period.until))
    before = _at_most(state, first)
    later = checkpoint_from(state.engine, state.signer.origin, after)
    counted = count(state.engine, period.query(), maximum_read=_ALL)
    gaps = count(state.engine, period.query(kind="gap"), maximum_read=_ALL)
    return {
        "first_index": first,
        "end_index": after,
        "entries": counted.count,
        "exact": counted.is_exact,
        "gaps": gaps.count,
        "checkpoint_before": None if before is None else before.note,
        "checkpoint_after": None if later is None else later.note,
        "consistency": _consistency(state, before, later),
    }


def _first_from(state: AdminState, time: datetime) -> int:
    """Return the index of the first entry from `time` on; the log's size if there is none."""
    first = first_of(state, Query(since=time, oldest_first=True))
    return state.log.head().size if first is None else first.index


def _at_most(state: AdminState, size: int) -> Kept | None:
    found = checkpoints(state.engine, state.signer.origin, limit=1, below=size + 1)
    return found[0] if found else None


def _consistency(state: AdminState, before: Kept | None, later: Kept | None) -> list[str] | None:
    if before is None or later is None:
        return None
    proof = state.log.consistency_proof(before.size, later.size)
    return [base64.b64encode(node).decode() for node in proof]
