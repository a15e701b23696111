"""Exporting the audit log over REST, and verifying offline what came out."""

import asyncio
import csv
import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import sqlalchemy as sa

from audit.entry import Entry
from audit.export.verify import Trust, Verdict, verify_export
from audit.log_keys import read_log_keys
from audit.note import VerifierKey
from tests.admin.world import World, running


async def fill(world: World, count: int = 5) -> None:
    """Append entries a minute apart, and sign for them."""
    for number in range(count):
        kind, outcome = ("refusal", "refused") if number % 2 else ("issuance", "done")
        namespace = "shop" if number < 3 else "pay"
        entry = Entry(world.clock.now(), kind, outcome, "uid:0", namespace=namespace)
        await world.writer.submit(entry)
        world.clock.advance(timedelta(minutes=1))
    assert await world.state.signer.step()


def error(response: httpx.Response) -> Any:
    return response.json()["error"]


def key_of(engine: sa.Engine, origin: str) -> VerifierKey:
    return VerifierKey.parse(read_log_keys(engine, origin)[0].verifier)


def verified(world: World, content: bytes) -> Verdict:
    trust = Trust([key_of(world.engine, world.state.signer.origin)])
    return verify_export(io.BytesIO(content), trust)


async def export(world: World, **parameters: str) -> httpx.Response:
    response = await world.client.get("/audit/export", params=parameters)
    assert response.status_code == 200, response.text
    return response


def test_an_export_is_the_log_and_the_read_is_in_it(tmp_path: Path) -> None:
    async def story() -> tuple[Verdict, list[str]]:
        async with running(tmp_path) as world:
            await fill(world)
            size = world.state.log.head().size
            response = await export(world)
            verdict = verified(world, response.content)
            assert verdict.stop <= size
            after = [stored.document() or {} for stored in world.state.log.entries(size)]
            return verdict, [entry["kind"] for entry in after]

    verdict, kinds = asyncio.run(story())
    assert (verdict.start, verdict.shown) == (0, verdict.stop)
    assert kinds == ["read"]


def test_a_time_is_exported_whole(tmp_path: Path) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            begin = world.clock.now() + timedelta(minutes=1)
            await fill(world)
            asked = {
                "since": begin.isoformat(),
                "until": (begin + timedelta(minutes=2)).isoformat(),
            }
            response = await export(world, **asked)
            later = (begin + timedelta(days=9)).isoformat()
            nothing = await world.client.get("/audit/export", params={"since": later})
            both = await world.client.get("/audit/export", params={**asked, "to": "3"})
            return verified(world, response.content), nothing, both

    verdict, nothing, both = asyncio.run(story())
    assert verdict.shown == 2
    assert (nothing.status_code, error(nothing)["code"]) == (404, "not_found")
    assert "not both" in error(both)["message"]


def test_an_export_is_gone_on_with(tmp_path: Path) -> None:
    async def story() -> Verdict:
        async with running(tmp_path) as world:
            await fill(world)
            whole = (await export(world)).content
            size = verified(world, whole).stop
            await fill(world, 2)
            beginning = b"".join(whole.splitlines(keepends=True)[:4])
            asked = {"from": "3", "to": str(size), "continued": "true"}
            rest = await export(world, **asked)
            return verified(world, beginning + rest.content)

    verdict = asyncio.run(story())
    assert verdict.signed.checkpoint.size > verdict.stop


def test_a_filter_is_provable_and_other_formats_are_readable(tmp_path: Path) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            await fill(world)
            asked = {"kind": "refusal", "namespace": "shop"}
            some = verified(world, (await export(world, **asked)).content)
            texts = {f: await export(world, format=f, **asked) for f in ("csv", "ocsf", "cef")}
            return some, texts

    some, texts = asyncio.run(story())
    assert (some.shown, some.chosen.given()) == (1, {"kind": "refusal", "namespace": "shop"})
    assert len(list(csv.DictReader(io.StringIO(texts["csv"].text)))) == 1
    assert orjson.loads(texts["ocsf"].content)["class_uid"] == 3002
    assert texts["cef"].text.startswith("CEF:0|meshca|meshca|")
    assert texts["csv"].headers["content-type"].startswith("text/csv")


def test_what_cannot_be_exported_is_refused_before_the_answer(tmp_path: Path) -> None:
    async def story() -> list[httpx.Response]:
        async with running(tmp_path) as world:
            early = await world.client.get("/audit/export")
            await fill(world)
            asked: list[dict[str, str]] = [{"to": "9999"}, {"kind": "x"}, {"formats": "csv"}]
            return [early, *[await world.client.get("/audit/export", params=a) for a in asked]]

    early, beyond, kind, unknown = asyncio.run(story())
    assert (early.status_code, error(early)["code"]) == (503, "unavailable")
    assert "the checkpoint holds entries 0 to" in error(beyond)["message"]
    assert "known: issuance, refusal" in error(kind)["message"]
    assert error(unknown)["problems"][0]["path"] == "formats"
    assert {r.status_code for r in (beyond, kind, unknown)} == {400}
