"""The grpc.aio adapter: ports, TLS, bytes, and the one table that maps errors to status codes.

Options are those measured for many streams and for dead peers (envoy.md section 13). The default
of `so_reuseport` would let a second server bind the same port in silence; it is off, so that a
port in use is an error.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import grpc
from cryptography import x509
from envoy.service.accesslog.v3.als_pb2 import (
    StreamAccessLogsMessage,
    StreamAccessLogsResponse,
)
from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from google.protobuf.message import Message

from meshca.errors import (
    IdentityForbidden,
    MeshcaError,
    NotFound,
    Overloaded,
    ProofRefused,
    RequestRefused,
    Unavailable,
)
from meshca.logs import get_logger
from sds import access_log, ext_authz, istio_ca
from sds.access_log import AccessLogs
from sds.admission import Peer
from sds.doors import ADS, ECDS, SDS, Doors
from sds.ext_authz import ExtAuthz
from sds.known_callers import Proof
from sds.proto.istio_ca_pb2 import IstioCertificateRequest

OPTIONS: Final = (
    ("grpc.so_reuseport", 0),
    ("grpc.server.max_pending_requests", 50_000),
    ("grpc.server.max_pending_requests_hard_limit", 60_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 30_000),
    ("grpc.http2.ping_timeout_ms", 30_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.max_metadata_size", 64 * 1024),
)
"""Arguments of every grpc.aio server here."""

STATUS: Final[Mapping[type[MeshcaError], grpc.StatusCode]] = {
    ProofRefused: grpc.StatusCode.UNAUTHENTICATED,
    IdentityForbidden: grpc.StatusCode.PERMISSION_DENIED,
    RequestRefused: grpc.StatusCode.INVALID_ARGUMENT,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    NotFound: grpc.StatusCode.NOT_FOUND,
}
"""Which status each error becomes; what is not here is INTERNAL."""

Context = grpc.aio.ServicerContext[Any, Any]
PeerOf = Callable[[Context], Peer]
log = get_logger("sds")

_XDS = {
    SDS: ("envoy.service.secret.v3.SecretDiscoveryService", "Secrets"),
    ECDS: ("envoy.service.extension.v3.ExtensionConfigDiscoveryService", "ExtensionConfigs"),
}
_ADS_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"


def status_of(error: MeshcaError) -> grpc.StatusCode:
    """Return the gRPC status that `error` becomes."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return grpc.StatusCode.INTERNAL


async def _fail(context: Context, error: MeshcaError) -> None:
    code = status_of(error)
    if code is grpc.StatusCode.INTERNAL:
        log.error("internal_error", error=str(error), kind=type(error).__name__)
    await context.abort(code, error.public_message)


def _metadata(context: Context) -> dict[str, str]:
    pairs = context.invocation_metadata() or ()
    return {key: value for key, value in pairs if isinstance(value, str)}


def _anonymous(context: Context) -> Peer:
    return Peer(context.peer())


def _with_certificate(context: Context) -> Peer:
    shown = context.auth_context()
    # gRPC names the leaf and, apart from it, what the peer sent with it.
    pems = [*shown.get("x509_pem_cert", ()), *shown.get("x509_pem_cert_chain", ())]
    return Peer(context.peer(), [c for pem in pems for c in x509.load_pem_x509_certificates(pem)])


def _proof(context: Context, peer_of: PeerOf) -> Proof:
    leaf = b""
    if peer_of is _with_certificate:
        leaf = next(iter(context.auth_context().get("x509_pem_cert", ())), b"")
    return Proof(_metadata(context), leaf, lambda: peer_of(context))


def _streaming(call: Any, service: str, peer_of: PeerOf) -> Any:
    # grpc.aio asks inspect.iscoroutinefunction; the iterator of requests is left alone: it would
    # put an asynchronous generator between us and `read`.
    async def handle(_requests: AsyncIterator[Any], context: Context) -> None:
        try:
            await call(service, context.read, context.write, _metadata(context), peer_of(context))
        except MeshcaError as error:
            await _fail(context, error)

    return handle


