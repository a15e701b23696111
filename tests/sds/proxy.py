"""A proxy in memory: one stream through the doors, requests in, responses out."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Self

from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest

from sds.admission import Peer
from sds.doors import Doors
from sds.resources import SECRET_TYPE

PEER = Peer("ipv4:127.0.0.1:1")
DEADLINE_SECONDS = 5.0
QUIET_SECONDS = 0.1


@dataclass
class Proxy:
    """One stream; use `async with`."""

    doors: Doors
    token: str = "shop/web/web-1"  # the fake authenticator's kind of token
    service: str = "sds"
    incremental: bool = True
    _requests: "asyncio.Queue[Any]" = field(default_factory=asyncio.Queue)
    _responses: "asyncio.Queue[Any]" = field(default_factory=asyncio.Queue)
    _call: "asyncio.Task[None] | None" = None
    _next: "asyncio.Task[Any] | None" = None

    async def __aenter__(self) -> Self:
        call = self.doors.delta if self.incremental else self.doors.stream
        metadata = {"authorization": f"Bearer {self.token}"}
        served = call(self.service, self._requests.get, self._take, metadata, PEER)
        self._call = asyncio.ensure_future(served)
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [task for task in (self._next, self._call) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, response: Any) -> None:
        """Take a response as a transport does that buffers none: until it is read."""
        self._responses.put_nowait(response)
        await self._responses.join()

    def send(self, request: Any) -> None:
        """Send one request as it is."""
        self._requests.put_nowait(request)

    def leave(self) -> None:
        """Close the sending side."""
        self._requests.put_nowait(None)

    def subscribe(self, *names: str, type_url: str = SECRET_TYPE, **more: Any) -> None:
        """Ask for `names` in this stream's variant of the protocol."""
        if self.incremental:
            self.send(
                DeltaDiscoveryRequest(
                    type_url=type_url, resource_names_subscribe=list(names), **more
                )
            )
        else:
            self.send(DiscoveryRequest(type_url=type_url, resource_names=list(names), **more))

    def _pending(self) -> "asyncio.Task[Any]":
        if self._next is None:
            self._next = asyncio.ensure_future(self._read())
        return self._next

    async def _read(self) -> Any:
        assert self._call is not None
        response = asyncio.ensure_future(self._responses.get())
        await asyncio.wait([response, self._call], return_when=asyncio.FIRST_COMPLETED)
        if not response.done():
            response.cancel()
            return await self._call
        self._responses.task_done()
        return response.result()

    async def receive(self) -> Any:
        """Return the next response; None when the stream has ended."""
        response = await asyncio.wait_for(asyncio.shield(self._pending()), DEADLINE_SECONDS)
        self._next = None
        return response

    async def is_quiet(self) -> bool:
        """Return whether nothing comes for a moment."""
        done, _ = await asyncio.wait([self._pending()], timeout=QUIET_SECONDS)
        return not done

    def acknowledge(self, response: Any, *names: str) -> None:
        """ACK `response`."""
        if self.incremental:
            self.send(
                DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
            )
        else:
            self.send(
                DiscoveryRequest(
                    type_url=response.type_url,
                    response_nonce=response.nonce,
                    version_info=response.version_info,
                    resource_names=list(names),
                )
            )

    def refuse(self, response: Any, text: str) -> None:
        """NACK `response` (incremental variant)."""
        request = DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        request.error_detail.code, request.error_detail.message = 13, text
        self.send(request)


def secrets(response: Any) -> dict[str, Secret]:
    """Return the secrets of a response by their names."""
    result = {}
    for item in response.resources:
        body = getattr(item, "resource", item)
        secret = Secret.FromString(body.value)
        result[secret.name] = secret
    return result
