"""The private keys that sign checkpoints, one file a key in a directory of their own.

A file is PKCS#8 in PEM, mode 0600, wrapped as `key_at_rest` says; its name is the key's ID. Keys of
another origin are left alone: their IDs are others. What cannot be read raises Unavailable: a log
key that is lost is replaced by rotation, never by reading less.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from audit.files import make_private_directory, read_private, replace_file
from audit.note import SigningKey
from meshca.errors import StoreUnavailable

_SUFFIX: Final = ".key"


class Wrapping(Protocol):
    """Wraps private keys for the disk, and unwraps them; both may ask a server and block."""

    def wrap(self, key_pem: bytes, *, context: str) -> bytes:
        """Return `key_pem` wrapped for `context`; raises Unavailable."""
        ...

    def unwrap(self, blob: bytes, *, context: str) -> bytes:
        """Return the PEM that `wrap` took; raises Unavailable."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFiles:
    """The keys of the log `origin` in `directory`; without `wrapping` they are not encrypted."""

    directory: Path
    origin: str
    wrapping: Wrapping | None = None

    def create(self) -> SigningKey:
        """Return a new key that is on the disk; raises Unavailable."""
        key = SigningKey(self.origin, Ed25519PrivateKey.generate())
        pem = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        name = key.verifier.key_id.hex()
        if self.wrapping is not None:
            pem = self.wrapping.wrap(pem, context=_context(name))
        make_private_directory(self.directory)
        replace_file(self._path(name), pem)
        return key

    def load(self) -> list[SigningKey]:
        """Return every key of this origin that is on the disk; raises Unavailable."""
        make_private_directory(self.directory)
        paths = sorted(self.directory.glob(f"*{_SUFFIX}"))
        return [key for path in paths if (key := self._load(path)) is not None]

    def remove(self, key: SigningKey) -> None:
        """Delete `key` from the disk; raises StoreUnavailable."""
        path = self._path(key.verifier.key_id.hex())
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"{path} cannot be removed: {error.strerror}") from error

    def _load(self, path: Path) -> SigningKey | None:
        """Return the key in `path`; None if it is another origin's."""
        blob = read_private(path)
        if self.wrapping is not None:
            blob = self.wrapping.unwrap(blob, context=_context(path.stem))
        try:
            private = load_pem_private_key(blob, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise StoreUnavailable(f"{path} is no private key that opens") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise StoreUnavailable(f"{path} is no Ed25519 key")
        key = SigningKey(self.origin, private)
        return key if key.verifier.key_id.hex() == path.stem else None

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}{_SUFFIX}"


def _context(name: str) -> str:
    return f"audit log key {name}"
