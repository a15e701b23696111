"""Whatever is written where: what is in force is made of whole namespaces, as they were or are."""

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from authz.directory import Texts
from authz.holding_back import move_on
from authz.load import load_policies
from authz.policy import PolicySet
from authz.reading import Reading
from meshca.errors import InvalidDocument
from tests.authz.builders import document, to_yaml
from tests.authz.objects import HEADER, Objects, denial, tokens


def contents(namespace: str, *names: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Return what may be in a namespace: some of what has these names."""
    known = {
        "web": document("web", namespace, rules=[{}]),
        "deny": denial(namespace),
        "tokens": tokens(namespace),
        "header": tokens(namespace, **HEADER),
        "bad": document("bad", namespace, action="BLOCK"),
    }
    of_one_name = {"tokens", "header"}
    chosen = st.sets(st.sampled_from(names)).filter(lambda each: not of_one_name <= each)
    return chosen.map(lambda each: [known[name] for name in sorted(each)])


GOOD = ("web", "deny", "tokens", "header")
ALL = (*GOOD, "bad")
Several = tuple[list[dict[str, Any]], ...]


def texts_of(source: str, *documents: list[dict[str, Any]]) -> Texts:
    """Return the objects that a source holds."""
    held = Objects(source)
    for each in documents:
        held.put(*each)
    return held.texts()


def load(reading: Reading) -> PolicySet:
    """Return the set that `reading` makes."""
    return load_policies(
        reading.all_texts(), trust_domain="example.org", root_namespace="meshca", default="deny"
    )


def loads(reading: Reading) -> bool:
    """Return whether `reading` loads."""
    try:
        load(reading)
    except InvalidDocument:
        return False
    return True


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    files=st.one_of(contents("meshca", "tokens", "header"), contents("shop", *GOOD)),
    others=st.tuples(*[contents(each, *GOOD) for each in ("meshca", "meshca", "bank", "bank")]),
    before=st.tuples(contents("shop", *GOOD), contents("shop", *GOOD)),
    after=st.tuples(contents("shop", *ALL), contents("shop", *ALL)),
)
def test_whatever_one_tenant_writes_what_loads_without_it_comes_into_force(
    files: list[dict[str, Any]],
    others: Several,
    before: Several,
    after: Several,
) -> None:
    directory = tuple((f"/policies/{n}.yaml", to_yaml(each)) for n, each in enumerate(files))
    root_before, root, bank_before, bank = others

    def made(*first: list[dict[str, Any]], second: list[dict[str, Any]]) -> Reading:
        live = (texts_of("kubernetes", *first), texts_of("kubernetes-2", second))
        return Reading(directory, (), None, live)

    last = made(root_before, bank_before, before[0], second=before[1])
    without = made(root, bank, before[0], second=before[1])
    now = made(root, bank, after[0], second=after[1])
    assume(loads(last) and loads(without) and not loads(now))
    held = held_whole(last, now)
    assert held
    assert {unit.rsplit("/", 1)[1] for unit in held} == {"shop"}, "nobody else is held"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    before=st.tuples(*[contents(each, *GOOD) for each in ("meshca", "shop", "bank", "shop")]),
    after=st.tuples(*[contents(each, *ALL) for each in ("meshca", "shop", "bank", "shop")]),
)
def test_whatever_all_write_each_namespace_is_whole(before: Several, after: Several) -> None:
    last, now = (
        Reading(
            (), (), None, (texts_of("kubernetes", *each[:3]), texts_of("kubernetes-2", each[3]))
        )
        for each in (before, after)
    )
    assume(loads(last) and not loads(now))
    assert held_whole(last, now), "without files something can always be held back"


def held_whole(last: Reading, now: Reading) -> set[str]:
    """Return what is held back of `now`, which does not load; all must be whole, and load."""
    with pytest.raises(InvalidDocument) as refused:
        load(now)
    moved = move_on(now, refused.value.problems, last.live, "meshca", load)
    assert moved is not None
    assert moved.policies.version == load(moved.reading).version
    held = {each.file for each in moved.problems if "stays as it was" in each.message}
    for at_last, at_now, at_moved in zip(last.live, now.live, moved.reading.live, strict=True):
        for unit in {name.rsplit("/", 2)[0] for name, _ in (*at_last, *at_now)}:
            source = at_last if unit in held else at_now
            assert _of(unit, at_moved) == _of(unit, source), "whole, as it was or as it is"
    return held


def _of(unit: str, texts: Texts) -> list[tuple[str, str]]:
    return [each for each in texts if each[0].startswith(f"{unit}/")]
