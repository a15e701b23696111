"""Validating a token by a cached key: with every step, and when the same token came before."""

import asyncio
import base64
import json
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from benchmarks.development import NAMESPACE, TRUST_DOMAIN
from benchmarks.figure import Context, Row
from benchmarks.floor import cpu_us
from identity.kubernetes import TokenAuthenticator, build_authenticator
from meshca.clock import SystemClock
from meshca.metrics import Metrics
from meshca.settings import Cluster

TITLE = "Token validation"
ISSUER = "https://kubernetes.default.svc"
_KEY_ID = "benchmark"


def run(context: Context) -> Iterator[Row]:
    """Measure ES256 and RS256 tokens of projected shape, one authenticator each."""
    tokens = context.scale(4000, 400)
    elliptic: Any = ec.generate_private_key(ec.SECP256R1())
    classic: Any = rsa.generate_private_key(65537, 2048)
    for algorithm, key in (("ES256", elliptic), ("RS256", classic)):
        with context.progress(f"{algorithm} tokens", tokens) as advance:
            yield from _algorithm(context, algorithm, key, tokens)
            advance(tokens)


def _algorithm(context: Context, algorithm: str, key: Any, count: int) -> Iterator[Row]:
    tokens = [_token(key, algorithm) for _ in range(count)]
    with TemporaryDirectory(prefix="meshca-bench-") as directory:
        authenticator = _authenticator(Path(directory), key, algorithm)
        floor, miss = context.beside_floor(lambda: asyncio.run(_each(authenticator, tokens)))
        hit = asyncio.run(_each(authenticator, tokens[-1:] * (count * 10)))
    yield from _rows(algorithm, miss, hit, f"{miss / floor.verify_us:.2f} × P-256 verify")
    raw = _raw_verify_us(tokens[0], key, algorithm)
    what = f"{algorithm} signature alone, PyJWT's algorithm object"
    yield Row(what, raw, "µs CPU", note=f"validation is {miss / raw:.1f} × this")


def _rows(algorithm: str, miss: float, hit: float, ratio: str) -> Iterator[Row]:
    note = f"{1e6 / miss:,.0f}/s per core; key cached, every token new"
    yield Row(f"{algorithm} validation, no cache hit", miss, "µs CPU", ratio=ratio, note=note)
    what = f"{algorithm} validation, cache hit"
    yield Row(what, hit, "µs CPU", note=f"{1e6 / hit:,.0f}/s per core")


async def _each(authenticator: TokenAuthenticator, tokens: list[str]) -> float:
    """Return the CPU microseconds of one validation."""
    await authenticator.refresh()
    started = time.process_time()
    for token in tokens:
        await authenticator.authenticate(token)
    return (time.process_time() - started) / len(tokens) * 1e6


def _raw_verify_us(token: str, key: Any, algorithm: str) -> float:
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    verifier = jwt.get_algorithm_by_name(algorithm)
    public, message = key.public_key(), signed.encode()
    return cpu_us(lambda: verifier.verify(message, public, raw), seconds=0.2)


def _authenticator(directory: Path, key: Any, algorithm: str) -> TokenAuthenticator:
    path = directory / "jwks.json"
    path.write_text(json.dumps({"keys": [_jwk(key, algorithm)]}))
    cluster = Cluster.model_validate(
        {
            "name": "bench",
            "issuer": ISSUER,
            "audiences": ["meshca"],
            "keys": {"file": str(path)},
        }
    )
    return build_authenticator(
        [cluster], trust_domain=TRUST_DOMAIN, clock=SystemClock(), metrics=Metrics()
    )


def _jwk(key: Any, algorithm: str) -> Mapping[str, Any]:
    """Return the key as `/openid/v1/jwks` of an API server has it."""
    shape: Any = jwt.get_algorithm_by_name(algorithm)
    public = shape.to_jwk(key.public_key(), as_dict=True)
    return {"use": "sig", "kid": _KEY_ID, "alg": algorithm, **public}


def _token(key: Any, algorithm: str) -> str:
    issued = int(SystemClock().now().timestamp())
    payload = {
        "aud": ["meshca"],
        "exp": issued + 3600,
        "iat": issued,
        "iss": ISSUER,
        "jti": str(uuid.uuid4()),
        "kubernetes.io": {
            "namespace": NAMESPACE,
            "node": {"name": "node-1", "uid": str(uuid.uuid4())},
            "pod": {"name": "web-5d8f7c9b4-x2x7q", "uid": str(uuid.uuid4())},
            "serviceaccount": {"name": "web", "uid": str(uuid.uuid4())},
        },
        "nbf": issued,
        "sub": f"system:serviceaccount:{NAMESPACE}:web",
    }
    headers = {"kid": _KEY_ID, "typ": None}
    return jwt.encode(payload, key, algorithm=algorithm, headers=headers)
