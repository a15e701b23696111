"""The answers of the analyses as plain values, as JSON shows them; see docs/cli.md."""

from datetime import UTC, datetime
from typing import Any

from authz.analysis.difference import Change, Difference
from authz.analysis.reach import Hop, Reach
from authz.analysis.witness import Witness
from authz.decision import Decision
from authz.workload import Workload

Json = dict[str, Any]


def difference_json(found: Difference, *, before: str, after: str) -> Json:
    """Return a difference; `before` and `after` are the versions of the sets."""
    return {
        "before": before,
        "after": after,
        "equal": found.is_equal,
        "statement": found.statement,
        "changes": [_change_json(change) for change in found.changes],
        "notes": found.notes,
        "beyond": found.beyond,
        "defects": found.defects,
    }


def access_json(found: Difference, *, version: str) -> Json:
    """Return what is allowed, as `who_can` and `what_can` found it."""
    return {
        "version": version,
        "statement": _access_statement(found),
        "allowed": [
            {
                "destinations": list(change.destinations),
                "region": dict(change.region),
                **_witness_json(change.witness),
                **_decision_json(change.after),
            }
            for change in found.changes
        ],
        "beyond": found.beyond,
        "defects": found.defects,
    }


def reach_json(found: Reach, *, version: str) -> Json:
    """Return the paths found."""
    return {
        "version": version,
        "paths": [[_hop_json(hop) for hop in path] for path in found.paths],
        "beyond": found.beyond,
        "defects": found.defects,
    }


def _access_statement(found: Difference) -> str:
    if found.defects:
        return found.statement
    return "nothing else is allowed" + (
        ", except perhaps in what is beyond the analysis" if found.beyond else ""
    )


def _change_json(change: Change) -> Json:
    return {
        "change": "newly allowed" if change.allowed else "newly denied",
        "destinations": list(change.destinations),
        "region": dict(change.region),
        **_witness_json(change.witness),
        "before": _decision_json(change.before),
        "after": _decision_json(change.after),
    }


def _witness_json(witness: Witness) -> Json:
    time = witness.request.time
    said = None if time is None else datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds")
    return {"witness": witness.as_json(), "answers": dict(witness.answers), "time": said}


def _decision_json(decision: Decision) -> Json:
    return {
        "verdict": "allow" if decision.allowed else "deny",
        "policy": None if decision.rule is None else decision.rule.policy,
        "rule": None if decision.rule is None else decision.rule.index,
        "reason": decision.reason,
    }


def _hop_json(hop: Hop) -> Json:
    return {
        "source": str(hop.source),
        "destination": _workload_json(hop.destination),
        "allowed_by": hop.rule or "the default",
        **_witness_json(hop.witness),
    }


def _workload_json(workload: Workload) -> Json:
    return {"namespace": workload.namespace, "labels": dict(sorted(workload.labels))}
