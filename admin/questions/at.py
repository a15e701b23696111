"""How things stood at a time: who had valid certificates, which policies held, who could call whom.

The set of policies is loaded again from the texts that were in force, by today's program. What was
laid over it (staged sets, approvals, bypasses) is told as the steps that were on record by then.
"""

from datetime import datetime, timedelta

from admin.questions.entries import first_of, of_kinds
from admin.state import AdminState
from admin.views import Json, time_text
from audit.query import Query
from authz.analysis.access import who_can
from authz.analysis.report import access_json
from authz.history import InForce, in_force_at, load_again
from authz.workload import Workload
from ca.holdings import Holdings
from meshca.errors import InvalidDocument
from rotation.standings import Row, Standings

STEPS: int = 20
_INSTANT = timedelta(microseconds=1)
_LAID_OVER: tuple[str, ...] = ("policy_stage", "break_glass")


def at_json(
    state: AdminState, holdings: Holdings, time: datetime, destination: Workload | None
) -> Json:
    """Return how things stood at `time`; raises StoreUnavailable. Reads, loads and analyses."""
    rows = [row for row in Standings(state.engine).of() if _covers(row, time)]
    valid = holdings.valid_at(time, [row.standing.authority_id for row in rows])
    kept = in_force_at(state.engine, time)
    return {
        "time": time_text(time),
        "log_size": _log_size(state, time),
        "certificates": {
            "valid": valid.certificates,
            "revoked": valid.revoked,
            "identities": valid.identities,
            "by_identity": [{"spiffe_id": name, "valid": n} for name, n in valid.by_identity],
        },
        "authorities": [_authority_json(row) for row in rows],
        "policies": None if kept is None else _policies_json(kept),
        "laid_over": of_kinds(state, _LAID_OVER, until=time + _INSTANT, limit=STEPS),
        "who_can": _who_can(kept, destination, time),
    }


def _covers(row: Row, time: datetime) -> bool:
    return row.standing.not_before <= time < row.standing.not_after


def _authority_json(row: Row) -> Json:
    return {
        "authority_id": row.standing.authority_id,
        "replica": row.standing.replica,
        "not_before": time_text(row.standing.not_before),
        "not_after": time_text(row.standing.not_after),
        "root_sha256": row.root_sha256,
        "stage_now": row.standing.stage.value,
    }


def _policies_json(kept: InForce) -> Json:
    return {
        "version": kept.version,
        "since": time_text(kept.since),
        "default": kept.options["default"],
        "sources": [name for name, _ in kept.texts],
    }


def _who_can(kept: InForce | None, destination: Workload | None, time: datetime) -> Json | None:
    if kept is None or destination is None:
        return None
    try:
        policies = load_again(kept)
    except InvalidDocument as error:
        problems = [str(problem) for problem in error.problems]
        return {"version": kept.version, "problem": "does not load any more", "problems": problems}
    found = who_can(policies, destination, now=time.timestamp())
    return access_json(found, version=policies.version)


def _log_size(state: AdminState, time: datetime) -> int:
    """Return how many entries the log had at `time`, by the clock of whoever wrote them."""
    newest = first_of(state, Query(until=time + _INSTANT))
    return 0 if newest is None else newest.index + 1
