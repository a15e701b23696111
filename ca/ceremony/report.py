"""What a ceremony reports: what was made, and what its witnesses look at before they leave.

The report goes to the ceremony's record. It holds no secret.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from ca.ceremony import ca_lint, crl_lint
from ca.ceremony.draft import AnyDraft
from ca.ceremony.linting import Signed
from ca.ceremony.plan import CrlPlan, LoadedPlan, RootPlan
from ca.keys import LeafPublicKey, PrivateKey, check_public_key, public_key_sha256

CONSTRAINTS_WARNING: Final = (
    "name_constraints is on. OpenSSL and Go hold every chain under this root to the trust domain "
    "as the host of its URIs, never to a path. Python's cryptography refuses every chain under it: "
    "so do programs that verify with it, and meshca itself where it verifies peers (the renew "
    "door, and the probe of an intermediate that Vault signed). rustls does not look at it, so "
    "Linkerd and ztunnel are not held to it."
)


@dataclass(frozen=True, slots=True)
class Result:
    """One file: what it is, its SHA-256 (empty in a rehearsal), and what it says."""

    what: str
    path: Path
    sha256: str
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a ceremony says about itself."""

    ceremony: str
    plan: Path
    plan_sha256: str
    held_at: datetime
    is_rehearsal: bool
    results: Sequence[Result]
    warnings: Sequence[str]
    checklist: Sequence[str]


def make_report(
    loaded: LoadedPlan, now: datetime, results: Sequence[Result], *, is_rehearsal: bool
) -> Report:
    """Return the report of a ceremony held at `now`."""
    plan = loaded.plan
    constrained = isinstance(plan, RootPlan) and plan.name_constraints
    return Report(
        ceremony=plan.ceremony,
        plan=loaded.path,
        plan_sha256=loaded.sha256,
        held_at=now,
        is_rehearsal=is_rehearsal,
        results=results,
        warnings=(CONSTRAINTS_WARNING,) if constrained else (),
        checklist=() if is_rehearsal else _checklist(loaded),
    )


def describe_signed(path: Path, made: Signed | None, draft: AnyDraft) -> Result:
    """Return what a certificate or list says; without `made` it is a rehearsal."""
    digest = "" if made is None else _digest(made.public_bytes(Encoding.PEM))
    expected = draft.expected
    if isinstance(expected, ca_lint.Expectation):
        facts = _certificate_facts(expected)
        if isinstance(made, x509.Certificate):
            facts["serial"] = f"{made.serial_number:x}"
            facts["fingerprint_sha256"] = made.fingerprint(hashes.SHA256()).hex(":").upper()
        elif expected.issuer is None:
            del facts["public_key_sha256"]  # of a key that was thrown away
        return Result("certificate", path, digest, facts)
    return Result("revocation list", path, digest, _list_facts(expected))


def describe_key(path: Path, pem: bytes, key: PrivateKey) -> Result:
    """Return what may be said of a private key that was written."""
    public = check_public_key(key.public_key())
    facts = {"key": _kind(public), "form": "PKCS#8, encrypted", "mode": "0600"}
    return Result("private key", path, _digest(pem), facts)


def _certificate_facts(expected: ca_lint.Expectation) -> dict[str, str]:
    issuer = expected.subject if expected.issuer is None else expected.issuer.subject
    return {
        "subject": expected.subject.rfc4514_string(),
        "issuer": issuer.rfc4514_string(),
        "spiffe_id": f"spiffe://{expected.trust_domain}",
        "not_before": expected.not_before.isoformat(),
        "not_after": expected.not_after.isoformat(),
        "path_length": str(expected.path_length),
        "key": _kind(expected.public_key),
        "public_key_sha256": public_key_sha256(expected.public_key),
    }


def _list_facts(expected: crl_lint.Expectation) -> dict[str, str]:
    return {
        "issuer": expected.issuer.subject.rfc4514_string(),
        "number": str(expected.number),
        "this_update": expected.this_update.isoformat(),
        "next_update": expected.next_update.isoformat(),
        "revoked": str(len(expected.revoked)),
        "serials": ", ".join(f"{serial:x}" for serial in sorted(expected.revoked)),
    }


def _kind(public: LeafPublicKey) -> str:
    if isinstance(public, rsa.RSAPublicKey):
        return f"RSA {public.key_size}"
    return f"ECDSA {public.curve.name}"


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def _checklist(loaded: LoadedPlan) -> tuple[str, ...]:
    plan = loaded.plan
    first = (
        "the plan's SHA-256 is that of the file that was reviewed",
        "this machine has been on no network since it was set up for this",
        "held_at is the time on a witness's watch, in UTC: certificates begin then",
    )
    if isinstance(plan, RootPlan):
        return (*first, *_root_checklist(plan))
    if isinstance(plan, CrlPlan):
        return (
            *first,
            "the serials are those that were meant, and no other",
            f"{plan.output} is published before the list it follows ends",
            "the ceremony of the next list is in the calendar, well before next_update",
        )
    return (
        *first,
        "each public_key_sha256 is the one that the request's maker said over another channel",
        f"each chain verifies: openssl verify -CAfile {plan.issuer.certificate} FILE",
        "the next ceremony is in the calendar, at half of the shortest life",
        f"{plan.issuer.key} is locked away again",
    )


def _root_checklist(plan: RootPlan) -> tuple[str, ...]:
    key, certificate = plan.outputs.key, plan.outputs.certificate
    return (
        "every witness has written down fingerprint_sha256, and sees the same from: "
        f"openssl x509 -in {certificate} -noout -fingerprint -sha256",
        f"the key opens with the passphrase, typed again: openssl pkey -in {key} -noout",
        "copies of the key are on two media at least, and each opens",
        "the passphrase is not where the key is, and no single person has both",
        "the key is on no disk of this machine any more",
        f"whoever gets {certificate} compares its fingerprint over another channel",
    )
