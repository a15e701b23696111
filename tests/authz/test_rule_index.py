"""The index finds a rule whenever one holds, however many there are and whatever they name."""

from random import Random

import pytest

from authz.policy import Action, Rule
from authz.request import facts_of
from authz.rule_index import RuleIndex
from tests.authz.builders import TRUST_DOMAIN, connection, document, load, request, rule
from tests.authz.generated import make_asked, make_documents, to_request


def many_rules(random: Random, action: Action) -> list[Rule]:
    """Return the rules of many random policies, enough for every lookup to be used."""
    documents = [each for _ in range(60) for each in make_documents(random)]
    for number, each in enumerate(documents):
        each["metadata"]["name"] = f"policy-{number}"
    return [r for p in load(*documents).policies if p.action is action for r in p.rules]


def is_looked_up(index: RuleIndex) -> bool:
    return bool(getattr(index.general, "by_path", None))


@pytest.mark.parametrize("action", [Action.ALLOW, Action.DENY])
def test_finds_a_rule_exactly_when_one_of_all_holds(action: Action) -> None:
    random, looked_up = Random(3), 0
    for _ in range(10):
        rules = many_rules(random, action)
        random.shuffle(rules)
        index = RuleIndex.of(rules[: random.choice((3, 60, 400))])
        looked_up += is_looked_up(index)
        for _ in range(100):
            asked = to_request(make_asked(random))
            facts = facts_of(asked, (TRUST_DOMAIN,))
            on_tcp = action is Action.ALLOW and asked.http is None
            usable = [each for each in index.rules if not (on_tcp and each.http_only)]
            found = index.find(facts, time=0.0, on_tcp=on_tcp)
            holding = [r for r in usable if r.holds(facts) and not r.is_over(0.0)]
            assert (found in holding) if holding else (found is None)
            assert on_tcp or list(index.find_all(facts, time=0.0)) == holding
    assert looked_up > 2


PATHS = ("/a", "/a/b/c/d/e/f", "/a/b*", "/a/b/c/d/e*", "/x/{*}/y", "/t/{*}")


@pytest.mark.parametrize(
    ("path", "holds"),
    [
        ("/a", True),
        ("/a/", False),
        ("/a/b/c/d/e/f", True),
        ("/a/bc/d", True),
        ("/x/1/y", True),
        ("/t/1", True),
        ("/t/1?q=/", True),
        ("/b", False),
        ("/x/1/z", False),
        ("/t/1/2", False),
    ],
)
def test_a_path_is_found_by_itself_and_by_the_directories_above_it(path: str, holds: bool) -> None:
    rules = [rule(None, {"paths": [each]}) for each in PATHS]
    (policy,) = load(document("p", rules=rules)).policies
    index = RuleIndex.of(policy.rules)
    assert is_looked_up(index)
    found = index.find(facts_of(request(path=path), (TRUST_DOMAIN,)), time=None)
    assert (found is not None) is holds


def test_a_path_that_is_not_known_is_looked_for_among_all_rules() -> None:
    rules = [rule(None, {"paths": [f"/{number}"]}) for number in range(9)]
    (policy,) = load(document("p", action="DENY", rules=rules)).policies
    index = RuleIndex.of(policy.rules)
    assert index.find(facts_of(connection(), (TRUST_DOMAIN,)), time=None) is not None


def test_a_path_of_many_slashes_costs_few_lookups() -> None:
    rules = [rule(None, {"paths": [f"/{number}/*"]}) for number in range(9)]
    (policy,) = load(document("p", rules=rules)).policies
    index = RuleIndex.of(policy.rules)
    deep = facts_of(request(path="/5" + "/" * 60_000), (TRUST_DOMAIN,))
    assert index.find(deep, time=None) is not None


def test_a_rule_of_any_path_is_found_for_a_path_that_it_does_not_name() -> None:
    rules = [rule(None, {"paths": [f"/{number}"]}) for number in range(9)]
    (policy,) = load(document("p", rules=[*rules, rule(None, {"paths": ["*", "/z"]})])).policies
    index = RuleIndex.of(policy.rules)
    assert index.find(facts_of(request(path="/b"), (TRUST_DOMAIN,)), time=None) is not None
