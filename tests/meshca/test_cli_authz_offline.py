"""Policy commands that need no server: check with explanations, explain, test."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.authz.builders import WEB, document, rule, to_yaml
from tests.meshca.cli import meshca

READ = rule({"principals": [WEB]}, {"methods": ["GET"], "paths": ["/items/*"]})
CHECK = (
    *("authz", "check", "--source", f"spiffe://{WEB}", "--destination", "shop/orders"),
    *("--path", "/items/1", "--method"),
)


@pytest.fixture
def policies(tmp_path: Path) -> str:
    directory = tmp_path / "policies"
    directory.mkdir()
    text = to_yaml(document("orders", selector={"app": "orders"}, rules=[READ]))
    (directory / "orders.yaml").write_text(text)
    return str(directory)


def test_a_denied_check_says_what_would_have_allowed_it(policies: str) -> None:
    denied = meshca(*CHECK, "POST", "--policies", policies)
    assert denied.status == 1
    assert "near miss: shop/orders rule 0: methods: POST is none of GET" in denied.out
    assert "would be allowed with method GET" in denied.out
    assert "would be allowed with POST in methods of rule 0 of shop/orders" in denied.out


def test_json_has_the_explanation_only_when_asked_for(policies: str) -> None:
    asked = (*CHECK, "POST", "--policies", policies, "-o", "json")
    assert set(meshca(*asked).data) == {"id", "verdict", "policy", "rule", "reason", "shadow"}
    explained = meshca(*asked, "--explain").data
    assert explained["near_misses"][0]["policy"] == "shop/orders"
    assert explained["would_allow"][0]["text"] == "with method GET"


def test_a_check_says_what_would_hold_with_everything_on_trial_in_force(policies: str) -> None:
    trial = document("all", rules=[{}])
    trial["metadata"]["annotations"] = {"meshca.io/stage": "shadow"}
    (Path(policies) / "trial.yaml").write_text(to_yaml(trial))
    told = meshca(*CHECK, "POST", "--policies", policies).out
    assert "with what is on trial in force: allow, unlike now; allowed by ns[shop]-" in told


def test_a_check_explained_is_made_now(policies: str) -> None:
    ending = document("later", rules=[{}])
    ending["metadata"]["annotations"] = {"meshca.io/expires": "2100-01-01T00:00:00Z"}
    (Path(policies) / "later.yaml").write_text(to_yaml(ending))
    assert "allowed by ns[shop]-policy[later]" in meshca(*CHECK, "POST", "--policies", policies).out


def test_a_check_takes_the_aliases_of_the_trust_domain(policies: str) -> None:
    asked = [*CHECK, "GET", "--policies", policies, "--trust-domain", "example.org"]
    asked[asked.index(f"spiffe://{WEB}")] = f"spiffe://{WEB.replace('example.org', 'old.org')}"
    assert meshca(*asked).status == 1
    assert meshca(*asked, "--trust-domain-alias", "old.org").status == 0
    bad = meshca(*asked, "--trust-domain-alias", "No Domain")
    assert (bad.status, "--trust-domain-alias" in bad.err) == (2, True)


def test_explain_says_in_words_what_decides(policies: str) -> None:
    options = ("--policies", policies, "--trust-domain", "example.org")
    told = meshca("authz", "explain", "shop/orders", *options)
    assert told.status == 0
    assert "shop/orders rule 0 allows requests, over HTTP only, where the peer is" in told.out
    assert "it is in shop and selects workloads with app=orders" in told.out
    other = meshca("authz", "explain", "shop/x", "--label", "a=b", *options, "-o", "json").data
    assert other["labels"] == {"a": "b", "app": "x"}
    assert other["policies"] == []


Write = Callable[..., str]


@pytest.fixture
def write_tests(tmp_path: Path, policies: str) -> Write:
    def write(**case: Any) -> str:
        request = {
            "source": {"principal": WEB},
            "destination": {"namespace": "shop", "labels": {"app": "orders"}},
            "http": {"method": "GET", "path": "/items/1"},
        }
        tests = {
            "trust_domain": "example.org",
            "policies": [Path(policies).name],
            "cases": [{"name": "reads", "request": request, "expect": "allow"} | case],
        }
        file = tmp_path / "tests.yaml"
        file.write_text(yaml.safe_dump(tests))
        return str(file)

    return write


def test_tests_that_pass_exit_0_and_those_that_fail_exit_1_with_junit(
    write_tests: Write, tmp_path: Path
) -> None:
    passed = meshca("authz", "test", write_tests(), "-o", "json")
    assert passed.status == 0
    assert json.loads(passed.out) == {"cases": 1, "failed": 0, "failures": []}

    junit = tmp_path / "junit.xml"
    failed = meshca("authz", "test", write_tests(expect="deny"), "--junit", str(junit))
    assert failed.status == 1
    assert "expected deny, got allow: allowed by ns[shop]-policy[orders]-rule[0]" in failed.out
    assert '<failure message="expected deny, got allow' in junit.read_text()


def test_tests_that_do_not_load_are_refused_with_their_line(write_tests: Write) -> None:
    refused = meshca("authz", "test", write_tests(expects="allow"))
    assert refused.status == 1
    assert "tests.yaml:3: cases[0].expects: unknown field; did you mean expect?" in refused.err


def test_findings_exit_1_and_name_the_file_and_the_rule(policies: str, tmp_path: Path) -> None:
    options = ("--policies", policies, "--trust-domain", "example.org")
    clean = meshca("authz", "findings", *options, "-o", "json")
    assert (clean.status, clean.data["findings"]) == (0, [])

    identities = tmp_path / "identities"
    identities.write_text(f"spiffe://{WEB}x\n")
    found = meshca("authz", "findings", *options, "--identities", str(identities))
    assert found.status == 1
    assert f"principals: nobody has or had {WEB}; did you mean {WEB}x?" in found.out
    assert "orders.yaml:1" in found.out

    identities.write_text("no identity\n")
    refused = meshca("authz", "findings", *options, "--identities", str(identities))
    assert refused.status == 1
    assert "'no'" in refused.err
    assert meshca("authz", "findings", "--identities", str(identities)).status == 2
