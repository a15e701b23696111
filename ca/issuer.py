"""Preparing and signing: `prepare` yields the only thing that `sign` accepts, and lints it first.

Nothing here touches a store, a clock or a socket.
"""

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from ssl import DER_cert_to_PEM_cert

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from ca import der, lint, tbs
from ca.authority import Authority
from ca.keys import PrivateKeySigner, subject_key_id
from ca.profile import Profile
from ca.request import IssuanceRequest
from ca.store import Intent
from identity.caller import Caller
from meshca.errors import AuthorityUnavailable, IssuanceFault, MeshcaError, RequestRefused

SERIAL_BITS = 128
_NO_SIGNATURE = bytes(64)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A linted TBSCertificate and the authority that may sign it; only `prepare` makes one."""

    tbs: bytes = field(repr=False)
    authority: Authority = field(repr=False)
    intent: Intent
    issued_at: datetime


@dataclass(frozen=True, slots=True)
class Svid:
    """An issued X.509-SVID: leaf DER and the PEM chain, leaf first, ending below the root.

    After the chain, `chain_pem` has the authority's bridges: certificates that verify nothing for
    those who have the root, and everything for those who only have the one before it.
    `issued_at` is when it was made: `not_before` lies earlier by the profile's backdating.
    """

    serial: str
    spiffe_id: str
    authority_id: str
    issued_at: datetime
    not_before: datetime
    not_after: datetime
    der: bytes = field(repr=False)
    chain: tuple[x509.Certificate, ...] = field(repr=False)
    chain_pem: tuple[bytes, ...] = field(repr=False)


def prepare(
    caller: Caller,
    request: IssuanceRequest,
    *,
    authority: Authority,
    profile: Profile,
    now: datetime,
    dns_names: tuple[str, ...] = (),
) -> Prepared:
    """Return the certificate to be, linted before any key of ours is touched.

    Raises RequestRefused for a lifetime that is not given to anyone, AuthorityUnavailable when the
    chain ends before the certificate could begin, IssuanceFault when lint finds a broken rule.
    """
    not_before, not_after = _validity(request, authority, profile, now)
    fields = _fields(caller, request, authority, profile, (not_before, not_after), dns_names)
    encoded = tbs.encode(fields)
    lint.check(
        tbs.assemble(encoded, authority.signature_algorithm, _NO_SIGNATURE),
        lint.Expectation(
            caller.spiffe_id,
            dns_names,
            request.public_key,
            fields.subject_key_id,
            authority,
            profile,
        ),
    )
    intent = Intent(
        serial=f"{fields.serial:x}",
        spiffe_id=fields.uri,
        authority_id=authority.authority_id,
        key_sha256=sha256(request.public_key).hexdigest(),
        not_before=not_before,
        not_after=not_after,
        evidence=caller.evidence,
    )
    return Prepared(encoded, authority, intent, now)


def signs_at_once(prepared: Prepared) -> bool:
    """Return whether the key is in this process's memory; any other signer may block."""
    return isinstance(prepared.authority.signer, PrivateKeySigner)


def sign(prepared: Prepared) -> bytes:
    """Return the DER certificate: the one place where an authority's key signs a leaf.

    Raises IssuanceFault when the signer fails, unless it says why with an error of its own.
    """
    authority = prepared.authority
    try:
        signature = authority.signer.sign(prepared.tbs)
    except MeshcaError:
        raise
    except Exception as error:  # a signer is anybody's code, and its failure is recorded
        raise IssuanceFault(
            f"serial {prepared.intent.serial}: the authority's key did not sign ({error!r})"
        ) from error
    return tbs.assemble(prepared.tbs, authority.signature_algorithm, signature)


def compare(prepared: Prepared, signed: bytes) -> x509.Certificate:
    """Return `signed` parsed; raise IssuanceFault unless it is what was linted, to the byte.

    The signature of a signer outside of this process is verified too, since its key may have
    changed behind our back. The key of a PrivateKeySigner cannot: it was compared with the
    authority's certificate when that was loaded, and readiness verifies a signature of it.
    """
    certificate = _parse(signed)
    if der.items(signed)[0] != prepared.tbs:
        raise IssuanceFault(f"serial {prepared.intent.serial}: signed bytes are not those linted")
    if not signs_at_once(prepared):
        _verify_signature(certificate, prepared)
    return certificate


def _verify_signature(certificate: x509.Certificate, prepared: Prepared) -> None:
    try:
        certificate.verify_directly_issued_by(prepared.authority.certificate)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise IssuanceFault(
            f"serial {prepared.intent.serial}: the signature does not verify"
        ) from error


def finish(prepared: Prepared, certificate: x509.Certificate, signed: bytes) -> Svid:
    """Return the SVID of a certificate that `compare` accepted, with its chain."""
    intent, authority = prepared.intent, prepared.authority
    return Svid(
        serial=intent.serial,
        spiffe_id=intent.spiffe_id,
        authority_id=intent.authority_id,
        issued_at=prepared.issued_at,
        not_before=intent.not_before,
        not_after=intent.not_after,
        der=signed,
        chain=(certificate, *authority.chain),
        chain_pem=(
            DER_cert_to_PEM_cert(signed).encode(),
            *authority.chain_pem,
            *authority.bridges_pem,
        ),
    )


def _parse(encoded: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(encoded)
    except ValueError as error:
        raise IssuanceFault("the certificate to be does not parse") from error


def _validity(
    request: IssuanceRequest, authority: Authority, profile: Profile, now: datetime
) -> tuple[datetime, datetime]:
    """Return whole seconds: backdated, but not before the chain; ending no later than the chain."""
    lifetime = request.lifetime or profile.lifetime
    if not timedelta(0) < lifetime <= profile.maximum_lifetime:
        raise RequestRefused(
            "lifetime", f"a lifetime of {lifetime} was asked; at most {profile.maximum_lifetime}"
        )
    now = now.replace(microsecond=0)
    not_after = min(now + lifetime, authority.not_after)
    if not_after <= now:
        raise AuthorityUnavailable(f"authority {authority.authority_id} has expired")
    return max(now - profile.backdate, authority.not_before), not_after


def _fields(
    caller: Caller,
    request: IssuanceRequest,
    authority: Authority,
    profile: Profile,
    validity: tuple[datetime, datetime],
    dns_names: tuple[str, ...],
) -> tbs.LeafFields:
    urls = profile.urls_of(authority.authority_id)
    return tbs.LeafFields(
        serial=secrets.randbits(SERIAL_BITS),
        signature_algorithm=authority.signature_algorithm,
        issuer=authority.subject_der,
        not_before=validity[0],
        not_after=validity[1],
        public_key=request.public_key,
        is_ec=request.is_ec,
        subject_key_id=subject_key_id(request.public_key),
        authority_key_id=authority.subject_key_id,
        uri=str(caller.spiffe_id),
        dns_names=dns_names,
        crl_url=urls.crl,
        ocsp_url=urls.ocsp,
        issuer_url=urls.issuer,
    )
