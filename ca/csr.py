"""A certificate request for a CA key of ours, wherever that key is (RFC 2986 4).

The library signs requests only with keys in memory; a key on a token is a `Signer`. So the little
DER around subject, key and one name is written here, and read back by the library.
"""

from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from ca import der
from ca.authority import Signer
from ca.keys import LeafPublicKey, public_key_der
from ca.tbs import assemble
from meshca.errors import AuthorityUnavailable
from meshca.spiffe_id import SpiffeId

_VERSION_1: Final = bytes.fromhex("020100")
_EXTENSION_REQUEST: Final = bytes.fromhex("06092a864886f70d01090e")
_SUBJECT_ALTERNATIVE_NAME: Final = bytes.fromhex("0603551d11")
_URI: Final = 0x86


def certificate_request(
    signer: Signer, public: LeafPublicKey, *, trust_domain: str
) -> x509.CertificateSigningRequest:
    """Return the request to make `public`, whose private half `signer` holds, a CA's key.

    Whoever signs it may give the CA another name. Raises AuthorityUnavailable when the signature
    does not verify: the signer holds another key.
    """
    common_name = f"{trust_domain} intermediate"[:64]
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    uri = der.encode(_URI, str(SpiffeId(trust_domain, "")).encode())
    san = der.encode(0x30, _SUBJECT_ALTERNATIVE_NAME, der.encode(0x04, der.encode(0x30, uri)))
    attribute = der.encode(0x30, _EXTENSION_REQUEST, der.encode(0x31, der.encode(0x30, san)))
    info = der.encode(
        0x30, _VERSION_1, name.public_bytes(), public_key_der(public), der.encode(0xA0, attribute)
    )
    request = assemble(info, signer.signature_algorithm, signer.sign(info))
    csr = x509.load_der_x509_csr(request)
    if not csr.is_signature_valid:
        raise AuthorityUnavailable("the key that signed the request is not the one in it")
    return csr
