"""A client process: CreateCertificate over kept TLS connections, a token with each call."""

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import uvloop

from benchmarks import worker
from sds.istio_ca import METHOD
from sds.proto.istio_ca_pb2 import IstioCertificateRequest, IstioCertificateResponse

CONNECTIONS = 16


async def main() -> None:
    """Prepare connections and requests, then call as often as told."""
    given = worker.arguments()
    roots = grpc.ssl_channel_credentials(Path(given["roots"]).read_bytes())
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.default_authority", "localhost"))
    channels = [
        grpc.aio.secure_channel(f"127.0.0.1:{given['port']}", roots, options)
        for _ in range(CONNECTIONS)
    ]
    requests = [
        IstioCertificateRequest(csr=csr) for csr in Path(given["csrs"]).read_text().split("\0")
    ]
    calls = [_method(channel) for channel in channels]
    for call in calls:
        await call(requests[0], metadata=_bearer(given["token"]))

    async def answer(order: dict[str, Any]) -> dict[str, Any]:
        tokens = Path(order["tokens"]).read_text().split()
        return await _call_all(calls, requests, tokens, order["count"], order["in_flight"])

    await worker.obey(answer)
    for channel in channels:
        await channel.close()


async def _call_all(
    calls: list[Any],
    requests: list[IstioCertificateRequest],
    tokens: list[str],
    count: int,
    in_flight: int,
) -> dict[str, Any]:
    metadata = [_bearer(token) for token in tokens]
    numbers, latencies = iter(range(count)), []

    async def one_of_many() -> None:
        for number in numbers:
            call = calls[number % len(calls)]
            started = time.perf_counter()
            await call(requests[number % len(requests)], metadata=metadata[number % len(metadata)])
            latencies.append(time.perf_counter() - started)

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(one_of_many())
    latencies.sort()
    return {
        "seconds": time.perf_counter() - started,
        "p50_ms": latencies[len(latencies) // 2] * 1e3,
        "p99_ms": latencies[len(latencies) * 99 // 100] * 1e3,
    }


def _bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def _method(channel: grpc.aio.Channel) -> Any:
    return channel.unary_unary(
        METHOD,
        request_serializer=IstioCertificateRequest.SerializeToString,
        response_deserializer=IstioCertificateResponse.FromString,
    )


if __name__ == "__main__":
    uvloop.run(main())
