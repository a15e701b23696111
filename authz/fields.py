"""The fields of a source and of an operation, and the keys of `when`: what each one looks at.

How their values are read is in `authz.forms` and `authz.paths`. What Istio knows and we do not is
listed here with what to write instead; it is never ignored.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from authz.attributes import Attribute
from authz.forms import (
    parse_claim_value,
    parse_header_value,
    parse_host,
    parse_method,
    parse_namespace,
    parse_network,
    parse_port,
    parse_principal,
    parse_request_principal,
    parse_server_name,
    parse_service_account,
    parse_trust_domain_form,
    to_strings,
)
from authz.paths import parse_path, to_paths
from authz.values import IssuerSubject, Network, Networks, RequestPrincipals, Values

_MOST_SERVICE_ACCOUNTS = 16


def _to_networks(networks: Iterable[Network]) -> Networks:
    return Networks(tuple(sorted(set(networks), key=_network_order)))


def _network_order(network: Network) -> tuple[int, int, int]:
    return network.version, int(network.network_address), network.prefixlen


def _to_request_principals(principals: Iterable[IssuerSubject]) -> RequestPrincipals:
    by_text = {principal.text: principal for principal in principals}
    return RequestPrincipals(tuple(by_text[text] for text in sorted(by_text)))


@dataclass(frozen=True, slots=True)
class Field:
    """What a field or a condition looks at, and how its values are read.

    `parse` reads one value (it raises ValueError); `combine` makes the OR of what it returned.
    """

    attribute: Attribute
    parse: Callable[[str], Any]
    combine: Callable[[list[Any]], Values] = to_strings
    at_most: int | None = None
    key: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """One half of a rule: `key` holds a list of mappings, each with `inner`, a mapping of `fields`.

    Every field has a negation: `notX` (see `names`).
    """

    key: str
    inner: str
    fields: Mapping[str, Field]
    names: Mapping[str, tuple[str, bool]]

    @classmethod
    def of(cls, key: str, inner: str, fields: Mapping[str, Field]) -> "Part":
        """Return the part with these `fields` and their negations."""
        names = {name: (name, False) for name in fields}
        names |= {f"not{name[0].upper()}{name[1:]}": (name, True) for name in fields}
        return cls(key, inner, fields, names)


_PRINCIPALS: Final = Field(Attribute.PRINCIPAL, parse_principal)
_NAMESPACES: Final = Field(Attribute.NAMESPACE, parse_namespace)
_TRUST_DOMAINS: Final = Field(Attribute.TRUST_DOMAIN, parse_trust_domain_form)
_SERVICE_ACCOUNTS: Final = Field(
    Attribute.SERVICE_ACCOUNT, parse_service_account, at_most=_MOST_SERVICE_ACCOUNTS
)
_REQUEST_PRINCIPALS: Final = Field(
    Attribute.REQUEST_PRINCIPAL, parse_request_principal, _to_request_principals
)
_SOURCE_IPS: Final = Field(Attribute.SOURCE_IP, parse_network, _to_networks)
_REMOTE_IPS: Final = Field(Attribute.REMOTE_IP, parse_network, _to_networks)
_PORTS: Final = Field(Attribute.PORT, parse_port)

FROM: Final = Part.of(
    "from",
    "source",
    {
        "principals": _PRINCIPALS,
        "requestPrincipals": _REQUEST_PRINCIPALS,
        "namespaces": _NAMESPACES,
        "serviceAccounts": _SERVICE_ACCOUNTS,
        "trustDomains": _TRUST_DOMAINS,
        "ipBlocks": _SOURCE_IPS,
        "remoteIpBlocks": _REMOTE_IPS,
    },
)
TO: Final = Part.of(
    "to",
    "operation",
    {
        "hosts": Field(Attribute.HOST, parse_host),
        "ports": _PORTS,
        "methods": Field(Attribute.METHOD, parse_method),
        "paths": Field(Attribute.PATH, parse_path, to_paths),
    },
)

CONDITIONS: Final[Mapping[str, Field]] = {
    "source.ip": _SOURCE_IPS,
    "remote.ip": _REMOTE_IPS,
    "source.namespace": _NAMESPACES,
    "source.trustDomain": _TRUST_DOMAINS,
    "source.serviceAccount": _SERVICE_ACCOUNTS,
    "source.principal": _PRINCIPALS,
    "request.auth.principal": _REQUEST_PRINCIPALS,
    "request.auth.audiences": Field(Attribute.AUDIENCES, parse_claim_value),
    "request.auth.presenter": Field(Attribute.PRESENTER, parse_claim_value),
    "destination.ip": Field(Attribute.DESTINATION_IP, parse_network, _to_networks),
    "destination.port": _PORTS,
    "connection.sni": Field(Attribute.SNI, parse_server_name),
}
"""The keys of `when` that are written as they are; headers and claims carry a name in brackets."""

KEYS: Final = (*CONDITIONS, "request.headers[NAME]", "request.auth.claims[NAME]")

_HEADER = re.compile(r"request\.headers\[([!#$%&'*+.^_`|~0-9A-Za-z:-]{1,256})\]")
_CLAIM = re.compile(r"request\.auth\.claims((?:\[[^\[\]]{1,256}\]){1,16})")
_PSEUDO_HEADERS: Final = {
    ":path": "operation.paths",
    ":method": "operation.methods",
    ":authority": "operation.hosts",
    "host": "operation.hosts",
    ":scheme": "destination.port",
}
_ADVICE: Final = {
    "destination.labels": "use spec.selector",
    "destination.name": "use spec.selector",
    "destination.namespace": "put the policy into that namespace",
    "destination.user": "use spec.selector",
}
_EXPERIMENTAL = "experimental.envoy.filters."


def find_condition(key: str) -> Field | None:
    """Return what the condition `key` looks at; None for a key that does not exist.

    Raises ValueError, with advice, for one that Istio knows and we do not.
    """
    if found := CONDITIONS.get(key):
        return found
    if header := _HEADER.fullmatch(key):
        return _header(header[1].lower())
    if claim := _CLAIM.fullmatch(key):
        names = tuple(claim[1][1:-1].split("]["))
        return Field(Attribute.CLAIM, parse_claim_value, key=names)
    if key.startswith(_EXPERIMENTAL):
        raise ValueError(
            "what other filters say of a request is not known to policy here; use "
            "request.headers[NAME] of a header that is set before, or a CUSTOM policy"
        )
    if advice := _ADVICE.get(key.partition("[")[0]):
        raise ValueError(f"{key} is not a condition of policy; {advice}")
    return None


def _header(name: str) -> Field:
    if instead := _PSEUDO_HEADERS.get(name):
        raise ValueError(f"{name} is not compared as a header; use {instead}")
    if name.startswith(":"):
        raise ValueError(f"{name} is not a header that a request has")
    return Field(Attribute.HEADER, parse_header_value, key=(name,))
