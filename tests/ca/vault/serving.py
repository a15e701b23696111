"""A small HTTP server within a test; its handler answers every method that Vault knows alike."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Says nothing of requests, nor of clients that go away; `answer` is the test's."""

    def answer(self, body: bytes) -> None:
        """Answer one request."""
        raise NotImplementedError

    def handle(self) -> None:
        """Answer until the client goes away."""
        with suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        """Answer."""
        self.answer(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def do_POST(self) -> None:
        """Answer."""
        self.do_GET()

    def do_LIST(self) -> None:
        """Answer."""
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[int]:
    """Serve until the `with` ends, and yield the port."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
