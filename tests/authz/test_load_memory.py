"""A load with what earlier loads have read is the load without it, wherever documents moved."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.load import load_policies
from authz.load_memory import LoadMemory
from authz.policy import PolicySet
from meshca.errors import InvalidDocument
from tests.authz.builders import document, rule

Texts = tuple[tuple[str, str], ...]


def load(texts: Texts, memory: LoadMemory | None = None, **changes: Any) -> PolicySet:
    options = {"trust_domain": "example.org", "root_namespace": "meshca", "default": "deny"}
    return load_policies(texts, memory=memory, **{**options, **changes})


def told(policies: PolicySet) -> Any:
    """Return everything that can be seen of a set, places and warnings included."""
    places = [(each.source, each.line) for each in policies.policies]
    peers = [(each.source, each.line) for each in policies.peer_authentications]
    return policies, policies.version, places, peers, policies.warnings


def text_of(number: int) -> str:
    """Return one of many documents: with warnings, of two kinds, some with comments around them."""
    if number % 5 == 4:
        made = document(f"p{number}")
        made.update(kind="PeerAuthentication", spec={"mtls": {"mode": "STRICT"}})
        made["spec"]["selector"] = {"matchLabels": {"n": str(number)}}
    else:
        rules = [rule({"principals": [f"partner.test/ns/x/sa/{number}"]})]
        made = document(f"p{number}", action="DENY" if number % 2 else None, rules=rules)
    return "# comment\n" * (number % 3) + json.dumps(made, indent=number % 2 or None) + "\n"


numbers = st.lists(st.integers(0, 11), unique=True, max_size=8)


@given(st.lists(st.tuples(numbers, st.integers(0, 8)), min_size=2, max_size=4))
def test_a_load_with_memory_is_the_load_without(story: list[tuple[list[int], int]]) -> None:
    memory = LoadMemory()
    for order, cut in story:
        halves = (order[:cut], order[cut:])
        texts = tuple(
            (f"{n}.yaml", "---\n".join(text_of(i) for i in half)) for n, half in enumerate(halves)
        )
        assert told(load(texts, memory)) == told(load(texts))


def test_what_is_remembered_is_not_read_again_and_forgotten_when_not_used() -> None:
    memory = LoadMemory()
    first = load((("a", text_of(0)),), memory)
    again = load((("b", "---\n" + text_of(1)), ("c", text_of(0))), memory)
    assert again.policies[0].rules is first.policies[0].rules
    assert again.policies[0].source == "c"
    load((("a", text_of(2)),), memory)
    assert list(memory.before) == [text_of(2)]


def test_what_was_refused_is_forgotten_by_the_next_but_one() -> None:
    memory = LoadMemory()
    load((("a", text_of(0)),), memory)
    for n in range(1, 12):
        with pytest.raises(InvalidDocument):
            load((("a", text_of(n)), ("b", "spec: [")), memory)
        assert list(memory.before) == [text_of(0)]
        assert len(memory.refused) + len(memory.now) <= 2
        assert memory.find(text_of(n), "a", 0) is not None
    assert not memory.find(text_of(9), "a", 0)


@pytest.mark.parametrize(
    "text",
    [
        text_of(0) + "---\nspec: [\n",
        text_of(0) + "---\n" + text_of(0),
        text_of(0) + "---\n" + text_of(1).replace("DENY", "BLOCK"),
        "# " + "x" * (4 * 1024 * 1024),
    ],
    ids=["not YAML", "twice", "a mistake", "too large"],
)
def test_mistakes_are_told_as_without_memory(text: str) -> None:
    memory = LoadMemory()
    load((("a", text_of(0)),), memory)
    with pytest.raises(InvalidDocument) as with_memory:
        load((("a", text),), memory)
    with pytest.raises(InvalidDocument) as without:
        load((("a", text),))
    assert with_memory.value.problems == without.value.problems
    assert told(load((("a", text_of(0)),), memory)) == told(load((("a", text_of(0)),)))


def test_a_load_in_another_way_remembers_nothing() -> None:
    memory = LoadMemory()
    ours = (("a", text_of(0).replace("partner.test", "other.test")),)
    assert load(ours, memory).warnings
    aliased = load(ours, memory, aliases=("other.test",))
    assert told(aliased) == told(load(ours, aliases=("other.test",)))
    assert not aliased.warnings


def test_directives_and_ends_of_documents_are_read_as_yaml_says() -> None:
    for text in ("%YAML 1.2\n---\n" + text_of(0), text_of(0) + "...\n---\n" + text_of(1)):
        assert told(load((("a", text),), LoadMemory())) == told(load((("a", text),)))


def test_a_warning_that_depends_on_other_documents_comes_and_goes_with_them() -> None:
    looks_at_a_token = rule({"requestPrincipals": ["https://issuer.test/*"]})
    denied = document("p", action="DENY", rules=[looks_at_a_token, rule({"namespaces": ["a"]})])
    open_to_all = {**document("open"), "kind": "PeerAuthentication"}
    open_to_all["spec"] = {"mtls": {"mode": "PERMISSIVE"}}
    tokens = {**document("tokens"), "kind": "RequestAuthentication"}
    tokens["spec"] = {"jwtRules": [{"issuer": "https://issuer.test"}]}
    memory = LoadMemory()
    seen = []
    for others in ([], [open_to_all], [tokens], []):
        texts = tuple((str(n), json.dumps(each)) for n, each in enumerate([denied, *others]))
        assert told(load(texts, memory)) == told(load(texts))
        said = " ".join(problem.message for problem in load(texts, memory).warnings)
        seen.append(("no token is ever valid" in said, "plaintext evades" in said))
    assert seen == [(True, False), (True, True), (False, False), (True, False)]


def test_what_is_made_of_a_policy_shares_nothing_of_what_it_remembers() -> None:
    """An approval names a digest: it must not hold for what means something else."""
    for is_asked_first in (True, False):
        text = json.dumps(document("p", rules=[rule({"namespaces": ["a"]})]))
        (policy,), (again,) = (load((("a", text),)).policies for _ in range(2))
        expected = again.digest
        if is_asked_first:
            assert policy.digest == expected
        changed = replace(policy, rules=())
        assert changed.digest != expected
        assert policy.digest == expected