def _unary(call: Callable[..., Awaitable[Message]], peer_of: PeerOf, *arguments: str) -> Any:
    async def handle(request: Any, context: Context) -> bytes:
        try:
            response = await call(*arguments, request, _metadata(context), peer_of(context))
        except MeshcaError as error:
            await _fail(context, error)
            raise AssertionError("abort does not return") from error
        return response.SerializeToString()

    return handle


def handlers(doors: Doors, *, mutual_tls: bool) -> tuple[grpc.GenericRpcHandler, ...]:
    """Return the generic handlers of every service that `doors` answer.

    With `mutual_tls`, callers prove themselves by the client certificate that TLS has verified.
    """
    peer_of = _with_certificate if mutual_tls else _anonymous
    result = []
    for service, (name, noun) in _XDS.items():
        methods = {
            f"Stream{noun}": _sotw_handler(doors, service, peer_of),
            f"Delta{noun}": _delta_handler(doors, service, peer_of),
            f"Fetch{noun}": grpc.unary_unary_rpc_method_handler(
                _unary(doors.fetch, peer_of, service),
                request_deserializer=DiscoveryRequest.FromString,
            ),
        }
        result.append(grpc.method_handlers_generic_handler(name, methods))
    aggregated = {
        "StreamAggregatedResources": _sotw_handler(doors, ADS, peer_of),
        "DeltaAggregatedResources": _delta_handler(doors, ADS, peer_of),
    }
    result.append(grpc.method_handlers_generic_handler(_ADS_SERVICE, aggregated))
    service_name, _, method = istio_ca.METHOD[1:].rpartition("/")
    create: Any = grpc.unary_unary_rpc_method_handler(
        _unary(doors.create_certificate, peer_of),
        request_deserializer=IstioCertificateRequest.FromString,
    )
    result.append(grpc.method_handlers_generic_handler(service_name, {method: create}))
    if doors.checks is not None:
        result.append(_check_handler(doors.checks, peer_of))
    if doors.access_logs is not None:
        result.append(_access_log_handler(doors.access_logs, peer_of))
    return tuple(result)


def _check_handler(checks: ExtAuthz, peer_of: PeerOf) -> grpc.GenericRpcHandler:
    # Bytes in, bytes out: the request is parsed once, and providers get it as it is.
    async def handle(request: bytes, context: Context) -> bytes:
        try:
            return await checks.check(request, _proof(context, peer_of))
        except MeshcaError as error:
            await _fail(context, error)
            raise AssertionError("abort does not return") from error

    method: Any = grpc.unary_unary_rpc_method_handler(handle)
    return grpc.method_handlers_generic_handler(ext_authz.SERVICE, {ext_authz.METHOD: method})


def _access_log_handler(logs: AccessLogs, peer_of: PeerOf) -> grpc.GenericRpcHandler:
    async def handle(_requests: AsyncIterator[Any], context: Context) -> Any:
        try:
            await logs.stream(context.read, _proof(context, peer_of))
        except MeshcaError as error:
            await _fail(context, error)
        return StreamAccessLogsResponse()

    method: Any = grpc.stream_unary_rpc_method_handler(
        handle,
        request_deserializer=StreamAccessLogsMessage.FromString,
        response_serializer=StreamAccessLogsResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(access_log.SERVICE, {access_log.METHOD: method})


def _sotw_handler(doors: Doors, service: str, peer_of: PeerOf) -> Any:
    return grpc.stream_stream_rpc_method_handler(
        _streaming(doors.stream, service, peer_of),
        request_deserializer=DiscoveryRequest.FromString,
        response_serializer=DiscoveryResponse.SerializeToString,
    )


def _delta_handler(doors: Doors, service: str, peer_of: PeerOf) -> Any:
    return grpc.stream_stream_rpc_method_handler(
        _streaming(doors.delta, service, peer_of),
        request_deserializer=DeltaDiscoveryRequest.FromString,
        response_serializer=DeltaDiscoveryResponse.SerializeToString,
    )
