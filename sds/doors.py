"""Every call a proxy can make, free of any transport: messages and metadata in, messages out.

An adapter (sds/grpc_server.py) owns bytes, ports and status codes. A faster front for the unary
calls would be one more adapter over this file.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
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
from sds.admission import Admission, Peer
from sds.istio_ca import IstioCertificates
from sds.ledger import Ledger
from sds.proto.istio_ca_pb2 import IstioCertificateRequest, IstioCertificateResponse
from sds.resources import EXTENSION_TYPE, SECRET_TYPE
from sds.session import DeltaSession, Session, SotwSession
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """The calls of the mesh and renew listeners."""

    admission: Admission
    leaves: Leaves
    shared: Shared
    ledger: Ledger
    istio: IstioCertificates
    clock: Clock
    metrics: Metrics

    async def stream(
        self,
        service: str,
        requests: AsyncIterator[DiscoveryRequest],
        metadata: Mapping[str, str],
        peer: Peer,
    ) -> AsyncGenerator[DiscoveryResponse, None]:
        """Serve one state-of-the-world stream of `service`."""
        caller = await self.admission.admit(service, metadata, peer)
        async with aclosing(self._serve(self._sotw(caller, service, peer), requests)) as responses:
            async for response in responses:
                yield response

    async def delta(
        self,
        service: str,
        requests: AsyncIterator[DeltaDiscoveryRequest],
        metadata: Mapping[str, str],
        peer: Peer,
    ) -> AsyncGenerator[DeltaDiscoveryResponse, None]:
        """Serve one incremental stream of `service`."""
        caller = await self.admission.admit(service, metadata, peer)
        session = DeltaSession(
            caller,
            peer=peer.address,
            service=service,
            types=TYPES[service],
            leaves=self.leaves,
            shared=self.shared,
            clock=self.clock,
            metrics=self.metrics,
        )
        async with aclosing(self._serve(session, requests)) as responses:
            async for response in responses:
                yield response

    async def fetch(
        self, service: str, request: DiscoveryRequest, metadata: Mapping[str, str], peer: Peer
    ) -> DiscoveryResponse:
        """Answer one unary request of `service`; raises NotFound when nothing it names is there."""
        caller = await self.admission.admit(service, metadata, peer)
        if not request.type_url:
            request.type_url = TYPES[service][0]
        request.response_nonce = ""
        responses = self._serve(self._sotw(caller, service, peer), _one_request(request))
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                return await anext(responses)
        except (TimeoutError, StopAsyncIteration) as error:
            raise NotFound("none of the requested resources exists for this caller") from error
        finally:
            await responses.aclose()

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

    def _sotw(self, caller: Caller, service: str, peer: Peer) -> SotwSession:
        return SotwSession(
            caller,
            peer=peer.address,
            service=service,
            types=TYPES[service],
            leaves=self.leaves,
            shared=self.shared,
            clock=self.clock,
            metrics=self.metrics,
        )

    async def _serve(
        self, session: Session[_Request, _Response], requests: AsyncIterator[_Request]
    ) -> AsyncGenerator[_Response, None]:
        self.ledger.open(session)
        streams = self.metrics.streams.labels(session.service)
        streams.inc()
        try:
            async with aclosing(session.run(requests)) as responses:
                async for response in responses:
                    yield response
        finally:
            streams.dec()
            self.ledger.close(session)


async def _one_request(request: DiscoveryRequest) -> AsyncIterator[DiscoveryRequest]:
    yield request
    await asyncio.Event().wait()
