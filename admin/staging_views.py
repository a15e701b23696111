"""What the API says of staged changes and emergencies, as plain JSON; documented in docs/cli.md."""

from datetime import UTC, datetime
from typing import Any

import orjson

from admin.views import Json, time_text
from authz.policy import PolicySet
from authz.records.operation import Operation
from authz.staging.differences import Difference, Differences
from authz.staging.live import LiveStaging
from authz.staging.standing import (
    Approval,
    Approver,
    Candidate,
    EmergencyBypass,
    break_glass_in_force,
)
from authz.staging.watch import CanaryWatch, pair_json


def candidate_json(live: LiveStaging, candidate: Candidate | None) -> Json | None:
    """Return where a candidate is, or null."""
    if candidate is None:
        return None
    return {
        "number": candidate.number,
        "stage": str(candidate.stage),
        "namespaces": sorted(candidate.namespaces),
        "author": candidate.author,
        "reason": candidate.reason,
        "staged_at": time_text(candidate.staged_at),
        "based_on": candidate.based_on,
        "since": time_text(candidate.since),
        "by": candidate.by,
        "why": candidate.why,
        "version": None if live.candidate is None else live.candidate.version,
        "problems": [str(problem) for problem in live.problems],
        "suspended": live.is_suspended,
        "fell_back": None if candidate.fell_back is None else _fallen(candidate.fell_back),
    }


def _fallen(details: Any) -> Json:
    return {key: details[key] for key in ("was_in", "count", "pairs") if key in details}


def differences_json(found: Differences, lost: int) -> Json:
    """Return what the candidate would have changed since it is on trial."""
    return {
        "newly_denied": found.newly_denied,
        "newly_allowed": found.newly_allowed,
        "operations": found.operations,
        "lost": lost,
        "shown": [_difference_json(each) for each in found.shown],
    }


def _difference_json(difference: Difference) -> Json:
    operation: Operation = difference.operation
    return {
        "change": "newly denied" if difference.is_denial else "newly allowed",
        "source": operation.source,
        "destination": operation.destination,
        "namespace": operation.namespace,
        "labels": orjson.loads(operation.labels),
        "protocol": operation.protocol,
        "port": operation.port,
        "method": operation.method,
        "path": operation.path,
        "host": operation.host,
        "count": difference.count,
        "first": time_text(difference.first),
        "last": time_text(difference.last),
    }


def canary_json(watch: CanaryWatch) -> Json:
    """Return what a canary has denied, and whether anything is heard of it."""
    return {
        "denied_pairs": [pair_json(denial) for denial in watch.pairs.values()],
        "falls_back_at": watch.threshold,
        "within": int(watch.window.total_seconds()),
        "heard_at": time_text(watch.heard_at),
        "blind": watch.is_blind,
    }


def _approver(approver: Approver) -> Json:
    return {
        "actor": approver.actor,
        "at": time_text(approver.at),
        "reason": approver.reason,
    }


def approval_json(approval: Approval, now: datetime) -> Json:
    """Return the approvals of one break-glass policy."""
    return {
        "policy": approval.policy,
        "digest": approval.digest,
        "why": approval.why,
        "needed": approval.needed,
        "approved_by": [_approver(approver) for approver in approval.approvers],
        "expires": time_text(approval.expires),
        "holds": approval.holds(now),
    }


def bypass_json(bypass: EmergencyBypass, now: datetime) -> Json:
    """Return one emergency bypass."""
    return {
        "bypass": bypass.name,
        "state": str(bypass.state(now)),
        "namespace": bypass.namespace,
        "labels": dict(bypass.labels),
        "seconds": int(bypass.lifetime.total_seconds()),
        "requested_by": bypass.requested_by,
        "requested_at": time_text(bypass.requested_at),
        "reason": bypass.reason,
        "approved": None if bypass.approval is None else _approver(bypass.approval),
        "expires": time_text(bypass.expires),
        "ended_at": time_text(bypass.ended_at),
        "ended_by": bypass.ended_by,
    }


def overlay_json(policies: PolicySet) -> Json:
    """Return what lies over the documents in force: what is on trial, and emergencies."""
    overlay = policies.overlay
    return {
        "candidate": None if overlay.candidate is None else overlay.candidate.version,
        "canary": sorted(overlay.canary),
        "break_glass": break_glass_in_force(policies),
        "bypasses": [
            {
                "bypass": bypass.name,
                "namespace": bypass.namespace,
                "labels": dict(sorted(bypass.selector)),
                "expires": time_text(datetime.fromtimestamp(bypass.expires, UTC)),
            }
            for bypass in overlay.bypasses
        ],
    }
