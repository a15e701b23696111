"""The audit entries of federation: who made or ended a relation, which roots a domain has now."""

from datetime import datetime
from hashlib import sha256

from audit.entry import Entry, Json
from ca.federation.document import ForeignBundle
from ca.federation.store import Relation

KIND = "federation_change"


def relation_entry(
    change: str,
    relation: Relation,
    bundle: ForeignBundle | None,
    *,
    now: datetime,
    actor: str,
    reason: str,
) -> Entry:
    """Return the entry of a relation that `actor` added, replaced or removed."""
    details: dict[str, Json] = {
        "change": change,
        "trust_domain": relation.trust_domain,
        "url": relation.url,
        "profile": relation.profile,
        "endpoint_id": relation.endpoint_id,
        **_contents(bundle),
    }
    return Entry(time=now, kind=KIND, outcome="done", actor=actor, reason=reason, details=details)


def bundle_entry(
    relation: Relation, before: ForeignBundle | None, after: ForeignBundle, *, now: datetime
) -> Entry:
    """Return the entry of a bundle that came with other roots than those held."""
    details: dict[str, Json] = {
        "change": "bundle",
        "trust_domain": relation.trust_domain,
        "url": relation.url,
        "before": [*fingerprints(before)],
        **_contents(after),
    }
    return Entry(
        time=now,
        kind=KIND,
        outcome="done",
        actor="meshca",
        reason="the trust domain published another bundle",
        details=details,
    )


def fingerprints(bundle: ForeignBundle | None) -> list[str]:
    """Return the SHA-256 of each root's DER, in hex, sorted."""
    return sorted(sha256(der).hexdigest() for der in bundle.fingerprints) if bundle else []


def _contents(bundle: ForeignBundle | None) -> dict[str, Json]:
    return {
        "sequence": bundle.sequence if bundle else None,
        "roots": [*fingerprints(bundle)],
    }
