"""The signer: what it signs verifies, and what contradicts its last word it refuses."""

import asyncio
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa

from audit.checkpoint import open_checkpoint, parse_checkpoint
from audit.checkpoints import Kept, Thinning
from audit.log import Log
from audit.merkle import verify_consistency
from audit.note import Note, VerifierKey, parse_note, verify_note
from audit.signing import CheckpointSigner
from audit.tree import audit_entries, audit_head
from tests.audit.signed_log import ORIGIN, SignedLog, signed_log
from tests.audit.tampering import copied, execute, put_back, roll_back
from tests.stores import documents


def run(engine: sa.Engine, directory: Path, story: object, **options: object) -> None:
    async def main() -> None:
        async with signed_log(engine, directory, **options) as log:  # type: ignore[arg-type]  # passed on
            await story(log)  # type: ignore[operator]  # a coroutine function of each test

    asyncio.run(main())


def forget_since(engine: sa.Engine, size: int) -> None:
    """Take the checkpoints of more than `size` entries away."""
    execute(engine, "DELETE FROM audit_checkpoints WHERE size > :size", size=size)


def test_signs_what_the_log_holds(both_engines: sa.Engine, tmp_path: Path) -> None:
    async def story(log: SignedLog) -> None:
        await log.append(5)
        assert await log.signer.step()
        (kept,) = log.kept()
        (key,) = await log.keys.prepare()
        checkpoint, _ = open_checkpoint(kept.note, [key.verifier], origin=ORIGIN)
        head = Log(log.engine).head()
        assert (checkpoint.size, checkpoint.root) == (head.size, head.root)
        assert checkpoint.size == 6, "the key's own entry too"

    run(both_engines, tmp_path, story)


def test_signs_only_when_the_log_has_grown(both_engines: sa.Engine, tmp_path: Path) -> None:
    async def story(log: SignedLog) -> None:
        for _ in range(3):
            await log.signer.step()
        await log.append()
        await log.signer.step()
        log.restart()
        await log.signer.step()
        assert [kept.size for kept in log.kept()] == [2, 1]
        assert log.counted("signed") == 2

    run(both_engines, tmp_path, story)


def test_each_checkpoint_is_proven_to_begin_the_next(
    both_engines: sa.Engine, tmp_path: Path
) -> None:
    async def story(log: SignedLog) -> None:
        for count in (1, 7, 300, 2):
            await log.append(count)
            await log.signer.step()
        stored = Log(log.engine)
        signed = [kept.parsed()[0] for kept in reversed(log.kept())]
        for old, new in pairwise(signed):
            proof = stored.consistency_proof(old.size, new.size)
            assert verify_consistency(old.size, new.size, old.root, new.root, proof)

    run(both_engines, tmp_path, story)


@pytest.mark.parametrize("forgets", ["the database", "this machine"])
def test_refuses_a_log_that_was_rolled_back(
    both_engines: sa.Engine, tmp_path: Path, forgets: str
) -> None:
    async def story(log: SignedLog) -> None:
        await log.append(5)
        await log.signer.step()
        roll_back(log.engine, 3)
        if forgets == "the database":
            execute(log.engine, "DELETE FROM audit_checkpoints")
        else:
            log.signer.last.path.unlink()
        log.restart()
        assert not await log.signer.step()
        assert log.is_inconsistent()
        assert log.counted("refused") == 1
        await log.append(1)  # recording goes on

    run(both_engines, tmp_path, story)


def test_refuses_a_log_that_was_rolled_back_and_has_grown_again(
    both_engines: sa.Engine, tmp_path: Path
) -> None:
    async def story(log: SignedLog) -> None:
        await log.append(5)
        await log.signer.step()
        roll_back(log.engine, 3)
        await log.append(9)
        assert not await log.signer.step()
        assert log.is_inconsistent()
        assert len(log.kept()) == 1

    run(both_engines, tmp_path, story)


