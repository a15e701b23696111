"""Checkpoints and proofs through the admin door: they lead to what was signed."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from audit.checkpoint import open_checkpoint
from audit.merkle import verify_consistency, verify_inclusion
from audit.note import VerifierKey
from audit.proof_file import parse_proof, verify_proof
from tests.admin.world import World, error, running
from tests.audit.signed_log import ORIGIN
from tests.audit.tampering import rebuild_tree, rewrite
from tests.audit.test_log import entry


def run(directory: Path, story: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        async with running(directory) as world:
            for count in (4, 300, 7):
                await world.writer.submit(*(entry(n) for n in range(count)))
                assert await world.state.signer.step()
            await story(world)

    asyncio.run(main())


async def verifiers(world: World) -> list[VerifierKey]:
    answer = await world.get("/audit/keys")
    assert answer["origin"] == ORIGIN
    return [VerifierKey.parse(key["key"]) for key in answer["keys"]]


def test_the_newest_checkpoint_is_signed(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        answer = await world.get("/audit/checkpoint")
        checkpoint, note = open_checkpoint(answer["checkpoint"], await verifiers(world))
        assert (checkpoint.size, checkpoint.root.hex()) == (answer["size"], answer["root"])
        assert answer["keys"] == [note.signatures[0].key_id.hex()]
        assert answer["origin"] == ORIGIN

    run(tmp_path, story)


def test_kept_checkpoints_come_in_pages(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        first = await world.get("/audit/checkpoints", limit="2")
        rest = await world.get("/audit/checkpoints", limit="2", cursor=str(first["next"]))
        sizes = [each["size"] for each in (*first["checkpoints"], *rest["checkpoints"])]
        assert len(sizes) == 3
        assert sizes == sorted(sizes, reverse=True)
        assert rest["next"] is None

    run(tmp_path, story)


def test_inclusion_is_proven_under_what_was_signed(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        newest = await world.get("/audit/checkpoint")
        for index in (0, 5, 256, newest["size"] - 1):
            answer = await world.get("/audit/proof/inclusion", index=str(index))
            assert answer["root"] == newest["root"]
            assert answer["checkpoint"] == newest["checkpoint"]
            assert verify_inclusion(
                index,
                answer["size"],
                bytes.fromhex(answer["leaf_hash"]),
                [bytes.fromhex(each) for each in answer["proof"]],
                bytes.fromhex(answer["root"]),
            )
        smaller = await world.get("/audit/proof/inclusion", index="3", size="100")
        assert (smaller["size"], smaller["checkpoint"]) == (100, None)

    run(tmp_path, story)


def test_growth_is_proven_from_one_checkpoint_to_another(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        kept = (await world.get("/audit/checkpoints"))["checkpoints"]
        for old in kept:
            answer = await world.get("/audit/proof/consistency", old=str(old["size"]))
            assert answer["old_root"] == old["root"]
            assert answer["checkpoint"] == kept[0]["checkpoint"]
            assert verify_consistency(
                answer["old"],
                answer["new"],
                bytes.fromhex(old["root"]),
                bytes.fromhex(kept[0]["root"]),
                [bytes.fromhex(each) for each in answer["proof"]],
            )

    run(tmp_path, story)


def test_a_proof_file_needs_nothing_but_a_key(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        response = await world.client.get("/audit/proof/entry", params={"index": "7"})
        proof = parse_proof(response.content)
        assert verify_proof(proof, await verifiers(world), origin=ORIGIN).checkpoint.size > 7
        assert proof.body is not None
        assert b'"index":7' in proof.body

    run(tmp_path, story)


@pytest.mark.parametrize(
    ("path", "params", "status", "said"),
    [
        ("proof/inclusion", {"index": "99999"}, 404, "no entry 99999"),
        ("proof/inclusion", {"index": "9", "size": "9"}, 400, "not among the first 9"),
        ("proof/inclusion", {"index": "9", "size": "99999"}, 400, "the log has"),
        ("proof/inclusion", {"index": "-1"}, 400, "not valid"),
        ("proof/inclusion", {"index": "1", "leaf": "1"}, 400, "not valid"),
        ("proof/consistency", {"old": "9", "new": "8"}, 400, "`old` is more than `new`"),
        ("proof/consistency", {"old": "9", "new": "99999"}, 400, "the log has"),
        ("proof/entry", {}, 400, "by its index or by a serial"),
        ("proof/entry", {"index": "1", "serial": "ab"}, 400, "by its index or by a serial"),
        ("proof/entry", {"serial": "ab"}, 404, "ab"),
    ],
)
def test_a_proof_of_nothing_is_refused(
    tmp_path: Path, path: str, params: dict[str, str], status: int, said: str
) -> None:
    async def story(world: World) -> None:
        answer = error(await world.client.get(f"/audit/{path}", params=params))
        assert answer[0] == status
        assert said in answer[2]

    run(tmp_path, story)


def test_what_is_not_signed_yet_is_to_be_asked_for_again(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.writer.submit(entry(1))
        index = str((await world.get("/status"))["audit"]["size"] - 1)
        status, _, message = error(
            await world.client.get("/audit/proof/inclusion", params={"index": index})
        )
        assert (status, "retry in a second" in message) == (409, True)

    run(tmp_path, story)


def test_nothing_is_signed_at_first(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as world:
            assert error(await world.client.get("/audit/checkpoint"))[0] == 409

    asyncio.run(main())


def test_the_log_is_examined_with_anchors_and_keys(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        anchors = [
            each["checkpoint"] for each in (await world.get("/audit/checkpoints"))["checkpoints"]
        ]
        keys = [str(key) for key in await verifiers(world)]
        body = {"anchors": anchors, "keys": keys}
        answer = (await world.client.post("/audit/verify", json=body)).json()
        assert answer["intact"], answer
        assert (answer["anchors"], answer["checkpoints"]) == (3, 3)
        assert answer["keys"] == keys
        assert answer["signed"] <= answer["entries"]

        rewrite(world.engine, 200, reason="it was somebody else")
        rebuild_tree(world.engine)
        for answer in (
            (await world.client.post("/audit/verify", json=body)).json(),
            await world.get("/audit/verify"),
        ):
            assert not answer["intact"]
            assert "was rewritten from entry 9 on" in answer["problem"]

    run(tmp_path, story)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"anchors": ["hello"]}, "a note is a text"),
        ({"keys": ["hello"]}, "a verifier key is written"),
        ({"anchor": []}, "not valid"),
        ({"anchors": ["x"] * 10_001}, "not valid"),
    ],
)
def test_what_is_no_anchor_and_no_key_is_refused(
    tmp_path: Path, body: dict[str, object], said: str
) -> None:
    async def story(world: World) -> None:
        status, _, message = error(await world.client.post("/audit/verify", json=body))
        assert status == 400
        assert said in message

    run(tmp_path, story)


def test_a_key_is_followed_by_another(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        made = (await world.client.post("/audit/keys/rotate")).json()["key"]
        assert made["stage"] == "active"
        assert made["retires_at"] is None
        await world.state.signer.step()
        assert len((await world.get("/audit/checkpoint"))["keys"]) == 2
        keys = (await world.get("/audit/keys"))["keys"]
        assert {key["stage"] for key in keys} == {"active", "retiring"}
        assert made in keys

    run(tmp_path, story)
