"""Key sets: a JWKS document becomes the keys that may verify tokens, by `kid`.

Each key is pinned to one algorithm: the JWK's `alg`, or what its type and curve imply. What we do
not use is left out with a log line and never stops the other keys: unknown types, other uses,
keys without `kid`, RSA keys of fewer than 2048 or more than 8192 bits, private keys.
A key set may be empty: then its owner trusts no key, and neither do we.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from meshca.logs import clip, get_logger

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

MAXIMUM_BYTES: Final = 1024 * 1024
_RSA_BITS: Final = range(2048, 8193)
_PINNABLE: Final = {
    "RSA": ("RS256", "RS384", "RS512"),
    "EC P-256": ("ES256",),
    "EC P-384": ("ES384",),
    "EC P-521": ("ES512",),
}

_log = get_logger("identity")


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One public key and the only algorithm it verifies: by name, and PyJWT's object for it."""

    key_id: str
    algorithm: str
    public_key: PublicKey
    verifier: jwt.algorithms.Algorithm


class _Unused(Exception):
    """Why a JWK is left out; never holds any of its values."""


def parse_key_set(document: bytes, *, source: str) -> dict[str, VerificationKey]:
    """Return the usable keys of a JWKS by `kid`; `source` names it in the log.

    Raises ValueError when `document` is not a JWKS.
    """
    if len(document) > MAXIMUM_BYTES:
        raise ValueError(f"larger than {MAXIMUM_BYTES} bytes")
    try:
        value = json.loads(document.decode())
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict) or not isinstance(value.get("keys"), list):
        raise ValueError("not a JSON object with a list of keys")
    keys: dict[str, VerificationKey] = {}
    for position, entry in enumerate(value["keys"]):
        try:
            _add(keys, entry)
        except _Unused as reason:
            _log.warning("key_not_used", source=source, position=position, reason=str(reason))
    if not keys:
        _log.warning("key_set_is_empty", source=source)
    return keys


def _add(keys: dict[str, VerificationKey], entry: Any) -> None:
    if not isinstance(entry, dict):
        raise _Unused("not an object")
    key = _read_key(entry)
    if key.key_id in keys:
        raise _Unused(f"kid {clip(key.key_id, 64)} is given twice: the first counts")
    keys[key.key_id] = key


def _read_key(entry: Mapping[str, Any]) -> VerificationKey:
    if entry.get("use", "sig") != "sig":
        raise _Unused("its use is not sig")
    kid = entry.get("kid")
    if not isinstance(kid, str) or not kid:
        raise _Unused("it has no kid")
    algorithm = _pin_algorithm(entry)
    try:
        parsed = jwt.PyJWK(dict(entry), algorithm=algorithm)
    except (jwt.PyJWTError, TypeError, ValueError):
        # PyJWT's message quotes the JWK, which might hold a private key: it is not chained.
        raise _Unused("its values are not a key") from None
    public_key = parsed.key
    if not isinstance(public_key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise _Unused("it holds a private key")
    if isinstance(public_key, rsa.RSAPublicKey) and public_key.key_size not in _RSA_BITS:
        raise _Unused(f"an RSA key of {public_key.key_size} bits: 2048 to 8192 are used")
    return VerificationKey(kid, algorithm, public_key, parsed.Algorithm)


def _pin_algorithm(entry: Mapping[str, Any]) -> str:
    kind = str(entry.get("kty"))
    if kind == "EC":
        kind += f" {entry.get('crv')}"
    pinnable = _PINNABLE.get(kind)
    if pinnable is None:
        raise _Unused("neither RSA nor EC on P-256, P-384 or P-521")
    algorithm = entry.get("alg", pinnable[0])
    if algorithm not in pinnable:
        raise _Unused(f"its alg does not go with {kind}")
    return str(algorithm)
