"""The report of a period, for an audit: what was issued, refused, revoked and changed, and proof.

One JSON document; the HTML (report_page.py) shows the same. A signed note names the hash of each,
so that both can be checked with the log's public key alone. The proof of completeness is the two
checkpoints around the period and that the later log begins with the earlier one: who keeps an
earlier report, or an anchored checkpoint, can see that nothing before it was changed.

What it says of the log it reads from the log (log_of_period.py), never from an index that finds
entries: whoever can write the database could have made that one leave some out.

Lists are bounded; of what does not fit the number is there, and the entries are in the log.
"""

import base64
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from admin.questions.log_of_period import LogOfPeriod
from admin.revocation_timeline import read_timeline
from admin.revocation_views import decision_json, hit_json
from admin.state import AdminState
from admin.views import Json, time_text
from audit.checkpoints import Kept, checkpoint_from, checkpoints
from audit.stretch import stretch_of
from authz.history import changes_between
from ca.holdings import Holdings
from ca.revocation.listing import Listing, Wanted
from meshca.errors import Conflict, EvidenceBroken, RequestRefused
from rotation.standings import Standings

SCHEMA: Final = 1
MAXIMUM_ROWS: Final = 1_000

_LISTS: Final = {
    "policy_changes": ("policy_change", "policy_stage", "break_glass"),
    "authority_changes": ("authority_change", "root_change", "log_key"),
    "exceptions": (
        "break_glass",
        "ban",
        "gap",
        "redaction",
        "legal_hold",
        "restore",
        "federation_change",
    ),
}


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


def report_json(state: AdminState, holdings: Holdings, period: Period, *, actor: str) -> Json:
    """Return the report. Reads the database, at length.

    Raises StoreUnavailable, and Conflict for a log that is not what was signed.
    """
    stretch = stretch_of(state.engine, period.since, period.until)
    later = checkpoint_from(state.engine, state.signer.origin, stretch.stop)
    log = LogOfPeriod(since=period.since, until=period.until, lists=_LISTS, limit=MAXIMUM_ROWS)
    try:
        log.read(state.log, stretch, None if later is None else later.parsed()[0])
    except EvidenceBroken as error:
        raise Conflict(f"no report is made of a log that is broken: {error}") from error
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
        "summary": log.kinds.as_json(),
        "outcomes": log.outcomes.as_json(),
        "inventory_at_end": {
            "valid": valid.certificates,
            "revoked": valid.revoked,
            "identities": valid.identities,
            "by_identity": dict(valid.by_identity),
        },
        "issuance_by_identity": log.issued_to.as_json(),
        "refusals_by_reason": log.refused_for.as_json(),
        "revocations": _revocations(state, period),
        "policy_sets": [
            {"version": kept.version, "since": time_text(kept.since)}
            for kept in changes_between(state.engine, period.since, period.until)[:MAXIMUM_ROWS]
        ],
        **{name: list(newest) for name, newest in log.kept.items()},
        "completeness": _completeness(state, stretch, later, log),
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


def _completeness(state: AdminState, stretch: range, later: Kept | None, log: LogOfPeriod) -> Json:
    """Return the checkpoints around the period, and that the later log begins with the earlier."""
    before = _at_most(state, stretch.start)
    return {
        "first_index": stretch.start,
        "end_index": stretch.stop,
        "entries": log.entries,
        "exact": True,
        "redacted": log.redacted,
        "gaps": log.kinds.values["gap"],
        "checkpoint_before": None if before is None else before.note,
        "checkpoint_after": None if later is None else later.note,
        "consistency": _consistency(state, before, later),
    }


def _at_most(state: AdminState, size: int) -> Kept | None:
    found = checkpoints(state.engine, state.signer.origin, limit=1, below=size + 1)
    return found[0] if found else None


def _consistency(state: AdminState, before: Kept | None, later: Kept | None) -> list[str] | None:
    if before is None or later is None:
        return None
    proof = state.log.consistency_proof(before.size, later.size)
    return [base64.b64encode(node).decode() for node in proof]
