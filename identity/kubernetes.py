"""A Kubernetes service-account token becomes an attested `Caller`, or a refusal with its reason.

The steps, numbered as in docs/identity.md and in `TokenAuthenticator`:

    1 size           at most 16 KiB, before anything is parsed
    2 cache          the same token, proven less than a minute ago and not expired
    3 shape          three parts, two JSON objects, an alg that Kubernetes issues
    4 cluster        picked by `iss`; a hint until step 5 or 7 vouches for it
    5 signature      jwks, both: by the key that `kid` names, with the one algorithm pinned to it
    6 claims         audience, times, `kubernetes.io` against `sub`, pod binding
    7 review         token_review, both: the API server vouches for it now, and agrees with 6
    8 allow list     by namespace
    9 identity       the cluster's template yields one SPIFFE ID of the trust domain

| reason | step | the token |
|---|---|---|
| too_large | 1 | is longer than 16 KiB |
| malformed | 3, 5, 6 | is not a JWT, or a claim is not of its type or not a Kubernetes name |
| wrong_algorithm | 3, 5 | has an alg that is not allowed, or not the one pinned to its key |
| unknown_issuer | 4, 6 | is from no configured cluster |
| unknown_key | 5 | has a `kid` that its cluster does not publish |
| bad_signature | 5 | was not signed by that key |
| missing_claim | 5, 6 | lacks iss, sub, aud, exp, nbf, iat or kubernetes.io (legacy tokens do) |
| wrong_audience | 5, 6 | is for somebody else |
| expired, not_yet_valid, issued_in_future | 6, 7 | is not good now, 10 s leeway included |
| subject_mismatch | 6 | names one account in `sub` and another in `kubernetes.io` |
| unbound | 6 | is bound to no pod, and `allow.unbound_tokens` is false |
| review_refused | 7 | is refused by the API server: its pod or account is gone, for one |
| review_audience | 7 | was reviewed without our audience |
| review_mismatch | 7 | is known to the API server as something else than it claims |
| namespace_not_allowed | 8 | is good, but its namespace gets no identities here |
| no_identity | 9 | is good, but no SPIFFE ID can be made for it |

Not refusals: KeysUnavailable, ReviewUnavailable, Overloaded. Nothing is remembered of a token
that was not accepted. What each validation mode cannot see is in docs/identity.md.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from cachetools import LRUCache, TLRUCache

from identity.caller import Caller, Evidence
from identity.claims import check_audience, check_times, read_evidence
from identity.cluster import Cluster, build_cluster
from identity.review import check_review
from identity.signature import verify_signature
from identity.unverified import UnverifiedToken, check_algorithm, check_size, take_apart
from meshca.clock import Clock
from meshca.errors import (
    KeysUnavailable,
    MeshcaError,
    Overloaded,
    ProofRefused,
    Refused,
    ReviewUnavailable,
)
from meshca.logs import get_logger
from meshca.metrics import Metrics
from meshca.settings import Cluster as ClusterSettings
from meshca.spiffe_id import SpiffeId

REFRESH_SECONDS: Final = 60.0
"""How often each cluster's keys are fetched."""

CACHE_SECONDS: Final = 60.0
CACHED_TOKENS: Final = 20_000

_UNPROVEN: Final = {
    KeysUnavailable: "keys_unavailable",
    ReviewUnavailable: "review_unavailable",
    Overloaded: "overloaded",
}

_log = get_logger("identity")


