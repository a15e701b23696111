"""Keys: which public keys we certify, which private keys we load, and from what files.

Accepted public keys: ECDSA on P-256 or P-384, RSA from 2048 to 8192 bits with an odd exponent of
at least 65537. Everything else is refused by name (NIST SP 800-57; CA/B Forum BR 6.1.5, 6.1.6).
"""

import os
import stat
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from ca import der
from meshca.errors import AuthorityUnavailable, RequestRefused

LeafPublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
KeyKind = Literal["p256", "p384", "rsa2048", "rsa3072", "rsa4096"]

_CURVES: Final = {"secp256r1": ec.ECDSA(hashes.SHA256()), "secp384r1": ec.ECDSA(hashes.SHA384())}
_RSA_BITS: Final = range(2048, 8193)
_LEAST_EXPONENT: Final = 65537
_KEY_FILE_BYTES: Final = 64 * 1024

# DER AlgorithmIdentifiers (RFC 5758 3.2, RFC 4055 5): fixed bytes, so that nothing builds them.
_ECDSA_SHA256: Final = bytes.fromhex("300a06082a8648ce3d040302")
_ECDSA_SHA384: Final = bytes.fromhex("300a06082a8648ce3d040303")
_RSA_SHA256: Final = bytes.fromhex("300d06092a864886f70d01010b0500")


def check_public_key(key: PublicKeyTypes) -> LeafPublicKey:
    """Return `key` if we certify keys of its kind.

    Raises RequestRefused, naming what is wrong with it.
    """
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name not in _CURVES:
            raise RequestRefused("weak_key", f"curve {key.curve.name} is not accepted: use P-256")
        return key
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size not in _RSA_BITS:
            raise RequestRefused(
                "weak_key", f"an RSA key of {key.key_size} bits is not accepted: use 2048 to 8192"
            )
        exponent = key.public_numbers().e
        if exponent < _LEAST_EXPONENT or exponent % 2 == 0:
            raise RequestRefused("weak_key", f"RSA exponent {exponent} is not accepted: use 65537")
        return key
    raise RequestRefused(
        "weak_key", f"{type(key).__name__} is not accepted: use ECDSA P-256, P-384 or RSA"
    )


def public_key_der(key: LeafPublicKey) -> bytes:
    """Return the DER SubjectPublicKeyInfo of `key`."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def public_key_sha256(key: LeafPublicKey) -> str:
    """Return the SHA-256 of `key`, in hex: how people compare keys over the telephone."""
    return sha256(public_key_der(key)).hexdigest()


def subject_key_id(spki: bytes) -> bytes:
    """Return the key identifier of a DER SubjectPublicKeyInfo (RFC 7093 method 1: SHA-256)."""
    return sha256(der.public_key_bits(spki)).digest()[:20]


def algorithm_and_hash(key: LeafPublicKey) -> tuple[bytes, hashes.SHA256 | hashes.SHA384]:
    """Return how `key` signs: the DER AlgorithmIdentifier, and the hash in it."""
    if isinstance(key, rsa.RSAPublicKey):
        return _RSA_SHA256, hashes.SHA256()
    if key.curve.name == "secp256r1":
        return _ECDSA_SHA256, hashes.SHA256()
    return _ECDSA_SHA384, hashes.SHA384()


@dataclass(frozen=True, slots=True)
class PrivateKeySigner:
    """A Signer whose key is in this process's memory; its repr shows no key."""

    key: PrivateKey = field(repr=False)

    @property
    def signature_algorithm(self) -> bytes:
        """Return the DER AlgorithmIdentifier of its signatures."""
        if isinstance(self.key, rsa.RSAPrivateKey):
            return _RSA_SHA256
        return _ECDSA_SHA256 if self.key.curve.name == "secp256r1" else _ECDSA_SHA384

    def sign(self, message: bytes) -> bytes:
        """Return the signature over `message` with the hash that fits the key."""
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(message, padding.PKCS1v15(), hashes.SHA256())
        return self.key.sign(message, _CURVES[self.key.curve.name])


def generate_key() -> ec.EllipticCurvePrivateKey:
    """Return a new ECDSA P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def generate_key_of(kind: KeyKind) -> PrivateKey:
    """Return a new key of `kind`; the number of an RSA kind is its size in bits."""
    if kind == "p256":
        return generate_key()
    if kind == "p384":
        return ec.generate_private_key(ec.SECP384R1())
    size = int(kind.removeprefix("rsa"))
    return rsa.generate_private_key(public_exponent=_LEAST_EXPONENT, key_size=size)


def private_key_pem(key: PrivateKey | Ed25519PrivateKey, passphrase: bytes | None = None) -> bytes:
    """Return `key` as PKCS#8 PEM, encrypted when a passphrase is given."""
    encryption: KeySerializationEncryption = (
        BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    )
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def write_private_key(path: Path, key: PrivateKey, passphrase: bytes | None = None) -> None:
    """Write `key` to a new file that only its owner can read; never overwrites.

    Raises FileExistsError when `path` exists.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(private_key_pem(key, passphrase))


def load_private_key(path: Path, passphrase: bytes | None = None) -> PrivateKey:
    """Return the private key in `path`.

    Raises AuthorityUnavailable when the file is readable by others, is not a key of an accepted
    kind, or its passphrase is wrong or missing.
    """
    data = read_secret_file(path)
    try:
        key = load_pem_private_key(data, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        hint = "is its passphrase right?" if passphrase else "is it encrypted? set passphrase_file"
        raise AuthorityUnavailable(f"{path} is not a private key we can load ({hint})") from error
    try:
        check_public_key(key.public_key())
    except RequestRefused as error:
        raise AuthorityUnavailable(f"the key in {path} cannot sign: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise AuthorityUnavailable(f"the key in {path} is not ECDSA or RSA")
    return key


def read_secret_file(path: Path) -> bytes:
    """Return the content of a file that only its owner may read.

    Raises AuthorityUnavailable when it is missing, too large, not a file, or its mode lets group
    or world in.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise AuthorityUnavailable(f"{path} is not a regular file")
            if status.st_mode & 0o077:
                mode = stat.S_IMODE(status.st_mode)
                raise AuthorityUnavailable(
                    f"{path} has mode {mode:04o}: others can read it; run chmod 600 {path}"
                )
            data = file.read(_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise AuthorityUnavailable(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > _KEY_FILE_BYTES:
        raise AuthorityUnavailable(f"{path} is larger than {_KEY_FILE_BYTES} bytes")
    return data


def _open_without_waiting(path: str, flags: int) -> int:
    """Open `path` at once, even if it is a pipe that nobody writes: what it is is seen then."""
    return os.open(path, flags | os.O_NONBLOCK)
