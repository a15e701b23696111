"""The witness's door over HTTP: as C2SP tlog-witness says, bounded, and only where configured."""

import asyncio
from pathlib import Path

import httpx
from starlette.types import ASGIApp

from admin.public import create_public_app
from audit.note import parse_signature, verify_signature
from audit.witness.request import MAXIMUM_REQUEST_BYTES, write_request
from audit.witness.witness import Witness
from meshca.errors import NotFound
from tests.audit.anchors.notes import SmallLog
from tests.audit.witness.world import WITNESS_KEY, watched
from tests.stores import sqlite_engine

LOG = SmallLog()


def door(witness: "Witness | None") -> ASGIApp:
    def nothing(_name: str = "") -> None:
        raise NotFound("nothing")

    return create_public_app(nothing, nothing, nothing, witness=witness)  # type: ignore[arg-type]  # nobody asks for these


def client(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://public")


def test_a_checkpoint_is_cosigned_over_http(tmp_path: Path) -> None:
    async def story() -> None:
        with sqlite_engine(tmp_path) as engine:
            async with watched(engine) as world, client(door(world.witness)) as http:
                answer = await http.post(
                    "/add-checkpoint", content=write_request(0, [], LOG.at(7).note)
                )
                assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
                signature = parse_signature(answer.text.removesuffix("\n"))
                verify_signature(LOG.at(7).note.text, signature, WITNESS_KEY.verifier)
                key = await http.get("/witness.vkey")
                assert key.text == f"{WITNESS_KEY.verifier}\n"

    asyncio.run(story())


def test_a_conflict_has_the_size_in_the_type_that_clients_look_for(tmp_path: Path) -> None:
    async def story() -> None:
        with sqlite_engine(tmp_path) as engine:
            async with watched(engine) as world, client(door(world.witness)) as http:
                await world.ask(0, 5)
                answer = await http.post(
                    "/add-checkpoint", content=write_request(0, [], LOG.at(7).note)
                )
                assert (answer.status_code, answer.content) == (409, b"5\n")
                assert answer.headers["content-type"] == "text/x.tlog.size"

    asyncio.run(story())


def test_a_body_over_the_limit_is_not_read_to_its_end(tmp_path: Path) -> None:
    async def story() -> None:
        with sqlite_engine(tmp_path) as engine:
            async with watched(engine) as world, client(door(world.witness)) as http:
                answer = await http.post(
                    "/add-checkpoint", content=b"x" * (MAXIMUM_REQUEST_BYTES + 1)
                )
                assert answer.status_code == 413
                assert (await http.get("/add-checkpoint")).status_code == 405
                assert await world.recorded() == []

    asyncio.run(story())


def test_without_a_configured_witness_there_is_no_such_door() -> None:
    async def story() -> None:
        async with client(door(None)) as http:
            assert (await http.post("/add-checkpoint", content=b"old 0\n")).status_code == 404
            assert (await http.get("/witness.vkey")).status_code == 404

    asyncio.run(story())
