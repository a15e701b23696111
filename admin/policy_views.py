"""What the routes of policy answer with, as plain JSON, documented in docs/cli.md. Pure."""

from collections.abc import Iterable

from admin.staging_views import overlay_json
from admin.views import Json, time_text
from authz.peer_authentication import PeerAuthentication
from authz.policy import Policy, PolicySet
from authz.request_authentication import RequestAuthentication
from authz.sources import PreparedChange
from authz.status import SourceStatus
from authz.store import AppliedSet, Version


def policy_set_json(policies: PolicySet) -> Json:
    """Return the set in force, without its documents."""
    return {
        "version": policies.version,
        "default": policies.default,
        "root_namespace": policies.root_namespace,
        "policies": [_policy_json(policy) for policy in policies.policies],
        "peer_authentications": [
            {**_place(each), "mode": str(each.mode)} for each in policies.peer_authentications
        ],
        "request_authentications": [_place(each) for each in policies.request_authentications],
        "warnings": [str(problem) for problem in policies.warnings],
        "overlay": overlay_json(policies),
    }


def _policy_json(policy: Policy) -> Json:
    return {
        "namespace": policy.namespace,
        "name": policy.name,
        "action": str(policy.action),
        "stage": str(policy.stage),
        "selector": dict(sorted(policy.selector)),
        "rules": len(policy.rules),
        "source": policy.source,
        "line": policy.line,
    }


def _place(document: PeerAuthentication | RequestAuthentication) -> Json:
    return {
        "namespace": document.namespace,
        "name": document.name,
        "selector": dict(sorted(document.selector)),
        "source": document.source,
        "line": document.line,
    }


def source_json(status: SourceStatus) -> Json:
    """Return how a source stands."""
    return {
        "name": status.name,
        "kind": status.kind,
        "objects": status.objects,
        "stale_since": time_text(status.stale_since),
        "problems": list(status.problems),
    }


def sources_json(statuses: Iterable[SourceStatus]) -> list[Json]:
    """Return how each source stands."""
    return [source_json(status) for status in statuses]


def applied_json(applied: AppliedSet) -> Json:
    """Return an applied set, with its documents."""
    return {
        "version": applied.version,
        "time": time_text(applied.time),
        "author": applied.author,
        "reason": applied.reason,
        "documents": applied.documents,
    }


def version_json(version: Version) -> Json:
    """Return an applied set of the past, without its documents."""
    return {
        "version": version.version,
        "time": time_text(version.time),
        "author": version.author,
        "reason": version.reason,
        "characters": version.characters,
    }


def change_json(prepared: PreparedChange, *, is_recorded: bool) -> Json:
    """Return what a change of the applied set did, or (not recorded) would do."""
    change = prepared.change
    return {
        "applied_version": prepared.applied.version,
        "recorded": is_recorded,
        "version": change.after,
        "added": list(change.added),
        "removed": list(change.removed),
        "changed": list(change.changed),
        "diff": prepared.diff,
        "warnings": [str(problem) for problem in prepared.policies.warnings],
    }