class TokenAuthenticator:
    """Proves callers by their tokens; for one event loop, which it never blocks."""

    def __init__(
        self, clusters: Sequence[Cluster], *, trust_domain: str, clock: Clock, metrics: Metrics
    ) -> None:
        self._clusters = {cluster.expected.issuer: cluster for cluster in clusters}
        self._trust_domain = trust_domain
        self._clock = clock
        self._outcomes = metrics.tokens
        self._hits = metrics.tokens.labels(outcome="ok", cache="hit")
        self._misses = metrics.tokens.labels(outcome="ok", cache="miss")
        # Its clock never jumps; that wall time has not passed `exp` is checked at each hit.
        self._proven: TLRUCache[bytes, Caller] = TLRUCache(
            CACHED_TOKENS, ttu=lambda _key, _caller, at: at + CACHE_SECONDS, timer=clock.monotonic
        )
        self._identities: LRUCache[tuple[str, str, str], SpiffeId] = LRUCache(CACHED_TOKENS)

    async def authenticate(self, token: str) -> Caller:
        """Return the caller that `token` proves.

        Raises ProofRefused, IdentityForbidden, KeysUnavailable, ReviewUnavailable or Overloaded.
        """
        try:
            check_size(token)  # 1
            digest = hashlib.sha256(token.encode(errors="replace"))
            if (caller := self._find_proven(digest.digest())) is not None:  # 2
                self._hits.inc()
                return caller
            caller = await self._prove(token, digest.digest())
        except MeshcaError as error:
            self._outcomes.labels(outcome=_outcome(error), cache="miss").inc()
            raise
        self._misses.inc()
        return caller

    async def refresh(self) -> None:
        """Fetch every cluster's keys once; what fails is logged and retried later."""
        rings = [c.keys for c in self._clusters.values() if c.keys is not None]
        await asyncio.gather(*(ring.refresh() for ring in rings))

    async def run(self) -> None:
        """Keep keys current until cancelled; the first fetch is at once."""
        while True:
            await self.refresh()
            await asyncio.sleep(REFRESH_SECONDS)

    def close(self) -> None:
        """Close connections to key sources and API servers."""
        for cluster in self._clusters.values():
            cluster.close()

    def _find_proven(self, digest: bytes) -> Caller | None:
        try:
            caller = self._proven[digest]
        except KeyError:
            return None
        return caller if self._clock.now() < caller.expires_at else None

    async def _prove(self, token: str, digest: bytes) -> Caller:
        unverified = take_apart(token)  # 3
        try:
            check_algorithm(unverified)
            caller = await self._verify(token, digest, unverified)
        except Refused as refusal:
            refusal.claimed.update(unverified.claimed())
            raise
        if self._clock.now() < caller.expires_at:
            self._proven[digest] = caller
        return caller

    async def _verify(self, token: str, digest: bytes, unverified: UnverifiedToken) -> Caller:
        cluster = self._clusters.get(unverified.issuer)  # 4
        if cluster is None:
            raise ProofRefused("unknown_issuer", "no cluster with the token's issuer is configured")
        payload = unverified.payload
        if cluster.keys is not None:  # 5
            key = await cluster.keys.get(unverified.key_id)
            payload = verify_signature(unverified, key)
        expires_at = self._check_validity(payload, cluster)  # 6
        evidence = read_evidence(payload, cluster.expected, digest.hex())
        if cluster.reviews is not None:  # 7
            await _review(token, digest, evidence, cluster)
            check_times(payload, self._clock.now())  # a review takes time
        cluster.check_namespace(evidence.namespace)  # 8
        return Caller(self._identity_of(cluster, evidence), evidence, expires_at)  # 9

    def _check_validity(self, payload: Mapping[str, Any], cluster: Cluster) -> datetime:
        check_audience(payload, cluster.expected.audiences)
        return check_times(payload, self._clock.now())

    def _identity_of(self, cluster: Cluster, evidence: Evidence) -> SpiffeId:
        key = (evidence.cluster, evidence.namespace, evidence.service_account)
        identity = self._identities.get(key)
        if identity is None:
            identity = self._identities[key] = cluster.derive_identity(evidence, self._trust_domain)
        return identity


def _outcome(error: MeshcaError) -> str:
    return error.reason if isinstance(error, Refused) else _UNPROVEN.get(type(error), "fault")


async def _review(token: str, digest: bytes, evidence: Evidence, cluster: Cluster) -> None:
    if cluster.reviews is None:
        raise ValueError("the cluster has no reviewer")
    audiences = cluster.expected.audiences
    review = await cluster.reviews.review(token, digest, sorted(audiences))
    try:
        check_review(review, evidence, audiences)
    except ProofRefused as refusal:
        if cluster.keys is not None:  # signed by the cluster's key, and still refused
            _log.warning("validations_disagree", cluster=evidence.cluster, reason=refusal.reason)
        raise


def build_authenticator(
    clusters: Sequence[ClusterSettings], *, trust_domain: str, clock: Clock, metrics: Metrics
) -> TokenAuthenticator:
    """Return the authenticator for the configured clusters; nothing is read or connected yet."""
    built = [build_cluster(settings, clock=clock) for settings in clusters]
    return TokenAuthenticator(built, trust_domain=trust_domain, clock=clock, metrics=metrics)
