"""Kinds of destinations: for whatever workload there is, one that the same selectors select."""

from hypothesis import given, settings
from hypothesis import strategies as st

from authz.analysis.destinations import Labels, Selectors, destinations, in_words, selectors_of
from authz.workload import GATEWAY_LABEL, Workload
from tests.authz.analysis.worlds import load
from tests.authz.builders import document

PAIRS = [(key, value) for key in "ab" for value in ("1", "2")]
labels = st.dictionaries(st.sampled_from("ab"), st.sampled_from(["1", "2", "3"])).map(
    lambda pairs: frozenset(pairs.items())
)
NAMESPACES = ("root", "shop", "pay")


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(NAMESPACES), labels), max_size=5), labels)
def test_every_workload_is_of_exactly_one_kind(
    selected: list[tuple[str, Labels]], own: Labels
) -> None:
    every, everything = Selectors(frozenset({"root"})), Selectors(frozenset({"root"}))
    everything.add("root")
    for namespace, selector in selected:
        every.add(namespace, selector)

    kinds = list(destinations(every, everything))

    for namespace in (*NAMESPACES, "elsewhere"):
        selects = {each for each in every.of(namespace) if each <= own}
        alike = [
            kind
            for kind in kinds
            if kind.namespace == (namespace if namespace in every.by_namespace else "")
            and {each for each in every.of(namespace) if each <= kind.labels} == selects
        ]
        if namespace in every.by_namespace or namespace == "elsewhere":
            assert len(alike) == 1


def test_only_kinds_that_something_wanted_selects_are_looked_at() -> None:
    every, wanted = Selectors(frozenset({"root"})), Selectors(frozenset({"root"}))
    for value in ("1", "2"):
        every.add("shop", frozenset({("a", value)}))
        every.add("shop", frozenset({("b", value)}))
    wanted.add("shop", frozenset({("a", "1")}))

    found = {kind.labels for kind in destinations(every, wanted)}

    assert found == {
        frozenset({("a", "1")}),
        frozenset({("a", "1"), ("b", "1")}),
        frozenset({("a", "1"), ("b", "2")}),
    }


def test_a_gateway_is_a_kind_by_its_label() -> None:
    policy = document("gate", rules=[{}])
    policy["spec"]["targetRefs"] = [
        {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}
    ]
    selectors = selectors_of(load([policy]))

    kinds = [kind.workload for kind in destinations(selectors, selectors)]

    assert kinds == [Workload("shop", {GATEWAY_LABEL: "edge"})]


def test_kinds_are_said_together_where_all_of_them_are_meant() -> None:
    every = Selectors(frozenset({"root"}))
    every.add("root")
    every.add("shop", frozenset({("a", "1")}))
    kinds = list(destinations(every, every))
    plain = [kind for kind in kinds if kind.namespace == "shop" and not kind.labels]

    assert in_words(kinds, kinds) == ["every other namespace/*", "root/*", "shop/*"]
    assert in_words(plain, kinds) == ["shop/* (no other selected label)"]
