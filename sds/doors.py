"""Every call a proxy can make, free of any transport: messages and metadata in, messages out.

An adapter (sds/grpc_server.py) owns bytes, ports and status codes. A faster front for the unary
calls would be one more adapter over this file.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)

from identity.caller import Caller
from meshca.clock import Clock
from meshca.errors import NotFound, Refused
from meshca.metrics import Metrics
from rotation.leaves import Leaves
from sds.access_log import AccessLogs
from sds.admission import Admission, Peer
from sds.ext_authz import ExtAuthz
from sds.istio_ca import IstioCertificates
from sds.ledger import Ledger
from sds.meters import Meters
from sds.proto.istio_ca_pb2 import IstioCertificateRequest, IstioCertificateResponse
from sds.resources import EXTENSION_TYPE, SECRET_TYPE
from sds.session import DeltaSession, Receive, Send, Session, SotwSession
from sds.snapshot import Shared

SDS: Final = "sds"
ECDS: Final = "ecds"
ADS: Final = "ads"
TYPES: Final[Mapping[str, tuple[str, ...]]] = {
    SDS: (SECRET_TYPE,),
    ECDS: (EXTENSION_TYPE,),
    ADS: (SECRET_TYPE, EXTENSION_TYPE),
}
FETCH_SECONDS: Final = 5.0

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_Session = TypeVar("_Session", SotwSession, DeltaSession)


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """The calls of the mesh and renew listeners; `heard` is told which holder answered a push.

    `checks` and `access_logs` are the doors of decisions, on the same listeners.
    """

    admission: Admission
    leaves: Leaves
    shared: Shared
    ledger: Ledger
    istio: IstioCertificates
    clock: Clock
    metrics: Metrics
    meters: Mapping[str, Meters]
    heard: Callable[[str], None] = lambda _holder: None
    checks: ExtAuthz | None = None
    access_logs: AccessLogs | None = None

    async def stream(
        self,
        service: str,
        receive: Receive[DiscoveryRequest],
        send: Send[DiscoveryResponse],
        metadata: Mapping[str, str],
        peer: Peer,
    ) -> None:
        """Serve one state-of-the-world stream of `service` until it ends."""
        caller = await self.admission.admit(service, metadata, peer)
        await self._serve(self._session(SotwSession, caller, service, peer), receive, send)

    async def delta(
        self,
        service: str,
        receive: Receive[DeltaDiscoveryRequest],
        send: Send[DeltaDiscoveryResponse],
        metadata: Mapping[str, str],
        peer: Peer,
    ) -> None:
        """Serve one incremental stream of `service` until it ends."""
        caller = await self.admission.admit(service, metadata, peer)
        await self._serve(self._session(DeltaSession, caller, service, peer), receive, send)

    async def fetch(
        self, service: str, request: DiscoveryRequest, metadata: Mapping[str, str], peer: Peer
    ) -> DiscoveryResponse:
        """Answer one unary request of `service`; raises NotFound when nothing it names is there."""
        caller = await self.admission.admit(service, metadata, peer)
        if not request.type_url:
            request.type_url = TYPES[service][0]
        request.response_nonce = ""
        session = self._session(SotwSession, caller, service, peer)
        answers: list[DiscoveryResponse] = []

        async def take(response: DiscoveryResponse) -> None:
            answers.append(response)
            session.end()

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FETCH_SECONDS):
                await self._serve(session, _only(request), take)
        if not answers:
            raise NotFound("none of the requested resources exists for this caller")
        return answers[0]

    async def create_certificate(
        self, request: IstioCertificateRequest, metadata: Mapping[str, str], peer: Peer
    ) -> IstioCertificateResponse:
        """Answer Istio's CreateCertificate."""
        caller = await self.admission.admit("csr", metadata, peer)
        try:
            return await self.istio.create(caller, request)
        except Refused as error:
            self.admission.refuse("csr", error, peer, caller)
            raise

    def _session(
        self, variant: type[_Session], caller: Caller, service: str, peer: Peer
    ) -> _Session:
        return variant(
            caller,
            peer=peer.address,
            service=service,
            types=TYPES[service],
            leaves=self.leaves,
            shared=self.shared,
            clock=self.clock,
            meters=self.meters,
            heard=self.heard,
        )

    async def _serve(
        self,
        session: Session[_Request, _Response],
        receive: Receive[_Request],
        send: Send[_Response],
    ) -> None:
        self.ledger.open(session)
        streams = self.metrics.streams.labels(session.service)
        streams.inc()
        try:
            await session.run(receive, send)
        finally:
            streams.dec()
            self.ledger.close(session)


def _only(request: DiscoveryRequest) -> Receive[DiscoveryRequest]:
    """Return what receives `request` and then waits for ever."""
    requests = [request]

    async def receive() -> DiscoveryRequest | None:
        if not requests:
            await asyncio.Event().wait()
        return requests.pop()

    return receive
