"""A person's OpenID Connect token becomes a `Person`, or a refusal with its reason.

    1 size, shape    at most 16 KiB, three parts, two JSON objects; no `crit`, no `b64`
    2 algorithm      RS256 to RS512 or ES256 to ES512: never `none`, never a shared secret
    3 signature      by the key that `kid` names, with the one algorithm pinned to that key
    4 issuer         `iss` is the configured one, whole
    5 audience       `aud` names ours
    6 times          `exp` and `iat` are there, `nbf` counts if it is; exp - iat is bounded
    7 person         `sub`, the username claim and the groups: text, bounded, printable

Every check is made here, on the payload that was verified; nothing is left to a default of a
library. What is missing is refused. `nbf` alone may be missing: most issuers send none (OpenID
Connect Core 2 asks for iss, sub, aud, exp and iat), and `iat` is in its place.

An email address names a person only where `email_verified` says so: somebody else may have claimed
the address, and there are issuers that let them and say nothing.
"""

import asyncio
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from identity.claims import LEEWAY_SECONDS, check_audience, check_times
from identity.key_ring import KeyRing, KeySource
from identity.key_sources import FileKeys, UrlKeys
from identity.signature import verify_signature
from identity.unverified import check_algorithm, take_apart
from meshca.clock import Clock
from meshca.errors import ProofRefused, Refused
from meshca.settings_admin import Jwks, Oidc

REFRESH_SECONDS: Final = 60.0
MAXIMUM_GROUPS: Final = 1_000
MAXIMUM_NAME: Final = 256
_TOKEN_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True, slots=True)
class Person:
    """Who showed a token: what roles and the audit log call them, and until when it is good.

    `subject` is the issuer's `sub`; `token_id` the token's `jti`, or the beginning of its hash.
    """

    username: str
    subject: str
    groups: frozenset[str]
    expires_at: datetime
    token_id: str


class OidcVerifier:
    """Proves people by the tokens of one issuer; for one event loop, which it never blocks."""

    def __init__(self, settings: Oidc, keys: KeyRing, clock: Clock) -> None:
        self._settings = settings
        self._keys = keys
        self._clock = clock

    async def verify(self, token: str) -> Person:
        """Return the person that `token` proves.

        Raises ProofRefused with the reason, or KeysUnavailable before keys were ever fetched.
        """
        unverified = take_apart(token)
        try:
            check_algorithm(unverified)
            if unverified.issuer != self._settings.issuer:
                raise ProofRefused("unknown_issuer", "the token is from another issuer")
            key = await self._keys.get(unverified.key_id)
            payload = verify_signature(unverified, key)
            return self._person(payload, hashlib.sha256(token.encode()).hexdigest())
        except Refused as refusal:
            refusal.claimed.update(unverified.claimed())
            raise

    async def run(self) -> None:
        """Keep the issuer's keys current until cancelled; the first fetch is at once."""
        while True:
            await self._keys.refresh()
            await asyncio.sleep(REFRESH_SECONDS)

    def _person(self, payload: Mapping[str, Any], digest: str) -> Person:
        if payload.get("iss") != self._settings.issuer:
            raise ProofRefused("unknown_issuer", "the token is from another issuer")
        check_audience(payload, frozenset({self._settings.audience}))
        expires_at = check_times(payload, self._clock.now(), needs_nbf=False)
        self._check_lifetime(payload)
        jti = payload.get("jti")
        is_id = isinstance(jti, str) and _TOKEN_ID.fullmatch(jti)
        return Person(
            username=_username(payload, self._settings.username_claim),
            subject=_name(payload, "sub"),
            groups=_groups(payload.get(self._settings.groups_claim)),
            expires_at=expires_at,
            token_id=str(jti) if is_id else f"sha256:{digest[:32]}",
        )

    def _check_lifetime(self, payload: Mapping[str, Any]) -> None:
        longest = self._settings.maximum_lifetime.total_seconds() + LEEWAY_SECONDS
        if payload["exp"] - payload["iat"] > longest:
            raise ProofRefused("lives_too_long", "the token is good for longer than is allowed")


def build_oidc(settings: Oidc, *, clock: Clock) -> OidcVerifier:
    """Return the verifier that the configuration describes; nothing is read or connected yet."""
    return OidcVerifier(settings, KeyRing(_source(settings.jwks), clock=clock), clock)


def _source(jwks: Jwks) -> KeySource:
    if jwks.file is not None:
        return FileKeys(jwks.file)
    if jwks.url is None:
        raise ValueError("the configuration names no source of keys")
    return UrlKeys(jwks.url, jwks.ca_file)


def _username(payload: Mapping[str, Any], claim: str) -> str:
    if claim == "email" and payload.get("email_verified") is not True:
        raise ProofRefused("unverified_email", "the issuer has not verified the email address")
    return _name(payload, claim)


def _name(payload: Mapping[str, Any], claim: str) -> str:
    value = payload.get(claim)
    if value is None:
        raise ProofRefused("missing_claim", f"the token has no {claim}")
    if not _is_name(value):
        raise ProofRefused("malformed", f"{claim} is not printable text of a bounded length")
    return str(value)


def _groups(value: Any) -> frozenset[str]:
    if value is None:
        return frozenset()
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or len(names) > MAXIMUM_GROUPS:
        raise ProofRefused("malformed", f"the groups are no list of at most {MAXIMUM_GROUPS}")
    if not all(map(_is_name, names)):
        raise ProofRefused("malformed", "a group is not printable text of a bounded length")
    return frozenset(names)


def _is_name(value: Any) -> bool:
    if not isinstance(value, str) or not 0 < len(value) <= MAXIMUM_NAME:
        return False
    return value.isprintable() and value == value.strip()
