"""Thousands of simulated proxies on the real `meshca serve`, and its admin door beside them."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.development import MESHCA, Development
from benchmarks.process import Process, Worker, running, workers
from meshca.cli.client import AdminClient

AS_ENVOY: Final = (("default",), ("ROOTCA",))
"""The streams of one proxy, and what each asks for: Envoy opens a stream a secret."""
ONE_ADS_STREAM: Final = (("default", "ROOTCA", "revoked"),)
"""One stream for everything; a stream that asks for `revoked` is of the aggregated service."""
WITH_POLICY: Final = (("default", "ROOTCA", "revoked", "authz"),)
"""The same with its policy."""
_ACCOUNTS: Final = 100
_CLIENTS: Final = 2

Names = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Fleet:
    """A running server and the proxies that hold their secrets from it."""

    development: Development
    served: Process
    admin: AdminClient
    proxies: int
    _clients: Sequence[Worker]

    def leave(self) -> float:
        """Begin to wait for every proxy to leave the authority that signs now; return the time."""
        self._tell("leave")
        for client in self._clients:
            client.hear()
        self._tell("move")
        return time.monotonic()

    def moved_at(self) -> float:
        """Return when the last proxy had a certificate of another authority, having waited."""
        return max(float(client.hear()["moved_at"]) for client in self._clients)

    def expect_push(self) -> float:
        """Begin to wait until every proxy is sent one more resource; return the time."""
        self._tell("push")
        return time.monotonic()

    def pushed_at(self) -> float:
        """Return when the last proxy was sent it, having waited."""
        return max(float(client.hear()["received_at"]) for client in self._clients)

    def _tell(self, what: str) -> None:
        for client in self._clients:
            client.tell(do=what)


@contextmanager
def connected(development: Development, proxies: int, names: Names = AS_ENVOY) -> Iterator[Fleet]:
    """Run the server; yield when every one of `proxies` holds its `names`, a stream each."""
    command = [str(MESHCA), "serve", "--config", str(development.config)]
    given = shares(development, proxies, names)
    everywhere = os.sched_getaffinity(0)
    with (
        running(development, command) as served,
        workers("stream_client", given, cores=everywhere) as clients,
    ):
        admin = AdminClient(development.settings.admin_socket, "a benchmark does")
        fleet = Fleet(development, served, admin, proxies, clients)
        fleet._tell("start")
        for client in clients:
            client.hear()
        yield fleet


def shares(development: Development, proxies: int, names: Names) -> list[dict[str, Any]]:
    """Share the proxies out among the client processes: what each process is given."""
    tokens = [development.token(f"web-{n % _ACCOUNTS}", f"web-{n}") for n in range(proxies)]
    arguments = []
    for share in range(_CLIENTS):
        path = development.directory.parent / f"tokens-{share}"
        path.write_text("\n".join(tokens[share::_CLIENTS]))
        arguments.append(
            {
                "port": development.port,
                "roots": str(development.roots),
                "tokens": str(path),
                "names": names,
            }
        )
    return arguments
