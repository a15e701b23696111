"""The OCSP door: over HTTP as clients speak it, and with the real `openssl ocsp`."""

import asyncio
import base64
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponseStatus

from admin.public import create_public_app
from admin.serve import serve_tcp
from ca.authority import Authority
from ca.issuer import Svid
from ca.revocation.view import Crl
from meshca.clock import SystemClock
from meshca.errors import NotFound
from tests.builders import KEY_KINDS, NOW, make_authority
from tests.ca.ocsp.world import World, request, responding
from tests.fakes import FakeClock
from tests.real_parts import require

POST = {"content-type": "application/ocsp-request"}
Story = Callable[["Door"], Awaitable[None]]


def no_list(_authority_id: str) -> Crl:
    """Return no revocation list: nobody asks for one here."""
    raise NotFound("no such revocation list")


@dataclass
class Door:
    """A public door on a real port, and a client."""

    world: World
    url: str
    client: httpx.AsyncClient

    async def post(self, octets: bytes, **headers: str) -> httpx.Response:
        """Return the answer to a POST."""
        return await self.client.post("/ocsp", content=octets, headers={**POST, **headers})


@asynccontextmanager
async def opened(
    directory: Path, *, authority: Authority | None = None, clock: FakeClock | None = None
) -> AsyncIterator[Door]:
    """Serve a responder."""
    async with responding(directory, authority=authority, clock=clock) as world:
        held = world.ca.authorities
        app = create_public_app(
            lambda: held.bundle,
            lambda name: held.find(name).certificate,
            no_list,
            ocsp=world.responder,
        )
        async with (
            serve_tcp(app, "127.0.0.1:0", key="listen.public") as address,
            httpx.AsyncClient(base_url=f"http://{address}") as client,
        ):
            yield Door(world, f"http://{address}", client)


def play(directory: Path, story: Story, **options: object) -> None:
    """Run `story` at a door."""

    async def scene() -> None:
        async with opened(directory, **options) as door:  # type: ignore[arg-type]  # its own options
            await story(door)

    asyncio.run(scene())


def status(response: httpx.Response) -> OCSPCertStatus:
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/ocsp-response"
    return ocsp.load_der_ocsp_response(response.content).certificate_status


def failure(response: httpx.Response) -> OCSPResponseStatus:
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    return ocsp.load_der_ocsp_response(response.content).response_status


@pytest.mark.parametrize("escape", [True, False], ids=["escaped", "plain"])
def test_get_and_post_have_the_same_answer(tmp_path: Path, escape: bool) -> None:
    async def story(door: Door) -> None:
        for _ in range(20):  # so that there is a / and a + among them
            asked = request(door.world.authority, await door.world.issue())
            text = base64.b64encode(asked).decode()
            got = await door.client.get(f"/ocsp/{quote(text, safe='') if escape else text}")
            posted = await door.post(asked)
            assert status(got) is status(posted) is OCSPCertStatus.GOOD
            assert got.content == posted.content

    play(tmp_path, story)


def test_an_answer_for_all_says_how_long_it_may_be_kept(tmp_path: Path) -> None:
    async def story(door: Door) -> None:
        svid = await door.world.issue()
        asked = request(door.world.authority, svid)
        first = await door.post(asked)
        door.world.clock.advance(timedelta(minutes=10))
        again = await door.post(asked)

        kept = "max-age=60, public, no-transform, must-revalidate"
        assert first.headers["cache-control"] == again.headers["cache-control"] == kept
        assert first.headers["etag"] == again.headers["etag"]
        assert parsedate_to_datetime(first.headers["last-modified"]) == NOW
        expires = parsedate_to_datetime(first.headers["expires"])
        assert expires == ocsp.load_der_ocsp_response(first.content).next_update_utc
        await door.world.revoke(svid)
        assert (await door.post(asked)).headers["etag"] != first.headers["etag"]

    play(tmp_path, story)


