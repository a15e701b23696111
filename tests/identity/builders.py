"""Clusters that sign or review, and the tokens they make: good defaults, override one thing."""

import asyncio
import base64
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from identity.caller import Caller
from identity.cluster import Cluster, build_cluster
from identity.key_ring import KeyRing
from identity.kubernetes import TokenAuthenticator
from identity.review import Review, Reviewer, TokenReviews
from meshca.errors import KeysUnavailable, ReviewUnavailable
from meshca.metrics import Metrics
from meshca.settings import Cluster as Settings
from tests.fakes import FakeClock

ISSUER = "https://kubernetes.example.org"
AUDIENCE = "meshca"
TRUST_DOMAIN = "example.org"
POD_UID = "e79b3016-e395-4f6a-9072-b3f74e6ae22e"
ACCOUNT_UID = "427d6273-d240-4941-8cc0-c3d48e7a5c23"

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

# Made once: an RSA key takes tens of milliseconds.
EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)


def jwk(key: PrivateKey, kid: str | None, **members: Any) -> dict[str, Any]:
    """Return the public JWK of `key` as an API server publishes it; None drops a member."""
    public = key.public_key()
    if isinstance(public, ec.EllipticCurvePublicKey):
        values = jwt.algorithms.ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        values = jwt.algorithms.RSAAlgorithm.to_jwk(public, as_dict=True)
    values.pop("key_ops", None)
    merged = {**values, "use": "sig", "kid": kid, **members}
    return {name: value for name, value in merged.items() if value is not None}


def jwks(*keys: Mapping[str, Any]) -> bytes:
    """Return a JWKS document."""
    return json.dumps({"keys": list(keys)}).encode()


def claims(clock: FakeClock, **changes: Any) -> dict[str, Any]:
    """Return the claims of a projected token of shop/orders; None drops a claim."""
    now = int(clock.now().timestamp())
    standard: dict[str, Any] = {
        "aud": [AUDIENCE],
        "exp": now + 600,
        "iat": now,
        "iss": ISSUER,
        "jti": "9a7b3583-9514-4bd3-aae6-d60758682e56",
        "kubernetes.io": about(),
        "nbf": now,
        "sub": "system:serviceaccount:shop:orders",
    }
    return {name: value for name, value in {**standard, **changes}.items() if value is not None}


def about(**changes: Any) -> dict[str, Any]:
    """Return the `kubernetes.io` claim; None drops a member."""
    standard: dict[str, Any] = {
        "namespace": "shop",
        "node": {"name": "node-1", "uid": "d5b5a6a2-9f47-4c42-8a2b-3b8a6f3a1f11"},
        "pod": {"name": "orders-1", "uid": POD_UID},
        "serviceaccount": {"name": "orders", "uid": ACCOUNT_UID},
    }
    return {name: value for name, value in {**standard, **changes}.items() if value is not None}


def sign(
    payload: Mapping[str, Any],
    key: PrivateKey = EC_KEY,
    *,
    kid: str | None = "key-1",
    algorithm: str = "",
    **more_headers: object,
) -> str:
    """Return a token as Kubernetes signs it: no `typ`."""
    default = "ES256" if isinstance(key, ec.EllipticCurvePrivateKey) else "RS256"
    headers = {"typ": None, **({"kid": kid} if kid is not None else {}), **more_headers}
    encoded = json.dumps(dict(payload)).encode()
    return jwt.PyJWS().encode(encoded, key, algorithm=algorithm or default, headers=headers)


def raw_token(header: str | bytes, payload: str | bytes, signature: bytes = b"signature") -> str:
    """Return a token of exactly these bytes, however wrong they are."""
    parts = [p.encode() if isinstance(p, str) else p for p in (header, payload)]
    return ".".join(
        base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (*parts, signature)
    )


@dataclass
class FakeSource:
    """A source of keys that counts, fails on request, and can be held."""

    document: bytes
    down: bool = False
    fetches: int = 0
    closed: bool = False
    held: threading.Event | None = None

    def __str__(self) -> str:
        return "a fake source"

    def fetch(self) -> bytes:
        """Return the document, or raise as a source that is down."""
        self.fetches += 1
        if self.held is not None:
            assert self.held.wait(10)
        if self.down:
            raise KeysUnavailable("the source is down")
        return self.document

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True


GOOD_REVIEW = Review(
    authenticated=True,
    error="",
    audiences=(AUDIENCE,),
    username="system:serviceaccount:shop:orders",
    uid=ACCOUNT_UID,
    groups=("system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"),
    extra={
        "authentication.kubernetes.io/pod-name": ("orders-1",),
        "authentication.kubernetes.io/pod-uid": (POD_UID,),
        "authentication.kubernetes.io/node-name": ("node-1",),
        "authentication.kubernetes.io/credential-id": ("JTI=9a7b3583",),
    },
)


@dataclass
class FakeReviewer:
    """An API server that answers what it is told to."""

    answer: Review = GOOD_REVIEW
    down: bool = False
    asked: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    held: threading.Event | None = None

    def review(self, token: str, audiences: Sequence[str]) -> Review:
        """Return the answer, or raise as a server that is down."""
        self.asked.append((token, tuple(audiences)))
        if self.held is not None:
            assert self.held.wait(10)
        if self.down:
            raise ReviewUnavailable("the API server is down")
        return self.answer

    def __str__(self) -> str:
        return "a fake API server"

    def close(self) -> None:
        """Nothing is open."""


def settings(**changes: Any) -> Settings:
    """Return a validated cluster configuration."""
    values: dict[str, Any] = {
        "name": "prod-eu",
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "keys": {"file": "jwks.json"},
    }
    return Settings.model_validate({**values, **changes})


@dataclass
class World:
    """One authenticator, and everything around it that a test may move."""

    clock: FakeClock
    metrics: Metrics
    authenticator: TokenAuthenticator

    def authenticate(self, token: str) -> Caller:
        """Return the caller of `token`, in an event loop of its own."""
        return asyncio.run(self.authenticator.authenticate(token))

    def count(self, outcome: str, cache: str = "miss") -> float:
        """Return how many validations ended so."""
        labels = {"outcome": outcome, "cache": cache}
        value = self.metrics.registry.get_sample_value("meshca_token_validation_total", labels)
        return value or 0.0


def world(
    *,
    source: FakeSource | None = None,
    reviewer: Reviewer | None = None,
    clock: FakeClock | None = None,
    **changes: Any,
) -> World:
    """Return an authenticator for one cluster whose keys or reviews come from fakes."""
    clock = clock or FakeClock()
    built: Cluster = build_cluster(settings(**changes), clock=clock)
    if source is not None:
        built = replace(built, keys=KeyRing(source, clock=clock))
    if reviewer is not None:
        built = replace(built, reviews=TokenReviews(reviewer))
    metrics = Metrics()
    authenticator = TokenAuthenticator(
        [built], trust_domain=TRUST_DOMAIN, clock=clock, metrics=metrics
    )
    return World(clock, metrics, authenticator)


def jwks_world(**changes: Any) -> World:
    """Return a world whose cluster publishes the standard keys, `key-1` (EC) and `key-2` (RSA)."""
    source = FakeSource(jwks(jwk(EC_KEY, "key-1"), jwk(RSA_KEY, "key-2")))
    return world(source=source, **changes)


def write_key_set(path: Path, *keys: Mapping[str, Any]) -> Path:
    """Write a JWKS file and return its path."""
    path.write_bytes(jwks(*keys))
    return path


MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
