"""The way in: who is attested, what is recorded before an answer goes out, what is refused."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from admin.entrance import Entrance
from admin.peer import TlsPeer
from ca.revocation.operations import BanRequest
from ca.revocation.reason import Reason
from ca.revocation.selector import Selector
from tests.admin.visitors import READER, bearer, recorded, roles, svid, visitor
from tests.admin.world import ORDERS, World, error, running

AUDITORS = roles(auditor=[READER, "oidc:ann", "oidc-group:mesh"])
Story = Callable[[World], Awaitable[None]]


def play(tmp_path: Path, story: Story) -> None:
    """Run `story` in a world of its own."""

    async def scene() -> None:
        async with running(tmp_path) as world:
            await story(world)

    asyncio.run(scene())


def break_log(world: World) -> None:
    """Let nothing be recorded any more."""
    with world.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE audit_entries RENAME TO away")


async def flushed(world: World) -> None:
    """Wait until what was recorded without waiting is in the log."""
    await asyncio.sleep(0)
    await world.writer.submit()


def test_nobody_is_told_what_to_show_and_it_is_recorded(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        answer = await visitor(world, AUDITORS).get("/svids")
        status, code, message = error(answer)
        assert (status, code) == (401, "unauthenticated")
        assert "OIDC token" in message
        assert "client certificate" in message
        assert answer.headers["www-authenticate"] == "Bearer"
        await flushed(world)
        (entry,) = recorded(world, "refusal")
        assert (entry["reason"], entry["details"]["from"]) == ("no_proof", "127.0.0.1:123")
        assert entry["request_id"] == answer.headers["x-request-id"]
        assert recorded(world, "read") == []

    play(tmp_path, story)


def test_an_svid_and_a_token_let_in_whoever_has_a_role(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        chain = await svid(world, READER, namespace="audit")
        service = visitor(world, AUDITORS, chain=chain)
        person = visitor(world, AUDITORS, headers=bearer(world, "ann"))
        by_group = visitor(world, AUDITORS, headers=bearer(world, "bob", groups=["mesh"]))
        for client, actor, proof in (
            (service, READER, "client_svid"),
            (person, "oidc:ann", "oidc"),
            (by_group, "oidc:bob", "oidc"),
        ):
            said = (await client.get("/whoami")).json()
            assert (said["actor"], said["proof"], said["roles"]) == (actor, proof, ["auditor"])
            assert (await client.get("/svids")).status_code == 200

    play(tmp_path, story)


def test_a_read_and_its_login_are_recorded_with_who_how_and_from_where(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        client = visitor(world, AUDITORS, headers=bearer(world, "ann"))
        params = {"namespace": "shop", "limit": "3"}
        answer = await client.get("/svids", params=params, headers={"x-request-id": "r-1"})
        assert answer.headers["x-request-id"] == "r-1"
        (login,), (read,) = recorded(world, "login"), recorded(world, "read")
        assert (login["actor"], login["details"]["roles"]) == ("oidc:ann", ["auditor"])
        assert (read["actor"], read["outcome"], read["request_id"]) == ("oidc:ann", "done", "r-1")
        assert read["details"] == {
            "route": "GET /v1/svids",
            "parameters": {"namespace": "shop", "limit": "3"},
            "status": 200,
            "proof": "oidc",
            "from": "192.0.2.1:4000",
            "credential": "t-ann",
        }
        assert login["index"] < read["index"]

    play(tmp_path, story)


def test_a_connection_and_a_token_log_in_once(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        chain = await svid(world, READER, namespace="audit")
        first, second = (visitor(world, AUDITORS, chain=chain) for _ in range(2))
        for client in (first, first, second):
            await client.get("/status")
        assert len(recorded(world, "login")) == 2
        header = bearer(world, "ann")
        here = visitor(world, AUDITORS, headers=header)
        elsewhere = visitor(world, AUDITORS, headers=header, address="198.51.100.7:1")
        for client in (here, here, elsewhere):
            await client.get("/status")
        assert len(recorded(world, "login")) == 4

    play(tmp_path, story)


def test_what_cannot_be_recorded_is_not_shown(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        chain = await svid(world, READER, namespace="audit")
        client = visitor(world, AUDITORS, chain=chain)
        assert "serial" in (await client.get("/svids")).text
        break_log(world)
        refused = await client.get("/svids")
        assert error(refused)[:2] == (503, "unavailable")
        assert "spiffe" not in refused.text
        assert (await client.get("/bundle")).status_code == 200  # public, and no evidence

    play(tmp_path, story)


def test_whoever_cannot_be_recorded_does_not_get_in(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        chain = await svid(world, READER, namespace="audit")
        break_log(world)
        refused = await visitor(world, AUDITORS, chain=chain).get("/bundle")
        assert error(refused)[:2] == (503, "unavailable")

    play(tmp_path, story)


def test_somebody_without_a_role_is_named_and_refused(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        chain = await svid(world, ORDERS, namespace="shop")
        answer = await visitor(world, AUDITORS, chain=chain).get("/status")
        assert error(answer)[:2] == (403, "permission_denied")
        assert ORDERS in error(answer)[2]
        await flushed(world)
        (entry,) = recorded(world, "refusal")
        assert (entry["reason"], entry["actor"]) == ("no_role", ORDERS)

    play(tmp_path, story)


def test_a_bad_token_is_not_made_good_by_a_certificate(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        chain = await svid(world, READER, namespace="audit")
        for value in ("Bearer x", "Basic YTpi", "bearer "):
            client = visitor(world, AUDITORS, chain=chain, headers={"authorization": value})
            assert error(await client.get("/svids"))[0] == 401

    play(tmp_path, story)


def test_headers_are_bounded_before_a_token_is_looked_at(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        large = {"authorization": "Bearer " + "x" * 32_768}
        assert error(await visitor(world, AUDITORS, headers=large).get("/svids"))[0] == 431

    play(tmp_path, story)


def test_headers_make_nobody(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        claims = {
            "x-forwarded-client-cert": f"URI={READER}",
            "x-remote-user": "oidc:ann",
            "x-forwarded-for": "127.0.0.1",
        }
        assert error(await visitor(world, AUDITORS, headers=claims).get("/svids"))[0] == 401

    play(tmp_path, story)


async def refusal_reason(world: World, client: Any) -> str:
    """Return why `client` is refused now."""
    assert error(await client.get("/svids"))[0] == 401
    await flushed(world)
    return str(recorded(world, "refusal")[-1]["reason"])


WHO: dict[str, Any] = {"actor": "uid:0", "why": "stolen"}


def test_a_revoked_svid_is_refused_on_an_open_connection(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        chain = await svid(world, READER, namespace="audit")
        client = visitor(world, AUDITORS, chain=chain)
        assert (await client.get("/svids")).status_code == 200
        operations = world.state.revocations
        serial = f"{chain[0].serial_number:x}"
        await operations.revoke(Selector(serial=serial), Reason.keyCompromise, **WHO)
        assert await refusal_reason(world, client) == "revoked"

    play(tmp_path, story)


def test_a_banned_namespace_is_refused_by_the_evidence_on_record(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        chain = await svid(world, READER, namespace="audit")
        selector = Selector(namespace="audit")
        await world.state.revocations.ban(selector, BanRequest(None), **WHO)
        client = visitor(world, AUDITORS, chain=chain)
        assert await refusal_reason(world, client) == "banned"

    play(tmp_path, story)


def test_an_svid_that_has_ended_is_refused_on_an_open_connection(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        chain = await svid(world, READER, namespace="audit")
        client = visitor(world, AUDITORS, chain=chain)
        world.clock.advance(timedelta(minutes=59, seconds=50))
        assert (await client.get("/svids")).status_code == 200
        world.clock.advance(timedelta(seconds=11))  # sooner than it is verified anew
        assert await refusal_reason(world, client) == "expired"

    play(tmp_path, story)


def test_a_certificate_that_is_not_the_recorded_one_is_refused(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        chain = await svid(world, READER, namespace="audit")
        with world.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE certificates SET key_sha256 = 'another'")
        client = visitor(world, AUDITORS, chain=chain)
        assert await refusal_reason(world, client) == "not_issued_here"

    play(tmp_path, story)


def test_a_certificate_that_is_not_on_record_is_refused_whoever_signed_it(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        chain = await svid(world, READER, namespace="audit")
        with world.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM certificates")
        client = visitor(world, AUDITORS, chain=chain)
        assert await refusal_reason(world, client) == "not_issued_here"

    play(tmp_path, story)


def test_a_leaf_without_what_leads_to_a_root_is_refused(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        chain = await svid(world, READER, namespace="audit")
        client = visitor(world, AUDITORS, chain=chain[:1])
        assert await refusal_reason(world, client) == "untrusted"

    play(tmp_path, story)


def test_an_open_connection_is_verified_anew_each_minute(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        chain = await svid(world, READER, namespace="audit")
        client = visitor(world, AUDITORS, chain=chain)
        assert (await client.get("/status")).status_code == 200
        with world.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM certificates")
        world.clock.advance(timedelta(seconds=59))
        assert (await client.get("/status")).status_code == 200
        world.clock.advance(timedelta(seconds=1))
        assert (await client.get("/status")).status_code == 401

    play(tmp_path, story)


def test_only_declared_parameters_are_recorded_and_no_secret(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        client = visitor(world, AUDITORS, headers=bearer(world, "ann"))
        await client.get("/svids", params={"pod_uid": "u" * 500, "token": "hunter2"})
        request = {
            "source": {"principal": ORDERS, "claims": {"password": "hunter2"}},
            "destination": {"namespace": "shop"},
            "http": {"path": "/a?key=hunter2", "headers": {"authorization": "hunter2"}},
        }
        await client.post("/authz/check/explained", json={"request": request, "x": "hunter2"})
        await client.post("/authz/diff", json={"before": "current", "after": {"documents": "{}"}})
        reads = [entry["details"]["parameters"] for entry in recorded(world, "read")]
        assert reads[0] == {"pod_uid": "u" * 256 + "…"}
        assert reads[1]["request"]["http"] == {"path": "/a"}
        assert reads[1]["request"]["source"] == {"principal": ORDERS}
        assert reads[2]["after"]["documents"].startswith("sha256:")
        assert "hunter2" not in str(reads)

    play(tmp_path, story)


def test_one_subject_has_few_costly_reads_at_once(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        client = visitor(world, AUDITORS, headers=bearer(world, "ann"))
        world.state.access.costly["oidc:ann"] = 4
        assert error(await client.get("/audit/verify"))[:2] == (429, "overloaded")
        assert (await client.get("/svids")).status_code == 200
        other = visitor(world, AUDITORS, headers=bearer(world, "bob", groups=["mesh"]))
        assert (await other.get("/audit/verify")).status_code == 200
        assert world.state.access.costly == {"oidc:ann": 4}

    play(tmp_path, story)


BYPASS = {"namespace": "shop", "labels": {}, "seconds": 600, "reason": "INC-7"}


@pytest.mark.parametrize("how", ["tokens", "svids"])
def test_two_people_over_the_network_are_two_persons(tmp_path: Path, how: str) -> None:
    async def story(world: World) -> None:
        ids = [READER, ORDERS]
        given = roles(operator=["oidc:ann", "oidc:bob", *ids])
        if how == "tokens":
            ann, bob = (visitor(world, given, headers=bearer(world, p)) for p in ("ann", "bob"))
        else:
            chains = [await svid(world, each, namespace="x") for each in ids]
            ann, bob = (visitor(world, given, chain=chain) for chain in chains)
        made = (await ann.post("/authz/bypasses", json=BYPASS)).json()
        approval = {"bypass": made["bypass"], "reason": "yes"}
        alone = await ann.post("/authz/approvals", json=approval)
        assert "somebody else has to approve" in error(alone)[2]
        approved = await bob.post("/authz/approvals", json=approval)
        assert approved.status_code == 200, approved.text
        actor = approved.json()["bypass"]["approved"]["actor"]
        assert actor == ("oidc:bob" if how == "tokens" else ORDERS)

    play(tmp_path, story)


def test_a_change_has_the_id_of_its_request(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        given = roles(operator=["oidc:ann"])
        ann = visitor(world, given, headers={**bearer(world, "ann"), "x-request-id": "CHG-7"})
        body = {"selector": {"namespace": "shop"}, "why": "test"}
        assert (await ann.post("/bans", json=body)).status_code == 200
        (entry,) = recorded(world, "ban")
        assert (entry["actor"], entry["request_id"]) == ("oidc:ann", "CHG-7")
        bad = await ann.get("/bans", headers={"x-request-id": "a b; drop"})
        assert len(bad.headers["x-request-id"]) == 16

    play(tmp_path, story)


def test_a_rehearsal_is_a_read_and_the_change_is_not(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await svid(world, ORDERS, namespace="shop")
        ann = visitor(world, roles(operator=["oidc:ann"]), headers=bearer(world, "ann"))
        body = {"selector": {"namespace": "shop"}, "why": "test"}
        rehearsed = await ann.post("/revocations", json={**body, "dry_run": True})
        assert rehearsed.json()["count"] == 1
        (read,) = recorded(world, "read")
        assert read["details"]["parameters"] == {
            "dry_run": True,
            "selector": {"namespace": "shop"},
            "why": "test",
        }
        assert (await ann.post("/revocations", json=body)).status_code == 200
        assert (len(recorded(world, "read")), len(recorded(world, "revocation"))) == (1, 1)

    play(tmp_path, story)


async def endless(_scope: Any, _receive: Any, send: Any) -> None:
    """Answer without end, as a followed log does."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"entry", "more_body": True})


def test_an_answer_that_goes_on_ends_with_the_proof(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        chain = await svid(world, READER, namespace="audit")
        access = world.state.access
        access = replace(access, proofs=replace(access.proofs, roles=AUDITORS))
        sent: list[bytes] = []

        async def send(message: Any) -> None:
            sent.append(message.get("body", b""))
            if len(sent) == 4:
                world.clock.advance(timedelta(hours=2))

        scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": []}
        scope["state"] = {"tls": TlsPeer("192.0.2.1:1", chain)}
        with pytest.raises(OSError, match="the proof of whoever asked has ended"):
            await Entrance(endless, access)(scope, _nothing, send)
        assert sent == [b"", b"entry", b"entry", b"entry", b""]

    play(tmp_path, story)


async def _nothing() -> Any:
    return {"type": "http.disconnect"}
