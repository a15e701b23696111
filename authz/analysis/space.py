"""The space of requests to one destination: the dimensions that the terms in question tell apart.

Requests are complete, as a proxy sees them: an HTTP request has a method, a path, a host and
headers, a connection has a port and addresses. Only what no term looks at is left unsaid. The
path is one that proxies pass on: it begins with `/`, has no `#` and no query, and is visible ASCII.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from authz.analysis.addresses import representative_addresses
from authz.analysis.bounds import MAXIMUM_POINTS, MAXIMUM_SUBSETS_OF, TooLarge
from authz.analysis.dimensions import Column, Dimension, Key, Kind, Place, plain
from authz.analysis.identities import IdentityForms, representative_ids
from authz.analysis.strings import ALPHABET, Forms, Spelling, representatives
from authz.analysis.templates import representative_paths
from authz.attributes import IDENTITY, Attribute
from authz.policy import Term
from authz.request import folded_host, identity_facts
from authz.values import SEPARATOR, Networks, Paths, RequestPrincipals, Strings, Values

HTTP, TCP = 0, 1
_HIGHEST_PORT = 65535
_USUAL_PORTS = (8080, 80, 443, *range(9000, 9100), *range(_HIGHEST_PORT, 0, -1))
_SPLIT_CLAIMS = (("scope",), ("permission",))
_METHOD = re.compile(r"[A-Za-z0-9!#$%&'*^_`|~+.-]+")
_PATH = re.compile(r"/[!-~]*")
_HOST = re.compile(r"[!-~]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HEADER = re.compile(r"[!-~]([ -~]*[!-~])?")
_IDENTITY_PLACES: Final = (
    *(Attribute.PRINCIPAL, Attribute.NAMESPACE, Attribute.SERVICE_ACCOUNT),
    *(Attribute.TRUST_DOMAIN, Attribute.ANY_NAMESPACE, Attribute.ANY_SERVICE_ACCOUNT),
)
_METHODS = Spelling(lambda t: bool(_METHOD.fullmatch(t)), ("GET", "POST", "OPTIONS", "OTHER"))
_PATHS = Spelling(lambda t: bool(_PATH.fullmatch(t)) and not {"?", "#"} & set(t), ("x", "other"))
_HOSTS = Spelling(
    lambda t: bool(_HOST.fullmatch(t)) and folded_host(t) == t,
    ("other.example", "8080", "other"),
    "".join(c for c in ALPHABET if not c.isupper()),
)
_HEADERS = Spelling(lambda t: bool(_HEADER.fullmatch(t)), ("other", "x"))
_CLAIMS = Spelling(lambda t: not _CONTROL.search(t), ("other", "x"))
_WORDS = Spelling(lambda t: bool(t) and len(t.split()) == 1 and t == t.strip(), ("other", "x"))
_PLAIN: Final[Mapping[Attribute, tuple[Kind, Spelling, tuple[Any, ...]]]] = {
    Attribute.METHOD: (Kind.METHOD, _METHODS, ()),
    Attribute.HOST: (Kind.HOST, _HOSTS, ()),
    Attribute.HEADER: (Kind.HEADER, _HEADERS, ("", ())),
    Attribute.SNI: (Kind.SNI, _HOSTS, (None,)),
}
_ADDRESSES: Final = {
    Attribute.SOURCE_IP: Kind.SOURCE_IP,
    Attribute.REMOTE_IP: Kind.REMOTE_IP,
    Attribute.DESTINATION_IP: Kind.DESTINATION_IP,
}
_ORDER: Final = list(Kind)


@dataclass(slots=True)
class Space:
    """The dimensions, in the order of `Kind`; `beyond` names what of a dimension is left out."""

    dimensions: list[Dimension]
    beyond: list[str]
    _sources: list[Any]
    _columns: dict[tuple[Place, tuple[str, ...]], tuple[int, Column]] = field(default_factory=dict)
    _held: dict[tuple[int, tuple[str, ...]], tuple[int, int]] = field(default_factory=dict)
    _kept: list[Term] = field(default_factory=list)

    def index(self, kind: Kind, key: Key = ()) -> int:
        """Return the place of a dimension; raises KeyError where there is none."""
        for index, dimension in enumerate(self.dimensions):
            if dimension.kind is kind and dimension.key == key:
                return index
        raise KeyError(kind)

    @property
    def everything(self) -> tuple[int, ...]:
        """Return the box of all requests."""
        return tuple(dimension.everything for dimension in self.dimensions)

    def holds(self, term: Term, trust_domains: tuple[str, ...]) -> tuple[int, int]:
        """Return the dimension that `term` looks at, and the points for which it holds.

        On HTTP, where the dimension is one that only HTTP has. `trust_domains` are our own.
        """
        key = (id(term), trust_domains)
        if key not in self._held:
            index, column = self._column(term, trust_domains)
            points = column.holds(term, self.dimensions[index].everything)
            self._held[key] = index, points
            self._kept.append(term)  # while it lives, nothing else has its id
        return self._held[key]

    def matched(
        self, term: Term, values: Values, trust_domains: tuple[str, ...]
    ) -> tuple[int, int]:
        """Return the dimension that `term` looks at, and the points that `values` match."""
        index, column = self._column(term, trust_domains)
        return index, column.matched(values)

    def unknown(self, term: Term, trust_domains: tuple[str, ...]) -> tuple[int, int]:
        """Return the dimension that `term` looks at, and the points that have nothing there."""
        index, column = self._column(term, trust_domains)
        return index, column.unknown

    def _column(self, term: Term, trust_domains: tuple[str, ...]) -> tuple[int, Column]:
        place = _place(term)
        is_identity = term.attribute in IDENTITY
        key = (place, trust_domains if is_identity else ())
        if key not in self._columns:
            if is_identity:
                self._read_sources(trust_domains)
            else:
                for index, dimension in enumerate(self.dimensions):
                    for column_place, column in dimension.columns.items():
                        self._columns[column_place, ()] = (index, column)
        return self._columns[key]

    def _read_sources(self, trust_domains: tuple[str, ...]) -> None:
        index = self.index(Kind.SOURCE)
        facts = [identity_facts(source, trust_domains) for source in self._sources]
        for attribute, values in zip(_IDENTITY_PLACES, zip(*facts, strict=True), strict=True):
            self._columns[(attribute, ()), trust_domains] = (index, Column.of(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What is to be told apart besides what terms name: in questions, and by PeerAuthentication."""

    trust_domains: frozenset[str]
    times: tuple[float | None, ...] = (None,)
    ports: frozenset[int] = frozenset()
    providers: tuple[str, ...] = ()
    texts: tuple[tuple[Attribute, str], ...] = ()


