"""A credential: an SVID with the private key made for it, checked before any proxy sees it.

One broken secret makes Envoy refuse its siblings too, and revocation then fails open (invariant
4); so what is handed on has been read back as Envoy would read it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ca.issuer import Svid
from ca.keys import check_public_key, public_key_der
from meshca.errors import IssuanceFault
from rotation.schedule import renewal_instant


@dataclass(frozen=True, slots=True)
class Credential:
    """What one workload instance proves itself with; the key is in memory only, never shown.

    `version` is a function of the chain, and so of the key, which is the leaf's.
    """

    svid: Svid
    private_key_pem: bytes = field(repr=False)
    renew_at: datetime
    version: str


def make_credential(
    svid: Svid, private_key_pem: bytes, roots: Sequence[x509.Certificate]
) -> Credential:
    """Return the credential if key, leaf and chain fit together up to one of `roots`.

    Raises IssuanceFault, naming what does not fit.
    """
    key = check_public_key(load_pem_private_key(private_key_pem, None).public_key())
    leaf = svid.chain[0]
    if public_key_der(key) != public_key_der(check_public_key(leaf.public_key())):
        raise IssuanceFault(f"serial {svid.serial}: the key is not the certificate's")
    _check_chain(svid, roots)
    instant = renewal_instant(svid.serial, issued_at=svid.issued_at, not_after=svid.not_after)
    version = sha256(b"".join(svid.chain_pem)).hexdigest()[:32]
    return Credential(svid, private_key_pem, instant, version)


def _check_chain(svid: Svid, roots: Sequence[x509.Certificate]) -> None:
    """Verify the leaf's signature; what stands above it was verified when it was activated."""
    leaf, issuer = svid.chain[0], svid.chain[1]
    try:
        leaf.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise IssuanceFault(f"serial {svid.serial}: its signature does not verify") from error
    if not any(svid.chain[-1].issuer == root.subject for root in roots):
        raise IssuanceFault(f"serial {svid.serial}: its chain ends under no root of the bundle")
