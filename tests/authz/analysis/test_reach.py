"""Ways from an identity to a workload through others."""

from typing import Any

from authz.analysis.reach import MAXIMUM_PATHS, Reach, Service, reach
from authz.policy import PolicySet
from authz.workload import Workload
from meshca.spiffe_id import SpiffeId
from tests.authz.analysis.worlds import NOW, load
from tests.authz.builders import document, rule


def identity(name: str) -> SpiffeId:
    return SpiffeId.parse(f"spiffe://example.org/ns/shop/sa/{name}")


def workload(name: str) -> Workload:
    return Workload("shop", {"app": name})


def lets(name: str, *callers: str) -> dict[str, Any]:
    """Return the policy that lets `callers` call the workload `name`."""
    principals = [f"example.org/ns/shop/sa/{caller}" for caller in callers]
    rules = [rule({"principals": principals}, {"methods": ["GET"]})]
    return document(name, rules=rules, selector={"app": name})


SERVICES = [Service(workload(name), identity(name)) for name in ("web", "cart", "orders", "pay")]


def ways(policies: PolicySet, source: str, to: str, **options: int) -> Reach:
    return reach(policies, identity(source), workload(to), SERVICES, now=NOW, **options)


def names(found: Reach) -> list[list[str]]:
    return [[dict(hop.destination.labels)["app"] for hop in path] for path in found.paths]


CHAIN = [lets("web", "edge"), lets("cart", "web"), lets("orders", "cart", "web"),
         lets("pay", "orders")]  # fmt: skip


def test_the_shortest_way_comes_first_and_each_call_has_its_rule_and_a_witness() -> None:
    found = ways(load(CHAIN), "edge", "pay")

    assert names(found) == [["web", "orders", "pay"], ["web", "cart", "orders", "pay"]]
    first = found.paths[0]
    assert [str(hop.source).rpartition("/")[2] for hop in first] == ["edge", "web", "orders"]
    assert first[0].rule == "ns[shop]-policy[web]-rule[0]"
    assert all(hop.witness.decide(load(CHAIN)).allowed for hop in first)
    assert (found.beyond, found.defects) == ([], [])


def test_a_call_that_is_denied_is_no_way() -> None:
    closed = document("closed", action="DENY", rules=[{}], selector={"app": "orders"})

    assert names(ways(load([*CHAIN, closed]), "edge", "pay")) == []
    assert names(ways(load(CHAIN), "pay", "web")) == []


def test_a_direct_call_is_a_way_of_one() -> None:
    assert names(ways(load(CHAIN), "orders", "pay")) == [["pay"]]


def test_ways_longer_than_asked_for_are_left_out() -> None:
    assert names(ways(load(CHAIN), "edge", "pay", hops=3)) == [["web", "orders", "pay"]]


def test_circles_end_and_more_ways_than_are_shown_are_said_to_be_there() -> None:
    everybody = document("all", rules=[{}])
    found = ways(load([everybody]), "edge", "pay")

    assert len(found.paths) == MAXIMUM_PATHS
    assert names(found)[0] == ["pay"]
    assert found.beyond == [f"only the {MAXIMUM_PATHS} shortest paths are shown"]


def test_a_workload_without_a_known_identity_calls_nobody() -> None:
    found = reach(
        load(CHAIN),
        identity("edge"),
        workload("pay"),
        [Service(workload("web"), None)],
        now=NOW,
    )

    assert found.paths == []
