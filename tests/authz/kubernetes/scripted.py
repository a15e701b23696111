"""An API server that answers what the test says: what a real one does too seldom."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import yaml

Answer = tuple[int, bytes]
Handler = Callable[[str, dict[str, str]], Answer]


def page(items: list[Any], version: str = "1", after: str = "") -> Answer:
    """Return a page of a list."""
    metadata = {"resourceVersion": version, "continue": after}
    return 200, orjson.dumps({"metadata": metadata, "items": items})


def events(*given: dict[str, Any]) -> Answer:
    """Return the whole of a watch."""
    return 200, b"".join(orjson.dumps(event) + b"\n" for event in given)


def gone() -> dict[str, Any]:
    """Return the event of a version that is too old."""
    return {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}


def pod(uid: str, version: str = "2", **labels: str) -> dict[str, Any]:
    """Return a pod's metadata."""
    return {"metadata": {"uid": uid, "resourceVersion": version, "labels": labels}}


@contextmanager
def serving(answer: Handler, directory: Path) -> Iterator[Path]:
    """Serve `answer(path, query)` and yield a kubeconfig that leads there."""

    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            status, body = answer(url.path, query)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
        ],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
        "current-context": "x",
    }
    kubeconfig = directory / "scripted.yaml"
    kubeconfig.write_text(yaml.safe_dump(document))
    try:
        yield kubeconfig
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
