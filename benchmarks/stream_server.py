"""`meshca serve` with one addition: at SIGUSR1 a second root joins the bundle.

It then says on standard output when that was, and again once every stream has acknowledged the
change. Nothing else differs from the service: the same settings, wiring, doors and loops.
"""

import asyncio
import json
import signal
import sys
from datetime import timedelta
from pathlib import Path

import uvloop
from cryptography import x509

from benchmarks.development import built
from ca.ca_certificate import make_root
from ca.keys import generate_key
from meshca import logs
from meshca.clock import SystemClock
from meshca.service import raise_file_limit, serve
from meshca.settings import load
from meshca.wiring import Service

_POLL_SECONDS = 0.005


async def main(config: Path) -> int:
    """Serve until a signal ends it."""
    service = built(load(config, {}))
    roots = iter([_root(service.settings.trust_domain) for _ in range(16)])
    pushes: set[asyncio.Task[None]] = set()

    def push() -> None:
        pushes.add(asyncio.ensure_future(_push(service, next(roots))))

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, push)
    try:
        async with service.writer:
            return await serve(service)
    finally:
        service.engine.dispose()


async def _push(service: Service, root: x509.Certificate) -> None:
    """Let `root` be trusted, too; wait until every follower says that it has it."""
    expected = _acks(service) + _followers(service)
    started = service.clock.monotonic()
    authority = service.authorities.active(service.clock.now())
    roots = (*service.authorities.bundle.roots, root)
    service.authorities.activate(authority, roots)
    print(json.dumps({"pushed_at": started}), flush=True)
    while _acks(service) < expected:
        await asyncio.sleep(_POLL_SECONDS)
    print(json.dumps({"acked_at": service.clock.monotonic()}), flush=True)


def _followers(service: Service) -> int:
    """Return how many streams follow the bundle."""
    resources = (r for proxy in service.ledger.connected() for r in proxy.resources)
    return sum(resource.name == "ROOTCA" for resource in resources)


def _acks(service: Service) -> float:
    samples = next(iter(service.metrics.answers.collect())).samples
    return sum(
        sample.value
        for sample in samples
        if sample.name.endswith("_total") and sample.labels["answer"] == "ack"
    )


def _root(trust_domain: str) -> x509.Certificate:
    now, lifetime = SystemClock().now(), timedelta(days=3650)
    return make_root(generate_key(), trust_domain=trust_domain, now=now, lifetime=lifetime)


if __name__ == "__main__":
    logs.configure(level="WARNING")
    raise_file_limit()
    sys.exit(uvloop.run(main(Path(sys.argv[1]))))
