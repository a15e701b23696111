"""An HTTP server on 127.0.0.1 that answers as a test says, and a kubeconfig that leads there."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml


@dataclass
class Answers:
    """What the server answers next, and the requests it saw: method, path, body.

    `bodies` answer their paths, `body` any other.
    """

    status: int = 200
    body: bytes = b"{}"
    bodies: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    hold: threading.Event | None = None
    url: str = ""
    seen: list[tuple[str, str, Any]] = field(default_factory=list)


@contextmanager
def http_server(tls: ssl.SSLContext | None = None) -> Iterator[Answers]:
    """Run a server, over `tls` if that is given, until the `with` ends."""
    answers = Answers()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            answers.seen.append((self.command, self.path, json.loads(body) if body else None))
            if answers.hold is not None:
                answers.hold.wait(20)
            self.send_response(answers.status)
            for name, value in answers.headers.items():
                self.send_header(name, value)
            content = answers.bodies.get(self.path, answers.body)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    answers.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    try:
        yield answers
    finally:
        if answers.hold is not None:
            answers.hold.set()
        server.shutdown()
        thread.join()
        server.server_close()


def write_kubeconfig(path: Path, url: str) -> Path:
    """Write a kubeconfig for the API server at `url` and return its path."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "the-credential"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(document))
    return path