def space_of(terms: Iterable[Term], named: Named) -> Space:
    """Return the space that `terms` and what is `named` tell apart.

    Raises TooLarge.
    """
    values: dict[Place, list[Values]] = {}
    for term in terms:
        values.setdefault(_place(term), []).append(term.values)
    for attribute, text in named.texts:
        values.setdefault((attribute, ()), []).append(Strings(frozenset((text,))))
    beyond: list[str] = []
    sources = _sources(values, named.trust_domains)
    dimensions = [
        Dimension(Kind.TIME, named.times),
        Dimension(Kind.PROTOCOL, ("http", "tcp")),
        Dimension(Kind.SOURCE, tuple(sources)),
        _ports(values.get((Attribute.PORT, ()), ()), named.ports),
        *_http_and_addresses(values),
        *_token(values, beyond),
        *(Dimension(Kind.PROVIDER, (True, False), key=(name,)) for name in named.providers),
    ]
    for dimension in dimensions:
        if len(dimension.points) > MAXIMUM_POINTS:
            raise TooLarge(f"more than {MAXIMUM_POINTS} kinds of {dimension.kind}")
    dimensions.sort(key=lambda dimension: (_ORDER.index(dimension.kind), dimension.key))
    return Space(dimensions, beyond, sources)


def _place(term: Term) -> Place:
    """Return where `term` looks; audiences and presenter are the claims `aud` and `azp`."""
    match term.attribute:
        case Attribute.AUDIENCES:
            return Attribute.CLAIM, ("aud",)
        case Attribute.PRESENTER:
            return Attribute.CLAIM, ("azp",)
    return term.attribute, term.key


def forms_of(values: Iterable[Values]) -> Forms:
    """Return the string forms in `values`."""
    forms = Forms()
    for each in values:
        strings = each.strings if isinstance(each, Paths) else each
        if isinstance(strings, Strings):
            forms.exact |= strings.exact
            forms.prefixes |= set(strings.prefixes)
            forms.suffixes |= set(strings.suffixes)
    return forms


def _sources(values: dict[Place, list[Values]], trust_domains: frozenset[str]) -> list[Any]:
    found = {attribute: forms_of(values.get((attribute, ()), ())) for attribute in IDENTITY}
    namespaces, accounts = found[Attribute.NAMESPACE], found[Attribute.SERVICE_ACCOUNT]
    namespaces.add(found[Attribute.ANY_NAMESPACE])
    accounts.add(found[Attribute.ANY_SERVICE_ACCOUNT])
    own = found[Attribute.TRUST_DOMAIN]
    own.exact |= trust_domains
    forms = IdentityForms(found[Attribute.PRINCIPAL], own, namespaces, accounts)
    return [*representative_ids(forms), None]


