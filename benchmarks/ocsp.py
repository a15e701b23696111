"""OCSP answers by the responder that `meshca serve` builds: kept ones, signed ones, over HTTP.

The responder alone is asked in this process. Over HTTP it is asked by clients in a process of their
own, through the door's own routes; what is counted is this process's CPU time, client not included.
"""

import asyncio
import base64
import time
from collections.abc import Iterator, Sequence
from typing import Any

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.ocsp import (
    OCSPCertStatus,
    OCSPRequestBuilder,
    OCSPResponderEncoding,
    OCSPResponseBuilder,
)
from fastapi import FastAPI

from admin.ocsp import create_router
from admin.serve import serve_tcp
from benchmarks.development import TRUST_DOMAIN, temporary
from benchmarks.figure import Context, Row, Target
from benchmarks.floor import cpu_us
from benchmarks.issuance import example_caller, running
from benchmarks.process import client_cores, workers
from ca.issuer import Svid
from ca.keys import generate_key, public_key_der
from ca.ocsp.allowance import Allowance
from ca.ocsp.delegate import make, sign
from ca.ocsp.responder import Responder
from ca.request import generate
from meshca.wiring import Service

TITLE = "OCSP answers"
TARGET = Target(5_000)
CERTIFICATES = 500
_UNBOUNDED = 1e9


def run(context: Context) -> Iterator[Row]:
    """Measure answers that were signed before, answers to nonces, and both over HTTP."""
    with (
        temporary() as development,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        running(runner, development) as service,
    ):
        responder = service.revocation.responder
        responder.allowance = Allowance(_UNBOUNDED, service.clock)
        svids = runner.run(_prepare(service, context.scale(CERTIFICATES, 50)))
        plain = [_request(svid, nonce=None) for svid in svids]
        nonces = [_request(svid, nonce=number.to_bytes(16)) for number, svid in enumerate(svids)]
        count = context.scale(50_000, 2_000)
        yield from _alone(context, runner, responder, plain, nonces, count)
        yield from _over_http(runner, responder, plain[0], nonces[0], context.scale(10_000, 500))
        yield _builder(service, svids[0])


async def _prepare(service: Service, count: int) -> Sequence[Svid]:
    """Have the signer certified, issue, and ask once: so everything is kept."""
    await service.revocation.signers.refresh()
    caller = example_caller()
    svids = [await service.issuance.issue(caller, generate().request) for _ in range(count)]
    await service.writer.submit()
    for number, svid in enumerate(svids):
        if number % 100 == 0:  # lookups are bounded by the second
            await asyncio.sleep(0.2)
        await service.revocation.responder.answer(_request(svid, nonce=None))
    return svids


def _request(svid: Svid, nonce: bytes | None) -> bytes:
    builder = OCSPRequestBuilder().add_certificate(svid.chain[0], svid.chain[1], hashes.SHA256())
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def _alone(
    context: Context,
    runner: asyncio.Runner,
    responder: Responder,
    plain: Sequence[bytes],
    nonces: Sequence[bytes],
    count: int,
) -> Iterator[Row]:
    for what, asked in (
        ("kept", plain),
        ("with a nonce, signed each", nonces),
    ):

        def measure(asked: Sequence[bytes] = asked) -> float:
            return runner.run(_ask(responder, asked, count))

        with context.progress(what, count) as advance:
            floor, spent = context.beside_floor(measure)
            advance(count)
        ratio = f"{spent / floor.sign_us:.2f} × P-256 sign"
        note = f"{spent:.1f} µs CPU each; {len(asked)} certificates in turn, the responder alone"
        yield Row(f"answers, {what}", 1e6 / spent, "/s per core", ratio, TARGET, note)


async def _ask(responder: Responder, asked: Sequence[bytes], count: int) -> float:
    """Return the CPU microseconds of one answer."""
    started = time.process_time()
    for number in range(count):
        answer = await responder.answer(asked[number % len(asked)])
        if answer.signed_at is None:
            raise RuntimeError("the responder did not answer")
    return (time.process_time() - started) / count * 1e6


def _over_http(
    runner: asyncio.Runner, responder: Responder, plain: bytes, nonce: bytes, count: int
) -> Iterator[Row]:
    text = base64.b64encode(plain).decode().replace("/", "%2F").replace("+", "%2B")
    get = f"GET /ocsp/{text} HTTP/1.1\r\nHost: ca\r\n\r\n".encode()
    for what, sent in (("GET", get), ("POST", _post(plain)), ("POST, nonce", _post(nonce))):
        spent, wall = runner.run(_serve(responder, sent, count))
        note = f"{spent:.0f} µs CPU each, HTTP included; {wall:,.0f}/s wall, 16 connections"
        yield Row(f"over HTTP, {what}", 1e6 / spent, "/s per core", note=note)


def _post(body: bytes) -> bytes:
    head = (
        "POST /ocsp HTTP/1.1\r\nHost: ca\r\nContent-Type: application/ocsp-request\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _serve(responder: Responder, sent: bytes, count: int) -> tuple[float, float]:
    """Return the CPU microseconds of one answer at the door, and answers a second."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.include_router(create_router(responder))
    async with serve_tcp(app, "127.0.0.1:0", key="listen.public") as address:
        given = {"port": int(address.rpartition(":")[2]), "request": sent.decode("latin-1")}
        with workers("http_load", [given], cores=client_cores()) as (client,):
            started = time.process_time()
            client.tell(requests=count, seconds=0)
            seen: dict[str, Any] = await asyncio.to_thread(client.hear)
            spent = time.process_time() - started
    if set(seen["answers"]) != {"200"}:
        raise RuntimeError(f"the door answered {seen['answers']}")
    done = seen["answers"]["200"]
    return spent / done * 1e6, done / seen["seconds"]


def _builder(service: Service, svid: Svid) -> Row:
    """Return what cryptography's own builder takes for one answer, signature included."""
    now = service.clock.now().replace(microsecond=0)
    key = generate_key()
    authority = service.authorities.active(now)
    certificate = sign(make(authority, now, TRUST_DOMAIN, public_key_der(key.public_key())))

    def build() -> None:
        OCSPResponseBuilder().add_response(
            svid.chain[0],
            svid.chain[1],
            hashes.SHA256(),
            OCSPCertStatus.GOOD,
            now,
            now,
            None,
            None,
        ).responder_id(OCSPResponderEncoding.HASH, certificate).certificates([certificate]).sign(
            key, hashes.SHA256()
        ).public_bytes(Encoding.DER)

    spent = cpu_us(build, seconds=0.3)
    return Row("cryptography's builder, signed", spent, "µs CPU", note=f"{1e6 / spent:,.0f}/s")
