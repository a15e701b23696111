"""Being a witness: what grows is cosigned, whatever else is shown is refused, told and recorded."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.note import SigningKey, parse_signature, verify_signature
from audit.witness.request import SIZE_TYPE, write_request
from audit.witness.witness import Answer
from tests.audit.anchors.notes import ORIGIN, SmallLog
from tests.audit.witness.world import WITNESS_KEY, watched
from tests.stores import sqlite_engine

LOG = SmallLog()
OTHER_VIEW = SmallLog(view="other")


def check(answer: Answer, size: int, at: float) -> None:
    """Fail unless `answer` is the witness's cosignature of LOG, made at `at`."""
    assert (answer.status, answer.outcome) == (200, "cosigned")
    signature = parse_signature(answer.body.removesuffix("\n"))
    verified = verify_signature(LOG.at(size).note.text, signature, WITNESS_KEY.verifier)
    assert verified.time_seconds == int(at)


def test_a_log_that_grows_is_cosigned_each_time(both_engines: sa.Engine) -> None:
    async def story() -> None:
        async with watched(both_engines) as world:
            for old, size in ((0, 1), (1, 2), (2, 7), (7, 300), (300, 300)):
                check(await world.ask(old, size), size, world.clock.now().timestamp())
                assert world.seen().size == size
            recorded = await world.recorded()
            assert [e["details"]["size"] for e in recorded] == [1, 2, 7, 300]
            assert {(e["outcome"], e["actor"]) for e in recorded} == {("done", ORIGIN)}
            assert recorded[-1]["details"]["note"] == str(LOG.at(300).note)
            assert world.counted("cosigned") == 5

    asyncio.run(story())


def test_who_does_not_know_what_was_seen_is_told(both_engines: sa.Engine) -> None:
    async def story() -> None:
        async with watched(both_engines) as world:
            await world.ask(0, 5)
            for old, size in ((0, 9), (4, 9), (6, 9), (0, 5), (3, 4)):
                answer = await world.ask(old, size)
                assert (answer.status, answer.kind, answer.body) == (409, SIZE_TYPE, "5\n")
            assert world.seen().size == 5

    asyncio.run(story())


def test_two_views_of_one_log_are_refused_told_and_recorded(both_engines: sa.Engine) -> None:
    async def story() -> None:
        async with watched(both_engines) as world:
            await world.ask(0, 5)

            answer = await world.ask(5, 5, OTHER_VIEW)

            assert (answer.status, answer.outcome, answer.kind) == (409, "split_view", SIZE_TYPE)
            again = await world.ask(0, 5, OTHER_VIEW)  # whatever it says that it believes
            assert again.outcome == "split_view"
            assert world.seen().root == LOG.at(5).checkpoint.root
            assert world.counted("split_view") == 2
            proof = (await world.recorded())[-1]
            assert (proof["outcome"], proof["reason"]) == ("refused", "split_view")
            assert proof["details"]["note"] == str(OTHER_VIEW.at(5).note)
            assert proof["details"]["seen"] == str(LOG.at(5).note)

    asyncio.run(story())


def test_a_log_that_does_not_grow_from_what_was_seen_is_refused(both_engines: sa.Engine) -> None:
    async def story() -> None:
        async with watched(both_engines) as world:
            await world.ask(0, 5)
            rewritten = await world.ask(5, 9, OTHER_VIEW)
            assert (rewritten.status, rewritten.outcome) == (422, "inconsistent")
            assert world.seen().size == 5
            told = (await world.recorded())[-1]
            assert (told["reason"], told["details"]["seen"]) == (
                "inconsistent",
                str(LOG.at(5).note),
            )
            check(await world.ask(5, 9), 9, world.clock.now().timestamp())

    asyncio.run(story())


def test_a_wrong_proof_is_refused_and_says_nothing_of_the_log(both_engines: sa.Engine) -> None:
    async def story() -> None:
        async with watched(both_engines) as world:
            await world.ask(0, 5)
            right = LOG.consistency_proof(5, 9)
            junk = [b"h" * 32]
            for size, proof in ((5, junk), (9, junk), (9, []), (9, right[:-1]), (9, right + junk)):
                answer = await world.ask(5, size, proof=proof)  # public checkpoints, true ones
                assert (answer.status, answer.outcome) == (422, "bad_proof")
            assert world.counted("bad_proof") == 5
            assert world.counted("inconsistent") == world.counted("split_view") == 0
            assert {e["reason"] for e in (await world.recorded())[1:]} == {"bad_proof"}
            check(await world.ask(5, 9), 9, world.clock.now().timestamp())

    asyncio.run(story())


