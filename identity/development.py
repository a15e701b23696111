"""A stand-in for a Kubernetes cluster, for development: it signs service-account tokens for anyone.

Whoever can read its key can be any workload of its cluster. Its tokens have the claims of
projected tokens, exactly; there is no API server behind it, so they are validated by `jwks`.

    DIRECTORY/UNSAFE-signing-key.pem    the signing key, for its owner only
    DIRECTORY/jwks.json                 the key set that a server validates with
    DIRECTORY/issuer                    the `iss` of its tokens
"""

import base64
import hashlib
import json
import os
import stat
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from meshca.errors import InvalidDocument, Problem
from meshca.logs import get_logger

ISSUER: Final = "https://development.meshca.invalid"
NODE: Final = "development-node"
_KEY: Final = "UNSAFE-signing-key.pem"
_KEY_SET: Final = "jwks.json"
_ISSUER: Final = "issuer"
_UID_SPACE: Final = uuid.UUID("6b1f5b0e-3f2c-4c0a-9f0e-6d657368ca00")

_log = get_logger("identity")


class UnsafeDevelopmentCluster:
    """Signs tokens for whoever asks; warns when built. The key never shows in its repr."""

    name = "development"

    def __init__(self, *, issuer: str, key: ec.EllipticCurvePrivateKey) -> None:
        self.issuer = issuer
        self._key = key
        self._key_id = _key_id(key.public_key())
        _log.warning("unsafe_development_cluster", issuer=issuer, advice="never in production")

    @classmethod
    def create(cls, directory: Path, *, issuer: str = ISSUER) -> Self:
        """Make a cluster with a new key in `directory`.

        Raises FileExistsError: nothing is overwritten.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        _write_new(directory / _KEY, pem, 0o600)
        cluster = cls(issuer=issuer, key=key)
        _write_new(directory / _KEY_SET, json.dumps(cluster.key_set(), indent=2).encode(), 0o644)
        _write_new(directory / _ISSUER, issuer.encode(), 0o644)
        return cluster

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Return the cluster in `directory`.

        Raises InvalidDocument, also when others than its owner can read the key.
        """
        path = directory / _KEY
        try:
            if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise _invalid(path, "others than its owner can reach it: chmod 600")
            key = load_pem_private_key(path.read_bytes(), password=None)
            issuer = (directory / _ISSUER).read_text(encoding="utf-8").strip()
        except (OSError, ValueError, TypeError) as error:
            raise _invalid(path, f"no development cluster: {type(error).__name__}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise _invalid(path, "not an ECDSA key")
        return cls(issuer=issuer, key=key)

    @staticmethod
    def is_in(directory: Path) -> bool:
        """Return whether `directory` holds a development cluster."""
        return (directory / _KEY).is_file()

    def key_set(self) -> dict[str, Any]:
        """Return its JWKS, as `/openid/v1/jwks` of an API server has it."""
        public = jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {"keys": [{"use": "sig", "kid": self._key_id, "alg": "ES256", **public}]}

    def token(
        self,
        *,
        namespace: str,
        service_account: str,
        audiences: Sequence[str],
        lifetime: timedelta,
        now: datetime,
        pod: str | None,
        node: str | None = NODE,
    ) -> str:
        """Return a signed token as the kubelet would project it into `pod` on `node`.

        Without `pod` it is what `kubectl create token` makes: bound to nothing. UIDs are derived
        from names, so that a pod keeps its UID from token to token.
        """
        about: dict[str, Any] = {"namespace": namespace}
        if pod is not None:
            if node is not None:
                about["node"] = {"name": node, "uid": self._uid("node", node)}
            about["pod"] = {"name": pod, "uid": self._uid("pod", namespace, pod)}
        uid = self._uid("serviceaccount", namespace, service_account)
        about["serviceaccount"] = {"name": service_account, "uid": uid}
        issued = int(now.timestamp())
        payload = {
            "aud": list(audiences),
            "exp": issued + int(lifetime.total_seconds()),
            "iat": issued,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": about,
            "nbf": issued,
            "sub": f"system:serviceaccount:{namespace}:{service_account}",
        }
        # Kubernetes writes no `typ`; PyJWT leaves it out when it is None.
        headers = {"kid": self._key_id, "typ": None}
        return jwt.encode(payload, self._key, algorithm="ES256", headers=headers)

    def _uid(self, *path: str) -> str:
        return str(uuid.uuid5(_UID_SPACE, "/".join((self.issuer, *path))))


def _key_id(key: ec.EllipticCurvePublicKey) -> str:
    """Return the `kid` that Kubernetes would give the key: the hash of its public half."""
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()


def _write_new(path: Path, content: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)


def _invalid(path: Path, message: str) -> InvalidDocument:
    return InvalidDocument([Problem("", message, str(path))])
