"""Asking external authorizers, whom CUSTOM policies name, over Envoy's ext_authz protocol.

Rules. A provider gets the proxy's request as it is, byte for byte. It allows by answering OK in
time; everything else denies: another answer, none, an error, a name that is not configured. No
answer is kept: the next request is asked about anew. No more than `MAXIMUM_AT_ONCE` calls of one
provider are under way; the others wait, within the same time.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from google.protobuf.message import DecodeError

from meshca.logs import clip, get_logger
from meshca.settings_policy import Provider

METHOD: Final = "/envoy.service.auth.v3.Authorization/Check"
MAXIMUM_AT_ONCE: Final = 256
MAXIMUM_ANSWER_BYTES: Final = 256 * 1024
_OK: Final = 0

log = get_logger("authz")
_Call = Any  # grpc.aio's multi-callable of bytes to bytes


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """What a provider said; `ok` is its OkHttpResponse (what to add and remove), if it sent one."""

    allowed: bool
    ok: Any = None


DENIED: Final = ProviderAnswer(allowed=False)


@dataclass(slots=True)
class _Connection:
    call: _Call
    channel: grpc.aio.Channel
    timeout_seconds: float
    at_once: asyncio.Semaphore


@dataclass(slots=True)
class Providers:
    """The configured providers by name; a connection is made when one is first asked."""

    settings: Mapping[str, Provider] = field(default_factory=dict)
    maximum_at_once: int = MAXIMUM_AT_ONCE
    _connections: dict[str, _Connection] = field(default_factory=dict)

    async def ask(self, names: Sequence[str], request: bytes) -> Mapping[str, ProviderAnswer]:
        """Return what each of `names` says of `request`, a CheckRequest; never raises."""
        if not names:
            return {}
        answers = await asyncio.gather(*(self._ask_one(name, request) for name in names))
        return dict(zip(names, answers, strict=True))

    async def close(self) -> None:
        """End the connections."""
        connections, self._connections = self._connections, {}
        for connection in connections.values():
            await connection.channel.close()

    async def _ask_one(self, name: str, request: bytes) -> ProviderAnswer:
        try:
            connection = self._connection(name)
            async with asyncio.timeout(connection.timeout_seconds), connection.at_once:
                answer = await connection.call(request, timeout=connection.timeout_seconds)
            return _read(answer)
        except KeyError:
            log.error("provider_unknown", provider=clip(name, 64))
        except (TimeoutError, grpc.aio.AioRpcError, DecodeError, OSError) as error:
            log.warning("provider_failed", provider=name, error=_why(error))
        return DENIED

    def _connection(self, name: str) -> _Connection:
        if name not in self._connections:
            self._connections[name] = _connect(self.settings[name], self.maximum_at_once)
        return self._connections[name]


def _connect(settings: Provider, at_once: int) -> _Connection:
    options: list[tuple[str, str | int]] = [
        ("grpc.max_receive_message_length", MAXIMUM_ANSWER_BYTES),
        ("grpc.enable_http_proxy", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 5_000),
    ]
    if settings.ca_file is None:
        channel = grpc.aio.insecure_channel(settings.address, options)
    else:
        if settings.server_name is not None:
            options.append(("grpc.ssl_target_name_override", settings.server_name))
        credentials = grpc.ssl_channel_credentials(settings.ca_file.read_bytes())
        channel = grpc.aio.secure_channel(settings.address, credentials, options)
    seconds = settings.timeout.total_seconds()
    return _Connection(channel.unary_unary(METHOD), channel, seconds, asyncio.Semaphore(at_once))


def _read(answer: bytes) -> ProviderAnswer:
    response = CheckResponse.FromString(answer)
    if response.status.code != _OK or response.WhichOneof("http_response") == "denied_response":
        return DENIED
    has_more = response.HasField("ok_response")
    return ProviderAnswer(allowed=True, ok=response.ok_response if has_more else None)


def _why(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {clip(error.details() or '', 120)}"
    return type(error).__name__ if not str(error) else clip(str(error), 120)
