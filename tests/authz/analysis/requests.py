"""Whether a request is one of a region: found by asking every term about it, point by point."""

from collections.abc import Iterable, Mapping

from authz.analysis.destinations import selectors_of
from authz.analysis.difference import Difference, Part
from authz.analysis.dimensions import Dimension, Kind
from authz.analysis.space import HTTP, TCP
from authz.analysis.verdicts import Side
from authz.attributes import HTTP_ONLY, texts_of
from authz.engine import compile_workload
from authz.policy import PolicySet
from authz.request import Request, facts_of


def is_changed(
    found: Difference,
    sets: tuple[PolicySet, PolicySet],
    request: Request,
    answers: Mapping[str, bool],
) -> bool:
    """Return whether `request` is in a region of `found`, the difference of `sets`.

    Fails when it is in none of the kinds that the analysis tells apart, or in two regions.
    """
    inside = [
        part
        for change in found.changes
        for part in change.parts
        if is_in(part, sets, request, answers)
    ]
    assert len(inside) <= 1
    return bool(inside)


def is_in(
    part: Part,
    sets: tuple[PolicySet, PolicySet],
    request: Request,
    answers: Mapping[str, bool],
    *,
    everywhere: bool = False,
) -> bool:
    """Return whether `request` is in the box of `part`, to one of its destinations (or any)."""
    if not everywhere and not _is_destination(part, sets, request):
        return False
    box = points_of(part, sets, request, answers)
    return all(bool(points & inside) for points, inside in zip(box, part.box, strict=True))


def _is_destination(part: Part, sets: tuple[PolicySet, PolicySet], request: Request) -> bool:
    """Return whether the same selectors select the request's destination and one of the part's."""
    named = selectors_of(*sets)
    namespace = request.destination.namespace
    within = namespace if namespace in named.by_namespace else ""
    labels = frozenset[tuple[str, str]]().union(
        *(each for each in named.of(namespace) if each <= request.destination.labels)
    )
    return any(d.namespace == within and d.labels == labels for d in part.destinations)


def points_of(
    part: Part, sets: Iterable[PolicySet], request: Request, answers: Mapping[str, bool]
) -> list[int]:
    """Return, a dimension each, the points that `request` is alike to; there must be some."""
    points = list(part.space.everything)
    for policies in sets:
        side = Side.of(compile_workload(policies, request.destination))
        facts = facts_of(request, side.trust_domains)
        for term in (term for rule in side.rules() for term in rule.all_terms()):
            if request.http is not None or term.attribute not in HTTP_ONLY:
                index, held = part.space.holds(term, side.trust_domains)
                points[index] &= held if term.holds(facts) else ~held
    for index, dimension in enumerate(part.space.dimensions):
        points[index] &= _said(dimension, request, answers)
        assert points[index], (dimension.kind, dimension.key, request)
    return points


def _said(dimension: Dimension, request: Request, answers: Mapping[str, bool]) -> int:
    """Return the points that `request` can be at, whatever terms say."""
    match dimension.kind:
        case Kind.TIME:
            assert request.time is not None
            return 1 << max(i for i, t in enumerate(dimension.points) if t <= request.time)
        case Kind.PROTOCOL:
            return 1 << (TCP if request.http is None else HTTP)
        case Kind.PORT:
            return _port(dimension.points, request.port)
        case Kind.SOURCE:
            return dimension.where(lambda point: (point is None) is (request.source is None))
        case Kind.SNI:
            return dimension.where(lambda point: (point is None) is (request.sni is None))
        case Kind.CLAIM:
            claims = None if request.http is None else request.http.claims
            has_one = bool(texts_of(claims or {}, dimension.key))
            return dimension.where(lambda point: (point != ()) is has_one)
        case Kind.PROVIDER:
            return 1 << (0 if answers[dimension.key[0]] else 1)
    return dimension.everything


def _port(ports: tuple[int, ...], port: int | None) -> int:
    at = ports.index(port) if port in ports[:-1] else len(ports) - 1
    return 1 << at
