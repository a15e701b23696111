"""A token taken apart before anything in it is believed.

What is read here only ever picks which key or reviewer has to vouch for the token, refuses early,
or tells the audit log what was claimed. Accepting is the business of `identity.kubernetes`.

The reader is a strict one: UTF-8 only, no NaN or Infinity, no deep nesting, and no header that
would change how the rest is read. Where a key is given twice its last value counts. It is the only
reader: what is verified later are the bytes that were read here.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from meshca.errors import ProofRefused
from meshca.logs import clip

MAXIMUM_BYTES: Final = 16 * 1024
"""The longest token looked at; Kubernetes issues about 1 KiB."""

ALGORITHMS: Final = frozenset({"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"})
"""What Kubernetes signs with; everything else, `none` and HS* first of all, is refused."""

_CHANGES_READING: Final = frozenset({"crit", "b64"})
"""Extensions that would have to be understood (RFC 7515 4.1.11, RFC 7797); Kubernetes uses none."""

_CLAIMED_CHARACTERS: Final = 256
_SHAPE: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """The header and payload that a token claims to have, and what would prove them."""

    header: Mapping[str, Any]
    payload: dict[str, Any]
    signing_input: bytes = b""
    signature: bytes = field(default=b"", repr=False)

    @property
    def key_id(self) -> str:
        """Return `kid`, or empty text: a name to look up, never a path or an address."""
        kid = self.header.get("kid")
        return kid if isinstance(kid, str) else ""

    @property
    def issuer(self) -> str:
        """Return `iss`, or empty text."""
        issuer = self.payload.get("iss")
        return issuer if isinstance(issuer, str) else ""

    def claimed(self) -> dict[str, str]:
        """Return, for the audit log, what the token says of itself, clipped."""
        pod = _inner(_inner(self.payload, "kubernetes.io"), "pod")
        audience = self.payload.get("aud")
        values = {
            "iss": self.payload.get("iss"),
            "sub": self.payload.get("sub"),
            "aud": " ".join(map(str, audience)) if isinstance(audience, list) else audience,
            "pod": pod.get("name"),
            "pod_uid": pod.get("uid"),
            "kid": self.header.get("kid"),
            "alg": self.header.get("alg"),
        }
        return {k: clip(str(v), _CLAIMED_CHARACTERS) for k, v in values.items() if v is not None}


def take_apart(token: str) -> UnverifiedToken:
    """Return what `token` claims.

    Raises ProofRefused: `too_large` before anything is parsed, else `malformed`.
    """
    check_size(token)
    match = _SHAPE.fullmatch(token)
    if match is None:
        raise ProofRefused("malformed", "the token is not three base64url parts")
    header, payload = _object(match[1], "header"), _object(match[2], "payload")
    if not _CHANGES_READING.isdisjoint(header):
        raise ProofRefused("malformed", "the token's header has crit or b64")
    signing_input = token[: match.start(3) - 1].encode("ascii")
    return UnverifiedToken(header, payload, signing_input, _decoded(match[3], "signature"))


def check_size(token: str) -> None:
    """Raise ProofRefused `too_large` when `token` is longer than we look at."""
    if len(token) > MAXIMUM_BYTES:
        raise ProofRefused(
            "too_large",
            f"the token has {len(token)} characters, more than {MAXIMUM_BYTES}",
            claimed={"characters": str(len(token))},
        )


def check_algorithm(token: UnverifiedToken) -> None:
    """Raise ProofRefused `wrong_algorithm` unless `alg` is one that Kubernetes signs with.

    Which of them verifies the token is decided by the key, not by this header.
    """
    algorithm = token.header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise ProofRefused("wrong_algorithm", "the token's alg is not one that Kubernetes issues")


def _object(segment: str, part: str) -> dict[str, Any]:
    try:
        value = orjson.loads(_decoded(segment, part))
    except ValueError as error:
        raise ProofRefused("malformed", f"the token's {part} is not JSON we accept") from error
    if not isinstance(value, dict):
        raise ProofRefused("malformed", f"the token's {part} is not a JSON object")
    return value


def _decoded(segment: str, part: str) -> bytes:
    """Return what `segment` holds; of the texts that decode to one value only one is accepted."""
    try:
        value = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except ValueError as error:
        raise ProofRefused("malformed", f"the token's {part} is not base64url") from error
    if base64.urlsafe_b64encode(value).rstrip(b"=") != segment.encode():
        raise ProofRefused("malformed", f"the token's {part} is not canonical base64url")
    return value


def _inner(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    inner = value.get(key)
    return inner if isinstance(inner, dict) else {}
