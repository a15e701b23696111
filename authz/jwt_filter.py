"""The filter that validates tokens of requests, made of the RequestAuthentications of a workload.

As in Istio: a request without a token passes on without claims; one whose token is invalid is
answered 401. Where several issuers may be asked, one valid token is enough, else every token that
is there must be valid. CORS preflights pass. What a valid token says is left as metadata `payload`
for what follows (`authz-check`, the record of decisions).

Keys are sent along, never fetched by the proxy. Of an issuer whose keys are not known, every token
is refused. A workload without RequestAuthentication gets an RBAC filter without rules, which lets
everything pass. Pure: `authz.token_keys` fetches keys.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC as HTTP_RBAC
from google.protobuf.empty_pb2 import Empty

from authz.engine import WorkloadPolicies
from authz.request_authentication import JwtRule

METADATA_NAMESPACE: Final = "envoy.filters.http.jwt_authn"
PAYLOAD: Final = "payload"
"""Where the claims of a valid token are: in this metadata, under this key."""
CLOCK_SKEW_SECONDS: Final = 60

Keys = Callable[[JwtRule], str]
"""The key set of an issuer, as JSON (`authz.jwks`)."""
_Requirement = config_pb2.JwtRequirement


def jwt_filter(policies: WorkloadPolicies, keys: Keys) -> Any:
    """Return the HTTP filter: JwtAuthentication (jwt_authn.v3), or an RBAC that lets all pass."""
    rules = [rule for each in policies.enforced.request_authentications for rule in each.rules]
    if not rules:
        return HTTP_RBAC()
    # A request that is not validated keeps headers of its own in the place of the token's.
    writes = any(rule.payload_header or rule.claim_headers for rule in rules)
    config = config_pb2.JwtAuthentication(bypass_cors_preflight=not writes, stat_prefix="meshca_")
    names = [f"issuer-{number}" for number in range(len(rules))]
    for name, rule in zip(names, rules, strict=True):
        config.providers[name].CopyFrom(_provider(rule, keys(rule)))
    config.rules.add(requires=_valid_or_missing(names)).match.prefix = "/"
    return config


def _provider(rule: JwtRule, keys: str) -> Any:
    provider = config_pb2.JwtProvider(
        issuer=rule.issuer,
        audiences=rule.audiences,
        forward=rule.forward,
        from_params=rule.params,
        from_cookies=rule.cookies,
        forward_payload_header=rule.payload_header,
        payload_in_metadata=PAYLOAD,
        clock_skew_seconds=CLOCK_SKEW_SECONDS,
    )
    provider.local_jwks.inline_string = keys
    for header in rule.headers:
        provider.from_headers.add(name=header.name, value_prefix=header.prefix)
    for name, claim in rule.claim_headers:
        provider.claim_to_headers.add(header_name=name, claim_name=claim)
    return provider


def _valid_or_missing(names: list[str]) -> Any:
    """Return: one issuer's token is valid, or each issuer's is valid or missing."""
    valid = [_Requirement(provider_name=name) for name in names]
    each = [_any_of([one, _Requirement(allow_missing=Empty())]) for one in valid]
    if len(each) == 1:
        return each[0]
    every = config_pb2.JwtRequirementAndList(requirements=each)
    return _any_of([*valid, _Requirement(requires_all=every)])


def _any_of(requirements: Iterable[Any]) -> Any:
    found = config_pb2.JwtRequirementOrList(requirements=requirements)
    return _Requirement(requires_any=found)