def test_an_answer_is_not_to_be_kept_beyond_its_end(tmp_path: Path) -> None:
    authority = make_authority(lifetime=timedelta(minutes=30))

    async def story(door: Door) -> None:
        asked = request(authority, await door.world.issue())
        door.world.clock.advance(timedelta(minutes=29, seconds=50))

        answer = await door.post(asked)

        assert answer.headers["cache-control"].startswith("max-age=10,")

    play(tmp_path, story, authority=authority)


def test_an_answer_with_a_nonce_is_not_kept_by_anybody(tmp_path: Path) -> None:
    async def story(door: Door) -> None:
        svid = await door.world.issue()
        answer = await door.post(request(door.world.authority, svid, nonce=b"n" * 16))

        assert status(answer) is OCSPCertStatus.GOOD
        assert answer.headers["cache-control"] == "no-store"
        assert "expires" not in answer.headers

    play(tmp_path, story)


def test_what_is_no_request_is_malformed(tmp_path: Path) -> None:
    async def story(door: Door) -> None:
        malformed = OCSPResponseStatus.MALFORMED_REQUEST
        assert failure(await door.post(b"")) is malformed
        assert failure(await door.post(b"hello")) is malformed
        for text in ("x", "%00", "%FF", "AAAA", "..%2f..%2fetc", "****"):
            assert failure(await door.client.get(f"/ocsp/{text}")) is malformed

    play(tmp_path, story)


def test_what_is_not_sent_as_a_request_is_not_read(tmp_path: Path) -> None:
    async def story(door: Door) -> None:
        asked = request(door.world.authority, 5)
        for kind in ("", "application/json", "application/ocsp-response"):
            assert (await door.post(asked, **{"content-type": kind})).status_code == 415
        assert (await door.client.get("/ocsp")).status_code == 405
        assert (await door.client.put("/ocsp", content=asked)).status_code == 405
        assert door.world.sample("unknown") == 0
        answer = await door.post(asked, **{"content-type": "application/ocsp-request; x=y"})
        assert status(answer) is OCSPCertStatus.UNKNOWN

    play(tmp_path, story)


def test_more_than_four_kib_is_refused_however_it_comes(tmp_path: Path) -> None:
    async def story(door: Door) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield bytes(1000)

        assert (await door.post(bytes(4097))).status_code == 413
        answer = await door.client.post("/ocsp", content=chunks(), headers=POST)
        assert answer.status_code == 413
        assert (await door.client.get(f"/ocsp/{'A' * 6000}")).status_code == 414
        assert failure(await door.post(bytes(4096))) is OCSPResponseStatus.MALFORMED_REQUEST

    play(tmp_path, story)


def test_another_issuer_is_unauthorized(tmp_path: Path) -> None:
    async def story(door: Door) -> None:
        answer = await door.post(request(make_authority(number=2), 5))

        assert failure(answer) is OCSPResponseStatus.UNAUTHORIZED

    play(tmp_path, story)


def test_without_a_responder_the_door_has_no_ocsp() -> None:
    async def story() -> None:
        held = make_authority()
        app = create_public_app(None, None, no_list)  # type: ignore[arg-type]  # not reached
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://meshca") as client:
            answer = await client.post("/ocsp", content=request(held, 5), headers=POST)
            assert answer.status_code == 404

    asyncio.run(story())


class Openssl:
    """The openssl program, with the certificates of a world in files."""

    def __init__(self, directory: Path, door: Door) -> None:
        require(shutil.which("openssl") is not None, "openssl", "apt-get install openssl")
        self.directory, self.door = directory, door
        authority = door.world.authority
        self.issuer = self._write("issuer", authority.certificate.public_bytes(Encoding.PEM))
        self.root = self._write("root", authority.root.public_bytes(Encoding.PEM))

    def _write(self, name: str, octets: bytes) -> str:
        path = self.directory / f"{name}.pem"
        path.write_bytes(octets)
        return str(path)

    async def run(self, *arguments: str) -> str:
        """Return what `openssl ocsp` says of the issuer's certificates, verified from the root."""
        command = ["openssl", "ocsp", "-issuer", self.issuer, "-CAfile", self.root, *arguments]
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=30, check=False
        )
        return f"{done.returncode}\n{done.stdout}\n{done.stderr}"

    async def ask(self, svid: Svid, *arguments: str) -> str:
        """Ask the door about a certificate."""
        path = self._write(svid.serial, svid.chain_pem[0])
        said = await self.run("-url", f"{self.door.url}/ocsp", *arguments, "-cert", path)
        assert said.startswith("0\n"), said
        assert "Response verify OK" in said, said
        (found,) = re.findall(rf"^{re.escape(path)}: (\w+)$", said, re.MULTILINE)
        return str(found)


