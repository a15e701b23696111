"""Keys at rest: a private key, wrapped, so that no store ever holds it in the clear.

    kind        wrapped by                                  a blob is
    passphrase  PKCS#8, PBES2 with AES-256-CBC              an ENCRYPTED PRIVATE KEY in PEM
    file        AES-256-GCM under a key from a file         meshca-key-v1:file:KEY_ID:NONCE_AND_TEXT

They are authorities' keys, and Ed25519 keys of the audit log.

Rules. Every blob is bound to its context, the authority's id: moved to another authority's row it
does not open. For AES-GCM the context is the associated data; PKCS#8 has none, so there it is part
of the passphrase, which is `PASSPHRASE:CONTEXT`. What does not open, for whatever reason, raises
AuthorityUnavailable: an authority whose key cannot be had must not sign. No message repeats a key,
a passphrase or a blob.

Without any of these an authority's key lives in memory only. Whether the key is the authority's is
for `ca/upstream/chain.py` to say.
"""

import base64
import binascii
import secrets
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ca.keys import PrivateKey, private_key_pem, read_secret_file
from meshca.errors import AuthorityUnavailable
from meshca.settings import KeysAtRest, KeysUnderKey, KeysUnderPassphrase

KEY_BYTES: Final = 32
_FORMAT: Final = "meshca-key-v1"
_NONCE_BYTES: Final = 12  # NIST SP 800-38D 5.2.1.1
_KEY_ID_BYTES: Final = 4


class KeyAtRest(Protocol):
    """Wraps private keys for the store, and unwraps them."""

    def wrap(self, key_pem: bytes, *, context: str) -> bytes:
        """Return PKCS#8 PEM `key_pem` wrapped for `context`; raises AuthorityUnavailable."""
        ...

    def unwrap(self, blob: bytes, *, context: str) -> bytes:
        """Return the PKCS#8 PEM that `wrap` took; raises AuthorityUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class PassphraseAtRest:
    """Keys as encrypted PKCS#8, under a passphrase that only our own user can read."""

    passphrase_file: Path

    def wrap(self, key_pem: bytes, *, context: str) -> bytes:
        """Return the key as encrypted PKCS#8 PEM; raises AuthorityUnavailable."""
        return private_key_pem(_load(key_pem, None), self._password(context))

    def unwrap(self, blob: bytes, *, context: str) -> bytes:
        """Return the key in PEM; raises AuthorityUnavailable."""
        if b"ENCRYPTED" not in blob:
            raise AuthorityUnavailable("a stored key is not encrypted PKCS#8")
        return private_key_pem(_load(blob, self._password(context)))

    def _password(self, context: str) -> bytes:
        passphrase = read_secret_file(self.passphrase_file).rstrip(b"\r\n")
        if not passphrase:
            raise AuthorityUnavailable(f"{self.passphrase_file} is empty")
        return passphrase + b":" + context.encode()


@dataclass(frozen=True, slots=True)
class KeyFileAtRest:
    """Keys under AES-256-GCM, with a key of 32 random bytes from a file, in base64.

    The first bytes of the file key's SHA-256 stand in each blob, so that another key is told from
    a blob that was changed.
    """

    key_file: Path

    def wrap(self, key_pem: bytes, *, context: str) -> bytes:
        """Return the key encrypted and authenticated; raises AuthorityUnavailable."""
        key = self._key()
        nonce = secrets.token_bytes(_NONCE_BYTES)
        text = AESGCM(key).encrypt(nonce, key_pem, _associated(context))
        encoded = base64.b64encode(nonce + text).decode()
        return f"{_FORMAT}:file:{_key_id(key)}:{encoded}".encode()

    def unwrap(self, blob: bytes, *, context: str) -> bytes:
        """Return the key in PEM; raises AuthorityUnavailable."""
        key = self._key()
        key_id, _, encoded = _body(blob).partition(":")
        if key_id != _key_id(key):
            raise AuthorityUnavailable(
                f"a stored key is wrapped under key {key_id!r}; {self.key_file} is {_key_id(key)!r}"
            )
        try:
            sealed = base64.b64decode(encoded, validate=True)
            return AESGCM(key).decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _associated(context)
            )
        except (binascii.Error, InvalidTag, ValueError) as error:
            raise AuthorityUnavailable(
                f"the stored key of authority {context} does not open: it was changed, cut off, "
                "or is another authority's"
            ) from error

    def _key(self) -> bytes:
        text = read_secret_file(self.key_file).strip()
        try:
            key = base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise AuthorityUnavailable(f"{self.key_file} is not base64") from error
        if len(key) != KEY_BYTES:
            raise AuthorityUnavailable(
                f"{self.key_file} holds {len(key)} bytes, not {KEY_BYTES}; make one with "
                f"openssl rand -base64 {KEY_BYTES}"
            )
        return key


def key_at_rest(chosen: KeysAtRest) -> KeyAtRest | None:
    """Return what the configuration chose; None when keys live in memory only."""
    if isinstance(chosen, KeysUnderPassphrase):
        return PassphraseAtRest(chosen.passphrase_file)
    return KeyFileAtRest(chosen.key_file) if isinstance(chosen, KeysUnderKey) else None


def _associated(context: str) -> bytes:
    return f"{_FORMAT}:{context}".encode()


def _key_id(key: bytes) -> str:
    return sha256(key).digest()[:_KEY_ID_BYTES].hex()


def _body(blob: bytes) -> str:
    """Return what follows the format and the kind; raises AuthorityUnavailable."""
    prefix = f"{_FORMAT}:file:"
    text = blob.decode("ascii", "replace")
    if not text.startswith(prefix):
        raise AuthorityUnavailable(f"a stored key is not of format {prefix}...")
    return text.removeprefix(prefix)


def _load(pem: bytes, password: bytes | None) -> PrivateKey | Ed25519PrivateKey:
    try:
        key = load_pem_private_key(pem, password)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise AuthorityUnavailable(
            "a stored key does not open: another passphrase, another authority's, or changed"
            if password
            else "what is to be stored is not a private key"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | Ed25519PrivateKey):
        raise AuthorityUnavailable("a stored key is not ECDSA, RSA or Ed25519")
    return key
