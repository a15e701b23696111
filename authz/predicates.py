"""Predicates of Envoy's matching API: what a proxy compares, and AND, OR and NOT of it.

A predicate is an encoded `xds.type.matcher.v3.Matcher.MatcherList.Predicate`, or True or False
where the answer is known when compiling. Which term of the policy language is which predicate is
in `authz.term_predicates`.

Rules. Regular expressions are made of escaped text only, and match the whole value; `\\C` is any
one byte. An input that has no value (a header that was not sent, no SNI) matches nothing. The URI
SAN is not available on a connection without TLS: Envoy then gives up matching and denies.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from envoy.config.core.v3.address_pb2 import CidrRange
from envoy.extensions.matching.common_inputs.network.v3.network_inputs_pb2 import (
    DestinationIPInput,
    DestinationPortInput,
    DirectSourceIPInput,
    ServerNameInput,
    SourceIPInput,
)
from envoy.extensions.matching.common_inputs.ssl.v3.ssl_inputs_pb2 import UriSanInput
from envoy.extensions.matching.input_matchers.ip.v3.ip_pb2 import Ip
from envoy.type.matcher.v3.http_inputs_pb2 import HttpRequestHeaderMatchInput
from xds.core.v3.extension_pb2 import TypedExtensionConfig
from xds.type.matcher.v3.matcher_pb2 import Matcher
from xds.type.matcher.v3.regex_pb2 import RegexMatcher
from xds.type.matcher.v3.string_pb2 import StringMatcher

from authz.values import Network
from authz.wire import put, tag_of

Predicate = bytes | bool

SCHEME: Final = "spiffe://"
ADDRESS_STAT_PREFIX: Final = "authz"

_Predicate = Matcher.MatcherList.Predicate
_Single = _Predicate.SinglePredicate
_SINGLE: Final = tag_of(_Predicate, "single_predicate")
_AND: Final = tag_of(_Predicate, "and_matcher")
_OR: Final = tag_of(_Predicate, "or_matcher")
_NOT: Final = tag_of(_Predicate, "not_matcher")
_MEMBER: Final = tag_of(_Predicate.PredicateList, "predicate")
_INPUT: Final = tag_of(_Single, "input")
_VALUE_MATCH: Final = tag_of(_Single, "value_match")
_CUSTOM_MATCH: Final = tag_of(_Single, "custom_match")
_FORMS: Final = {
    form: tag_of(StringMatcher, form) for form in ("exact", "prefix", "suffix", "contains")
}
_REGEX: Final = tag_of(StringMatcher, "safe_regex")
_REGEX_TEXT: Final = tag_of(RegexMatcher, "regex")
_RE2: Final = RegexMatcher(google_re2=RegexMatcher.GoogleRE2()).SerializeToString()
_IGNORE_CASE: Final = StringMatcher(ignore_case=True).SerializeToString()


def packed_extension(name: str, message: Any) -> Any:
    """Return `message` as an xDS extension, with the same bytes every time."""
    extension = TypedExtensionConfig(name=name)
    extension.typed_config.Pack(message, deterministic=True)
    return extension


def _input(name: str, message: Any) -> bytes:
    encoded: bytes = packed_extension(name, message).SerializeToString()
    return encoded


URI_SAN: Final = _input("uri-san", UriSanInput())
PORT: Final = _input("port", DestinationPortInput())
SOURCE_IP: Final = _input("source-ip", DirectSourceIPInput())
REMOTE_IP: Final = _input("remote-ip", SourceIPInput())
DESTINATION_IP: Final = _input("destination-ip", DestinationIPInput())
SNI: Final = _input("sni", ServerNameInput())


def header_input(name: str) -> bytes:
    """Return the input that is all lines of the header `name`, joined by commas."""
    return _input(name.removeprefix(":"), HttpRequestHeaderMatchInput(header_name=name))


METHOD: Final = header_input(":method")
PATH: Final = header_input(":path")
HOST: Final = header_input(":authority")


@lru_cache(maxsize=16_384)
def compare(source: bytes, form: str, text: str, *, ignore_case: bool = False) -> Predicate:
    """Return whether `source` is, begins with, ends with or contains `text`, as `form` says."""
    matcher = put(_FORMS[form], text.encode())
    return _single(source, _VALUE_MATCH, matcher + _IGNORE_CASE if ignore_case else matcher)


def matches_regex(source: bytes, regex: str) -> Predicate:
    """Return whether the whole of `source` matches `regex`."""
    matcher = _RE2 + put(_REGEX_TEXT, regex.encode())
    return _single(source, _VALUE_MATCH, put(_REGEX, matcher))


def is_present(source: bytes) -> Predicate:
    """Return whether `source` is there, and not empty."""
    return matches_regex(source, r"\C+")


def is_within(source: bytes, networks: Iterable[Network]) -> Predicate:
    """Return whether `source` is an address in one of `networks`; IPv4 is not IPv6."""
    ranges = [_cidr(network) for network in networks]
    if not ranges:
        return False
    matcher = Ip(cidr_ranges=ranges, stat_prefix=ADDRESS_STAT_PREFIX)
    return _single(source, _CUSTOM_MATCH, _input("ip", matcher))


def _cidr(network: Network) -> Any:
    cidr = CidrRange(address_prefix=str(network.network_address))
    cidr.prefix_len.value = network.prefixlen
    return cidr


def _single(source: bytes, tag: bytes, matcher: bytes) -> bytes:
    return put(_SINGLE, put(_INPUT, source) + put(tag, matcher))


def all_of(predicates: Iterable[Predicate]) -> Predicate:
    """Return the AND of `predicates`; of none it is True."""
    unknown: list[bytes] = []
    for predicate in predicates:
        if predicate is False:
            return False
        if predicate is not True:
            unknown.append(predicate)
    return _joined(_AND, unknown) if unknown else True


def any_of(predicates: Iterable[Predicate]) -> Predicate:
    """Return the OR of `predicates`; of none it is False."""
    unknown: list[bytes] = []
    for predicate in predicates:
        if predicate is True:
            return True
        if predicate is not False:
            unknown.append(predicate)
    return _joined(_OR, unknown) if unknown else False


def _joined(tag: bytes, predicates: list[bytes]) -> bytes:
    if len(predicates) == 1:
        return predicates[0]
    return put(tag, b"".join([put(_MEMBER, predicate) for predicate in predicates]))


def negate(predicate: Predicate) -> Predicate:
    """Return the NOT of `predicate`."""
    return not predicate if isinstance(predicate, bool) else put(_NOT, predicate)


HAS_IDENTITY: Final = compare(URI_SAN, "prefix", SCHEME)
HAS_SEVERAL_IDENTITIES: Final = compare(URI_SAN, "contains", ",")
HAS_ABSOLUTE_PATH: Final = compare(PATH, "prefix", "/")
