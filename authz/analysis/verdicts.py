"""What a set decides about one destination, as boxes of a space.

The order of `authz.engine` in boxes: a bypass goes before everything; mutual TLS that is required,
CUSTOM rules whose provider does not allow and DENY rules deny; what is left of ALLOW is allowed.
Requests that cannot be are denied on every side: a server name without TLS, a claim that is both
a text and has claims of its own.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from authz.analysis.bounds import MAXIMUM_BOXES, TooLarge
from authz.analysis.dimensions import Kind
from authz.analysis.regions import Box, Verdict, intersect, merge
from authz.analysis.space import HTTP, TCP, Named, Space
from authz.attributes import HTTP_ONLY, Attribute
from authz.engine import Layer, WorkloadPolicies
from authz.overlay import Bypass
from authz.peer_authentication import Mode
from authz.policy import Action, Conjunction, Rule, Term


@dataclass(frozen=True, slots=True)
class Side:
    """One set's word on a destination: a layer of it, and the bypasses in force."""

    layer: Layer
    trust_domains: tuple[str, ...]
    bypasses: tuple[Bypass, ...]

    @classmethod
    def of(cls, compiled: WorkloadPolicies, *, proposed: bool = False) -> "Side":
        """Return what is in force for the destination, or what would be if all trials were."""
        layer = compiled.shadow if proposed and compiled.shadow is not None else compiled.enforced
        return cls(layer, compiled.trust_domains, compiled.bypasses)

    def rules(self) -> Iterator[Rule]:
        """Yield every rule that takes part in a decision."""
        layer = self.layer
        yield from itertools.chain(layer.custom.rules, layer.deny.rules, layer.allow.rules)


def named_by(
    sides: Sequence[Side],
    now: float,
    *,
    ports: frozenset[int] = frozenset(),
    texts: tuple[tuple[Attribute, str], ...] = (),
) -> Named:
    """Return what `sides` tell apart besides what their terms name; `now` is the first time.

    `ports` and `texts` are told apart, too.
    """
    rules = [rule for side in sides for rule in side.rules()]
    ends = {rule.expires for rule in rules if rule.expires is not None}
    ends |= {bypass.expires for side in sides for bypass in side.bypasses}
    ports |= {port for side in sides for port in side.layer.modes.ports}
    return Named(
        trust_domains=frozenset(name for side in sides for name in side.trust_domains),
        times=(now, *sorted(end for end in ends if end > now)),
        ports=ports,
        texts=texts,
        providers=tuple(dict.fromkeys(rule.provider for rule in rules if rule.provider)),
    )


