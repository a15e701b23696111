"""One xDS stream, from its first request to its end; knows nothing of the transport under it.

`SotwSession` and `DeltaSession` read requests as they come and send responses as they fall due.
The state is a handful of names, never a queue: a proxy that does not read holds back only itself,
and when it reads again it gets the latest state. A stream ends when the proof that opened it
expires, a little earlier at random, or when the server drains; the proxy returns with a fresh one.
"""

import asyncio
import contextlib
import random
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Generic, TypeVar

from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from envoy.service.discovery.v3.discovery_pb2 import Resource as DeltaResource

from authz.workload import Workload
from identity.caller import Caller
from meshca.clock import Clock
from meshca.logs import clip, get_logger
from rotation.leaves import Holding, Leaves
from sds.meters import Meters
from sds.node_hints import NodeHints, read_hints
from sds.resources import EXTENSION_TYPE, SECRET_TYPE, Resource
from sds.snapshot import Shared, Subject, View, everything, resolve, subject_of
from sds.subscription import MAXIMUM_NAMES, Push, Subscription
from sds.turns import LARGE

LONGEST_EARLY_END: Final = timedelta(seconds=10)
_TYPES: Final = (SECRET_TYPE, EXTENSION_TYPE)

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_Message = TypeVar("_Message")
Receive = Callable[[], Awaitable[_Message | None]]
"""Waits for the next message; returns nothing true once there are no more."""
Send = Callable[[_Message], Awaitable[None]]
"""Sends a message, and returns when the transport takes another."""
log = get_logger("sds")


