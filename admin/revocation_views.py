"""Revocations, bans and revocation lists as plain JSON, documented in docs/cli.md.  Pure."""

from datetime import datetime

from admin.views import Json, time_text
from ca.revocation.store import Ban, Decision, Revocation
from ca.revocation.view import Crl


def hit_json(hit: Revocation) -> Json:
    """Return a certificate that is, or would be, revoked."""
    return {
        "serial": hit.serial,
        "spiffe_id": hit.spiffe_id,
        "authority_id": hit.authority_id,
        "fingerprint": hit.fingerprint,
        "not_after": time_text(hit.not_after),
    }


def revocation_json(revocation: Revocation) -> Json:
    """Return what is known of a revoked certificate."""
    return {
        **hit_json(revocation),
        "reason": revocation.reason.name,
        "revoked_at": time_text(revocation.revoked_at),
        "released_at": time_text(revocation.released_at),
        "decision": revocation.decision,
    }


def revoked_json(revocation: Revocation | None) -> Json | None:
    """Return how a listed certificate is revoked; None when it is not."""
    if revocation is None:
        return None
    return {
        "at": time_text(revocation.revoked_at),
        "reason": revocation.reason.name,
        "decision": revocation.decision,
    }


def decision_json(decision: Decision) -> Json:
    """Return who decided what, and why; `open`: not all of it is done yet."""
    return {
        "decision": decision.decision,
        "at": time_text(decision.at),
        "actor": decision.actor,
        "why": decision.why,
        "reason": decision.reason.name,
        "selector": decision.selector.given(),
        "count": decision.count,
        "open": decision.is_open,
    }


def ban_json(ban: Ban, now: datetime) -> Json:
    """Return a ban, and whether it holds at `now`."""
    return {
        "ban": ban.ban,
        "selector": ban.selector.given(),
        "why": ban.why,
        "actor": ban.actor,
        "since": time_text(ban.since),
        "until": time_text(ban.until),
        "lifted_at": time_text(ban.lifted_at),
        "holds": ban.holds(now),
    }


def crl_json(crl: Crl, entries: int) -> Json:
    """Return a revocation list, without the list itself."""
    return {
        "authority_id": crl.authority_id,
        "number": crl.number,
        "entries": entries,
        "bytes": len(crl.der),
        "this_update": time_text(crl.this_update),
        "next_update": time_text(crl.next_update),
        "signed_at": time_text(crl.signed_at),
    }
