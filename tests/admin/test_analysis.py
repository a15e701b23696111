"""Questions about every request, asked of the set in force through the admin door."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from admin import analysis
from authz.workload import Workload
from meshca.errors import Overloaded
from tests.admin.world import POLICY, error, proxy, running

CALLER = "spiffe://example.org/ns/shop/sa/orders"
FRONTEND = "spiffe://example.org/ns/shop/sa/frontend"
ORDERS = {"namespace": "shop", "labels": {"app": "orders"}}
WIDER = POLICY.replace("methods: [GET]", "methods: [GET, POST]")


def ask(directory: Path, path: str, body: Any, *, applied: str = POLICY) -> Any:
    """Return the response to one question, with `applied` in force."""

    directory.mkdir(exist_ok=True)

    async def story() -> Any:
        async with running(directory) as world:
            put = {"documents": applied, "reason": "test"}
            assert (await world.client.post("/policies", json=put)).status_code == 200
            workload = Workload("shop", {"app": "orders"})
            world.proxies.proxies.append(proxy(world.clock, workload=workload))
            return await world.client.post(path, json=body)

    return asyncio.run(story())


def test_what_is_in_force_is_compared_with_documents(tmp_path: Path) -> None:
    body = {"before": "current", "after": {"documents": WIDER}}
    answer = ask(tmp_path, "/authz/diff", body).json()

    (change,) = answer["changes"]
    assert change["change"] == "newly allowed"
    assert change["region"]["method"] == ["POST"]
    assert (change["before"]["verdict"], change["after"]["verdict"]) == ("deny", "allow")
    assert (answer["equal"], answer["statement"]) == (False, "nothing else changes")


def test_an_applied_set_equals_itself_in_force(tmp_path: Path) -> None:
    answer = ask(tmp_path, "/authz/diff", {"before": "applied:1", "after": "current"}).json()

    assert (answer["equal"], answer["statement"]) == (True, "nothing changes")
    assert answer["before"] == answer["after"]


REFUSED = {
    "a set that was never applied": ({"before": "applied:7", "after": "current"}, 404),
    "no candidate": ({"before": "current", "after": "staged"}, 404),
    "no set": ({"before": "current", "after": "tomorrow"}, 400),
    "a field too many": ({"before": "current", "after": "current", "x": 1}, 400),
    "documents that do not load": ({"before": "current", "after": {"documents": "x: 1"}}, 400),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_to_compare(name: str, tmp_path: Path) -> None:
    body, status = REFUSED[name]

    assert error(ask(tmp_path, "/authz/diff", body))[0] == status


def test_who_can_and_what_can_agree(tmp_path: Path) -> None:
    who = ask(tmp_path / "a", "/authz/who-can", {"destination": ORDERS, "method": "GET"}).json()
    what = ask(tmp_path / "b", "/authz/what-can", {"source": FRONTEND}).json()

    assert [each["region"]["source"] for each in who["allowed"]] == [
        ["example.org/ns/shop/sa/frontend"]
    ]
    assert [each["destinations"] for each in what["allowed"]] == [["shop/app=orders"]]
    assert who["statement"] == "nothing else is allowed"


FURTHER = """
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: payments, namespace: shop}
spec:
  selector: {matchLabels: {app: payments}}
  rules: [{from: [{source: {principals: [example.org/ns/shop/sa/orders]}}]}]
"""


def test_a_way_leads_through_what_is_connected(tmp_path: Path) -> None:
    payments = {"namespace": "shop", "labels": {"app": "payments"}}
    body = {"source": FRONTEND, "destination": payments}
    answer = ask(tmp_path, "/authz/reach", body, applied=POLICY + FURTHER).json()

    assert [[hop["source"] for hop in path] for path in answer["paths"]] == [[FRONTEND, CALLER]]
    assert answer["paths"][0][0]["allowed_by"] == "ns[shop]-policy[orders-readers]-rule[0]"


def test_a_way_leads_through_what_is_named_instead(tmp_path: Path) -> None:
    body = {"source": FRONTEND, "destination": ORDERS, "services": []}

    assert len(ask(tmp_path, "/authz/reach", body).json()["paths"]) == 1


@pytest.mark.parametrize("source", ["example.org", "spiffe://", "a b"])
def test_refuses_a_source_that_nobody_carries(source: str, tmp_path: Path) -> None:
    response = ask(tmp_path, "/authz/what-can", {"source": source})

    assert error(response)[:2] == (400, "invalid_argument")


def test_an_analysis_that_takes_too_long_is_given_up_and_keeps_its_turn_until_it_ends() -> None:
    over = threading.Event()

    async def story() -> None:
        turn = asyncio.Semaphore(1)
        with pytest.raises(Overloaded):
            await analysis.in_turn(turn, over.wait, seconds=0.05)
        assert turn.locked()
        with pytest.raises(Overloaded):
            await analysis.in_turn(turn, lambda: 1, seconds=0.05)
        over.set()
        assert await analysis.in_turn(turn, lambda: 2, seconds=10) == 2

    asyncio.run(story())
