"""Unit tests of policy: what they find, what they refuse, what pipelines are shown."""

from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml

from authz.analysis.unit_tests import junit, load_tests, run
from meshca.errors import InvalidDocument
from tests.authz.builders import WEB, document, load, rule

POLICIES = load(document("orders", rules=[rule({"principals": [WEB]}, {"methods": ["GET"]})]))


def case(**override: Any) -> dict[str, Any]:
    return {
        "name": "the web reads",
        "request": {
            "source": {"principal": WEB},
            "destination": {"namespace": "shop"},
            "http": {"method": "GET", "path": "/"},
        },
        "expect": "allow",
    } | override


def text(*cases: Any, **override: Any) -> str:
    content = {"trust_domain": "example.org", "policies": ["p/"], "cases": list(cases)} | override
    return yaml.safe_dump(content, sort_keys=False)


def failures(*cases: Any) -> list[str]:
    return [result.failure for result in run(load_tests(text(*cases), "t.yaml"), POLICIES)]


def test_what_is_expected_passes() -> None:
    assert failures(case(policy="shop/orders", shadow="allow")) == [""]


@pytest.mark.parametrize(
    ("override", "failure"),
    [
        (
            {"expect": "deny"},
            "expected deny, got allow: allowed by ns[shop]-",
        ),
        ({"policy": "shop/other"}, "expected shop/other to decide, it was shop/orders"),
        ({"shadow": "deny"}, "expected shadow deny, got allow"),
    ],
    ids=["verdict", "policy", "shadow"],
)
def test_what_is_not_as_expected_fails_with_the_reason(
    override: dict[str, Any], failure: str
) -> None:
    (said,) = failures(case(**override))
    assert said.startswith(failure)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (text(case(verdict="allow")), "cases[0].verdict: unknown field"),
        (text(case(expect="yes")), "cases[0].expect: is allow or deny"),
        (text(case(request={"destination": {}})), "destination.namespace: missing"),
        (text({"name": "x"}), "cases[0]: request is missing"),
        (text(), "cases: an empty list says nothing"),
        (text(case(), policy=["p"]), "policy: unknown field; did you mean policies?"),
        (text(case(), trust_domain=""), "trust_domain: missing"),
        (text(case(policy="orders")), "'orders' is not namespace/name"),
        (text(case()) + "---\n" + text(case()), "must hold one document"),
    ],
    ids=[
        *("unknown key", "verdict", "request", "missing keys", "no cases"),
        *("unknown top key", "trust domain", "policy", "two documents"),
    ],
)
def test_a_mistake_in_the_tests_refuses_them(content: str, problem: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        load_tests(content, "t.yaml")
    assert problem in str(caught.value)
    assert "t.yaml" in str(caught.value)


def test_a_case_says_what_a_custom_provider_answers() -> None:
    loaded = load_tests(text(case(answers={"opa": "deny"})), "t.yaml")
    assert loaded.cases[0].answers == {"opa": False}


def test_junit_names_each_failure_and_is_xml_whatever_it_holds() -> None:
    tests = load_tests(text(case(), case(name="<b>\x85", expect="deny")), "t.yaml")
    suites = ET.fromstring(junit(run(tests, POLICIES)))  # noqa: S314  # our own text
    (suite,) = suites
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    passed, failed = suite
    assert len(passed) == 0
    assert failed.get("name") == "<b>\ufffd"
    assert "expected deny" in (failed[0].get("message") or "")
