"""Exports while the service rotates its keys, on both databases."""

import asyncio
import io
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from audit.export.lines import ExportBroken
from audit.export.verify import Trust, Verdict, verify_export
from audit.export.writing import plan, write
from audit.log import Log
from audit.log_keys import read_log_keys
from audit.note import VerifierKey
from tests.audit.export.world import a_key
from tests.audit.signed_log import ORIGIN, OVERLAP, SignedLog, signed_log
from tests.fakes import FakeClock

Story = Callable[[SignedLog], Coroutine[Any, Any, Any]]


def told(engine: sa.Engine, directory: Path, story: Story) -> Any:
    async def run() -> Any:
        async with signed_log(engine, directory) as log:
            return await story(log)

    return asyncio.run(run())


def verified(content: bytes, key: VerifierKey) -> Verdict:
    return verify_export(io.BytesIO(content), Trust([key]))


def key_of(engine: sa.Engine, number: int) -> VerifierKey:
    return VerifierKey.parse(read_log_keys(engine, ORIGIN)[number].verifier)


async def rotate(log: SignedLog) -> None:
    """Let a new key follow, and sign with both."""
    log.clock.advance(timedelta(seconds=1))
    await log.keys.rotate(actor="uid:0")
    assert await log.signer.step()


async def end_overlap(log: SignedLog) -> None:
    """Let the old key retire, and sign with the new one alone."""
    log.clock.advance(OVERLAP + timedelta(seconds=1))
    for _ in range(2):
        assert await log.signer.step()


def test_a_key_rotated_in_the_middle_of_an_export(both_engines: sa.Engine, tmp_path: Path) -> None:
    async def story(log: SignedLog) -> bytes:
        await log.append(3_000)
        assert await log.signer.step()
        stored = Log(log.engine)
        pieces = write(stored, plan(stored, origin=ORIGIN, version="0.1.0"))
        begun = next(pieces)
        await rotate(log)
        await end_overlap(log)
        return begun + b"".join(pieces)

    export = told(both_engines, tmp_path, story)
    first, second = key_of(both_engines, 0), key_of(both_engines, 1)
    by_old, by_new = verified(export, first), verified(export, second)
    assert (by_new.signed.by, by_new.signed.is_given) == ((second,), True)
    assert (by_old.signed.by, by_old.signed.is_given) == ((second,), False)
    assert by_old.shown == by_new.shown == by_old.stop >= 3_000
    with pytest.raises(ExportBroken, match="no known key signed"):
        verified(export, a_key().verifier)


def test_a_key_leads_through_many_rotations(both_engines: sa.Engine, tmp_path: Path) -> None:
    async def story(log: SignedLog) -> bytes:
        assert await log.signer.step()
        for _ in range(4):
            await log.append(2)
            await rotate(log)
            await end_overlap(log)
        stored = Log(log.engine)
        return b"".join(write(stored, plan(stored, origin=ORIGIN, version="0.1.0", start=5)))

    export = told(both_engines, tmp_path, story)
    last = key_of(both_engines, 4)
    for number in range(5):
        assert verified(export, key_of(both_engines, number)).signed.by == (last,)


def test_a_replica_that_signs_after_another_is_trusted_through_it(
    both_engines: sa.Engine, tmp_path: Path
) -> None:
    async def run() -> bytes:
        clock = FakeClock()
        async with signed_log(both_engines, tmp_path / "a", replica="a", clock=clock) as first:
            await first.append(3)
            assert await first.signer.step()
        clock.advance(timedelta(seconds=5))
        async with signed_log(both_engines, tmp_path / "b", replica="b", clock=clock) as second:
            await second.keys.prepare()  # its key is introduced while the first one still signs
            async with signed_log(both_engines, tmp_path / "a", replica="a", clock=clock) as again:
                assert await again.signer.step()
            await second.append(3)
            assert await second.signer.step()
            stored = Log(both_engines)
            return b"".join(write(stored, plan(stored, origin=ORIGIN, version="0.1.0")))

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    export = asyncio.run(run())
    first, second = key_of(both_engines, 0), key_of(both_engines, 1)
    verdict = verified(export, first)
    assert (verdict.signed.by, verdict.signed.is_given) == ((second,), False)
