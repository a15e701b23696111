"""Terms as predicates of Envoy's matching API, exact to the byte.

A predicate is a protobuf message, or True or False where the answer is known when compiling:
identity on a plaintext connection, methods and paths on TCP. Rules.

- Identity is compared with the one URI SAN of the verified peer certificate, always including
  `spiffe://`. A namespace is the whole segment after `spiffe://<trust domain>/ns/`.
- `:path` still has its query when a proxy matches it, so an exact path is that path, or that path
  followed by `?`. A suffix needs a regular expression: of literal, escaped text.
- The URI SAN is not available on a connection without TLS; Envoy then gives up matching and
  denies. So whoever compiles says whether connections are mutual TLS (`View`).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from envoy.extensions.matching.common_inputs.network.v3.network_inputs_pb2 import (
    DestinationPortInput,
)
from envoy.extensions.matching.common_inputs.ssl.v3.ssl_inputs_pb2 import UriSanInput
from envoy.type.matcher.v3.http_inputs_pb2 import HttpRequestHeaderMatchInput
from xds.core.v3.extension_pb2 import TypedExtensionConfig
from xds.type.matcher.v3.matcher_pb2 import Matcher
from xds.type.matcher.v3.regex_pb2 import RegexMatcher
from xds.type.matcher.v3.string_pb2 import StringMatcher

from authz.attributes import HTTP_ONLY, IDENTITY, Attribute
from authz.policy import Conjunction, Term
from authz.values import Strings

Predicate = Any
"""A `Matcher.MatcherList.Predicate`, or a bool (xds-protos ships no annotations)."""

_Predicate = Matcher.MatcherList.Predicate
_SCHEME = "spiffe://"


@dataclass(frozen=True, slots=True)
class View:
    """What is known of every connection that a compiled filter will see."""

    trust_domains: tuple[str, ...]
    is_http: bool
    is_mutual_tls: bool


def packed_extension(name: str, message: Any) -> Any:
    """Return `message` as an xDS extension, with the same bytes every time."""
    extension = TypedExtensionConfig(name=name)
    extension.typed_config.Pack(message, deterministic=True)
    return extension


URI_SAN: Final = packed_extension("uri-san", UriSanInput())
_PORT: Final = packed_extension("port", DestinationPortInput())
_METHOD: Final = packed_extension("method", HttpRequestHeaderMatchInput(header_name=":method"))
_PATH: Final = packed_extension("path", HttpRequestHeaderMatchInput(header_name=":path"))


def _match(source: Any, **form: Any) -> Predicate:
    single = _Predicate.SinglePredicate(input=source, value_match=StringMatcher(**form))
    return _Predicate(single_predicate=single)


def _regex(source: Any, regex: str) -> Predicate:
    google_re2 = RegexMatcher.GoogleRE2()
    return _match(source, safe_regex=RegexMatcher(google_re2=google_re2, regex=regex))


def all_of(predicates: Iterable[Predicate]) -> Predicate:
    """Return the AND of `predicates`; of none it is True."""
    unknown = [predicate for predicate in predicates if predicate is not True]
    if any(predicate is False for predicate in unknown):
        return False
    if len(unknown) < 2:
        return unknown[0] if unknown else True
    return _Predicate(and_matcher=_Predicate.PredicateList(predicate=unknown))


def any_of(predicates: Iterable[Predicate]) -> Predicate:
    """Return the OR of `predicates`; of none it is False."""
    unknown = [predicate for predicate in predicates if predicate is not False]
    if any(predicate is True for predicate in unknown):
        return True
    if len(unknown) < 2:
        return unknown[0] if unknown else False
    return _Predicate(or_matcher=_Predicate.PredicateList(predicate=unknown))


def negate(predicate: Predicate) -> Predicate:
    """Return the NOT of `predicate`."""
    if isinstance(predicate, bool):
        return not predicate
    return _Predicate(not_matcher=predicate)


HAS_IDENTITY: Final = _match(URI_SAN, prefix=_SCHEME)
HAS_SEVERAL_IDENTITIES: Final = _match(URI_SAN, contains=",")
HAS_ABSOLUTE_PATH: Final = _match(_PATH, prefix="/")


def alternatives_predicate(alternatives: tuple[Conjunction, ...], view: View) -> Predicate:
    """Return when one of `alternatives` holds; none at all is no constraint."""
    if not alternatives:
        return True
    return any_of(all_of(term_predicate(term, view) for term in terms) for terms in alternatives)


def term_predicate(term: Term, view: View) -> Predicate:
    """Return when `term` holds.

    Raises KeyError for an attribute that this compiler does not know: nothing is ever left out.
    """
    if term.attribute in IDENTITY and not view.is_mutual_tls:
        return term.if_absent
    if term.attribute in HTTP_ONLY and not view.is_http:
        return term.if_absent
    assert isinstance(term.values, Strings)  # noqa: S101  # what these attributes are read as
    positive = any_of(_VALUES[term.attribute](term.values, view))
    if not term.negative:
        return positive
    has_attribute = True if term.if_absent else _has_attribute(term.attribute, view)
    return all_of((has_attribute, negate(positive)))


def _has_attribute(attribute: Attribute, view: View) -> Predicate:
    match attribute:
        case Attribute.PRINCIPAL:
            return HAS_IDENTITY
        case Attribute.NAMESPACE:
            return any_of(_match(URI_SAN, prefix=start) for start in _namespaces_of(view))
        case _:
            return True


def _namespaces_of(view: View) -> list[str]:
    return [f"{_SCHEME}{trust_domain}/ns/" for trust_domain in view.trust_domains]


def _principal(values: Strings, _view: View) -> Iterable[Predicate]:
    if values.present:
        yield HAS_IDENTITY
    for text in sorted(values.exact):
        yield _match(URI_SAN, exact=_SCHEME + text)
    for text in values.prefixes:
        yield _match(URI_SAN, prefix=_SCHEME + text)
    for text in values.suffixes:
        yield all_of((HAS_IDENTITY, _match(URI_SAN, suffix=text), _not_only_scheme(text)))


def _not_only_scheme(suffix: str) -> Predicate:
    """Return that `suffix` does not reach into `spiffe://`, which is no part of a principal."""
    if not suffix.startswith("/"):
        return True
    return negate(_match(URI_SAN, exact=_SCHEME + suffix[1:]))


def _namespace(values: Strings, view: View) -> Iterable[Predicate]:
    for start in _namespaces_of(view):
        if values.present:
            yield _match(URI_SAN, prefix=start)
        for text in sorted(values.exact):
            yield _match(URI_SAN, prefix=f"{start}{text}/")
            yield _match(URI_SAN, exact=start + text)
        for text in values.prefixes:
            yield _match(URI_SAN, prefix=start + text)
        for text in values.suffixes:
            yield _regex(URI_SAN, rf"{re.escape(start)}[^/]*{re.escape(text)}(/.*)?")


def _port(values: Strings, _view: View) -> Iterable[Predicate]:
    for text in sorted(values.exact):
        yield _match(_PORT, exact=text)


def _method(values: Strings, _view: View) -> Iterable[Predicate]:
    if values.present:
        yield True
    for text in sorted(values.exact):
        yield _match(_METHOD, exact=text)
    for text in values.prefixes:
        yield _match(_METHOD, prefix=text)
    for text in values.suffixes:
        yield _match(_METHOD, suffix=text)


def _path(values: Strings, _view: View) -> Iterable[Predicate]:
    if values.present:
        yield True  # the compiled filter refuses a path that is not absolute, and so an empty one
    for text in sorted(values.exact):
        yield _match(_PATH, exact=text)
        yield _match(_PATH, prefix=f"{text}?")
    for text in values.prefixes:
        yield _match(_PATH, prefix=text)
    for text in values.suffixes:
        yield _regex(_PATH, rf"[^?]*{re.escape(text)}(\?\C*)?")


_VALUES: Final[Mapping[Attribute, Callable[[Strings, View], Iterable[Predicate]]]] = {
    Attribute.PRINCIPAL: _principal,
    Attribute.NAMESPACE: _namespace,
    Attribute.PORT: _port,
    Attribute.METHOD: _method,
    Attribute.PATH: _path,
}
