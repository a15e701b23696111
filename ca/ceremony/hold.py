"""Holding a ceremony: what happens to one loaded plan, in numbered steps (docs/root-ceremony.md).

 1. What signs is known: the issuer's certificate is read, or the key of a new root is made, in
    memory.
 2. What is to be signed is built from the plan and the files it names.
 3. Each draft is signed by a stand-in of the signing key's kind, and linted.
 4. The issuer's key is opened with its passphrase, and must be that of its certificate.
 5. Each draft is signed; it must be what was linted, to the octet, and is linted again.
 6. What was made is written to new files, all of them or none, and read back.

A rehearsal is steps 1 to 3, with a key that is thrown away: it needs no passphrase and writes
nothing. Nothing here asks, prints or reads the time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from ca.ceremony.certificates import intermediate_drafts, root_draft
from ca.ceremony.draft import AnyDraft, rehearse_all
from ca.ceremony.linting import Signed
from ca.ceremony.plan import IntermediatePlan, LoadedPlan, RootPlan
from ca.ceremony.report import Report, describe_key, describe_signed, make_report
from ca.ceremony.revocation import crl_draft
from ca.keys import (
    LeafPublicKey,
    PrivateKey,
    check_public_key,
    generate_key,
    generate_key_of,
    load_private_key,
    private_key_pem,
)
from ca.new_files import write_new
from ca.upstream.chain import certificate_of, check_root, naming, read_certificates
from meshca.errors import AuthorityUnavailable, InvalidDocument, RequestRefused

LEAST_PASSPHRASE: Final = 12


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What was linted: drafts and their octets; `new_key` for a root, else `issuer`."""

    drafts: Sequence[AnyDraft]
    octets: Sequence[bytes]
    new_key: PrivateKey | None = field(repr=False)
    issuer: x509.Certificate | None


def rehearse(loaded: LoadedPlan, *, now: datetime) -> Report:
    """Return what the ceremony would make; raises InvalidDocument, AuthorityUnavailable."""
    rehearsed = _rehearse(loaded, now)
    results = [describe_signed(draft.output, None, draft) for draft in rehearsed.drafts]
    return make_report(loaded, now, results, is_rehearsal=True)


def hold(loaded: LoadedPlan, *, passphrase: bytes, now: datetime) -> Report:
    """Make and write what the plan says, and return what was made.

    Raises InvalidDocument with every problem of the plan, RequestRefused for a passphrase that is
    too short for a new key, AuthorityUnavailable when the issuer's key does not open or is another
    one's, IssuanceFault when what was signed is not what was linted, Unavailable when a file
    cannot be written. Then nothing is left behind.
    """
    plan = loaded.plan
    if isinstance(plan, RootPlan) and len(passphrase) < LEAST_PASSPHRASE:
        raise RequestRefused(
            "weak_passphrase", f"the passphrase is shorter than {LEAST_PASSPHRASE} characters"
        )
    rehearsed = _rehearse(loaded, now)
    key = rehearsed.new_key or _open_key(loaded, rehearsed.issuer, passphrase)
    pairs = zip(rehearsed.drafts, rehearsed.octets, strict=True)
    signed = [(draft, draft.sign(key, octets)) for draft, octets in pairs]
    files = [(draft.output, _pem(made), 0o644) for draft, made in signed]
    results = [describe_signed(draft.output, made, draft) for draft, made in signed]
    if isinstance(plan, RootPlan):
        pem = private_key_pem(key, passphrase)
        files.insert(0, (plan.outputs.key, pem, 0o600))
        results.append(describe_key(plan.outputs.key, pem, key))
    write_new(files)
    if isinstance(plan, RootPlan):
        load_private_key(plan.outputs.key, passphrase)
    return make_report(loaded, now, results, is_rehearsal=False)


def _rehearse(loaded: LoadedPlan, now: datetime) -> Rehearsed:
    plan = loaded.plan
    if isinstance(plan, RootPlan):
        key = generate_key_of(plan.key_type)
        public = check_public_key(key.public_key())
        drafts: Sequence[AnyDraft] = [root_draft(loaded, plan, public, now)]
        return Rehearsed(drafts, rehearse_all(loaded, drafts, _stand_in(public)), key, None)
    issuer = _issuer(loaded, now)
    if isinstance(plan, IntermediatePlan):
        drafts = intermediate_drafts(loaded, plan, issuer, now)
    else:
        drafts = [crl_draft(loaded, plan, issuer, now)]
    octets = rehearse_all(loaded, drafts, _stand_in(check_public_key(issuer.public_key())))
    return Rehearsed(drafts, octets, None, issuer)


def _issuer(loaded: LoadedPlan, now: datetime) -> x509.Certificate:
    """Return the certificate that signs, if it is one, of a CA, and valid now."""
    plan = loaded.plan
    assert not isinstance(plan, RootPlan)  # noqa: S101  # a root has no issuer
    certificates = read_certificates(plan.issuer.certificate)
    issuer, key = certificates[0], ("issuer", "certificate")
    if len(certificates) > 1:
        raise InvalidDocument([loaded.problem(key, "holds several certificates; which one signs?")])
    begin, end = issuer.not_valid_before_utc, issuer.not_valid_after_utc
    if not begin <= now <= end:
        message = f"valid from {begin.isoformat()} to {end.isoformat()}; it is {now.isoformat()}"
        raise InvalidDocument([loaded.problem(key, message)])
    if isinstance(plan, IntermediatePlan):
        with naming(plan.issuer.certificate):
            check_root(issuer, plan.trust_domain)
    return issuer


def _open_key(loaded: LoadedPlan, issuer: x509.Certificate | None, passphrase: bytes) -> PrivateKey:
    plan = loaded.plan
    assert not isinstance(plan, RootPlan)  # noqa: S101  # a root's key is made
    assert issuer is not None  # noqa: S101  # what is not a root has an issuer
    key = load_private_key(plan.issuer.key, passphrase)
    if certificate_of(key, [issuer]) is None:
        raise AuthorityUnavailable(
            f"the key in {plan.issuer.key} is not that of {plan.issuer.certificate}"
        )
    return key


def _stand_in(public: LeafPublicKey) -> PrivateKey:
    """Return a throw-away key whose signatures have the algorithm of `public`'s."""
    if isinstance(public, rsa.RSAPublicKey):
        return generate_key_of("rsa2048")
    is_p256 = isinstance(public.curve, ec.SECP256R1)
    return generate_key() if is_p256 else generate_key_of("p384")


def _pem(made: Signed) -> bytes:
    return made.public_bytes(Encoding.PEM)
