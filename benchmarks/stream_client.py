"""A client process: thousands of simulated proxies, a TLS connection and a pod's token each.

A proxy opens its DeltaSecrets streams as Envoy does, each with its subscription as first message,
acknowledges every response, and comes back after about a second when a stream ends. `names` says
what each stream subscribes to: Envoy opens one stream a secret, [["default"], ["ROOTCA"]].
"""

import asyncio
import contextlib
import random
import resource
import time
from pathlib import Path
from typing import Any

import grpc
import uvloop
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

from benchmarks import worker
from sds.resources import SECRET_TYPE

METHOD = "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets"
_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.default_authority", "localhost"))


class Proxies:
    """Every simulated proxy of this process, and what they have seen in all."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._target = f"127.0.0.1:{given['port']}"
        self._credentials = grpc.ssl_channel_credentials(Path(given["roots"]).read_bytes())
        self._tokens = Path(given["tokens"]).read_text().split()
        self._names: list[list[str]] = given["names"]
        self._wanted = sum(map(len, self._names)) * len(self._tokens)
        self._draw = random.Random(1)  # noqa: S311  # spreads reconnects, no secret
        self._tasks: list[asyncio.Task[None]] = []
        self._channels: list[grpc.aio.Channel] = []
        self.held = 0
        self.pushed = 0
        self.reconnects = 0
        self.last_at = 0.0

    async def start(self) -> dict[str, Any]:
        """Start every proxy at once; return when the last one holds its secrets."""
        started = time.monotonic()
        for token in self._tokens:
            channel = grpc.aio.secure_channel(self._target, self._credentials, _OPTIONS)
            self._channels.append(channel)
            for names in self._names:
                self._tasks.append(asyncio.create_task(self._stream(channel, token, names)))
        while self.held < self._wanted:
            await asyncio.sleep(0.02)
        return {"started_at": started, "held_at": self.last_at, "reconnects": self.reconnects}

    async def await_push(self) -> dict[str, Any]:
        """Return when every proxy has been sent one more resource."""
        while self.pushed < len(self._tokens):
            await asyncio.sleep(0.005)
        self.pushed = 0
        return {"received_at": self.last_at}

    async def stop(self) -> None:
        """End every proxy."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for channel in self._channels:
            await channel.close()

    async def _stream(self, channel: grpc.aio.Channel, token: str, names: list[str]) -> None:
        held: set[str] = set()
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await self._follow(channel, token, names, held)
            self.reconnects += 1
            await asyncio.sleep(self._draw.uniform(0.5, 1.5))

    async def _follow(
        self, channel: grpc.aio.Channel, token: str, names: list[str], held: set[str]
    ) -> None:
        call = channel.stream_stream(
            METHOD,
            request_serializer=DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=DeltaDiscoveryResponse.FromString,
        )(metadata=(("authorization", f"Bearer {token}"),), wait_for_ready=True)
        request = DeltaDiscoveryRequest(type_url=SECRET_TYPE, resource_names_subscribe=names)
        while True:
            await call.write(request)
            response: Any = await call.read()
            if response is grpc.aio.EOF:
                return
            self._note(response, held)
            request = DeltaDiscoveryRequest(type_url=SECRET_TYPE, response_nonce=response.nonce)

    def _note(self, response: DeltaDiscoveryResponse, held: set[str]) -> None:
        for one in response.resources:
            if one.name in held:
                self.pushed += 1
            else:
                self.held += 1
                held.add(one.name)
        self.last_at = time.monotonic()


async def main() -> None:
    """Do as told: `start`, then `push` for each change to await."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    proxies = Proxies(worker.arguments())

    async def answer(order: dict[str, Any]) -> dict[str, Any]:
        return await (proxies.start() if order["do"] == "start" else proxies.await_push())

    await worker.obey(answer)
    await proxies.stop()


if __name__ == "__main__":
    uvloop.run(main())
