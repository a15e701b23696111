"""What one rule is proved to cover is never contradicted by the engine."""

from random import Random

import pytest

from authz.analysis.subsumption import contradiction, rule_covers, values_cover
from authz.policy import Rule
from authz.request import facts_of
from authz.values import Strings, Values
from tests.authz.builders import TRUST_DOMAIN, document, load, rule
from tests.authz.generated import make_asked, make_documents, to_request

DOMAINS = (TRUST_DOMAIN,)


def strings(*exact: str, prefixes: tuple[str, ...] = (), suffixes: tuple[str, ...] = ()) -> Strings:
    return Strings(frozenset(exact), prefixes, suffixes)


@pytest.mark.parametrize(
    ("wide", "narrow", "covers"),
    [
        (strings("a", "b"), strings("a"), True),
        (strings("a"), strings("a", "b"), False),
        (strings(prefixes=("/a",)), strings("/a", prefixes=("/a/",)), True),
        (strings(prefixes=("/a/",)), strings(prefixes=("/a",)), False),
        (strings(suffixes=("x",)), strings("ax", suffixes=("yx",)), True),
        (strings(prefixes=("a",)), strings(suffixes=("a",)), False),
        (Strings(present=True), strings("a", prefixes=("b",)), True),
        (strings("a"), Strings(present=True), False),
    ],
    ids=["fewer", "more", "prefix", "shorter", "suffix", "mixed", "present", "not present"],
)
def test_forms_cover_forms(wide: Values, narrow: Values, covers: bool) -> None:
    assert values_cover(wide, narrow) is covers


def rules_of(random: Random) -> list[Rule]:
    return [each for policy in load(*make_documents(random)).policies for each in policy.rules]


def test_what_is_proved_of_two_rules_holds_for_every_request() -> None:
    random, proved = Random(5), 0
    asked = [to_request(make_asked(random)) for _ in range(300)]
    for _ in range(150):
        rules = rules_of(random)
        for wide in rules:
            for narrow in rules:
                if wide is narrow or not rule_covers(wide, narrow, DOMAINS):
                    continue
                proved += 1
                for request in asked:
                    facts = facts_of(request, DOMAINS)
                    usable = request.http is not None or not narrow.http_only
                    if narrow.holds(facts) and (usable or narrow.action != "ALLOW"):
                        assert wide.holds(facts), (wide, narrow, request)
                        on_tcp = request.http is None and wide.action == "ALLOW"
                        assert not (on_tcp and wide.http_only)
    assert proved > 20


def test_what_is_proved_contradictory_holds_for_no_request() -> None:
    random, proved = Random(6), 0
    asked = [to_request(make_asked(random)) for _ in range(300)]
    for _ in range(300):
        for each in rules_of(random):
            for terms in (*each.sources, *each.operations):
                if contradiction(terms, DOMAINS):
                    proved += 1
                    for request in asked:
                        facts = facts_of(request, DOMAINS)
                        assert not all(term.holds(facts) for term in terms), terms
    assert proved > 10


def test_an_allow_of_http_does_not_cover_tcp() -> None:
    (http, port), *_ = [
        policy.rules
        for policy in load(
            document("p", rules=[rule(None, {"methods": ["*"]}), rule(None, {"ports": ["80"]})])
        ).policies
    ]
    assert not rule_covers(http, port, DOMAINS)