def verdict_of(side: Side, space: Space) -> Verdict:
    """Return what `side` allows, as boxes of `space`.

    Raises TooLarge.
    """
    reader = _Reader(space, side.trust_domains)
    layer = side.layer
    allow = list(reader.rules(layer.allow.rules))
    if not layer.has_allow and layer.default == "allow":
        allow.append(space.everything)
    deny = [
        *reader.rules(layer.custom.rules),
        *reader.rules(layer.deny.rules),
        *reader.plaintext(layer),
    ]
    if passing := reader.bypassed(side.bypasses):
        time, protocol = space.index(Kind.TIME), space.index(Kind.PROTOCOL)
        deny = [
            *(reader.narrowed(box, time, ~passing) for box in deny),
            *(reader.narrowed(box, protocol, 1 << TCP) for box in deny),
        ]
        http = reader.narrowed(space.everything, protocol, 1 << HTTP)
        allow.append(reader.narrowed(http, time, passing))
    deny = [box for box in deny if all(box)] + list(reader.impossible())
    return Verdict(tuple(merge(allow)), tuple(merge(deny)))


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads rules as boxes of `space`, for a set whose own names are `trust_domains`."""

    space: Space
    trust_domains: tuple[str, ...]

    def rules(self, rules: Iterable[Rule]) -> Iterator[Box]:
        """Yield boxes that hold exactly the requests for which one of `rules` holds."""
        count = 0
        for rule in rules:
            for box in self._rule(rule):
                count += 1
                if count > MAXIMUM_BOXES:
                    raise TooLarge(f"rules that make more than {MAXIMUM_BOXES} boxes")
                yield box

    def narrowed(self, box: Box, dimension: int, points: int) -> Box:
        """Return `box` with only `points` left of one dimension."""
        return (*box[:dimension], box[dimension] & points, *box[dimension + 1 :])

    def plaintext(self, layer: Layer) -> Iterator[Box]:
        """Yield what is denied for the want of mutual TLS."""
        source, port = self.space.index(Kind.SOURCE), self.space.index(Kind.PORT)
        strict = self.space.dimensions[port].where(lambda p: layer.modes.of(p) is Mode.STRICT)
        if strict:
            box = self.narrowed(self.space.everything, port, strict)
            yield self.narrowed(box, source, self._absent(source))

    def bypassed(self, bypasses: Sequence[Bypass]) -> int:
        """Return the times at which a bypass is in force."""
        times = self.space.dimensions[self.space.index(Kind.TIME)]
        return times.where(lambda time: any(time < bypass.expires for bypass in bypasses))

    def impossible(self) -> Iterator[Box]:
        """Yield requests that cannot be made."""
        everything, dimensions = self.space.everything, self.space.dimensions
        source = self.space.index(Kind.SOURCE)
        for index, dimension in enumerate(dimensions):
            present = dimension.everything & ~self._absent(index)
            if dimension.kind is Kind.SNI and present:
                box = self.narrowed(everything, index, present)
                yield self.narrowed(box, source, self._absent(source))
        for one, other in itertools.permutations(range(len(dimensions)), 2):
            for outer, inner in itertools.product(self._claims(one), self._claims(other)):
                if inner[0][: len(outer[0])] == outer[0]:
                    box = self.narrowed(everything, one, outer[1])
                    yield self.narrowed(box, other, inner[1])

    def _claims(self, index: int) -> list[tuple[tuple[str, ...], int]]:
        """Return the claims that a dimension is of, each with the points that have one."""
        dimension = self.space.dimensions[index]
        if dimension.kind is Kind.CLAIM:
            return [(dimension.key, dimension.everything & ~self._absent(index))]
        if dimension.kind is not Kind.TOKEN:
            return []
        return [
            (("iss",), dimension.where(lambda point: point[0] is not None)),
            (("sub",), dimension.where(lambda point: point[1] is not None)),
        ]

    def _absent(self, index: int) -> int:
        return self.space.dimensions[index].where(lambda point: point is None or point == ())

    def _rule(self, rule: Rule) -> Iterable[Box]:
        is_limited = rule.expires is not None or rule.action is Action.CUSTOM
        if not rule.http_only and not is_limited:
            return self._product(rule, self.space.everything, None)
        protocol = self.space.index(Kind.PROTOCOL)
        start = self.narrowed(self._limits(rule), protocol, 1 << HTTP)
        boxes = list(self._product(rule, start, HTTP)) if all(start) else []
        if rule.action is not Action.ALLOW:
            start = self.narrowed(self.space.everything, protocol, 1 << TCP)
            boxes += self._product(rule, start, TCP)
        return boxes

    def _limits(self, rule: Rule) -> Box:
        """Return where the rule counts on HTTP: in its time, where its provider does not allow."""
        box = self.space.everything
        if rule.expires is not None:
            time = self.space.index(Kind.TIME)
            lives = self.space.dimensions[time].where(lambda at: not rule.is_over(at))
            box = self.narrowed(box, time, lives)
        if rule.action is Action.CUSTOM:
            provider = self.space.index(Kind.PROVIDER, (rule.provider,))
            refuses = self.space.dimensions[provider].where(lambda allows: not allows)
            box = self.narrowed(box, provider, refuses)
        return box

    def _product(self, rule: Rule, start: Box, protocol: int | None) -> Iterator[Box]:
        sources = self._alternatives(rule.sources, protocol)
        operations = self._alternatives(rule.operations, protocol)
        conditions = self._conjunction(rule.conditions, protocol)
        narrowed = None if conditions is None else intersect(start, conditions)
        if narrowed is None:
            return
        for source in sources:
            both = intersect(narrowed, source)
            if both is None:
                continue
            for operation in operations:
                box = intersect(both, operation)
                if box is not None:
                    yield box

    def _alternatives(
        self, alternatives: Sequence[Conjunction], protocol: int | None
    ) -> Sequence[Box]:
        if not alternatives:
            return [self.space.everything]
        boxes = (self._conjunction(terms, protocol) for terms in alternatives)
        return merge(box for box in boxes if box is not None)

    def _conjunction(self, terms: Iterable[Term], protocol: int | None) -> Box | None:
        box = list(self.space.everything)
        for term in terms:
            if protocol == TCP and term.attribute in HTTP_ONLY:
                if not term.if_absent:
                    return None
                continue
            index, points = self.space.holds(term, self.trust_domains)
            box[index] &= points
            if not box[index]:
                return None
        return tuple(box)
