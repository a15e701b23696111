"""Sets of points in the words of the policies: the values that they were written with.

Exact: what is said covers the set and nothing else. Values that lie within the set are named;
where they do not make it up, it is `any except` or a value `except` others; what is left after
that is said value by value: what matches, and what does not.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from authz.analysis.dimensions import Dimension, Kind, bits
from authz.analysis.regions import Box
from authz.analysis.space import TCP, Space
from authz.attributes import Attribute
from authz.policy import Term
from authz.values import Networks, Paths, RequestPrincipals, Strings, Values

Word = tuple[str, int]
"""A value as it is written, and the points it matches."""

_HTTP_KINDS = frozenset({Kind.METHOD, Kind.PATH, Kind.HOST, Kind.HEADER, Kind.TOKEN, Kind.CLAIM})
_BEFORE: Final = {
    Attribute.NAMESPACE: "namespace ",
    Attribute.ANY_NAMESPACE: "namespace (any trust domain) ",
    Attribute.SERVICE_ACCOUNT: "service account ",
    Attribute.ANY_SERVICE_ACCOUNT: "service account (any trust domain) ",
    Attribute.TRUST_DOMAIN: "trust domain ",
}
_NOTHING: Final = {
    Kind.SOURCE: "plaintext",
    Kind.HEADER: "absent",
    Kind.SNI: "none",
    Kind.CLAIM: "absent",
}


@dataclass(slots=True)
class Words:
    """The words for the dimensions of `space`, made of `terms`."""

    space: Space
    by_dimension: dict[int, list[Word]] = field(default_factory=dict)
    _memory: dict[tuple[int, int], list[str]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, space: Space, terms: Iterable[Term], trust_domains: Iterable[tuple[str, ...]]
    ) -> "Words":
        """Return the words of `terms`, read with each of `trust_domains`."""
        found: dict[int, dict[int, str]] = {i: {} for i in range(len(space.dimensions))}
        for index, dimension in enumerate(space.dimensions):
            for text, points in _own_words(dimension):
                found[index].setdefault(points, text)
        views = list(dict.fromkeys(trust_domains))
        for term in terms:
            before = _BEFORE.get(term.attribute, "")
            if before:
                for view in views:
                    index, points = space.unknown(term, view)
                    found[index].setdefault(points, f"no {before.strip()}")
            for values, view in itertools.product(single_values(term.values), views):
                index, points = space.matched(term, values, view)
                found[index].setdefault(points, before + values.written()[0])
        words = {
            i: [(text, points) for points, text in named.items()] for i, named in found.items()
        }
        for named in words.values():
            named.sort(key=lambda word: -word[1].bit_count())
            del named[len([word for word in named if word[1]]) :]
        return cls(space, words)

    def of_box(self, box: Box) -> dict[str, list[str]]:
        """Return the dimensions that `box` narrows, each with its values in words."""
        said: dict[str, list[str]] = {}
        is_tcp = box[self.space.index(Kind.PROTOCOL)] == 1 << TCP
        for index, dimension in enumerate(self.space.dimensions):
            if box[index] == dimension.everything or (is_tcp and dimension.kind in _HTTP_KINDS):
                continue
            name = " ".join((dimension.kind.value, ".".join(dimension.key))).strip()
            said[name] = self.of_points(index, box[index])
        return said

    def of_points(self, index: int, points: int) -> list[str]:
        """Return `points` of one dimension in words."""
        if (index, points) not in self._memory:
            self._memory[index, points] = self._in_words(index, points)
        return self._memory[index, points]

    def _in_words(self, index: int, points: int) -> list[str]:
        everything = self.space.dimensions[index].everything
        words = self.by_dimension[index]
        inside, rest = _cover(points, words)
        if not rest:
            return inside
        outside, missing = _cover(everything & ~points, words)
        if not missing:
            return [f"any except {_listed(outside)}"]
        for text, wide in reversed(words):
            if wide & rest:
                without, uncovered = _cover(wide & ~points, words)
                if not uncovered:
                    inside.append(f"{text} except {_listed(without)}")
                    rest &= ~wide
        return list(dict.fromkeys(inside + [_point(words, point) for point in bits(rest)]))


def _cover(points: int, words: Sequence[Word]) -> tuple[list[str], int]:
    """Return words that lie within `points`, widest first, and the points they leave."""
    chosen: list[str] = []
    rest = points
    for text, wide in words:
        if not rest:
            break
        if wide & ~points == 0 and wide & rest:
            chosen.append(text)
            rest &= ~wide
    return chosen, rest


def _point(words: Sequence[Word], point: int) -> str:
    matching = [text for text, points in words if points >> point & 1]
    # Only values that lie within a matching one can take anything from it.
    around = [points for _, points in words if points >> point & 1]
    others = [
        text
        for text, points in words
        if not points >> point & 1 and all(points & wide for wide in around)
    ]
    said = " and ".join(matching) or "any"
    return f"{said} except {_listed(others)}" if others else said


def _listed(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})"


def single_values(values: Values) -> Iterator[Values]:
    """Yield each value of `values` alone."""
    match values:
        case Strings():
            yield from _strings(values)
        case Paths():
            yield from _strings(values.strings)
            yield from (Paths(Strings(), (template,)) for template in values.templates)
        case Networks():
            yield from (Networks((network,)) for network in values.networks)
        case RequestPrincipals():
            yield from (RequestPrincipals((principal,)) for principal in values.principals)
        case _:
            yield values


def _strings(values: Strings) -> Iterator[Strings]:
    if values.present:
        yield Strings(present=True)
    yield from (Strings(exact=frozenset((text,))) for text in sorted(values.exact))
    yield from (Strings(prefixes=(text,)) for text in sorted(values.prefixes))
    yield from (Strings(suffixes=(text,)) for text in sorted(values.suffixes))


def _own_words(dimension: Dimension) -> Iterator[Word]:
    """Yield what can be said of a dimension whatever policies say."""
    match dimension.kind:
        case Kind.TIME:
            yield from (
                (_stretch(dimension.points, i), 1 << i) for i in range(len(dimension.points))
            )
        case Kind.PROTOCOL | Kind.PORT:
            named = dimension.points[: -1 if dimension.kind is Kind.PORT else None]
            yield from ((str(point), 1 << i) for i, point in enumerate(named))
        case Kind.PROVIDER:
            yield from (("allows", 1), ("does not allow", 2))
        case Kind.TOKEN:
            yield "absent", dimension.where(lambda point: None in point)
        case kind if kind in _NOTHING:
            yield _NOTHING[kind], dimension.where(lambda point: point is None or point == ())


def _stretch(times: Sequence[Any], index: int) -> str:
    begin = "now" if index == 0 else _time(times[index])
    end = f" until {_time(times[index + 1])}" if index + 1 < len(times) else ""
    return f"from {begin}{end}" if index or not end else end.strip()


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
