"""Signing with a key in Vault's Transit: the digest goes there, the key never leaves.

Transit signs whatever it is given, even a digest of one byte, so the digest is made and measured
here. The key's version is pinned: a rotation behind our back must not mix two keys under one
certificate. What comes back is checked for its version and shape here, and each certificate's
signature is verified where it is compared with what was linted (`ca.issuer.compare`).
"""

import base64
import binascii
import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from ca.upstream.vault.client import Answer, not_vault
from ca.upstream.vault.errors import Reaction, VaultFault
from ca.upstream.vault.session import Session

KEY_TYPE: Final = "ecdsa-p256"
KEY_SECONDS: Final = 8.0
SIGNATURE_SECONDS: Final = 4.0
_DIGEST_BYTES: Final = 32
_ECDSA_SHA256: Final = bytes.fromhex("300a06082a8648ce3d040302")  # RFC 5758 3.2
_SIGNATURE: Final = re.compile(r"vault:v([0-9]{1,9}):([A-Za-z0-9+/]+={0,2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitSigner:
    """A `Signer` whose key is one version of a Transit key; it blocks for seconds at worst."""

    session: Session = field(repr=False)
    mount: str
    key_name: str
    version: int
    public_key: ec.EllipticCurvePublicKey = field(repr=False)

    @property
    def signature_algorithm(self) -> bytes:
        """Return the DER AlgorithmIdentifier of ecdsa-with-SHA256."""
        return _ECDSA_SHA256

    def sign(self, message: bytes) -> bytes:
        """Return the ECDSA signature over `message`; raises AuthorityUnavailable."""
        digest = sha256(message).digest()
        try:
            return self.session.patience.insist(
                "signature",
                lambda deadline: self._sign(digest, deadline),
                seconds=SIGNATURE_SECONDS,
            )
        except VaultFault:
            self.session.metrics.upstream_failures.labels("signature").inc()
            raise

    def _sign(self, digest: bytes, deadline: float) -> bytes:
        if len(digest) != _DIGEST_BYTES:
            raise ValueError(f"a SHA-256 digest has {_DIGEST_BYTES} bytes, not {len(digest)}")
        answer = self.session.ask(
            "post",
            f"{self.mount}/sign/{self.key_name}/sha2-256",
            {
                "input": base64.b64encode(digest).decode(),
                "prehashed": True,
                "key_version": self.version,
                "marshaling_algorithm": "asn1",
            },
            deadline=deadline,
        )
        return self._signature(answer.text("signature"))

    def _signature(self, text: str) -> bytes:
        match = _SIGNATURE.fullmatch(text)
        if match is None or int(match[1]) != self.version:
            raise not_vault(f"the signature is not one by version {self.version} of the key")
        try:
            signature = base64.b64decode(match[2], validate=True)
            decode_dss_signature(signature)
        except (binascii.Error, ValueError) as error:
            raise not_vault("the signature is not a DER ECDSA signature") from error
        return signature


def fresh_signer(session: Session, mount: str, key_name: str) -> TransitSigner:
    """Return a signer with a new version of the key, so that each intermediate has its own.

    Raises AuthorityUnavailable, also for a key that may be taken out of Vault.
    """
    path = f"{mount}/keys/{key_name}"

    def make(deadline: float) -> Answer:
        made = session.ask("post", f"{path}/rotate", {}, deadline=deadline)
        # A standby that is asked afterwards may not have heard of the new version yet, and would
        # name the one that another intermediate has. Older servers answer nothing, and forward.
        return made if made.data else session.ask("get", path, deadline=deadline)

    answer = session.patience.insist("key", make, seconds=KEY_SECONDS)
    found, version = answer.data, answer.data.get("latest_version")
    if found.get("type") != KEY_TYPE:
        raise _wrong_key(f"{path} has type {found.get('type')}: make one of type {KEY_TYPE}")
    if found.get("exportable") or found.get("allow_plaintext_backup"):
        raise _wrong_key(f"{path} may be exported: make one that may not")
    versions = found.get("keys")
    if not isinstance(version, int) or not isinstance(versions, dict):
        raise not_vault(f"{path} does not say its versions")
    return TransitSigner(
        session=session,
        mount=mount,
        key_name=key_name,
        version=version,
        public_key=_public_key(versions.get(str(version))),
    )


def _public_key(described: object) -> ec.EllipticCurvePublicKey:
    pem = described.get("public_key") if isinstance(described, dict) else None
    try:
        key = load_pem_public_key(str(pem).encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise not_vault("the key's public half cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise not_vault("the key is not on P-256")
    return key


def _wrong_key(message: str) -> VaultFault:
    return VaultFault("wrong_key", Reaction.CONFIGURE, message)
