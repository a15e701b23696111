"""The claims of a service-account token, checked and read into `Evidence`.

The caller has had the token vouched for, or will before it believes what is returned. Every
check is made here on the payload, whichever way the token is vouched for, so that no validation
mode has fewer.

Projected tokens carry all of the claims asked for here. What lacks `aud` or `exp` is a legacy
token from a Secret, and is refused. Times are compared with the clock that is handed in.
"""

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from identity.caller import Evidence
from meshca.errors import ProofRefused

LEEWAY_SECONDS: Final = 10
KUBERNETES: Final = "kubernetes.io"

# Kubernetes: object names, RFC 1123 labels and subdomains (apimachinery util/validation).
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SUBDOMAIN: Final = re.compile(
    r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*"
)
_NAME_CHARACTERS: Final = 253
_UID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TOKEN_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_LATEST: Final = 253_402_300_799  # the end of year 9999, the last that datetime can hold


@dataclass(frozen=True, slots=True)
class Expected:
    """What a cluster's tokens must say."""

    cluster: str
    issuer: str
    audiences: Set[str]
    unbound_tokens: bool
    method: str


def check_times(payload: Mapping[str, Any], now: datetime, *, needs_nbf: bool = True) -> datetime:
    """Return when the token expires.

    Raises ProofRefused `expired`, `not_yet_valid` or `issued_in_future`, each with 10 s leeway
    for clocks that differ, and `missing_claim` or `malformed`. Without `needs_nbf` a token without
    `nbf` is good from `iat` on: OpenID Connect does not ask for it.
    """
    at = now.timestamp()
    expires, issued = _instant(payload, "exp"), _instant(payload, "iat")
    not_before = _instant(payload, "nbf") if needs_nbf or "nbf" in payload else 0
    if at >= expires + LEEWAY_SECONDS:
        raise ProofRefused("expired", "the token has expired")
    if at < not_before - LEEWAY_SECONDS:
        raise ProofRefused("not_yet_valid", "the token is not valid yet")
    if at < issued - LEEWAY_SECONDS:
        raise ProofRefused("issued_in_future", "the token was issued in the future")
    return datetime.fromtimestamp(expires, UTC)


def check_audience(payload: Mapping[str, Any], accepted: Set[str]) -> None:
    """Raise ProofRefused `wrong_audience` unless the token is for one of `accepted`."""
    audience = _present(payload, "aud")
    names = [audience] if isinstance(audience, str) else audience
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ProofRefused("malformed", "aud is neither text nor a list of texts")
    if accepted.isdisjoint(names):
        raise ProofRefused("wrong_audience", "the token is for another audience")


def read_evidence(payload: Mapping[str, Any], expected: Expected, sha256_hex: str) -> Evidence:
    """Return who the token speaks of; `sha256_hex` is its hash, an id where it has no `jti`.

    Raises ProofRefused `missing_claim`, `malformed`, `subject_mismatch` or `unbound`.
    """
    if _present(payload, "iss") != expected.issuer:
        raise ProofRefused("unknown_issuer", "the token is from another issuer")
    about = _mapping(payload, KUBERNETES)
    namespace = _text(about, "namespace", _LABEL)
    account = _mapping(about, "serviceaccount")
    account_name = _text(account, "name", _SUBDOMAIN)
    if _present(payload, "sub") != f"system:serviceaccount:{namespace}:{account_name}":
        raise ProofRefused("subject_mismatch", "sub and kubernetes.io name different accounts")
    pod_name, pod_uid = _pod(about, unbound_tokens=expected.unbound_tokens)
    return Evidence(
        method=expected.method,
        cluster=expected.cluster,
        issuer=expected.issuer,
        namespace=namespace,
        service_account=account_name,
        service_account_uid=_text(account, "uid", _UID),
        pod_name=pod_name,
        pod_uid=pod_uid,
        node=_text(_mapping(about, "node"), "name", _SUBDOMAIN) if "node" in about else "",
        token_id=_token_id(payload, sha256_hex),
    )


def _pod(about: Mapping[str, Any], *, unbound_tokens: bool) -> tuple[str, str]:
    if "pod" in about:
        pod = _mapping(about, "pod")
        return _text(pod, "name", _SUBDOMAIN), _text(pod, "uid", _UID)
    if unbound_tokens:
        return "", ""
    raise ProofRefused(
        "unbound", "the token is not bound to a pod, and allow.unbound_tokens is false"
    )


def _token_id(payload: Mapping[str, Any], sha256_hex: str) -> str:
    jti = payload.get("jti")
    if isinstance(jti, str) and _TOKEN_ID.fullmatch(jti):
        return jti
    return f"sha256:{sha256_hex[:32]}"


def _present(values: Mapping[str, Any], name: str) -> Any:
    value = values.get(name)
    if value is None:
        raise ProofRefused("missing_claim", f"the token has no {name}")
    return value


def _mapping(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = _present(values, name)
    if not isinstance(value, dict):
        raise ProofRefused("malformed", f"{name} is not an object")
    return value


def _text(values: Mapping[str, Any], name: str, rule: re.Pattern[str]) -> str:
    value = _present(values, name)
    if not isinstance(value, str) or len(value) > _NAME_CHARACTERS or not rule.fullmatch(value):
        raise ProofRefused("malformed", f"{name} is not a name that Kubernetes gives")
    return value


def _instant(payload: Mapping[str, Any], name: str) -> int:
    value = _present(payload, name)
    if type(value) is not int or not 0 <= value <= _LATEST:  # a bool is an int, too
        raise ProofRefused("malformed", f"{name} is not a time in whole seconds")
    return value
