"""Texts that a term takes, and requests that carry them.

A witness is only ever a proposal: whoever uses one asks the engine again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from authz.attributes import Attribute
from authz.policy import Term
from authz.request import Http, Request
from authz.values import Networks, Paths, RequestPrincipals, Strings, Values
from meshca.spiffe_id import SpiffeId

MAXIMUM_WITNESSES = 8
_ORDINARY = {Attribute.METHOD: ("GET", "POST"), Attribute.PATH: ("/",)}
_HTTP = {Attribute.METHOD: "method", Attribute.PATH: "path", Attribute.HOST: "host"}
_PLAIN = {
    Attribute.SOURCE_IP: "source_ip",
    Attribute.REMOTE_IP: "remote_ip",
    Attribute.DESTINATION_IP: "destination_ip",
    Attribute.SNI: "sni",
}
_CLAIMS = {Attribute.AUDIENCES: "aud", Attribute.PRESENTER: "azp"}


def witnesses(term: Term) -> list[str]:
    """Return a few texts that satisfy `term`; none where none comes to mind."""
    if term.negative:
        return [each for each in _ORDINARY.get(term.attribute, ()) if not term.values.matches(each)]
    found: list[str] = []
    for text in _texts(term.values):
        if term.values.matches(text) and text not in found:
            found.append(text)
        if len(found) == MAXIMUM_WITNESSES:
            break
    return found


def _texts(values: Values) -> Iterator[str]:
    if isinstance(values, Networks):
        yield from (str(network.network_address) for network in values.networks)
    elif isinstance(values, Paths):
        yield from _texts(values.strings)
        for template in values.templates:
            yield template.text.replace("{**}", "x").replace("{*}", "x")
    elif isinstance(values, RequestPrincipals):
        for each in values.principals:
            for issuer in _texts(each.issuer):
                yield from (f"{issuer}\n{subject}" for subject in _texts(each.subject))
    elif isinstance(values, Strings):
        yield from sorted(values.exact)
        for prefix in values.prefixes:
            yield from (prefix, f"{prefix}x")
        yield from (f"/x{suffix}" for suffix in values.suffixes)
        yield from (f"x{suffix}" for suffix in values.suffixes)
        if values.present:
            yield from ("x", "/")


def with_value(request: Request, term: Term, text: str) -> Request | None:
    """Return `request` with `text` as its value of what `term` looks at; None if it cannot be."""
    attribute = term.attribute
    if attribute is Attribute.PORT:
        return replace(request, port=int(text))
    if attribute in _PLAIN:
        changed: dict[str, Any] = {_PLAIN[attribute]: text}
        return replace(request, **changed)
    if request.http is not None:
        http = _with_http(request.http, term, text)
        if http is not None:
            return replace(request, http=http)
    source = _peer(request.source, attribute, text)
    return None if source is None else replace(request, source=source)


def _with_http(http: Http, term: Term, text: str) -> Http | None:
    attribute = term.attribute
    if attribute in _HTTP:
        changed: dict[str, Any] = {_HTTP[attribute]: text}
        return replace(http, **changed)
    if attribute is Attribute.HEADER:
        return replace(http, headers={**(http.headers or {}), term.key[0]: text})
    claims: Mapping[str, Any] = http.claims or {}
    if attribute in _CLAIMS:
        return replace(http, claims={**claims, _CLAIMS[attribute]: text})
    if attribute is Attribute.CLAIM and len(term.key) == 1:
        return replace(http, claims={**claims, term.key[0]: text})
    if attribute is Attribute.REQUEST_PRINCIPAL:
        issuer, _, subject = text.partition("\n")
        return replace(http, claims={**claims, "iss": issuer, "sub": subject})
    return None


def _peer(source: SpiffeId | None, attribute: Attribute, text: str) -> SpiffeId | None:
    """Return an identity like `source` whose `attribute` is `text`."""
    trust_domain = "" if source is None else source.trust_domain
    segments = [] if source is None else source.path.split("/")
    account = segments[4] if len(segments) == 5 and segments[3] == "sa" else "default"
    match attribute:
        case Attribute.PRINCIPAL:
            said = text
        case Attribute.NAMESPACE | Attribute.ANY_NAMESPACE:
            said = f"{trust_domain}/ns/{text}/sa/{account}"
        case Attribute.SERVICE_ACCOUNT | Attribute.ANY_SERVICE_ACCOUNT:
            namespace, _, name = text.partition("/")
            said = f"{trust_domain}/ns/{namespace}/sa/{name}"
        case Attribute.TRUST_DOMAIN if source is not None:
            said = f"{text}{source.path}"
        case _:
            return None
    try:
        identity = SpiffeId.parse(f"spiffe://{said}")
    except ValueError:
        return None
    return identity if identity.is_leaf else None