class Session(Generic[_Request, _Response]):
    """What both variants of the protocol share; one object a stream."""

    __slots__ = (
        "_clock",
        "_done",
        "_heard",
        "_hints",
        "_holding",
        "_is_awake",
        "_labels",
        "_leaves",
        "_logged",
        "_meters",
        "_release",
        "_shared",
        "_subscriptions",
        "_types",
        "_waiter",
        "caller",
        "connected_at",
        "ends_at",
        "peer",
        "service",
        "workload",
    )

    def __init__(
        self,
        caller: Caller,
        *,
        peer: str,
        service: str,
        types: tuple[str, ...],
        leaves: Leaves,
        shared: Shared,
        clock: Clock,
        meters: Mapping[str, Meters],
        heard: Callable[[str], None] = lambda _holder: None,
    ) -> None:
        self.caller = caller
        self.peer = peer
        self.service = service
        self.connected_at: datetime = clock.now()
        self.ends_at = _end_of_stream(caller, self.connected_at)
        self.workload = Workload(caller.evidence.namespace)
        self._types = types
        self._leaves = leaves
        self._shared = shared
        self._clock = clock
        self._meters = meters
        self._heard = heard
        self._subscriptions: dict[str, Subscription] = {}
        self._holding: Holding | None = None
        self._release: Callable[[], None] | None = None
        self._is_awake = False
        self._waiter: asyncio.Future[None] | None = None
        self._done = False
        self._logged = 0
        self._hints: NodeHints | None = None
        self._labels: Mapping[str, str] = {}

    @property
    def node_id(self) -> str:
        """Return how the proxy calls itself; nothing until it has said so."""
        return self._hints.node_id if self._hints is not None else ""

    def find_workload(self) -> Workload | None:
        """Return the workload as it is known now; None until the proxy has said what it is."""
        if self._hints is None:
            return None
        self._select_workload(self._hints)
        return self.workload

    @property
    def subscriptions(self) -> list[Subscription]:
        """Return what this stream follows, a type each."""
        return list(self._subscriptions.values())

    def wake(self) -> None:
        """Look for something to send: state changed, or a request came."""
        self._is_awake = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def end(self) -> None:
        """End the stream after what is being sent."""
        self._done = True
        self.wake()

    async def run(self, receive: Receive[_Request], send: Send[_Response]) -> None:
        """Serve until the proxy leaves or `end` is called."""
        reader = asyncio.get_running_loop().create_task(self._read(receive))
        try:
            while True:
                await self._awake()
                if self._done:
                    break
                for subscription in tuple(self._subscriptions.values()):
                    await self._push(subscription, send)
        finally:
            reader.cancel()
            if self._release is not None:
                self._release()
            with contextlib.suppress(asyncio.CancelledError):
                await reader

    async def _awake(self) -> None:
        if not self._is_awake:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        self._is_awake = False

    async def _read(self, receive: Receive[_Request]) -> None:
        try:
            while request := await receive():
                self._handle(request)
        finally:
            self.end()

    async def _push(self, subscription: Subscription, send: Send[_Response]) -> None:
        """Send what is due; in turn when it is large, and then what is due by then."""
        resources = self._due(subscription)
        if sum(resource.size for resource in resources) < LARGE:
            await self._send(subscription, resources, send)
            return
        async with self._shared.turns.turn():
            if not self._done:
                await self._send(subscription, self._due(subscription), send)

    def _due(self, subscription: Subscription) -> list[Resource]:
        credential = self._holding.credential if self._holding is not None else None
        hints = self._hints or NodeHints()
        self._select_workload(hints)
        view = View(
            self.caller.spiffe_id,
            self.workload,
            credential,
            self._shared,
            hints.validator,
            hints.filters,
        )
        return self._select(subscription, lambda name: resolve(view, subscription.type_url, name))

    async def _send(
        self, subscription: Subscription, resources: list[Resource], send: Send[_Response]
    ) -> None:
        if resources:
            now = self._clock.now()
            nonce = subscription.pushed(resources, now, self._clock.monotonic())
            self._meters[subscription.type_url].pushes.inc()
            await send(self._response(subscription, resources, nonce))

    def _subscription(self, type_url: str) -> Subscription | None:
        """Return the subscription for `type_url`, or None when this service has no such type."""
        if type_url not in self._types:
            self._complain("unknown_type", type_url)
            return None
        if type_url not in self._subscriptions:
            self._subscriptions[type_url] = Subscription(type_url)
        return self._subscriptions[type_url]

    def _meet(self, node: Node) -> None:
        """Take the hints of a stream's first node.

        They are read once: who could change them with each request could make us compile without
        end.
        """
        if self._hints is None:
            self._hints = read_hints(node)

    def _select_workload(self, hints: NodeHints) -> None:
        """Let the pod's labels say what is enforced; where they are not known, the proxy's own."""
        known = self._shared.labels(self.caller)
        labels = hints.labels if known is None else known
        if labels is not self._labels and labels != self._labels:
            self._labels = labels
            self.workload = Workload(self.caller.evidence.namespace, labels)

    def _admit_names(self, subscription: Subscription, names: list[str], *, has_some: bool) -> None:
        """Hold a certificate if one is asked for; say which names are nobody's.

        `has_some`: the proxy says that it has versions of what it asks for.
        """
        for name in names[:MAXIMUM_NAMES]:
            subject = subject_of(
                subscription.type_url, name, self.caller.spiffe_id, self._shared.federated()
            )
            if subject is None:
                self._complain("unknown_name", name)
            elif subject is Subject.CERTIFICATE and self._release is None:
                self._holding, self._release = self._leaves.hold(
                    self.caller, self.wake, has_one=has_some
                )

    def _complain(self, event: str, what: str) -> None:
        """Log what a proxy asked for in vain: the first few times, then not at all."""
        self._logged += 1
        if self._logged <= 8:
            log.warning(
                event,
                asked=clip(what, 128),
                identity=str(self.caller.spiffe_id),
                peer=self.peer,
                last_message=self._logged == 8,
            )

    def _answered(self, subscription: Subscription, nonce: str, error: str | None) -> Push | None:
        """Note an ACK (`error` is None) or a NACK; return the push it answers, if any."""
        now, meters = self._clock.now(), self._meters[subscription.type_url]
        if error is None:
            push = subscription.acknowledged(nonce, now)
        else:
            push = subscription.refused(nonce, clip(error), now)
        if push is None:
            meters.stale.inc()
        elif error is None:
            meters.acks.inc()
            meters.push_to_ack_seconds.observe(self._clock.monotonic() - push.monotonic)
        else:
            meters.nacks.inc()
            log.error(
                "proxy_refused_resource",
                identity=str(self.caller.spiffe_id),
                node=self.node_id,
                peer=self.peer,
                resources=sorted(push.versions),
                text=clip(error),
                hint="the proxy keeps what it had; a refused secret also blocks its siblings",
            )
        self._heard(self.caller.holder)
        return push

    @abstractmethod
    def _handle(self, request: _Request) -> None:
        """Apply one request to the subscriptions."""

    @abstractmethod
    def _select(self, subscription: Subscription, resolve: Any) -> list[Resource]:
        """Return the resources that the next response carries; empty when none is due."""

    @abstractmethod
    def _response(
        self, subscription: Subscription, resources: list[Resource], nonce: str
    ) -> _Response:
        """Return the protocol's message around `resources`."""