def _ports(values: Iterable[Values], named: frozenset[int]) -> Dimension:
    forms = forms_of(values)
    if forms.prefixes or forms.suffixes:
        raise TooLarge("ports with wildcards")
    ports = sorted({int(text) for text in forms.exact} | named)
    ports += [next(port for port in _USUAL_PORTS if port not in ports)]
    place = (Attribute.PORT, ())
    return Dimension(Kind.PORT, tuple(ports), {place: Column.of(str(port) for port in ports)})


def _http_and_addresses(values: dict[Place, list[Values]]) -> Iterable[Dimension]:
    for (attribute, key), given in values.items():
        if attribute in _ADDRESSES:
            networks = [n for each in given if isinstance(each, Networks) for n in each.networks]
            addresses = representative_addresses(networks)
            yield plain(_ADDRESSES[attribute], attribute, addresses, key)
        elif attribute is Attribute.PATH:
            yield plain(Kind.PATH, attribute, _paths(given))
        elif attribute in _PLAIN:
            kind, spelling, absent = _PLAIN[attribute]
            points: list[Any] = [*representatives(forms_of(given), spelling), *absent]
            yield plain(kind, attribute, points, key)


def _paths(values: Sequence[Values]) -> list[str]:
    forms = forms_of(values)
    templates = {t.text for each in values if isinstance(each, Paths) for t in each.templates}
    if templates:
        return representative_paths(forms, templates)
    forms.prefixes.add("/")
    return representatives(forms, _PATHS)


def _token(values: dict[Place, list[Values]], beyond: list[str]) -> Iterable[Dimension]:
    principals, issuers, subjects = (
        values.get(place, [])
        for place in (
            (Attribute.REQUEST_PRINCIPAL, ()),
            (Attribute.CLAIM, ("iss",)),
            (Attribute.CLAIM, ("sub",)),
        )
    )
    if principals or issuers or subjects:
        yield _token_principals(principals, issuers, subjects)
    for (attribute, key), given in values.items():
        if attribute is Attribute.CLAIM and key not in (("iss",), ("sub",)):
            yield _claim(key, given, beyond)


def _token_principals(
    principals: Sequence[Values], issuers: Sequence[Values], subjects: Sequence[Values]
) -> Dimension:
    pairs = [p for v in principals if isinstance(v, RequestPrincipals) for p in v.principals]
    named = [v for v in principals if isinstance(v, Strings)]
    issuer, subject = forms_of(p.issuer for p in pairs), forms_of(p.subject for p in pairs)
    for text in (text for each in named for text in each.exact):
        said_issuer, _, said_subject = text.partition(SEPARATOR)
        issuer.exact.add(said_issuer)
        subject.exact.add(said_subject)
    issuer.add(forms_of(issuers))
    subject.add(forms_of(subjects))
    claims = Spelling(_CLAIMS.is_valid, ("https://other.example", "other", "x"))
    points = list(
        itertools.product(
            [*representatives(issuer, claims), None], [*representatives(subject, _CLAIMS), None]
        )
    )
    both = (() if None in (i, s) else f"{i}{SEPARATOR}{s}" for i, s in points)
    return Dimension(
        Kind.TOKEN,
        tuple(points),
        {
            (Attribute.REQUEST_PRINCIPAL, ()): Column.of(both),
            (Attribute.CLAIM, ("iss",)): Column.of(_or_none(point[0]) for point in points),
            (Attribute.CLAIM, ("sub",)): Column.of(_or_none(point[1]) for point in points),
        },
    )


def _or_none(text: str | None) -> Any:
    return () if text is None else (text,)


def _claim(key: Key, given: Sequence[Values], beyond: list[str]) -> Dimension:
    is_split = key in _SPLIT_CLAIMS
    texts = representatives(forms_of(given), _WORDS if is_split else _CLAIMS)
    if not is_split and any(isinstance(each, Strings) and each.present for each in given):
        texts.append("")
    most = len(texts)
    if most > MAXIMUM_SUBSETS_OF:
        most = 2
        beyond.append(
            f"tokens with more than {most} values of claim {'.'.join(key)} that policies name"
        )
    sizes: Callable[[int], Iterable[tuple[str, ...]]] = lambda n: itertools.combinations(texts, n)  # noqa: E731
    points = [*itertools.chain.from_iterable(sizes(n) for n in range(1, most + 1)), ()]
    return plain(Kind.CLAIM, Attribute.CLAIM, points, key)
