"""The admin door's TLS: what the client showed is known, what nobody vouches for is refused."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.responses import JSONResponse

from admin.errors import LimitedBody
from admin.peer import TlsProtocol, tls_peer
from admin.serve import serve_admin_tls
from admin.tls import ServerTls
from tests.builders import Pki
from tests.ca.endpoints import ENDPOINT_ID, leaf, pki_now

PKI, OTHER = pki_now(), pki_now(number=2)
ROOT = PKI.root.public_bytes(Encoding.PEM)
RUNNERS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


async def shown(scope: Any, receive: Any, send: Any) -> None:
    """Answer with how long the chain is that TLS saw."""
    await JSONResponse(len(tls_peer(scope).chain))(scope, receive, send)


def context(directory: Path, pki: Pki | None) -> ssl.SSLContext:
    """Return a client's context that shows a certificate of `pki`, or none."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(cadata=ROOT.decode())
    if pki is not None:
        key, chain = leaf(pki, uri=ENDPOINT_ID)
        path = directory / "client.pem"
        path.write_bytes(chain + b"\n" + key)
        made.load_cert_chain(path)
    return made


def server(refused: list[str]) -> ServerTls:
    """Return the TLS of a door that lets clients show certificates of PKI."""
    tls = ServerTls()
    tls.ask_for_certificates(refused.append)
    tls.replace(*leaf(PKI, ip="127.0.0.1"))
    tls.trust(ROOT)
    return tls


async def ask(address: str, made: ssl.SSLContext) -> Any:
    async with httpx.AsyncClient(verify=made, trust_env=False) as client:
        return (await client.get(f"https://{address}/")).json()


@RUNNERS
def test_the_chain_that_a_client_shows_is_known(tmp_path: Path, run: Any) -> None:
    async def story() -> list[int]:
        async with serve_admin_tls(shown, "127.0.0.1:0", server([]).context) as address:
            return [await ask(address, context(tmp_path, pki)) for pki in (PKI, None)]

    assert run(story()) == [2, 0]


@RUNNERS
def test_a_certificate_that_no_root_stands_behind_is_refused_and_told(
    tmp_path: Path, run: Any
) -> None:
    refused: list[str] = []

    async def story() -> None:
        async with serve_admin_tls(shown, "127.0.0.1:0", server(refused).context) as address:
            with pytest.raises(httpx.TransportError):
                await ask(address, context(tmp_path, OTHER))

    run(story())
    assert refused == ["unable to get local issuer certificate"]


def test_a_root_that_comes_later_counts(tmp_path: Path) -> None:
    async def story() -> int:
        tls = server([])
        async with serve_admin_tls(shown, "127.0.0.1:0", tls.context) as address:
            tls.trust(OTHER.root.public_bytes(Encoding.PEM) + ROOT)
            return int(await ask(address, context(tmp_path, OTHER)))

    assert asyncio.run(story()) == 2


def alone(directory: Path, pki: Pki) -> ssl.SSLContext:
    """Return a client's context that shows a leaf of `pki` without its intermediate."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(cadata=ROOT.decode())
    key, chain = leaf(pki, uri=ENDPOINT_ID)
    path = directory / "leaf.pem"
    path.write_bytes(chain[: chain.index(b"-----BEGIN", 1)] + b"\n" + key)
    made.load_cert_chain(path)
    return made


@RUNNERS
def test_a_leaf_without_its_intermediate_as_browsers_show_it_is_completed(
    tmp_path: Path, run: Any
) -> None:
    async def story() -> int:
        tls = server([])
        tls.know(PKI.intermediate.public_bytes(Encoding.PEM))
        async with serve_admin_tls(shown, "127.0.0.1:0", tls.context) as address:
            assert await ask(address, context(tmp_path, PKI)) == 2
            return int(await ask(address, alone(tmp_path, PKI)))

    assert run(story()) == 2


@pytest.mark.parametrize("known", [False, True])
def test_what_completes_a_chain_is_not_trusted(tmp_path: Path, known: bool) -> None:
    refused: list[str] = []

    async def story() -> None:
        tls = server(refused)
        if known:
            tls.know(OTHER.intermediate.public_bytes(Encoding.PEM))
        async with serve_admin_tls(shown, "127.0.0.1:0", tls.context) as address:
            with pytest.raises(httpx.TransportError):
                await ask(address, alone(tmp_path, OTHER))

    asyncio.run(story())
    assert refused == ["unable to get local issuer certificate" if not known else
                       "unable to get issuer certificate"]  # fmt: skip


class Impatient(TlsProtocol):
    """The door's protocol, for which a fifth of a second is long."""

    patience = 0.2


@pytest.mark.parametrize("sent", [b"", b"GET /v1/status HTTP/1.1\r\nHost: x\r\n"])
def test_whoever_connects_and_does_not_ask_is_hung_up_on(tmp_path: Path, sent: bytes) -> None:
    async def story() -> bytes:
        door = serve_admin_tls(shown, "127.0.0.1:0", server([]).context, protocol=Impatient)
        async with door as address:
            made = context(tmp_path, None)
            host, _, port = address.partition(":")
            reader, writer = await asyncio.open_connection(host, int(port), ssl=made)
            writer.write(sent)
            async with asyncio.timeout(20):
                answer = await reader.read()
            writer.close()
            return answer

    assert asyncio.run(story()) == b""


def test_a_body_that_dribbles_is_given_up() -> None:
    async def never() -> Any:
        await asyncio.Event().wait()

    async def story() -> list[Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        limited = LimitedBody(shown, seconds=0.05)
        await limited({"type": "http", "method": "POST", "headers": []}, never, send)
        return sent

    assert asyncio.run(story())[0]["status"] == 408
