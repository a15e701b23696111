"""The witness's own key, which signs nothing but cosignatures: made once, kept in a file.

It is neither the log's nor the CA's. Replicas share one witness by sharing the file. It is not
rotated: whoever trusts a witness trusts a key, and another key is another witness.
"""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from audit.files import make_private_directory, read_private, replace_file
from audit.note import COSIGNATURE, SigningKey
from meshca.errors import StoreUnavailable


def load_witness_key(path: Path, name: str) -> SigningKey:
    """Return the key in `path` (PKCS#8 in PEM, for our user only), made if there is none.

    Raises StoreUnavailable for a file that is something else, or that others can read.
    """
    try:
        pem = read_private(path)
    except FileNotFoundError:
        private = Ed25519PrivateKey.generate()
        make_private_directory(path.parent)
        replace_file(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return SigningKey(name, private, COSIGNATURE)
    try:
        held = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise StoreUnavailable(f"{path} is no private key that opens") from error
    if not isinstance(held, Ed25519PrivateKey):
        raise StoreUnavailable(f"{path} is no Ed25519 key")
    return SigningKey(name, held, COSIGNATURE)
