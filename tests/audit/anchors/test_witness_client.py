"""A witness as an anchor: one that works, that lies, hangs or says too much, or that objects."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI

from admin.serve import serve_tcp
from admin.witness import create_router
from audit.anchors.anchor import Published
from audit.anchors.witness import WitnessAnchor
from audit.checkpoints import newest_checkpoint
from audit.log import Log
from audit.log_keys import read_log_keys
from audit.note import COSIGNATURE, SigningKey, VerifierKey, verify_note
from audit.refusals import RefusalRecorder
from audit.witness.memory import WitnessMemory
from audit.witness.request import read_request
from audit.witness.witness import Witness
from meshca.demo.ports import free_port
from meshca.errors import EvidenceBroken, Unavailable
from meshca.metrics import Metrics
from tests.audit.anchors.raw_server import flood, hang, raw_server
from tests.audit.anchors.raw_server import read_request as read_http
from tests.audit.anchors.world import EVERY, anchored
from tests.audit.signed_log import ORIGIN, SignedLog, signed_log
from tests.audit.witness.world import WITNESS_KEY
from tests.fakes import FakeClock
from tests.stores import sqlite_engine, writer_of

LINE_KEY = WITNESS_KEY.verifier


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    with sqlite_engine(tmp_path) as engine:
        yield engine


@asynccontextmanager
async def served(directory: Path, clock: FakeClock, *keys: VerifierKey) -> AsyncIterator[str]:
    """Yield the URL of a real witness, on a database of its own, that knows our log by `keys`."""
    directory.mkdir(exist_ok=True)
    metrics = Metrics()
    with sqlite_engine(directory) as engine:
        async with writer_of(engine, clock=clock, metrics=metrics) as writer:
            witness = Witness(
                key=WITNESS_KEY,
                logs={ORIGIN: keys},
                engine=engine,
                memory=WitnessMemory(directory / "witnessed.json"),
                writer=writer,
                refusals=RefusalRecorder(writer, clock, metrics),
                clock=clock,
                metrics=metrics,
            )
            app = FastAPI()
            app.include_router(create_router(witness))
            async with serve_tcp(app, "127.0.0.1:0", key="listen.public") as address:
                yield f"http://{address}"


def client(signed: SignedLog, url: str, seconds: float = 10) -> WitnessAnchor:
    """Return the anchor of `signed` at the witness `url`."""
    return WitnessAnchor(
        url=url,
        key=LINE_KEY,
        log=Log(signed.engine),
        clock=signed.clock,
        total_seconds=seconds,
    )


async def grown(signed: SignedLog, count: int = 3) -> Published:
    """Return the checkpoint of a log that has grown."""
    await signed.append(count)
    signed.clock.advance(timedelta(seconds=2))
    assert await signed.signer.step()
    return Published.parse(signed.kept()[0].note)


def keys_of(signed: SignedLog) -> list[VerifierKey]:
    """Return the keys that `signed` has."""
    return [VerifierKey.parse(row.verifier) for row in read_log_keys(signed.engine, ORIGIN)]


def test_a_cosignature_is_kept_with_its_checkpoint(both_engines: sa.Engine, tmp_path: Path) -> None:
    async def story() -> None:
        async with anchored(both_engines, tmp_path) as world:
            await world.grow()
            keys = keys_of(world.signed)
            async with served(tmp_path / "w", world.signed.clock, *keys) as url:
                world.anchors = [client(world.signed, url)]
                world.restart()
                for _ in range(3):
                    await world.grow(20)
                    await world.pass_time(EVERY)
                kept = newest_checkpoint(both_engines, ORIGIN)
                assert kept is not None
                verified = verify_note(kept.parsed()[1], [LINE_KEY])
                assert verified[0].time_seconds == int(world.signed.clock.now().timestamp())
                verify_note(kept.parsed()[1], keys)  # ours is there as before
                assert len([k for k in world.signed.kept() if LINE_KEY.name in k.note]) == 3
                assert world.state(f"witness:{LINE_KEY.name}").failures == 0
                await world.grow()  # the signer goes on from a checkpoint that is cosigned

    asyncio.run(story())


def test_a_log_that_the_witness_knows_better_is_told_where_it_stands(
    engine: sa.Engine, tmp_path: Path
) -> None:
    async def story() -> None:
        async with signed_log(engine, tmp_path) as signed:
            published = await grown(signed)
            async with served(tmp_path / "w", signed.clock, *keys_of(signed)) as url:
                await client(signed, url).publish(published)
                published = await grown(signed)
                again = client(signed, url)  # after a restart it knows nothing
                assert len(await again.publish(published)) == 1

    asyncio.run(story())


def test_a_log_that_was_rolled_back_is_seen_by_its_witness(
    engine: sa.Engine, tmp_path: Path
) -> None:
    async def story() -> None:
        async with signed_log(engine, tmp_path) as signed:
            early = await grown(signed)
            late = await grown(signed)
            async with served(tmp_path / "w", signed.clock, *keys_of(signed)) as url:
                await client(signed, url).publish(late)
                with pytest.raises(Unavailable, match="has seen a newer checkpoint already"):
                    await client(signed, url).publish(early)
                with engine.begin() as connection:
                    connection.exec_driver_sql("DELETE FROM audit_head")
                with pytest.raises(EvidenceBroken, match="cut off or rolled back"):
                    await client(signed, url).publish(early)

    asyncio.run(story())


def test_a_log_that_was_rewritten_is_seen_by_its_witness(tmp_path: Path) -> None:
    async def story() -> None:
        (tmp_path / "b").mkdir()
        with sqlite_engine(tmp_path) as one, sqlite_engine(tmp_path / "b") as two:
            async with (
                signed_log(one, tmp_path) as true,
                signed_log(two, tmp_path / "b", clock=true.clock) as false,
            ):
                shown, other = await grown(true), await grown(false)
                keys = [*keys_of(true), *keys_of(false)]
                async with served(tmp_path / "w", true.clock, *keys) as url:
                    await client(true, url).publish(shown)
                    for grown_by in (0, 4):
                        if grown_by:
                            other = await grown(false, grown_by)
                        with pytest.raises(EvidenceBroken, match="does not grow from"):
                            await client(false, url).publish(other)

    asyncio.run(story())


def test_a_witness_that_does_not_know_us_is_named(engine: sa.Engine, tmp_path: Path) -> None:
    async def story() -> None:
        async with signed_log(engine, tmp_path) as signed:
            published = await grown(signed)
            stranger = SigningKey(ORIGIN, Ed25519PrivateKey.generate()).verifier
            async with served(tmp_path / "w", signed.clock, stranger) as url:
                with pytest.raises(Unavailable, match="403: none of our signatures"):
                    await client(signed, url).publish(published)
                with pytest.raises(Unavailable, match="404: it does not know our log"):
                    await client(signed, f"{url}/elsewhere").publish(published)

    asyncio.run(story())


Lie = Callable[[bytes, FakeClock], tuple[str, str]]


def cosigned(body: bytes, clock: FakeClock, key: SigningKey = WITNESS_KEY, off: int = 0) -> str:
    """Return the line that `key` gives for what was asked."""
    text = read_request(body).note.text
    return str(key.sign(text, time_seconds=int(clock.now().timestamp()) + off))


def by_another_key(body: bytes, clock: FakeClock) -> tuple[str, str]:
    other = SigningKey(LINE_KEY.name, Ed25519PrivateKey.generate(), COSIGNATURE)
    return "200 OK", cosigned(body, clock, other)


def over_another_text(_body: bytes, clock: FakeClock) -> tuple[str, str]:
    time = int(clock.now().timestamp())
    return "200 OK", str(WITNESS_KEY.sign("another\n1\n=\n", time_seconds=time))


LIES: dict[str, tuple[Lie, str]] = {
    "another key": (by_another_key, "without a cosignature by its key"),
    "another text": (over_another_text, "is wrong"),
    "a time ahead": (lambda b, c: ("200 OK", cosigned(b, c, off=3600)), "3600 s off"),
    "a time of old": (lambda b, c: ("200 OK", cosigned(b, c, off=-86400)), "86400 s off"),
    "nothing": (lambda b, c: ("200 OK", ""), "no cosignature"),
    "no note line": (lambda b, c: ("200 OK", "hello\n"), "no cosignature"),
    "a size that is none": (lambda b, c: ("409 Conflict", "many\n"), "does not say"),
    "no size": (lambda b, c: ("409 Conflict", ""), "does not say"),
    "a size that changes nothing": (lambda b, c: ("409 Conflict", "1\n"), "status 409"),
    "a mistake of its own": (lambda b, c: ("500 Oops", ""), "status 500"),
    "elsewhere": (lambda b, c: ("307 Go\r\nLocation: http://127.0.0.1:1/", ""), "status 307"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_witness_that_lies_is_a_failure_and_gives_no_cosignature(
    lie: str, engine: sa.Engine, tmp_path: Path
) -> None:
    say, expected = LIES[lie]

    async def story() -> None:
        async with signed_log(engine, tmp_path) as signed:
            published = await grown(signed)

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                status, content = say(await read_http(reader), signed.clock)
                kind = "Content-Type: text/x.tlog.size\r\nConnection: close"
                writer.write(f"HTTP/1.1 {status}\r\n{kind}\r\n\r\n{content}".encode())
                await writer.drain()

            async with raw_server(answer) as url:
                with pytest.raises(Unavailable, match=expected):
                    await client(signed, url).publish(published)

    asyncio.run(story())


def test_a_witness_that_hangs_or_never_ends_is_given_up(engine: sa.Engine, tmp_path: Path) -> None:
    async def story() -> None:
        async with signed_log(engine, tmp_path) as signed:
            published = await grown(signed)
            async with raw_server(hang) as url:
                with pytest.raises(Unavailable, match=r"no answer in 0\.2 s"):
                    await client(signed, url, 0.2).publish(published)
            async with raw_server(flood) as url:
                with pytest.raises(Unavailable, match="over 65536 bytes"):
                    await client(signed, url).publish(published)
            with pytest.raises(Unavailable, match="witness:"):
                await client(signed, f"http://127.0.0.1:{free_port()}").publish(published)

    asyncio.run(story())


def test_cosignatures_of_others_are_left_out(engine: sa.Engine, tmp_path: Path) -> None:
    async def story() -> None:
        async with signed_log(engine, tmp_path) as signed:
            published = await grown(signed)
            stranger = SigningKey("stranger", Ed25519PrivateKey.generate(), COSIGNATURE)

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                body = await read_http(reader)
                lines = cosigned(body, signed.clock, stranger) + cosigned(body, signed.clock)
                writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + lines.encode())
                await writer.drain()

            async with raw_server(answer) as url:
                given = await client(signed, url).publish(published)
            assert [signature.name for signature in given] == [LINE_KEY.name]

    asyncio.run(story())
