"""Revocation through the admin door: what an operator can do, what is refused, what is recorded."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ca.revocation.view import Crl
from tests.admin.world import ORDERS, World, error, intent, running, signed
from tests.builders import make_authority

FOR_GOOD = {"reason": "keyCompromise", "why": "INC-7"}
HOLD = {"reason": "certificateHold", "why": "INC-7"}
SERIALS = ("a1", "a2", "a3")


def run(directory: Path, story: Callable[[World], Awaitable[None]]) -> None:
    """Run `story` where three certificates of `orders` are alive, and one that has ended."""

    async def within() -> None:
        async with running(directory) as world:
            past = intent("e0", world.clock)
            await world.writer.submit(past)
            world.clock.advance(timedelta(hours=2))
            await world.writer.submit(
                *(intent(s, world.clock, node=f"node-{s}", token_id=f"t-{s}") for s in SERIALS)
            )
            await world.writer.submit(signed("a1", world.state))
            await story(world)

    asyncio.run(within())


async def post(world: World, path: str, **body: Any) -> Any:
    """Return the JSON of a change that must be done."""
    response = await world.client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


async def revoke(world: World, selector: dict[str, str], **more: Any) -> Any:
    return await post(world, "/revocations", selector=selector, **{**FOR_GOOD, **more})


def test_one_certificate_is_revoked_shown_and_recorded(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        done = await revoke(world, {"serial": "00:A1"})
        shown = await world.get("/revocations/a1")
        entries = (await world.get("/audit/entries", kind="revocation"))["entries"]

        assert (done["count"], [hit["serial"] for hit in done["hit"]]) == (1, ["a1"])
        assert (shown["reason"], shown["spiffe_id"]) == ("keyCompromise", ORDERS)
        assert shown["decision"] == done["decision"] == shown["decided"]["decision"]
        assert (shown["decided"]["actor"], shown["decided"]["why"]) == ("uid:0", "INC-7")
        assert shown["decided"]["selector"] == {"serial": "a1"}
        assert shown["decided"]["open"] is False
        assert [(e["actor"], e["serial"], e["reason"]) for e in entries] == [
            ("uid:0", "a1", "INC-7")
        ]

    run(tmp_path, story)


def test_certificates_are_listed_with_how_they_are_revoked(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        done = await revoke(world, {"serial": "a1"})
        svids = (await world.get("/svids"))["svids"]
        by_serial = {svid["serial"]: svid["revoked"] for svid in svids}
        at = world.clock.now().isoformat().replace("+00:00", "Z")

        expected = {"at": at, "reason": "keyCompromise", "decision": done["decision"]}
        assert by_serial == {"a1": expected, "a2": None, "a3": None, "e0": None}
        assert (await world.get("/svids/a1"))["revoked"] == expected
        assert (await world.get("/svids/a2"))["revoked"] is None

    run(tmp_path, story)


@pytest.mark.parametrize(
    ("name", "value"),
    [("serial", "00:A1"), ("token_id", "t-a1"), ("fingerprint", None)],
    ids=["serial", "token id", "fingerprint"],
)
def test_certificates_are_listed_by(tmp_path: Path, name: str, value: str | None) -> None:
    async def story(world: World) -> None:
        der = signed("a1", world.state).certificate
        found = await world.get("/svids", **{name: value or sha256(der).hexdigest().upper()})

        assert [svid["serial"] for svid in found["svids"]] == ["a1"]

    run(tmp_path, story)


def test_a_rehearsal_shows_what_would_be_hit_and_changes_nothing(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        selector = {"namespace": "shop"}
        said = await revoke(world, selector, dry_run=True, ban={"until": None})

        assert (said["dry_run"], said["decision"], said["ban"]) == (True, "", None)
        assert (said["count"], said["must_confirm"]) == (3, True)
        assert [hit["serial"] for hit in said["hit"]] == list(SERIALS)
        assert (await world.get("/revocations"))["revocations"] == []
        assert (await world.get("/bans", all="true"))["bans"] == []

    run(tmp_path, story)


def test_many_need_the_right_number(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        body = {"selector": {"namespace": "shop"}, **FOR_GOOD}
        none = await world.client.post("/revocations", json=body)
        wrong = await world.client.post("/revocations", json={**body, "confirmed": 2})
        assert (await world.get("/revocations"))["revocations"] == []
        right = await revoke(world, {"namespace": "shop"}, confirmed=3)

        assert error(none)[:2] == error(wrong)[:2] == (409, "conflict")
        assert "--yes-revoke-3" in error(none)[2]
        assert "2 certificates were confirmed, but 3" in error(wrong)[2]
        assert right["count"] == 3

    run(tmp_path, story)


def test_a_hold_is_released_and_nothing_else_is(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await post(world, "/revocations", selector={"serial": "a1"}, **HOLD)
        released = await post(world, "/revocations/a1/release", why="it was found")
        again = await world.client.post("/revocations/a1/release", json={"why": "x"})
        await revoke(world, {"serial": "a2"})
        for_good = await world.client.post("/revocations/a2/release", json={"why": "x"})

        assert released["released_at"] is not None
        assert (await world.get("/svids/a1"))["revoked"] is None
        assert error(again) == (409, "conflict", "serial a1 is not on hold")
        assert "that is for good" in error(for_good)[2]

    run(tmp_path, story)


def test_the_life_of_a_ban(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        until = world.clock.now() + timedelta(hours=1)
        ban = await post(
            world,
            "/bans",
            selector={"namespace": "shop", "node": "node-1"},
            why="INC-8",
            until=until.isoformat(),
        )
        (listed,) = (await world.get("/bans"))["bans"]
        lifted = await post(world, f"/bans/{ban['ban']}/lift", why="it is clean")
        again = await world.client.post(f"/bans/{ban['ban']}/lift", json={"why": "x"})
        entries = (await world.get("/audit/entries", kind="ban"))["entries"]

        assert listed == ban
        assert (ban["selector"], ban["holds"]) == ({"namespace": "shop", "node": "node-1"}, True)
        assert ban["until"] == until.isoformat().replace("+00:00", "Z")
        assert lifted == {"ban": ban["ban"], "lifted": True}
        assert error(again)[0] == 409
        assert (await world.get("/bans"))["bans"] == []
        (ended,) = (await world.get("/bans", all="true"))["bans"]
        assert (ended["holds"], ended["lifted_at"] is None) == (False, False)
        assert [(e["details"]["what"], e["reason"]) for e in entries] == [
            ("lifted", "it is clean"), ("banned", "INC-8"),
        ]  # fmt: skip

    run(tmp_path, story)


def test_revoking_with_a_ban_says_both(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        done = await revoke(world, {"node": "node-a1"}, ban={"until": None})

        assert (done["count"], done["ban"]["selector"]) == (1, {"node": "node-a1"})
        assert (await world.get("/bans"))["bans"] == [done["ban"]]

    run(tmp_path, story)


def test_revocations_are_listed_newest_first_page_by_page(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for serial in SERIALS:
            await revoke(world, {"serial": serial})
        first = await world.get("/revocations", limit="2")
        second = await world.get("/revocations", limit="2", cursor=first["next"])

        assert [r["serial"] for r in first["revocations"]] == ["a3", "a2"]
        assert [r["serial"] for r in second["revocations"]] == ["a1"]
        assert second["next"] is None
        assert (await world.get("/revocations", reason="superseded"))["revocations"] == []
        assert len((await world.get("/revocations", spiffe_id=ORDERS))["revocations"]) == 3
        world.clock.advance(timedelta(hours=1))
        assert (await world.get("/revocations"))["revocations"] == [], "they have ended"

    run(tmp_path, story)


def test_lists_in_force_are_shown(tmp_path: Path) -> None:
    from ca.crl import crl_fields, encode_crl, sign_crl

    async def story(world: World) -> None:
        authority, now = make_authority(), world.clock.now()
        fields = crl_fields(authority, number=7, now=now)
        der = sign_crl(authority, encode_crl(fields, []))
        name = authority.authority_id
        world.lists[name] = Crl(name, 7, 3, fields.this_update, fields.next_update, now, der)
        (shown,) = (await world.get("/crls"))["crls"]

        assert (shown["authority_id"], shown["number"], shown["entries"]) == (name, 7, 0)
        assert shown["bytes"] == len(der)

    run(tmp_path, story)


SELECTOR = {"serial": "a1"}
GOOD = {"selector": SELECTOR, **FOR_GOOD}


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/revocations", {**GOOD, "selector": {}}, 400, "that is not all"),
        ("/revocations", {**GOOD, "selector": {"serial": "a1", "node": " "}}, 400, "node is empty"),
        ("/revocations", {**GOOD, "selector": {"pod": "x"}}, 400, "unknown field 'pod'"),
        ("/revocations", {**GOOD, "selector": {"serial": "xyz"}}, 400, "is not hex digits"),
        ("/revocations", {**GOOD, "selector": {"node": "a\u0000b"}}, 400, "cannot be printed"),
        ("/revocations", {**GOOD, "selector": {"fingerprint": "a1"}}, 400, "64 hex digits"),
        ("/revocations", {**GOOD, "selector": {"spiffe_id": "orders"}}, 400, "does not begin"),
        (
            "/revocations",
            {**GOOD, "selector": {"spiffe_id": "spiffe://partner.test/a"}},
            400,
            "is of trust domain partner.test",
        ),
        ("/revocations", {**GOOD, "reason": "removeFromCRL"}, 400, "unknown reason"),
        ("/revocations", {**GOOD, "why": " "}, 400, "not valid"),
        ("/revocations", {**GOOD, "why": "a\u0000b"}, 400, "not valid"),
        ("/revocations", {**GOOD, "colour": "blue"}, 400, "not valid"),
        ("/revocations", {**GOOD, "ban": {"until": None}}, 400, "and not serial"),
        ("/revocations", {**GOOD, "selector": {"serial": "ff"}}, 404, "serial ff was issued"),
        ("/revocations", {**GOOD, "selector": {"serial": "e0"}}, 409, "nothing left to revoke"),
        ("/revocations/a1/release", {"why": "x"}, 404, "serial a1 is not revoked"),
        ("/bans", {"selector": SELECTOR, "why": "x"}, 400, "and not serial"),
        ("/bans", {"selector": {}, "why": "x"}, 400, "that is not all"),
        (
            "/bans",
            {"selector": {"node": "n"}, "why": "x", "until": "2026-11-01T12:00:00Z"},
            400,
            "has ended already",
        ),
        (
            "/bans",
            {"selector": {"node": "n"}, "why": "x", "until": "2027-11-01T12:00:00"},
            400,
            "not valid",
        ),
        (f"/bans/{'0' * 16}/lift", {"why": "x"}, 404, "there is no ban"),
    ],
    ids=[
        "an empty selector", "empty text", "unknown field", "no serial", "NUL", "no fingerprint",
        "no SPIFFE ID", "another trust domain", "unknown reason", "no words", "words with NUL",
        "unknown key", "a ban by serial", "unknown serial", "one that has ended",
        "release of what is not revoked", "ban by serial", "ban of everybody", "ban in the past",
        "ban without a time zone", "lift of nothing",
    ],
)  # fmt: skip
def test_refuses(tmp_path: Path, path: str, body: dict[str, Any], status: int, said: str) -> None:
    async def story(world: World) -> None:
        response = await world.client.post(path, json=body)

        assert response.status_code == status, response.text
        assert said in error(response)[2]
        assert (await world.get("/revocations"))["revocations"] == []
        assert (await world.get("/bans", all="true"))["bans"] == []

    run(tmp_path, story)


@pytest.mark.parametrize(
    "query", ["colour=blue", "cursor=1", "cursor=1-xyz", "reason=none", "limit=0"]
)
def test_refuses_a_query_that_it_does_not_know(tmp_path: Path, query: str) -> None:
    async def story(world: World) -> None:
        response = await world.client.get(f"/revocations?{query}")

        assert response.status_code == 400

    run(tmp_path, story)


@pytest.mark.parametrize("text", ["' OR ''='", "%", "a1' --", "*", "${node}"])
def test_text_of_a_selector_is_never_part_of_a_query(tmp_path: Path, text: str) -> None:
    async def story(world: World) -> None:
        done = await revoke(world, {"node": text})

        assert (done["count"], done["decision"]) == (0, "")

    run(tmp_path, story)
