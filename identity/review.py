"""TokenReview: asking the cluster's API server whether it vouches for a token, now.

The review is made with our audiences and is never repeated without them: a reviewer that returns
no audience does not know of audiences, and is not believed (spiffe.md 5.2). What it says must
agree with the token's own claims, `Evidence`, wherever it says anything.

Reviews run in threads of their own, so that a slow API server cannot take the threads that others
use. One token is reviewed once for everybody who presents it at the same time.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Protocol

from kubernetes import client

from identity.caller import Evidence
from identity.shared_calls import SharedCalls
from meshca.api_server import (
    FAILURES,
    MAXIMUM_CONNECTIONS,
    TIMEOUT_SECONDS,
    ApiServerConnection,
    read_limited,
)
from meshca.errors import Overloaded, ProofRefused, ReviewUnavailable
from meshca.logs import clip

DEADLINE_SECONDS: Final = 8.0
"""How long a caller waits for its review, the wait for a thread included."""

MAXIMUM_WAITING: Final = 1000
_ANSWER_BYTES: Final = 256 * 1024
_EXTRA: Final = "authentication.kubernetes.io/"


@dataclass(frozen=True, slots=True)
class Review:
    """What the API server answered, as text; nothing in it is believed before `check_review`."""

    authenticated: bool
    error: str
    audiences: Sequence[str]
    username: str
    uid: str
    groups: Sequence[str]
    extra: Mapping[str, Sequence[str]]


class Reviewer(Protocol):
    """Who reviews tokens; `str()` of it is for logs."""

    def review(self, token: str, audiences: Sequence[str]) -> Review:
        """Return the answer; blocks; raises ReviewUnavailable."""
        ...

    def close(self) -> None:
        """Give back what is open."""
        ...


class ApiServerReviewer:
    """TokenReview of a Kubernetes API server."""

    def __init__(self, connection: ApiServerConnection) -> None:
        self._connection = connection

    def __str__(self) -> str:
        return str(self._connection)

    def review(self, token: str, audiences: Sequence[str]) -> Review:
        """Return what the API server says of `token`; raises ReviewUnavailable."""
        spec = client.V1TokenReviewSpec(token=token, audiences=list(audiences))
        try:
            api = client.AuthenticationV1Api(self._connection.client())
            # Not parsed by the client: the answer repeats the token, and its errors quote input.
            response = api.create_token_review(
                client.V1TokenReview(spec=spec),
                _preload_content=False,
                _request_timeout=TIMEOUT_SECONDS,
            )
            body = read_limited(response, _ANSWER_BYTES)
        except FAILURES as error:
            self._connection.note(error)
            reason = getattr(error, "reason", None) or type(error).__name__
            # Not chained: the client's error quotes the answer, which may repeat the token.
            raise ReviewUnavailable(f"{self}: {reason}") from None
        return _parse(body, str(self))

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()


class TokenReviews:
    """The reviews of one cluster's tokens: bounded, shared, with a deadline."""

    def __init__(self, reviewer: Reviewer, *, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        self._reviewer = reviewer
        self._deadline_seconds = deadline_seconds
        self._threads = ThreadPoolExecutor(MAXIMUM_CONNECTIONS, thread_name_prefix="token-review")
        self._running = SharedCalls[bytes, Review]()

    async def review(self, token: str, digest: bytes, audiences: Sequence[str]) -> Review:
        """Return the answer for `token`, whose sha256 is `digest`.

        Raises ReviewUnavailable, or Overloaded when too many wait already.
        """
        if len(self._running) >= MAXIMUM_WAITING and digest not in self._running:
            raise Overloaded("too many token reviews are waiting")
        return await self._running.run(digest, lambda: self._ask(token, audiences))

    def close(self) -> None:
        """Close the connections and let idle threads end; a review that runs is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._reviewer.close()

    async def _ask(self, token: str, audiences: Sequence[str]) -> Review:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._deadline_seconds):
                return await loop.run_in_executor(
                    self._threads, self._reviewer.review, token, audiences
                )
        except TimeoutError as error:
            raise ReviewUnavailable(f"{self._reviewer}: no answer in time") from error


def check_review(review: Review, evidence: Evidence, audiences: Set[str]) -> None:
    """Raise ProofRefused unless the API server vouches for exactly what the token claims.

    Reasons: `review_refused`, `review_audience`, `review_mismatch`.
    """
    if not review.authenticated or review.error:
        said = clip(review.error, 200) or "not authenticated"
        raise ProofRefused("review_refused", f"the API server refuses the token: {said}")
    if audiences.isdisjoint(review.audiences):
        raise ProofRefused("review_audience", "the API server vouches for none of our audiences")
    account = f"system:serviceaccount:{evidence.namespace}:{evidence.service_account}"
    if review.username != account or "system:serviceaccounts" not in review.groups:
        raise ProofRefused("review_mismatch", "the API server knows the token as somebody else's")
    if review.uid != evidence.service_account_uid:
        raise ProofRefused("review_mismatch", "the API server knows another service account UID")
    claimed = {
        "pod-name": evidence.pod_name,
        "pod-uid": evidence.pod_uid,
        "node-name": evidence.node,
    }
    for name, value in claimed.items():
        said_of_it = review.extra.get(_EXTRA + name)
        if said_of_it is not None and list(said_of_it) != [value]:
            raise ProofRefused("review_mismatch", f"the API server knows another {name}")


def _parse(body: bytes, source: str) -> Review:
    """Return the answer; what is missing or of another type counts as not said."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        # Not chained: the parser's error holds the document, and the document holds the token.
        raise ReviewUnavailable(f"{source}: the answer is not JSON") from None
    status = _mapping(_mapping({"": answer}, ""), "status")
    user = _mapping(status, "user")
    extra = _mapping(user, "extra")
    return Review(
        authenticated=status.get("authenticated") is True,
        error=str(status.get("error") or ""),
        audiences=_texts(status, "audiences"),
        username=_text(user, "username"),
        uid=_text(user, "uid"),
        groups=_texts(user, "groups"),
        extra={name: _texts(extra, name) for name in extra},
    )


def _mapping(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = values.get(name)
    return value if isinstance(value, dict) else {}


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""


def _texts(values: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = values.get(name)
    return tuple(v for v in value if isinstance(v, str)) if isinstance(value, list) else ()