def test_refuses_what_another_kept_in_its_name(both_engines: sa.Engine, tmp_path: Path) -> None:
    async def story(log: SignedLog) -> None:
        await log.append(5)
        await log.signer.step()
        (kept,) = log.kept()
        text = kept.parsed()[0]
        forged = str(Note(str(text).replace("\n6\n", "\n9\n"), kept.parsed()[1].signatures))
        await log.writer.submit(Kept(ORIGIN, 9, kept.time, forged))
        await log.append(9)
        assert not await log.signer.step()
        assert log.is_inconsistent()

    run(both_engines, tmp_path, story)


def test_says_that_all_is_well_again(both_engines: sa.Engine, tmp_path: Path) -> None:
    async def story(log: SignedLog) -> None:
        await log.append(5)
        await log.signer.step()
        rows = {table: copied(log.engine, table) for table in (audit_entries, audit_head)}
        roll_back(log.engine, 3)
        await log.signer.step()
        assert log.is_inconsistent()
        for table, kept in rows.items():
            put_back(log.engine, table, kept)
        assert await log.signer.step()
        assert not log.is_inconsistent()

    run(both_engines, tmp_path, story)


def test_only_one_replica_signs(both_engines: sa.Engine, tmp_path: Path) -> None:
    async def story(log: SignedLog) -> None:
        async with signed_log(log.engine, tmp_path / "other", replica="other") as other:
            await log.signer.step()
            await log.append()
            assert await other.signer.step(), "it has introduced its key, and waits"
            assert other.counted("signed") == 0
            await log.signer.step()
            assert log.counted("signed") == 2
            await asyncio.to_thread(log.locks.close)
            await log.append()
            assert await other.signer.step()
            assert other.counted("signed") == 1
        (newest, *_) = log.kept()
        (known,) = await log.keys.prepare()
        introduced = [d for d in documents(log.engine) if d["kind"] == "log_key"]
        verifiers = [VerifierKey.parse(d["details"]["verifier"]) for d in introduced]
        assert known.verifier in verifiers
        assert verify_note(parse_note(newest.note), verifiers)[0].key != known.verifier

    run(both_engines, tmp_path, story)


@pytest.mark.parametrize("grown", [0, 9])
def test_a_replica_that_only_watched_signs_no_contradiction(
    both_engines: sa.Engine, tmp_path: Path, grown: int
) -> None:
    """A standby that lacks the last seconds becomes the database, and the signer is gone."""

    async def story(log: SignedLog) -> None:
        async with signed_log(log.engine, tmp_path / "other", replica="other") as other:
            await log.signer.step()
            assert await other.signer.step()
            before = Log(log.engine).head().size
            await log.append(5)
            await log.signer.step()
            assert await other.signer.step(), "it watches, and remembers"
            assert other.counted("signed") == 0
            await asyncio.to_thread(log.locks.close)
            roll_back(log.engine, before)
            forget_since(log.engine, before)
            other.restart()
            await other.append(grown)
            assert not await other.signer.step()
            assert other.is_inconsistent()
            assert all(kept.size <= before for kept in other.kept())

    run(both_engines, tmp_path, story)


def test_who_watches_is_alarmed_when_another_signs_a_contradiction(
    both_engines: sa.Engine, tmp_path: Path
) -> None:
    async def story(log: SignedLog) -> None:
        async with signed_log(log.engine, tmp_path / "other", replica="other") as other:
            await log.signer.step()
            await other.signer.step()
            before = Log(log.engine).head().size
            await log.append(5)
            await log.signer.step()
            await other.signer.step()
            roll_back(log.engine, before)
            forget_since(log.engine, before)
            log.signer.last.path.unlink()  # as a replica has it that is new
            log.restart()
            await log.append(9)
            assert await log.signer.step()
            assert not await other.signer.step()
            assert other.is_inconsistent()
            assert (other.counted("refused"), other.counted("signed")) == (1, 0)

    run(both_engines, tmp_path, story)


