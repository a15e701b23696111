"""A caller that proves itself with an SVID it already holds: the peer certificate of mutual TLS.

TLS has shown that the peer has the leaf's private key; here the chain is verified to our roots
and the leaf is held to the X509-SVID rules (X509-SVID.md 5). Revocation is not looked at here:
whoever renews asks the inventory by `token_id`, `serial:` and the serial in hex.

| reason | the certificate |
|---|---|
| no_certificate | is missing |
| untrusted | does not chain to our roots now, has expired, or may not authenticate clients |
| not_an_svid | breaks a rule of X509-SVID leaves, or its one URI is not a SPIFFE ID |
| foreign_trust_domain | is an SVID of another trust domain |
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from identity.caller import Caller, Evidence
from meshca.errors import KeysUnavailable, ProofRefused
from meshca.logs import clip
from meshca.spiffe_id import SpiffeId

METHOD: Final = "svid"
_MAXIMUM_INTERMEDIATES: Final = 4


def verify_peer(
    chain: Sequence[x509.Certificate],
    *,
    roots: Sequence[x509.Certificate],
    trust_domain: str,
    now: datetime,
) -> Caller:
    """Return the caller whose leaf is `chain[0]`; the rest are intermediates, in any order.

    Raises ProofRefused, or KeysUnavailable when there is no root to verify against.
    """
    if not chain:
        raise ProofRefused("no_certificate", "the peer showed no certificate")
    if not roots:
        raise KeysUnavailable("no roots to verify peers against")
    leaf = chain[0]
    try:
        _verify_chain(chain, roots, now)
        spiffe_id = read_spiffe_id(leaf)
        if spiffe_id.trust_domain != trust_domain:
            raise ProofRefused("foreign_trust_domain", "the SVID is of another trust domain")
    except ProofRefused as refusal:
        refusal.claimed.update(_claimed(leaf))
        raise
    evidence = Evidence(method=METHOD, token_id=f"serial:{leaf.serial_number:x}")
    return Caller(spiffe_id, evidence, leaf.not_valid_after_utc)


def read_spiffe_id(leaf: x509.Certificate) -> SpiffeId:
    """Return the SPIFFE ID of a leaf whose chain has been verified.

    Raises ProofRefused `not_an_svid`: X509-SVID.md 2 (one URI), 4.1, 4.3 and 5.2.
    """
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError) as error:
        raise ProofRefused("not_an_svid", "the leaf lacks a URI name or key usage") from error
    if not usage.digital_signature or usage.key_cert_sign or usage.crl_sign:
        raise ProofRefused("not_an_svid", "the leaf's key usage is not that of an SVID")
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise ProofRefused("not_an_svid", f"the leaf has {len(uris)} URI names, not one")
    try:
        spiffe_id = SpiffeId.parse(uris[0])
    except ValueError as error:
        raise ProofRefused("not_an_svid", f"not a SPIFFE ID: {error}") from error
    if not spiffe_id.is_leaf:
        raise ProofRefused("not_an_svid", "the SPIFFE ID has no path: it is an authority's")
    return spiffe_id


def _verify_chain(
    chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], now: datetime
) -> None:
    """Verify path, times, signatures, CA flags and purpose (RFC 5280 6; X509-SVID.md 5.1)."""
    verifier = (
        PolicyBuilder()
        .store(Store(list(roots)))
        .time(now.astimezone(UTC).replace(tzinfo=None))
        .max_chain_depth(_MAXIMUM_INTERMEDIATES)
        .extension_policies(
            ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=_leaf_policy()
        )
        .build_client_verifier()
    )
    try:
        verifier.verify(chain[0], list(chain[1:]))
    except (VerificationError, ValueError, x509.DuplicateExtension) as error:
        raise ProofRefused("untrusted", f"the chain does not verify: {error}") from error


def _leaf_policy() -> ExtensionPolicy:
    """Return what webpki asks of a client's leaf, and that it is no CA and names its purpose."""
    policy = ExtensionPolicy.webpki_defaults_ee()
    policy = policy.require_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _for_clients)
    policy = policy.require_present(x509.KeyUsage, Criticality.AGNOSTIC, None)
    return policy.may_be_present(x509.BasicConstraints, Criticality.AGNOSTIC, _not_a_ca)


def _for_clients(policy: Policy, leaf: x509.Certificate, usage: x509.ExtendedKeyUsage) -> None:
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        raise ValueError("the leaf may not authenticate clients")


def _not_a_ca(
    policy: Policy, leaf: x509.Certificate, constraints: x509.BasicConstraints | None
) -> None:
    if constraints is not None and constraints.ca:
        raise ValueError("the leaf is a CA")


def _claimed(leaf: x509.Certificate) -> dict[str, str]:
    claimed = {"serial": f"{leaf.serial_number:x}"}
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return claimed
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return claimed | {"uri": clip(" ".join(uris), 256)}