def _end_of_stream(caller: Caller, now: datetime) -> datetime:
    """Return when the stream ends: with its proof, up to 10 s or a twentieth earlier at random."""
    remaining = max(caller.expires_at - now, timedelta(0))
    spread = min(remaining / 20, LONGEST_EARLY_END)
    return caller.expires_at - spread * random.random()  # noqa: S311  # spreads reconnects, guards nothing


class SotwSession(Session[DiscoveryRequest, DiscoveryResponse]):
    """State of the world: each response carries every wanted resource of its type."""

    __slots__ = ()

    def _handle(self, request: DiscoveryRequest) -> None:
        if request.HasField("node"):
            self._meet(request.node)
        subscription = self._subscription(request.type_url)
        if subscription is None:
            return
        nonce = request.response_nonce
        if nonce:
            error = request.error_detail.message if request.HasField("error_detail") else None
            if nonce != subscription.last_nonce:
                # An answer to an older push changes nothing but the counters.
                self._answered(subscription, nonce, error)
                return
            self._answered(subscription, nonce, error)
        names = list(request.resource_names)
        if not names and (subscription.wildcard or not nonce):
            subscription.wildcard = True
            names = list(everything(request.type_url))
        added = subscription.replace(names)
        self._admit_names(subscription, names, has_some=bool(request.version_info))
        if not nonce:
            subscription.again()
        if added or not nonce:
            self.wake()

    def _select(self, subscription: Subscription, resolve: Any) -> list[Resource]:
        if not subscription.due(resolve):
            return []
        return [r for name in subscription.wanted if (r := resolve(name)) is not None]

    def _response(
        self, subscription: Subscription, resources: list[Resource], nonce: str
    ) -> DiscoveryResponse:
        version = "-".join(sorted({resource.version[:16] for resource in resources}))
        return DiscoveryResponse(
            version_info=version,
            resources=[resource.pack() for resource in resources],
            type_url=subscription.type_url,
            nonce=nonce,
        )


class DeltaSession(Session[DeltaDiscoveryRequest, DeltaDiscoveryResponse]):
    """Incremental: each response carries only what changed, with a version a resource."""

    __slots__ = ()

    def _handle(self, request: DeltaDiscoveryRequest) -> None:
        if request.HasField("node"):
            self._meet(request.node)
        is_first = request.type_url not in self._subscriptions
        subscription = self._subscription(request.type_url)
        if subscription is None:
            return
        if request.response_nonce:
            error = request.error_detail.message if request.HasField("error_detail") else None
            self._answered(subscription, request.response_nonce, error)
        names = list(request.resource_names_subscribe)
        if (is_first and not names) or "*" in names:
            names = [n for n in names if n != "*"] + list(everything(request.type_url))
        subscription.forget(request.resource_names_unsubscribe)
        if names:
            known = dict(request.initial_resource_versions) if is_first else None
            subscription.want(names, known)
            self._admit_names(subscription, names, has_some=bool(known))
            self.wake()

    def _select(self, subscription: Subscription, resolve: Any) -> list[Resource]:
        return subscription.due(resolve)

    def _response(
        self, subscription: Subscription, resources: list[Resource], nonce: str
    ) -> DeltaDiscoveryResponse:
        return DeltaDiscoveryResponse(
            type_url=subscription.type_url,
            nonce=nonce,
            resources=[
                DeltaResource(name=r.name, version=r.version, resource=r.pack()) for r in resources
            ],
        )