def now() -> FakeClock:
    """Return a clock that stands at the time that openssl reads."""
    return FakeClock(SystemClock().now())


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_openssl_hears_good_and_revoked(tmp_path: Path, kind: str) -> None:
    clock = now()

    async def story(door: Door) -> None:
        openssl = Openssl(tmp_path, door)
        svid, revoked = await door.world.issue(), await door.world.issue()
        await door.world.revoke(revoked)
        for arguments in (["-no_nonce"], ["-nonce"], ["-sha256"], ["-sha256", "-no_nonce"]):
            assert await openssl.ask(svid, *arguments) == "good"
            assert await openssl.ask(revoked, *arguments) == "revoked"
        said = await openssl.run(
            "-url", f"{door.url}/ocsp", "-serial", f"0x{revoked.serial}", "-nonce"
        )
        assert "Reason: keyCompromise" in said
        assert "WARNING: no nonce" not in said

    play(tmp_path, story, clock=clock, authority=make_authority(kind, now=clock.now()))


def test_openssl_hears_unknown_and_several_at_once(tmp_path: Path) -> None:
    clock = now()

    async def story(door: Door) -> None:
        openssl = Openssl(tmp_path, door)
        svid = await door.world.issue()
        serials = ["-serial", f"0x{svid.serial}", "-serial", "0x1234567890"]

        said = await openssl.run("-url", f"{door.url}/ocsp", *serials)

        assert said.startswith("0\n")
        assert "Response verify OK" in said
        assert f"0x{svid.serial}: good" in said
        assert "0x1234567890: unknown" in said

    play(tmp_path, story, clock=clock, authority=make_authority(now=clock.now()))


def test_openssl_takes_what_a_get_returned(tmp_path: Path) -> None:
    clock = now()

    async def story(door: Door) -> None:
        openssl = Openssl(tmp_path, door)
        svid = await door.world.issue()
        asked, answer = tmp_path / "request.der", tmp_path / "response.der"
        await openssl.run("-no_nonce", "-serial", f"0x{svid.serial}", "-reqout", str(asked))
        text = quote(base64.b64encode(asked.read_bytes()).decode(), safe="")
        answer.write_bytes((await door.client.get(f"/ocsp/{text}")).content)

        said = await openssl.run("-respin", str(answer), "-serial", f"0x{svid.serial}")

        assert "Response verify OK" in said
        assert f"0x{svid.serial}: good" in said

    play(tmp_path, story, clock=clock, authority=make_authority(now=clock.now()))


@pytest.mark.parametrize("minutes", [-5, 5])
def test_openssl_takes_the_answer_of_a_clock_that_is_off(tmp_path: Path, minutes: int) -> None:
    began = FakeClock(SystemClock().now() - timedelta(hours=1))
    clock = FakeClock(SystemClock().now() + timedelta(minutes=minutes))

    async def story(door: Door) -> None:
        openssl = Openssl(tmp_path, door)
        svid = await door.world.issue()
        for arguments in (["-no_nonce"], ["-nonce"]):
            # Its own tolerance of five minutes is taken away.
            assert await openssl.ask(svid, *arguments, "-validity_period", "0") == "good"

    play(tmp_path, story, clock=clock, authority=make_authority(now=began.now()))


def test_openssl_hears_try_later(tmp_path: Path) -> None:
    clock = now()

    async def story(door: Door) -> None:
        openssl = Openssl(tmp_path, door)
        with door.world.ca.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE certificates RENAME TO away")
        said = await openssl.run("-url", f"{door.url}/ocsp", "-serial", "0x1234567890")
        assert "Responder Error: trylater (3)" in said

    play(tmp_path, story, clock=clock, authority=make_authority(now=clock.now()))
