"""What was done to whom, as it is recorded: one request without what makes it unlike the next.

Rules. No query, no header, no claim, no token is kept: they hold secrets. Text that a caller made
up is cut to a length and rid of what a database cannot hold. `OTHER` stands for the paths, methods
and hosts of a minute that were too many to keep apart.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal, cast

from authz.request import Http, Request, folded_host
from authz.workload import Workload
from meshca.spiffe_id import SpiffeId

OTHER: Final = "(other)"
MAXIMUM_PATH: Final = 512
MAXIMUM_HOST: Final = 253
MAXIMUM_METHOD: Final = 32
_METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"}
)

Protocol = Literal["http", "tcp"]


@dataclass(frozen=True, slots=True)
class Operation:
    """Who did what to whom; it is the key by which decisions are counted.

    `source` is the peer's SPIFFE ID, empty without one; `destination` that of the proxy that told
    of it. `labels` is canonical JSON. `method`, `path` (without query) and `host` are None on TCP.
    `asked_by` is who asked and only claims `source`, which nobody attested; empty where a proxy
    attested it, and where it was read from the database, which does not keep it.
    """

    source: str
    destination: str
    namespace: str
    labels: str
    protocol: Protocol
    port: int | None
    method: str | None = None
    path: str | None = None
    host: str | None = None
    asked_by: str = ""

    @classmethod
    def of(cls, request: Request, destination: str, asked_by: str = "") -> "Operation":
        """Return the operation of `request`, which the proxy of `destination` decided about."""
        source = "" if request.source is None else str(request.source)
        where = request.destination.namespace, _labels_text(request.destination)
        http = request.http
        if http is None:
            return cls(source, destination, *where, "tcp", request.port, asked_by=asked_by)
        path = None if http.path is None else clean(http.path.partition("?")[0], MAXIMUM_PATH)
        host = None if http.host is None else clean(folded_host(http.host), MAXIMUM_HOST)
        method = None if http.method is None else clean(http.method, MAXIMUM_METHOD)
        what = method, path, host
        return cls(source, destination, *where, "http", request.port, *what, asked_by=asked_by)

    @property
    def is_whole(self) -> bool:
        """Return whether nothing of it was folded into `OTHER`."""
        return OTHER not in (self.method, self.path, self.host)

    def folded(self) -> "Operation":
        """Return the operation with what a caller can vary without end replaced by `OTHER`."""
        if self.protocol == "tcp":
            return self
        method = self.method if self.method in _METHODS else OTHER
        return replace(self, method=method, path=OTHER, host=OTHER)

    def workload(self) -> Workload:
        """Return the destination workload."""
        return Workload(self.namespace, parse_labels(self.labels))

    def request(self) -> Request:
        """Return the request that this was, with what was not kept unknown."""
        http = None
        if self.protocol == "http":
            http = Http(method=_known(self.method), path=_known(self.path), host=_known(self.host))
        source = SpiffeId.parse(self.source) if self.source else None
        return Request(source, self.workload(), port=self.port, http=http)


def parse_labels(text: str) -> Mapping[str, str]:
    """Return the labels that `Operation.labels` holds."""
    return cast("Mapping[str, str]", json.loads(text))  # written by _labels_text only


def clean(text: str, longest: int) -> str:
    """Return `text` cut to `longest` characters, with what databases cannot hold replaced."""
    if text.isascii() and len(text) <= longest and "\x00" not in text:
        return text
    cut = text[:longest] + ("…" if len(text) > longest else "")
    return cut.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def _known(text: str | None) -> str | None:
    return None if text == OTHER else text


@lru_cache(maxsize=4096)
def _labels_text(workload: Workload) -> str:
    return json.dumps(dict(sorted(workload.labels)), separators=(",", ":"))