def test_what_was_seen_and_not_signed_here_is_remembered(
    both_engines: sa.Engine, tmp_path: Path
) -> None:
    """Whoever takes the name of another, while nothing is appended."""

    async def story(log: SignedLog) -> None:
        await log.append(5)
        await log.signer.step()
        log.signer.last.path.unlink()
        log.restart()
        await log.signer.step()
        assert log.counted("signed") == 1
        (kept,) = log.kept()
        assert log.signer.last.read(ORIGIN) == kept.parsed()[0]

    run(both_engines, tmp_path, story)


def test_signs_again_what_the_database_did_not_keep(
    tmp_path: Path, both_engines: sa.Engine
) -> None:
    """A process that ends between its own disk and the database."""

    async def story(log: SignedLog) -> None:
        await log.signer.step()
        execute(log.engine, "DELETE FROM audit_checkpoints")
        log.restart()
        assert await log.signer.step()
        assert [kept.size for kept in log.kept()] == [1]

    run(both_engines, tmp_path, story)


def test_a_disk_that_takes_nothing_is_no_checkpoint_and_no_stop(
    both_engines: sa.Engine, tmp_path: Path
) -> None:
    async def story(log: SignedLog) -> None:
        await log.signer.step()
        log.signer.last.path.unlink()
        log.signer.last.path.mkdir()
        (log.signer.last.path / "in the way").touch()
        await log.append()
        assert not await log.signer.step()
        assert log.counted("failed") == 1
        assert not log.is_inconsistent()
        await log.append()

    run(both_engines, tmp_path, story)


def test_a_changed_memory_of_this_machine_is_an_alarm(
    both_engines: sa.Engine, tmp_path: Path
) -> None:
    async def story(log: SignedLog) -> None:
        await log.signer.step()
        log.signer.last.path.write_text("nothing\n")
        await log.append()
        assert not await log.signer.step()
        assert log.is_inconsistent()

    run(both_engines, tmp_path, story)


def test_another_origin_begins_another_log(both_engines: sa.Engine, tmp_path: Path) -> None:
    """What an operator does after a backup was restored: docs/runbooks/audit-log.md."""

    async def story(log: SignedLog) -> None:
        await log.append(5)
        await log.signer.step()
        roll_back(log.engine, 3)
        assert not await log.signer.step()
        log.origin = "example.org/meshca/audit/2"
        log.restart()
        assert await log.signer.step()
        assert [kept.size for kept in log.kept()] == [4]
        assert not log.is_inconsistent()

    run(both_engines, tmp_path, story)


def test_old_checkpoints_are_thinned(both_engines: sa.Engine, tmp_path: Path) -> None:
    async def story(log: SignedLog) -> None:
        await log.signer.step()
        note = log.kept()[0].note
        now = log.clock.now() + timedelta(days=30)
        ages = [timedelta(seconds=s) for s in range(0, 200, 20)]
        ages += [timedelta(hours=5, seconds=s) for s in range(0, 300, 20)]
        ages += [timedelta(days=9, minutes=m) for m in range(0, 180, 10)]
        for size, age in enumerate(sorted(ages, reverse=True), start=2):
            await log.writer.submit(Kept(ORIGIN, size, now - age, note))
        await log.writer.submit(Thinning(ORIGIN, now))
        kept = [now - kept.time for kept in log.kept()]
        assert len([age for age in kept if age < timedelta(hours=1)]) == 10
        assert len([age for age in kept if timedelta(hours=1) < age < timedelta(days=1)]) in (5, 6)
        assert len([age for age in kept if timedelta(days=1) < age < timedelta(days=20)]) in (3, 4)
        assert log.kept()[-1].size == 1

    run(both_engines, tmp_path, story)


def test_runs_until_it_is_cancelled(both_engines: sa.Engine, tmp_path: Path) -> None:
    async def story(log: SignedLog) -> None:
        signer: CheckpointSigner = log.signer
        task = asyncio.create_task(signer.run())
        async with asyncio.timeout(10):
            while not log.kept():
                await asyncio.sleep(0.01)
        task.cancel()
        assert parse_checkpoint(parse_note(log.kept()[0].note).text).size == 1

    run(both_engines, tmp_path, story)
