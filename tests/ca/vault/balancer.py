"""A load balancer before several Vault nodes, which asks the first that takes a connection."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import ClassVar

import orjson
import urllib3

from tests.ca.vault.fake import SIGN
from tests.ca.vault.serving import Handler, serving


@dataclass
class Balancer:
    """Where it leads, and the CSRs that were sent through it.

    `before_answer` is called once, when something has been signed; that answer is then lost.
    """

    targets: Sequence[str]
    before_answer: Callable[[], None] | None = None
    address: str = ""
    csrs: list[str] = field(default_factory=list)
    pool: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(retries=False))

    def ask(
        self, method: str, path: str, body: bytes, token: str
    ) -> urllib3.BaseHTTPResponse | None:
        """Return the answer of the first node that gives one."""
        for target in self.targets:
            try:
                return self.pool.request(
                    method, target + path, body=body, headers={"X-Vault-Token": token}
                )
            except urllib3.exceptions.HTTPError:
                continue
        return None


@contextmanager
def balancer(targets: Sequence[str]) -> Iterator[Balancer]:
    """Run a load balancer until the `with` ends."""
    running = Balancer(targets)
    handler = type("Handler", (_Handler,), {"balancer": running})
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as port:
        running.address = f"http://127.0.0.1:{port}"
        yield running
    running.pool.clear()


class _Handler(Handler):
    balancer: ClassVar[Balancer]

    def answer(self, body: bytes) -> None:
        """Pass a request on, and its answer back."""
        if self.path.endswith(SIGN):
            self.balancer.csrs.append(orjson.loads(body)["csr"])
        token = self.headers.get("X-Vault-Token", "")
        given = self.balancer.ask(self.command, self.path, body, token)
        lose = self.balancer.before_answer
        if lose and given and given.status == 200 and self.path.endswith(SIGN):
            self.balancer.before_answer = None
            lose()
            return
        self.send_response(given.status if given else 502)
        self.end_headers()
        if given:
            self.wfile.write(given.data)
