"""Recorded decisions under a draft: newly denied, newly allowed, unknown, never guessed."""

from random import Random
from typing import Any

import pytest

from authz.analysis.replay import replay
from authz.engine import decide
from authz.policy import PolicySet
from authz.records.decisions import Distinct
from authz.records.operation import OTHER
from authz.request import Http, Request
from tests.authz.analysis.recorded import NOW, seen
from tests.authz.builders import ORDERS, WEB, document, load, rule
from tests.authz.generated import make_documents

READ = rule({"principals": [WEB]}, {"methods": ["GET"], "paths": ["/items/*"]})
HEADER = {"when": [{"key": "request.headers[x-role]", "values": ["admin"]}]}
TOKEN = {"when": [{"key": "request.auth.claims[role]", "values": ["admin"]}]}
ADDRESS = {"when": [{"key": "source.ip", "values": ["10.0.0.0/8"]}]}


def found(draft: PolicySet, *decisions: Distinct) -> dict[str, Any]:
    return replay(decisions, draft, now=NOW).as_json()


def test_counts_what_stays_and_names_what_changes_with_its_rule() -> None:
    deny = document("no-2", action="DENY", rules=[rule(None, {"paths": ["/items/2*"]})])
    answer = found(
        load(document("p", rules=[READ]), deny),
        seen("/items/1", count=5),
        seen("/items/2", count=7),
        seen("/items/3", allowed=False, count=2),
        seen("/other", count=1),
    )
    assert (answer["distinct"], answer["requests"], answer["unchanged"]) == (4, 15, 1)
    first, second = answer["newly_denied"]
    assert (first["path"], first["count"], first["policy"]) == ("/items/2", 7, "shop/no-2")
    assert (first["was"], first["would"]) == ("allow", "deny")
    assert second["path"] == "/other"
    assert "nearest is" in second["reason"]
    assert [each["path"] for each in answer["newly_allowed"]] == ["/items/3"]
    assert answer["unknown"] == []
    assert first["first"] < first["last"] == "2026-11-01T12:00:00Z"


@pytest.mark.parametrize(
    ("condition", "what"),
    [(HEADER, "header"), (TOKEN, "claim"), (ADDRESS, "source ip")],
    ids=["header", "token", "address"],
)
@pytest.mark.parametrize("action", ["ALLOW", "DENY"])
def test_what_hangs_on_what_no_record_keeps_is_unknown(
    condition: dict[str, Any], what: str, action: str
) -> None:
    others = [document("all", rules=[{}])] if action == "DENY" else []
    draft = load(document("p", action=action, rules=[condition]), *others)
    answer = found(draft, seen())
    (unknown,) = answer["unknown"]
    assert unknown["would"] == "unknown"
    assert unknown["reason"] == f"depends on {what}: not in the record"


def test_what_is_decided_whatever_the_record_lacks_is_not_unknown() -> None:
    always = load(document("p", rules=[READ | HEADER, READ]))
    assert found(always, seen())["unchanged"] == 1
    never = load(document("p", rules=[rule({"principals": ["example.org/x"]}) | HEADER]))
    assert len(found(never, seen())["newly_denied"]) == 1
    denied = load(document("p", rules=[HEADER]), document("d", action="DENY", rules=[READ]))
    assert len(found(denied, seen())["newly_denied"]) == 1


def test_paths_that_were_folded_or_cut_are_unknown() -> None:
    draft = load(document("p", rules=[READ]))
    folded = seen(path=OTHER, host=OTHER)
    assert len(found(draft, folded, seen("/items/" + "x" * 600))["unknown"]) == 2
    by_port = load(document("p", rules=[rule(None, {"ports": ["8080"]})]))
    assert found(by_port, folded)["unchanged"] == 1


def test_a_connection_is_decided_as_one() -> None:
    assert len(found(load(document("p", rules=[READ])), seen(None))["newly_denied"]) == 1
    by_port = rule({"principals": [WEB]}, {"ports": ["8080"]})
    assert found(load(document("p", rules=[by_port])), seen(None))["unchanged"] == 1


def test_a_custom_policy_denies_a_connection_and_leaves_a_request_unknown() -> None:
    custom = document("c", action="CUSTOM", rules=[rule(None, {"ports": ["8080"]})])
    custom["spec"]["provider"] = {"name": "opa"}
    draft = load(custom, document("p", rules=[{}]))
    assert len(found(draft, seen(None))["newly_denied"]) == 1
    (unknown,) = found(draft, seen())["unknown"]
    assert "CUSTOM provider" in unknown["reason"]


def test_never_contradicts_the_engine_whatever_the_record_lacks() -> None:
    random = Random(11)
    extra = [HEADER, TOKEN, ADDRESS]
    for _ in range(60):
        documents = make_documents(random)
        for each in documents:
            for spec in each["spec"].get("rules") or []:
                if random.random() < 0.4:
                    spec |= random.choice(extra)
        draft = load(*documents)
        decision = seen(random.choice(("/api", "/api/v1", "/x")))
        answer = found(draft, decision)
        verdicts = {decide(draft, each).allowed for each in _completions(decision)}
        if not answer["unknown"]:
            assert verdicts == {not answer["newly_denied"]}
        else:
            assert answer["unchanged"] == 0


def _completions(decision: Distinct) -> list[Request]:
    """Return the request with everything that a record does not keep, in several ways."""
    bare = decision.request()
    assert bare.http is not None
    http = bare.http
    return [
        Request(
            bare.source,
            ORDERS,
            port=bare.port,
            http=Http(http.method, http.path, http.host, headers, claims),
            source_ip=address,
            time=NOW.timestamp(),
        )
        for headers in ({}, {"x-role": "admin"})
        for claims in (None, {"iss": "i", "sub": "s", "role": "admin"})
        for address in ("10.1.1.1", "192.0.2.1")
    ]
