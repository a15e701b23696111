"""An anchor in a real object store: nothing is overwritten, and what differs is told."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from audit.anchors.s3 import Bucket, S3Anchor
from audit.anchors.s3_credentials import CredentialSource
from meshca.clock import SystemClock
from meshca.demo.ports import free_port
from meshca.errors import EvidenceBroken, Unavailable
from tests.audit.anchors.notes import ORIGIN, SmallLog
from tests.audit.anchors.raw_server import flood, hang, raw_server
from tests.audit.anchors.world import EVERY, anchored
from tests.s3_server import ACCESS_KEY, SECRET_KEY, S3Server, s3_server
from tests.stores import sqlite_engine

LOG = SmallLog()
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        asyncio.run(put(anchor_at(server, ""), ""))
        yield server


def anchor_at(server: S3Server, prefix: str, **changes: str) -> S3Anchor:
    bucket = Bucket(endpoint=server.endpoint, bucket="anchors", prefix=prefix, region="us-east-1")
    return S3Anchor(
        bucket=bucket,
        origin=ORIGIN,
        credentials=CredentialSource(environment={**ENVIRONMENT, **changes}),
        clock=SystemClock(),
    )


async def put(anchor: S3Anchor, key: str, body: bytes = b"") -> None:
    """Put an object as somebody else would; without a key, make the bucket."""
    async with anchor._client() as client:
        status, answer = await anchor._ask(client, "PUT", key, body)
    assert status == 200, answer


def test_each_checkpoint_is_an_object_and_the_largest_is_the_newest(server: S3Server) -> None:
    anchor = anchor_at(server, "grows/")

    async def story() -> None:
        assert await anchor.newest() is None
        for size in (1, 2, 10, 999):
            await anchor.publish(LOG.at(size))
            for reader in (anchor, anchor_at(server, "grows/")):  # another has to search
                held = await reader.newest()
                assert held == LOG.at(size)

    asyncio.run(story())


def test_what_is_there_is_never_overwritten(server: S3Server) -> None:
    other = SmallLog(view="other")

    async def story() -> None:
        await anchor_at(server, "twice/").publish(LOG.at(5))
        await anchor_at(server, "twice/").publish(LOG.at(5))  # the same again is no conflict
        with pytest.raises(EvidenceBroken, match="holds another checkpoint of 5"):
            await anchor_at(server, "twice/").publish(other.at(5))
        assert await anchor_at(server, "twice/").newest() == LOG.at(5)

    asyncio.run(story())


def test_what_another_has_put_meanwhile_is_seen(server: S3Server) -> None:
    one, two = anchor_at(server, "two/"), anchor_at(server, "two/")

    async def story() -> None:
        await one.publish(LOG.at(3))
        await two.publish(LOG.at(700))
        assert await one.newest() == LOG.at(700)

    asyncio.run(story())


def test_what_was_taken_away_or_replaced_meanwhile_is_seen(server: S3Server) -> None:
    anchor, other = anchor_at(server, "gone/"), SmallLog(view="other")

    async def remove(size: int) -> None:
        async with anchor._client() as client:
            status, _ = await anchor._ask(client, "DELETE", anchor._key(size))
        assert status in (200, 204)

    async def story() -> None:
        for size in (3, 7):
            await anchor.publish(LOG.at(size))
        assert await anchor.newest() == LOG.at(7)
        await put(anchor, f"gone/{7:020d}", bytes(other.at(7)))
        assert await anchor.newest() == other.at(7)  # which the log then denies
        await remove(7)
        assert await anchor.newest() == LOG.at(3)
        await remove(3)
        assert await anchor.newest() is None
        await put(anchor, f"gone/{0:020d}", bytes(LOG.at(0)))
        for _ in range(2):
            assert await anchor.newest() == LOG.at(0)

    asyncio.run(story())


def test_objects_that_are_no_checkpoint_of_ours_are_told(server: S3Server) -> None:
    async def story() -> None:
        for prefix, key, body in (
            ("a/", "a/notes.txt", b"x"),
            ("b/", f"b/{7:020d}", b"x"),
            ("c/", f"c/{7:020d}", bytes(LOG.at(6))),
            ("d/", f"d/{7:020d}", bytes(SmallLog(origin="other.test/log").at(7))),
        ):
            anchor = anchor_at(server, prefix)
            await put(anchor, key, body)
            with pytest.raises(EvidenceBroken, match=r"s3:http.*checkpoint"):
                await anchor.newest()

    asyncio.run(story())


def test_keys_with_spaces_and_signs_are_signed_rightly(server: S3Server) -> None:
    anchor = anchor_at(server, "a b+c&d=e/é/")

    async def story() -> None:
        await anchor.publish(LOG.at(1))
        assert await anchor_at(server, "a b+c&d=e/é/").newest() == LOG.at(1)

    asyncio.run(story())


def test_a_wrong_secret_and_a_missing_bucket_are_failures_by_name(server: S3Server) -> None:
    async def story() -> None:
        wrong = anchor_at(server, "x/", AWS_SECRET_ACCESS_KEY="not-it")
        with pytest.raises(Unavailable, match="status 403 SignatureDoesNotMatch") as refused:
            await wrong.publish(LOG.at(1))
        assert "not-it" not in str(refused.value)
        missing = anchor_at(server, "x/")
        missing.bucket = replace(missing.bucket, bucket="no-such-bucket")
        with pytest.raises(Unavailable, match="status 404"):
            await missing.newest()

    asyncio.run(story())


def test_a_server_that_is_away_or_silent_is_given_up(server: S3Server) -> None:
    async def story() -> None:
        away = anchor_at(server, "x/")
        away.bucket = replace(away.bucket, endpoint=f"http://127.0.0.1:{free_port()}")
        with pytest.raises(Unavailable, match="s3:http"):
            await away.publish(LOG.at(1))
        away.total_seconds = 0.2
        async with raw_server(hang) as url:
            away.bucket = replace(away.bucket, endpoint=url)
            with pytest.raises(Unavailable, match=r"no answer in 0\.2 s"):
                await away.newest()

    asyncio.run(story())


def test_an_answer_without_end_is_not_read_to_its_end(server: S3Server) -> None:
    async def story() -> None:
        anchor = anchor_at(server, "x/")
        async with raw_server(flood) as url:
            anchor.bucket = replace(anchor.bucket, endpoint=url)
            with pytest.raises(Unavailable, match="over 262144 bytes"):
                await anchor.newest()

    asyncio.run(story())


def test_credentials_are_from_a_file_or_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = %b\n[x]\n")
    path.chmod(0o600)

    found = CredentialSource(path).read()

    assert (found.access_key_id, found.secret_access_key) == ("a", "%b")
    assert CredentialSource(environment=ENVIRONMENT).read().secret_access_key == SECRET_KEY
    with pytest.raises(Unavailable, match=r"aws_access_key_id and aws_secret_access_key missing"):
        CredentialSource(path, "x").read()
    with pytest.raises(Unavailable, match="missing in the environment"):
        CredentialSource(environment={}).read()


def test_a_credentials_file_that_will_not_do_is_named_and_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    for content, mode, problem in (
        (b"SECRET without a section", 0o600, "no credentials file"),
        (b"\xff", 0o600, "no text"),
        (b"[default]\n", 0o644, "everybody can read it"),
    ):
        path.write_bytes(content)
        path.chmod(mode)
        with pytest.raises(Unavailable, match=problem) as refused:
            CredentialSource(path).read()
        assert "SECRET" not in str(refused.value)
    with pytest.raises(Unavailable, match="no plain file"):
        CredentialSource(Path(os.devnull)).read()
    with pytest.raises(Unavailable, match="No such file"):
        CredentialSource(tmp_path / "none").read()


def test_a_store_that_is_away_for_an_hour_has_the_newest_when_it_is_back(
    server: S3Server, tmp_path: Path
) -> None:
    async def story() -> None:
        with sqlite_engine(tmp_path) as engine:
            anchor = anchor_at(server, "outage/")
            anchor.bucket = replace(anchor.bucket, endpoint=f"http://127.0.0.1:{free_port()}")
            async with anchored(engine, tmp_path, anchor) as world:
                await world.grow()
                await world.pass_time(timedelta(hours=1))
                assert [entry["reason"] for entry in world.told()] == ["unreachable"]
                assert world.measured("behind_seconds", anchor.name) == 3600 - 60
                anchor.bucket = replace(anchor.bucket, endpoint=server.endpoint)
                await world.pass_time(EVERY)
                held = await anchor_at(server, "outage/").newest()
                assert held is not None
                assert held.checkpoint.size == world.signed.kept()[0].size

    asyncio.run(story())
