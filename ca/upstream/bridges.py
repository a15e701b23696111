"""Bridges: a root that another root has cross-signed, for whoever knows only that other one.

During a change of root the chain leaf, intermediate, bridge ends at either root. Nobody here makes
one, but for development roots: whoever holds the roots does, and an upstream shows it.

A bridge has the subject, the key and the key identifier of one trusted root, and another trusted
root signed it. It must be a CA for our trust domain alone, leave room for an intermediate, be
within its issuer's path length and life, and carry nothing that a verifier could trip over. What is
not so is left out, and said once. A bridge is never trusted by itself: it only stands in chains.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID

from ca.upstream.chain import (
    check_root,
    check_validity,
    describe,
    is_issued_by,
    is_self_signed,
    spki,
)
from meshca.errors import AuthorityUnavailable
from meshca.logs import get_logger

# What verifiers know and what narrows nothing: no name constraints, purposes or policies.
_EXTENSIONS: Final = {
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
    ExtensionOID.CRL_DISTRIBUTION_POINTS,
    ExtensionOID.FRESHEST_CRL,
}
_CAS_BELOW_BRIDGE: Final = 1  # our intermediate
CAS_BELOW_ISSUER: Final = 2  # the bridge, and our intermediate

log = get_logger("ca")


@dataclass(slots=True)
class Bridges:
    """The bridges that were last seen."""

    seen: tuple[x509.Certificate, ...] = ()
    _refused: frozenset[bytes] = field(default_factory=frozenset)

    def look(
        self,
        candidates: Iterable[x509.Certificate],
        roots: Sequence[x509.Certificate],
        *,
        trust_domain: str,
        now: datetime,
    ) -> None:
        """Remember which of `candidates` are bridges between `roots`, the trusted ones."""
        seen, refused = [], set()
        for certificate in dict.fromkeys(candidates):
            if is_self_signed(certificate) or not _crosses(certificate, roots):
                continue
            try:
                check_bridge(certificate, roots, trust_domain=trust_domain, now=now)
                seen.append(certificate)
            except AuthorityUnavailable as error:
                fingerprint = certificate.fingerprint(hashes.SHA256())
                refused.add(fingerprint)
                if fingerprint not in self._refused:
                    log.warning("bridge_left_out", sha256=fingerprint.hex(), error=str(error))
        self.seen, self._refused = tuple(sorted(seen, key=_order)), frozenset(refused)

    def valid(self, now: datetime) -> tuple[x509.Certificate, ...]:
        """Return those that have not ended."""
        return tuple(bridge for bridge in self.seen if now < bridge.not_valid_after_utc)


def check_bridge(
    bridge: x509.Certificate,
    roots: Sequence[x509.Certificate],
    *,
    trust_domain: str,
    now: datetime,
) -> None:
    """Raise AuthorityUnavailable, saying why, unless `bridge` stands for one root under another."""
    root = _crossed(bridge, roots)
    issuer = _issuer(bridge, [r for r in roots if r != root])
    for certificate in (bridge, issuer):
        check_root(certificate, trust_domain)
        check_validity(certificate, now)
    _check_extensions(bridge)
    _check_key_identifier(bridge, root)
    _check_room(bridge, _CAS_BELOW_BRIDGE)
    _check_room(issuer, CAS_BELOW_ISSUER)
    if bridge.not_valid_after_utc > issuer.not_valid_after_utc:
        raise AuthorityUnavailable(f"{describe(bridge)} ends after {describe(issuer)}, its issuer")


def _crosses(certificate: x509.Certificate, roots: Sequence[x509.Certificate]) -> bool:
    """Return whether `certificate` speaks as a root: it has the name or the key of one."""
    return any(_same_name(certificate, r) or _same_key(certificate, r) for r in roots)


def _crossed(bridge: x509.Certificate, roots: Sequence[x509.Certificate]) -> x509.Certificate:
    for root in roots:
        if _same_name(bridge, root) and _same_key(bridge, root):
            return root
    if any(_same_name(bridge, root) for root in roots):
        raise AuthorityUnavailable(f"{describe(bridge)} has the name of a root and another key")
    raise AuthorityUnavailable(f"{describe(bridge)} has the key of a root and another name")


def _issuer(bridge: x509.Certificate, others: Sequence[x509.Certificate]) -> x509.Certificate:
    issuers = [root for root in others if is_issued_by(bridge, root)]
    if not issuers:
        raise AuthorityUnavailable(f"{describe(bridge)} is not signed by another trusted root")
    return max(issuers, key=lambda root: root.not_valid_after_utc)


def _check_extensions(bridge: x509.Certificate) -> None:
    for extension in bridge.extensions:
        if extension.oid not in _EXTENSIONS:
            raise AuthorityUnavailable(
                f"{describe(bridge)} carries an extension that a bridge may not have: "
                f"{extension.oid.dotted_string}"
            )


def _check_key_identifier(bridge: x509.Certificate, root: x509.Certificate) -> None:
    """Verifiers look for the issuer of an intermediate by this (RFC 5280 4.2.1.1)."""
    kind = x509.SubjectKeyIdentifier
    found = bridge.extensions.get_extension_for_class(kind).value
    if found != root.extensions.get_extension_for_class(kind).value:
        raise AuthorityUnavailable(f"{describe(bridge)} has another key identifier than its root")


def _check_room(certificate: x509.Certificate, least: int) -> None:
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    if constraints.path_length is not None and constraints.path_length < least:
        raise AuthorityUnavailable(
            f"{describe(certificate)} has path length {constraints.path_length}, "
            f"which must be {least} at least"
        )


def _same_name(one: x509.Certificate, other: x509.Certificate) -> bool:
    return one.subject.public_bytes() == other.subject.public_bytes()


def _same_key(one: x509.Certificate, other: x509.Certificate) -> bool:
    try:
        return spki(one) == spki(other)
    except AuthorityUnavailable:
        return False


def _order(bridge: x509.Certificate) -> tuple[datetime, bytes]:
    return bridge.not_valid_before_utc, bridge.public_bytes(Encoding.DER)
