"""One destination under two sets: the space that both tell apart, and what changes in it.

Destinations to which the same documents apply are compared once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from authz.analysis.bounds import TooLarge
from authz.analysis.destinations import Destination
from authz.analysis.dimensions import Dimension, Kind
from authz.analysis.regions import Box, Region, Verdict, changes
from authz.analysis.space import Space, space_of
from authz.analysis.verdicts import Side, named_by, verdict_of
from authz.analysis.words import Words
from authz.attributes import Attribute
from authz.engine import compile_workload
from authz.policy import PolicySet, Term


@dataclass(frozen=True, slots=True)
class Within:
    """Which requests a question is about: what is not said is any. `now_only` leaves later out.

    `callers` are told apart from all others, too, and leave nobody out.
    """

    source: str | None = None
    port: int | None = None
    protocol: str | None = None
    method: str | None = None
    path: str | None = None
    host: str | None = None
    now_only: bool = False
    callers: frozenset[str] = frozenset()

    @property
    def texts(self) -> tuple[tuple[Attribute, str], ...]:
        """Return the texts that are asked for, which must be told apart."""
        said = {
            Attribute.PRINCIPAL: self.source,
            Attribute.METHOD: self.method,
            Attribute.PATH: self.path,
            Attribute.HOST: self.host,
        }
        asked = [(attribute, text) for attribute, text in said.items() if text is not None]
        asked += [(Attribute.PRINCIPAL, caller) for caller in sorted(self.callers)]
        return tuple(asked)

    @property
    def ports(self) -> frozenset[int]:
        """Return the port that is asked for, which must be told apart."""
        return frozenset() if self.port is None else frozenset((self.port,))

    def box(self, space: Space) -> Box:
        """Return the requests of `space` that are asked for."""
        is_http = self.method or self.path or self.host
        wanted: dict[Kind, Any] = {
            Kind.PORT: self.port,
            Kind.PROTOCOL: "http" if is_http else self.protocol,
            Kind.METHOD: self.method,
            Kind.PATH: self.path,
            Kind.HOST: self.host,
            Kind.SOURCE: None if self.source is None else f"spiffe://{self.source}",
        }
        box = list(space.everything)
        for index, dimension in enumerate(space.dimensions):
            value = wanted.get(dimension.kind)
            if value is not None:
                box[index] = _points(dimension, value)
            if dimension.kind is Kind.TIME and self.now_only:
                box[index] = 1
        return tuple(box)


def _points(dimension: Dimension, value: Any) -> int:
    return dimension.where(lambda point: value in (point, str(point)))


ANYTHING = Within()


@dataclass(frozen=True, slots=True)
class Compared:
    """What changes for one kind of destination; `beyond` is what could not be looked at."""

    space: Space | None
    words: Words | None
    regions: Sequence[Region]
    beyond: tuple[str, ...] = ()


@dataclass(slots=True)
class Comparison:
    """Compares `before` with `after` from the time `now` (seconds since the epoch) on.

    `before` None is a set that allows nothing. `proposed` looks at what would be in force if all
    that is on trial were.
    """

    before: PolicySet | None
    after: PolicySet
    now: float
    within: Within = ANYTHING
    proposed: bool = False
    memory: dict[Any, Compared] = field(default_factory=dict)

    def of(self, destination: Destination) -> Compared:
        """Return what changes for `destination`."""
        sides = [self._side(self.before, destination), self._side(self.after, destination)]
        key = tuple(None if side is None else _identity(side) for side in sides)
        if key not in self.memory:
            self.memory[key] = Compared(None, None, ()) if key[0] == key[1] else self._of(*sides)
        return self.memory[key]

    def _side(self, policies: PolicySet | None, destination: Destination) -> Side | None:
        if policies is None:
            return None
        compiled = compile_workload(policies, destination.workload)
        return Side.of(compiled, proposed=self.proposed)

    def _of(self, before: Side | None, after: Side | None) -> Compared:
        sides = [side for side in (before, after) if side is not None]
        try:
            return self._compare(before, after, sides)
        except TooLarge as error:
            return Compared(None, None, (), (str(error),))

    def _compare(self, before: Side | None, after: Side | None, sides: list[Side]) -> Compared:
        terms = [term for side in sides for rule in side.rules() for term in rule.all_terms()]
        named = named_by(sides, self.now, ports=self.within.ports, texts=self.within.texts)
        space = space_of(terms, named)
        verdicts = [
            Verdict(()) if side is None else verdict_of(side, space) for side in (before, after)
        ]
        within = self.within.box(space)
        if not all(within):
            return Compared(space, None, ())
        regions = changes(verdicts[0], verdicts[1], within)
        words = Words.of(space, _distinct(terms), [side.trust_domains for side in sides])
        return Compared(space, words, regions, tuple(space.beyond))


def _distinct(terms: list[Term]) -> list[Term]:
    return list({(t.attribute, t.key, t.values): t for t in terms}.values())


def _identity(side: Side) -> Any:
    """Return what is equal for sides that decide alike."""
    modes = side.layer.modes
    return (
        tuple(policy.digest for policy in side.layer.policies),
        side.layer.default,
        (modes.default, frozenset(modes.ports.items())),
        (side.trust_domains, side.bypasses),
    )
