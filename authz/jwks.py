"""Key sets of token issuers (JWKS, RFC 7517), reduced to what a proxy may be sent.

What is kept of a key is what verifies signatures: its type, its public values, its id and its
algorithm. A key that is symmetric (HS256: whoever verifies can sign), that holds private values,
or that is none, is left out, as is one for encryption. Nothing here is fetched.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

MAXIMUM_BYTES: Final = 256 * 1024
MAXIMUM_KEYS: Final = 100
NOBODYS: Final = (
    '{"keys":[{"alg":"ES256","crv":"P-256","kid":"nobody","kty":"EC",'
    '"x":"1nO3XtrNwcx5pMF93aqEgVDuopJYMzS4u8idrvR3Psk",'
    '"y":"ogmKh2XKfhzOzL8k7-rWSwVemGdqmFlSrDSGYCMgCZo"}]}'
)
"""The set of an issuer of which no key is known, so that each of its tokens is refused.

Envoy takes no empty set. The one key in this is nobody's: its x is the SHA-256 of a sentence
(tests/authz/test_jwks.py), so nobody knows what signs for it.
"""

_ALGORITHMS: Final = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC P-256": ("ES256",),
    "EC P-384": ("ES384",),
    "EC P-521": ("ES512",),
    "OKP Ed25519": ("EdDSA",),
}
_PUBLIC: Final = ("kty", "kid", "alg", "use", "crv", "n", "e", "x", "y")
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_LEAST_RSA_BITS: Final = 2048
_MOST_RSA_BITS: Final = 8192


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of one issuer as JSON, how many, and why others of its document were left out."""

    text: str
    keys: int
    unused: tuple[str, ...] = ()


class _Unused(Exception):
    """Why a key is left out; never holds any of its values."""


@lru_cache(maxsize=1024)
def read_key_set(document: str) -> KeySet:
    """Return the keys of `document`; raises ValueError when it is no JWKS, or too large."""
    if len(document) > MAXIMUM_BYTES:
        raise ValueError(f"larger than {MAXIMUM_BYTES} bytes")
    try:
        value = json.loads(document)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict) or not isinstance(value.get("keys"), list):
        raise ValueError("not a JSON object with a list `keys`")
    if len(value["keys"]) > MAXIMUM_KEYS:
        raise ValueError(f"more than {MAXIMUM_KEYS} keys")
    keys: list[dict[str, str]] = []
    unused: list[str] = []
    for position, entry in enumerate(value["keys"]):
        try:
            keys.append(_public_part(entry))
        except _Unused as reason:
            unused.append(f"keys[{position}]: {reason}")
    text = json.dumps({"keys": keys}, sort_keys=True, separators=(",", ":"))
    return KeySet(text if keys else NOBODYS, len(keys), tuple(unused))


def _public_part(entry: Any) -> dict[str, str]:
    """Return what a proxy needs of one key."""
    if not isinstance(entry, dict):
        raise _Unused("not an object")
    if entry.get("kty") == "oct" or str(entry.get("alg", "")).startswith("HS"):
        raise _Unused("it is symmetric: whoever verifies with it can also sign")
    if _PRIVATE & entry.keys():
        raise _Unused("it holds private values: whoever reads it can sign; replace the key")
    if entry.get("use", "sig") != "sig":
        raise _Unused("it is not for signatures (`use`)")
    _check_values(entry)
    return {name: entry[name] for name in _PUBLIC if name in entry}


def _check_values(entry: Mapping[str, Any]) -> None:
    if any(not isinstance(entry[name], str) for name in _PUBLIC if name in entry):
        raise _Unused("a value is no text")
    curve = f" {entry.get('crv')}" if entry.get("kty") != "RSA" else ""
    algorithms = _ALGORITHMS.get(f"{entry.get('kty')}{curve}")
    if algorithms is None:
        raise _Unused("neither RSA, nor EC on P-256, P-384 or P-521, nor Ed25519")
    if entry.get("alg", algorithms[0]) not in algorithms:
        raise _Unused("its `alg` does not go with its type")
    try:
        key = jwt.PyJWK(dict(entry), algorithm=entry.get("alg", algorithms[0])).key
    except (jwt.PyJWTError, TypeError, ValueError):
        raise _Unused("its values are no key") from None  # the cause quotes the key
    if isinstance(key, rsa.RSAPublicKey) and not _LEAST_RSA_BITS <= key.key_size <= _MOST_RSA_BITS:
        raise _Unused(f"RSA of {key.key_size} bits: {_LEAST_RSA_BITS} to {_MOST_RSA_BITS} are used")