def test_where_no_proof_can_show_another_beginning_it_is_refused_all_the_same(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        with sqlite_engine(tmp_path) as engine:
            async with watched(engine) as world:
                await world.ask(0, 4)  # a power of two: its root is in no proof
                answer = await world.ask(4, 9, OTHER_VIEW)
                assert (answer.status, answer.outcome) == (422, "bad_proof")
                assert (await world.ask(4, 4, OTHER_VIEW)).outcome == "split_view"
                assert world.seen().size == 4

    asyncio.run(story())


def test_nothing_is_proven_to_grow_from_nothing_but_what_has_no_proof(tmp_path: Path) -> None:
    async def story() -> None:
        with sqlite_engine(tmp_path) as engine:
            async with watched(engine) as world:
                assert (await world.ask(0, 5, proof=[b"h" * 32])).outcome == "bad_proof"
                empty = LOG.signs(0, b"x" * 32)
                answer = await world.witness.add_checkpoint(write_request(0, [], empty.note))
                assert (answer.status, answer.outcome) == (422, "inconsistent")
                assert (await world.ask(0, 0)).status == 200

    asyncio.run(story())


def test_an_unknown_log_and_an_unknown_key_are_refused(tmp_path: Path) -> None:
    stranger = SmallLog(key=SigningKey(ORIGIN, Ed25519PrivateKey.generate()))
    forged = replace(LOG.at(3).note, signatures=stranger.at(3).note.signatures)

    async def story() -> None:
        with sqlite_engine(tmp_path) as engine:
            async with watched(engine) as world:
                assert (await world.ask(0, 3, SmallLog(origin="other.test/log"))).status == 404
                assert (await world.ask(0, 3, stranger)).status == 403
                body = write_request(0, [], forged)
                assert (await world.witness.add_checkpoint(body)).status == 403
                assert (await world.ask(9, 3)).status == 400
                assert (await world.witness.add_checkpoint(b"old 1\n")).status == 400
                assert world.seen().size == 0
                reasons = [entry["reason"] for entry in await world.recorded()]
                assert reasons == ["unknown_log", "not_signed", "not_signed", "malformed"]

    asyncio.run(story())


def test_a_wrong_signature_of_a_known_key_refuses_the_note(tmp_path: Path) -> None:
    good = LOG.at(3).note
    wrong = replace(good, signatures=(replace(good.signatures[0], signature=b"s" * 64),))

    async def story() -> None:
        with sqlite_engine(tmp_path) as engine:
            async with watched(engine) as world:
                answer = await world.witness.add_checkpoint(write_request(0, [], wrong))
                assert (answer.status, answer.outcome) == (403, "not_signed")

    asyncio.run(story())


def test_of_several_at_once_one_goes_forward(both_engines: sa.Engine) -> None:
    async def story() -> None:
        async with watched(both_engines) as one, watched(both_engines) as two:
            await one.ask(0, 4)
            asked = [w.ask(4, size) for size in (5, 6, 7, 8) for w in (one, two)]
            answers = await asyncio.gather(*asked)
            sizes = [size for size in (5, 6, 7, 8) for _ in (one, two)]
            good = [s for s, a in zip(sizes, answers, strict=True) if a.outcome == "cosigned"]
            advanced = [
                e["details"]["size"] for e in await one.recorded() if e["outcome"] == "done"
            ]
            assert set(good) == set(advanced) - {4}  # what was cosigned was first recorded
            assert advanced == sorted(advanced)  # and no log was ever taken back
            assert one.seen().size == advanced[-1]

    asyncio.run(story())


def test_a_log_is_cosigned_at_most_once_a_second(tmp_path: Path) -> None:
    async def story() -> None:
        with sqlite_engine(tmp_path) as engine:
            async with watched(engine) as world:
                assert (await world.ask(0, 1)).status == 200
                answer = await world.ask(1, 2, seconds=0)
                assert (answer.status, answer.outcome) == (429, "too_often")
                assert (await world.ask(1, 2, seconds=1)).status == 200

    asyncio.run(story())


def test_a_checkpoint_that_is_repeated_is_cosigned_once_a_second_and_holds_up_no_other(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        with sqlite_engine(tmp_path) as engine:
            async with watched(engine) as world:
                assert (await world.ask(0, 1)).status == 200
                world.clock.advance(timedelta(seconds=1))
                answers = [await world.ask(1, 1, seconds=0) for _ in range(20)]
                assert [a.status for a in answers] == [200, *[429] * 19]
                assert (await world.ask(1, 2, seconds=0)).status == 200  # the log itself
                assert (await world.ask(2, 2, seconds=0)).status == 429
                assert (await world.ask(2, 2, seconds=1)).status == 200

    asyncio.run(story())


def test_a_flood_of_refusals_is_counted_and_does_not_fill_the_log(tmp_path: Path) -> None:
    async def story() -> None:
        with sqlite_engine(tmp_path) as engine:
            async with watched(engine) as world:
                for _ in range(200):
                    await world.ask(0, 3, SmallLog(origin="other.test/log"), seconds=0)
                await world.witness.refusals.flush()
                assert len(await world.recorded()) == 20
                assert world.counted("unknown_log") == 200

    asyncio.run(story())


def test_without_a_database_nothing_is_cosigned(tmp_path: Path) -> None:
    async def story() -> None:
        with sqlite_engine(tmp_path) as engine:
            async with watched(engine) as world:
                await world.ask(0, 1)
                with engine.begin() as connection:
                    connection.exec_driver_sql("DROP TABLE audit_witnessed")
                answer = await world.ask(1, 2)
                assert (answer.status, answer.outcome) == (503, "unavailable")

    asyncio.run(story())


def test_what_was_seen_outlives_the_process(tmp_path: Path) -> None:
    async def story() -> None:
        with sqlite_engine(tmp_path) as engine:
            async with watched(engine) as world:
                await world.ask(0, 5)
                later = world.clock
            later.advance(timedelta(seconds=5))
            async with watched(engine, clock=later) as world:
                assert (await world.ask(0, 5, OTHER_VIEW)).outcome == "split_view"
                assert (await world.ask(5, 6)).status == 200

    asyncio.run(story())
