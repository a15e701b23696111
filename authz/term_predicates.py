"""Terms of the policy language as predicates, exact to the byte.

Rules.

- Every attribute has its line in `_VALUES`, or is one of TOKEN; for any other compiling fails.
- Identity is compared with the one URI SAN of the verified peer certificate, always including
  `spiffe://`. A namespace is the whole segment after `spiffe://<trust domain>/ns/`.
- `:path` still has its query when a proxy matches it, so an exact path is that path, or that path
  followed by `?`. Suffixes and templates need a regular expression: of literal, escaped text.
- An address in IPv4 is the same address mapped into IPv6.
- What a token says no proxy compares: such a term is taken to hold, and `authz.compile` sees to
  the rest. What is known without asking (identity on plaintext, a path on TCP) is True or False.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final

from authz import predicates as p
from authz.attributes import HTTP_ONLY, IDENTITY, TOKEN, Attribute
from authz.hosts import host_predicates
from authz.policy import Conjunction, Term
from authz.predicates import SCHEME, Predicate, all_of, any_of, compare, matches_regex, negate
from authz.values import Networks, Paths, Strings

_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_QUERY: Final = r"(\?\C*)?"


@dataclass(frozen=True, slots=True)
class View:
    """What is known of every connection that a compiled filter will see."""

    trust_domains: tuple[str, ...]
    is_http: bool
    is_mutual_tls: bool


Domains = Collection[str] | None
"""The trust domains that a peer is of, where a source says so; None where it does not."""


def alternatives_predicate(alternatives: tuple[Conjunction, ...], view: View) -> Predicate:
    """Return when one of `alternatives` holds; none at all is no constraint."""
    if not alternatives:
        return True
    return any_of([conjunction_predicate(terms, view) for terms in alternatives])


def conjunction_predicate(terms: Conjunction, view: View) -> Predicate:
    """Return when all of `terms` hold."""
    domains = domains_of(terms)
    return all_of([_term_predicate(term, view, domains) for term in terms])


def domains_of(terms: Conjunction) -> Domains:
    """Return the trust domains of which a peer is one when `terms` hold; None if not known."""
    for term in terms:
        exactly = not term.negative and not term.if_absent and term.values.is_exact
        if term.attribute is Attribute.TRUST_DOMAIN and exactly:
            return sorted(term.values.exact)
    return None


def _term_predicate(term: Term, view: View, domains: Domains) -> Predicate:
    """Return when `term` holds.

    Raises KeyError for an attribute that this compiler does not know: nothing is ever left out.
    """
    attribute = term.attribute
    if _is_never_known(attribute, view):
        return term.if_absent
    if attribute in TOKEN:
        return True
    positive = any_of(_VALUES[attribute](term, view, domains))
    holds_absent = term.negative and not term.needs_value
    if attribute in _SOMETIMES_KNOWN:
        holds_absent = term.if_absent
    if holds_absent is term.negative:
        return negate(positive) if term.negative else positive
    has_value = _has_value(term, view, domains)
    if term.negative:
        return all_of((has_value, negate(positive)))
    return any_of((negate(has_value), positive))


_SOMETIMES_KNOWN: Final = IDENTITY | {Attribute.SNI}
"""What a connection may lack, and then is not known to the engine."""


def _is_never_known(attribute: Attribute, view: View) -> bool:
    if attribute in _SOMETIMES_KNOWN and not view.is_mutual_tls:
        return True
    return attribute in HTTP_ONLY and not view.is_http


def _has_value(term: Term, view: View, domains: Domains) -> Predicate:
    match term.attribute:
        case Attribute.NAMESPACE:
            starts = _namespace_starts(view.trust_domains)
            return any_of([compare(p.URI_SAN, "prefix", start) for start in starts])
        case Attribute.ANY_NAMESPACE:
            return matches_regex(p.URI_SAN, rf"{_of(domains)}/ns/.*")
        case Attribute.SERVICE_ACCOUNT:
            return matches_regex(p.URI_SAN, rf"{_of(view.trust_domains)}/ns/[^/]*/sa/[^/]*")
        case Attribute.ANY_SERVICE_ACCOUNT:
            return matches_regex(p.URI_SAN, rf"{_of(domains)}/ns/[^/]*/sa/[^/]*")
        case Attribute.SNI:
            return p.is_present(p.SNI)
        case Attribute.HEADER:
            return matches_regex(p.header_input(*term.key), r"\C*")
        case _:
            return p.HAS_IDENTITY


def _of(domains: Domains) -> str:
    """Return a regular expression for `spiffe://` and one of `domains`, or any."""
    if domains is None:
        return rf"{SCHEME}[^/]*"
    return rf"{SCHEME}({'|'.join(re.escape(domain) for domain in domains)})"


def _namespace_starts(domains: Collection[str]) -> list[str]:
    return [f"{SCHEME}{domain}/ns/" for domain in domains]


def _strings(values: Any) -> Strings:
    assert isinstance(values, Strings)  # noqa: S101  # what these attributes are read as
    return values


def _forms(source: bytes, values: Strings) -> Iterator[Predicate]:
    """Yield the comparisons of a value that is compared as it is."""
    if values.present:
        yield p.is_present(source)
    for text in sorted(values.exact):
        yield compare(source, "exact", text)
    for text in values.prefixes:
        yield compare(source, "prefix", text)
    for text in values.suffixes:
        yield compare(source, "suffix", text)


def _principal(term: Term, _view: View, _domains: Domains) -> Iterable[Predicate]:
    values = _strings(term.values)
    if values.present:
        yield p.HAS_IDENTITY
    for text in sorted(values.exact):
        yield compare(p.URI_SAN, "exact", SCHEME + text)
    for text in values.prefixes:
        yield compare(p.URI_SAN, "prefix", SCHEME + text)
    for text in values.suffixes:
        ends = compare(p.URI_SAN, "suffix", text)
        yield all_of((p.HAS_IDENTITY, ends, _not_only_scheme(text)))


def _not_only_scheme(suffix: str) -> Predicate:
    """Return that `suffix` does not reach into `spiffe://`, which is no part of a principal."""
    if not suffix.startswith("/"):
        return True
    return negate(compare(p.URI_SAN, "exact", SCHEME + suffix[1:]))


def _trust_domain(term: Term, _view: View, _domains: Domains) -> Iterable[Predicate]:
    values = _strings(term.values)
    if values.present:
        yield p.HAS_IDENTITY
    for text in sorted(values.exact):
        yield compare(p.URI_SAN, "prefix", f"{SCHEME}{text}/")
    for text in values.prefixes:
        yield compare(p.URI_SAN, "prefix", SCHEME + text)
    for text in values.suffixes:
        yield matches_regex(p.URI_SAN, rf"{SCHEME}[^/]*{re.escape(text)}/.*")


def _namespace(term: Term, view: View, _domains: Domains) -> Iterable[Predicate]:
    return _namespaces(_strings(term.values), view.trust_domains)


def _any_namespace(term: Term, _view: View, domains: Domains) -> Iterable[Predicate]:
    values = _strings(term.values)
    if domains is not None:
        yield from _namespaces(values, domains)
        return
    if values.present:
        yield matches_regex(p.URI_SAN, rf"{SCHEME}[^/]*/ns/.*")
    for text in sorted(values.exact):
        yield matches_regex(p.URI_SAN, rf"{SCHEME}[^/]*/ns/{re.escape(text)}(/.*)?")
    for text in values.prefixes:
        yield matches_regex(p.URI_SAN, rf"{SCHEME}[^/]*/ns/{re.escape(text)}.*")
    for text in values.suffixes:
        yield matches_regex(p.URI_SAN, rf"{SCHEME}[^/]*/ns/[^/]*{re.escape(text)}(/.*)?")


def _namespaces(values: Strings, domains: Collection[str]) -> Iterator[Predicate]:
    for start in _namespace_starts(domains):
        if values.present:
            yield compare(p.URI_SAN, "prefix", start)
        for text in sorted(values.exact):
            yield compare(p.URI_SAN, "prefix", f"{start}{text}/")
            yield compare(p.URI_SAN, "exact", start + text)
        for text in values.prefixes:
            yield compare(p.URI_SAN, "prefix", start + text)
        for text in values.suffixes:
            yield matches_regex(p.URI_SAN, rf"{re.escape(start)}[^/]*{re.escape(text)}(/.*)?")


def _service_account(term: Term, view: View, _domains: Domains) -> Iterable[Predicate]:
    for principal in account_principals(term.values.exact, view.trust_domains):
        yield compare(p.URI_SAN, "exact", SCHEME + principal)


def _any_service_account(term: Term, view: View, domains: Domains) -> Iterable[Predicate]:
    if domains is not None:
        yield from _service_account(term, View(tuple(domains), view.is_http, True), domains)
        return
    for account in sorted(term.values.exact):
        namespace, _, name = account.partition("/")
        accounts = rf"{re.escape(namespace)}/sa/{re.escape(name)}"
        yield matches_regex(p.URI_SAN, rf"{SCHEME}[^/]*/ns/{accounts}")


def account_principals(accounts: Iterable[str], domains: Iterable[str]) -> list[str]:
    """Return the principals that service accounts (`namespace/account`) have in `domains`."""
    pairs = [account.partition("/") for account in sorted(accounts)]
    return [f"{domain}/ns/{n}/sa/{name}" for domain in domains for n, _, name in pairs]


def _port(term: Term, _view: View, _domains: Domains) -> Iterable[Predicate]:
    return [compare(p.PORT, "exact", text) for text in sorted(term.values.exact)]


def _method(term: Term, _view: View, _domains: Domains) -> Iterable[Predicate]:
    return _forms(p.METHOD, _strings(term.values))


def _path(term: Term, _view: View, _domains: Domains) -> Iterable[Predicate]:
    paths = term.values
    values = paths.strings if isinstance(paths, Paths) else _strings(paths)
    if values.present:
        yield True  # the compiled filter refuses a path that is not absolute, and so an empty one
    for text in sorted(values.exact):
        yield compare(p.PATH, "exact", text)
        yield compare(p.PATH, "prefix", f"{text}?")
    for text in values.prefixes:
        yield compare(p.PATH, "prefix", text)
    for text in values.suffixes:
        yield matches_regex(p.PATH, rf"[^?]*{re.escape(text)}{_QUERY}")
    for template in paths.templates if isinstance(paths, Paths) else ():
        yield matches_regex(p.PATH, rf"(?:{template.regex.pattern}){_QUERY}")


def _host(term: Term, _view: View, _domains: Domains) -> Iterable[Predicate]:
    return host_predicates(_strings(term.values))


def _header(term: Term, _view: View, _domains: Domains) -> Iterable[Predicate]:
    return _forms(p.header_input(*term.key), _strings(term.values))


def _sni(term: Term, _view: View, _domains: Domains) -> Iterable[Predicate]:
    return _forms(p.SNI, _strings(term.values))


def _address(source: bytes) -> "_Reader":
    def address(term: Term, _view: View, _domains: Domains) -> Iterable[Predicate]:
        assert isinstance(term.values, Networks)  # noqa: S101  # what addresses are read as
        four = [n for n in term.values.networks if isinstance(n, IPv4Network)]
        six = [n for n in term.values.networks if isinstance(n, IPv6Network)]
        wide = [n for n in six if _MAPPED.subnet_of(n)]
        apart = [n for n in six if not _MAPPED.overlaps(n)]
        yield p.is_within(source, [*four, *map(_mapped, four), *apart])
        yield all_of((p.is_within(source, wide), negate(p.is_within(source, [_MAPPED]))))

    return address


def _mapped(network: IPv4Network) -> IPv6Network:
    return IPv6Network(f"::ffff:{network.network_address}/{96 + network.prefixlen}")


_Reader = Callable[[Term, View, Domains], Iterable[Predicate]]

_VALUES: Final[Mapping[Attribute, _Reader]] = {
    Attribute.PRINCIPAL: _principal,
    Attribute.NAMESPACE: _namespace,
    Attribute.SERVICE_ACCOUNT: _service_account,
    Attribute.TRUST_DOMAIN: _trust_domain,
    Attribute.ANY_NAMESPACE: _any_namespace,
    Attribute.ANY_SERVICE_ACCOUNT: _any_service_account,
    Attribute.PORT: _port,
    Attribute.METHOD: _method,
    Attribute.PATH: _path,
    Attribute.HOST: _host,
    Attribute.HEADER: _header,
    Attribute.SNI: _sni,
    Attribute.SOURCE_IP: _address(p.SOURCE_IP),
    Attribute.REMOTE_IP: _address(p.REMOTE_IP),
    Attribute.DESTINATION_IP: _address(p.DESTINATION_IP),
}

COMPARED: Final = frozenset(_VALUES)
"""The attributes that proxies compare; the others are those of TOKEN."""
