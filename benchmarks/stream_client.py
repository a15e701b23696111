"""A client process: thousands of simulated proxies, a TLS connection and a pod's token each.

A proxy opens its DeltaSecrets streams as Envoy does, each with its subscription as first message,
acknowledges every response, and comes back after about a second when a stream or its connection
ends. It remembers which authority signed the certificate that it holds. `names` says what each
stream subscribes to: Envoy opens one a secret, [["default"], ["ROOTCA"]]. A stream that also asks
for a filter (`revoked`, `authz`) is one of the aggregated service.
"""

import asyncio
import random
import resource
import ssl
import time
from collections import Counter
from pathlib import Path
from typing import Any

import uvloop
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

from benchmarks import http2, worker
from sds.bootstrap_filters import HTTP_REVOKED
from sds.resources import EXTENSION_TYPE, SECRET_TYPE
from sds.snapshot import CERTIFICATE_NAME

METHOD = "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets"
AGGREGATED = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_HANDSHAKE_SECONDS = 300.0
_FILTERS = (HTTP_REVOKED, "authz")


class Proxies:
    """Every simulated proxy of this process, and what they have seen in all."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._port: int = given["port"]
        self._tls = ssl.create_default_context(cafile=given["roots"])
        self._tls.set_alpn_protocols(["h2"])
        self._tokens = Path(given["tokens"]).read_text().split()
        self._names: list[list[str]] = given["names"]
        self._draw = random.Random(1)  # noqa: S311  # spreads reconnects, no secret
        self._proxies: list[asyncio.Task[None]] = []
        self.held = 0
        self.pushed = 0
        self.signers: Counter[bytes] = Counter()
        self._left: set[bytes] = set()
        self.ended: Counter[str] = Counter()
        self.last_at = 0.0

    async def start(self) -> dict[str, Any]:
        """Start every proxy at once; return when the last one held its secrets."""
        started = time.monotonic()
        self._proxies = [asyncio.create_task(self._proxy(token)) for token in self._tokens]
        while self.held < len(self._tokens) * sum(map(len, self._names)):
            await asyncio.sleep(0.02)
        return {"started_at": started, "held_at": self.last_at, "ended": dict(self.ended)}

    async def await_push(self) -> dict[str, Any]:
        """Return when every proxy had been sent one more resource."""
        while self.pushed < len(self._tokens):
            await asyncio.sleep(0.005)
        self.pushed = 0
        return {"received_at": self.last_at}

    async def leave(self) -> dict[str, Any]:
        """From now on, count the authorities that sign now as left."""
        self._left = {signer for signer, proxies in self.signers.items() if proxies}
        return {}

    async def await_move(self) -> dict[str, Any]:
        """Return when every proxy had a certificate of an authority that was not left."""
        while any(self.signers[signer] for signer in self._left):
            await asyncio.sleep(0.005)
        return {"moved_at": time.monotonic()}

    def take(self, response: DeltaDiscoveryResponse, held: dict[str, bytes]) -> None:
        """Note what a proxy was sent; `held` is what it had before, and whose signature."""
        for one in response.resources:
            signer = _signer(one.resource.value) if one.name == CERTIFICATE_NAME else b""
            if one.name in held:
                self.pushed += 1
                self.signers[held[one.name]] -= 1
            else:
                self.held += 1
            self.signers[signer] += 1
            held[one.name] = signer
        self.signers.pop(b"", None)  # what is no certificate
        self.last_at = time.monotonic()

    async def _proxy(self, token: str) -> None:
        held: dict[str, bytes] = {}
        while True:
            proxy = Proxy(self, token, self._names, held)
            try:
                await asyncio.get_running_loop().create_connection(
                    lambda: proxy,  # noqa: B023  # called before the next round
                    "127.0.0.1",
                    self._port,
                    ssl=self._tls,
                    server_hostname="localhost",
                    ssl_handshake_timeout=_HANDSHAKE_SECONDS,
                )
                self.ended[await proxy.over] += 1
            except OSError as error:
                self.ended[f"connect: {type(error).__name__}"] += 1
            await asyncio.sleep(self._draw.uniform(0.5, 1.5))


class Proxy(asyncio.Protocol):
    """One connection of one proxy."""

    def __init__(
        self, proxies: Proxies, token: str, names: list[list[str]], held: dict[str, bytes]
    ) -> None:
        self._proxies = proxies
        self._token = token
        self._names = names
        self._held = held
        self._connection = http2.Connection()
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        """Open every stream, its subscription with it."""
        self._transport: asyncio.Transport = transport
        said = [http2.preface()]
        for number, names in enumerate(self._names):
            stream, filters = 2 * number + 1, [n for n in names if n in _FILTERS]
            secrets = [name for name in names if name not in filters]
            method = AGGREGATED if filters else METHOD
            said.append(http2.call(stream, _headers(self._token, method)))
            said.append(_subscribe(stream, SECRET_TYPE, secrets))
            if filters:
                said.append(_subscribe(stream, EXTENSION_TYPE, filters))
        transport.write(b"".join(said))

    def data_received(self, data: bytes) -> None:
        """Acknowledge responses; end with the first stream that ends."""
        for event in self._connection.feed(data):
            if isinstance(event, http2.Reply):
                self._transport.write(event.data)
            elif isinstance(event, http2.Message):
                response = DeltaDiscoveryResponse.FromString(event.body)
                self._proxies.take(response, self._held)
                ack = DeltaDiscoveryRequest(
                    type_url=response.type_url, response_nonce=response.nonce
                )
                self._transport.write(http2.message(event.stream, ack.SerializeToString()))
            else:
                self._end(event.why)

    def connection_lost(self, _error: Exception | None) -> None:
        """Come back."""
        self._end("connection lost")

    def _end(self, why: str) -> None:
        if not self.over.done():
            self.over.set_result(why)
            self._transport.close()


def _subscribe(stream: int, type_url: str, names: list[str]) -> bytes:
    request = DeltaDiscoveryRequest(type_url=type_url, resource_names_subscribe=names)
    return http2.message(stream, request.SerializeToString())


def _headers(token: str, method: str) -> http2.Headers:
    return (
        (":method", "POST"),
        (":scheme", "https"),
        (":path", method),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("authorization", f"Bearer {token}"),
    )


def _signer(secret: bytes) -> bytes:
    """Return what tells the authority: the last certificate of the chain in `secret`."""
    return secret.rpartition(b"-----BEGIN CERTIFICATE-----")[2].partition(b"-----END")[0]


async def main() -> None:
    """Do as told: `start`, then `push` for each change to await, or `leave` and `move`."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    proxies = Proxies(worker.arguments())

    async def answer(order: dict[str, Any]) -> dict[str, Any]:
        does = {
            "start": proxies.start,
            "push": proxies.await_push,
            "leave": proxies.leave,
            "move": proxies.await_move,
        }
        return await does[order["do"]]()

    await worker.obey(answer)


if __name__ == "__main__":
    uvloop.run(main())
