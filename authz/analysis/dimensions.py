"""One dimension of a request: the kinds of values that terms can tell apart, a point for each.

A set of points is an integer with a bit a point. A dimension answers for one or several columns,
what terms look at: the source for principal, namespace and service account alike. Points say what
a witness request has; what `Term.holds` makes of it is worked out here for all points at once.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from authz.attributes import Attribute
from authz.policy import Term
from authz.values import Values

Key = tuple[str, ...]
Place = tuple[Attribute, Key]
"""What a term looks at: an attribute, and the key where it is keyed."""


class Kind(StrEnum):
    """What a dimension is of; the order of a request's regions."""

    TIME = "time"
    PROTOCOL = "protocol"
    SOURCE = "source"
    PORT = "port"
    METHOD = "method"
    PATH = "path"
    HOST = "host"
    HEADER = "header"
    SOURCE_IP = "source_ip"
    REMOTE_IP = "remote_ip"
    DESTINATION_IP = "destination_ip"
    SNI = "sni"
    TOKEN = "request_principal"  # noqa: S105  # no password
    CLAIM = "claim"
    PROVIDER = "provider"


@dataclass(slots=True)
class Column:
    """What the points of a dimension have at one place: texts, known to be none, or not known."""

    by_text: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    none: int = 0
    unknown: int = 0

    @classmethod
    def of(cls, values: Iterable[Any]) -> "Column":
        """Return the column of `values`, a point each, as `authz.attributes.Facts` has them."""
        column = cls()
        for point, value in enumerate(values):
            if value is None:
                column.unknown |= 1 << point
            elif value == ():
                column.none |= 1 << point
            else:
                for text in (value,) if isinstance(value, str) else value:
                    column.by_text[text] |= 1 << point
        return column

    def holds(self, term: Term, everything: int) -> int:
        """Return the points for which `term` holds, as `Term.holds` has it."""
        matched = self.matched(term.values)
        held = matched
        if term.negative:
            held = everything & ~(matched | self.none | self.unknown)
            held |= 0 if term.needs_value else self.none
        return held | (self.unknown if term.if_absent else 0)

    def matched(self, values: Values) -> int:
        """Return the points that have a text that `values` match."""
        matched = 0
        if values.is_exact:
            for text in values.exact:
                matched |= self.by_text.get(text, 0)
            return matched
        for text, points in self.by_text.items():
            if points & ~matched and values.matches(text):
                matched |= points
        return matched


@dataclass(frozen=True, slots=True)
class Dimension:
    """One dimension: `points` are values of witnesses, `key` the name of a header, claim, provider.

    `columns` are the places it answers for, of one view (`Space` keeps those of several).
    """

    kind: Kind
    points: tuple[Any, ...]
    columns: Mapping[Place, Column] = field(default_factory=dict)
    key: Key = ()

    @property
    def everything(self) -> int:
        """Return all points."""
        return (1 << len(self.points)) - 1

    def where(self, holds: Callable[[Any], bool]) -> int:
        """Return the points for which `holds`."""
        return sum(1 << index for index, point in enumerate(self.points) if holds(point))


def plain(kind: Kind, attribute: Attribute, points: Sequence[Any], key: Key = ()) -> Dimension:
    """Return the dimension of which each point is itself the value at one place."""
    return Dimension(kind, tuple(points), {(attribute, key): Column.of(points)}, key)


def bits(points: int) -> Iterable[int]:
    """Yield the numbers of the points in a set, lowest first."""
    while points:
        lowest = points & -points
        yield lowest.bit_length() - 1
        points ^= lowest
