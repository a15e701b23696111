"""Lists and watches of an API server, as plain values, with a bound on everything that arrives.

Blocking: call it in a thread. What is asked for can be missing (`KindMissing`: the API server does
not have the kind), and a watch can be too old to go on (`VersionGone`: list again). Everything
else that can go wrong is one of `meshca.api_server.FAILURES`.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from kubernetes.client.exceptions import ApiException

from meshca.api_server import TIMEOUT_SECONDS, ApiServerConnection, read_limited

MAXIMUM_PAGE_BYTES: Final = 64 * 1024 * 1024
MAXIMUM_EVENT_BYTES: Final = 16 * 1024 * 1024
PAGE: Final = 500

_OK: Final = 200
_NOT_FOUND: Final = 404
_GONE: Final = 410
_READ_BYTES: Final = 65_536
_JSON: Final = "application/json"
_METADATA: Final = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"

Json = dict[str, Any]


class KindMissing(Exception):
    """The API server does not have this kind: its definition is not installed, or was deleted."""


class VersionGone(Exception):
    """The version to go on from is no longer known; everything must be listed again."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind in all namespaces: `/apis/GROUP/VERSION/PLURAL`, or its metadata alone."""

    path: str
    is_metadata_only: bool = False

    def accept(self, kind: str = "") -> str:
        """Return the Accept header; `kind` is `List` for a list."""
        return _METADATA.format(kind) if self.is_metadata_only else _JSON


def list_pages(connection: ApiServerConnection, resource: Resource) -> Iterator[Json]:
    """Yield the pages of a consistent list of `resource`.

    Raises KindMissing, VersionGone (the list took too long) and one of FAILURES.
    """
    after = ""
    while True:
        query = {"limit": str(PAGE), **({"continue": after} if after else {})}
        page = _get(connection, resource.path, query, resource.accept("List"))
        yield page
        after = page["metadata"].get("continue") or ""
        if not after:
            return


def creatable(connection: ApiServerConnection, group_version: str) -> frozenset[str]:
    """Return the plurals of `group_version` that can be created now.

    That of a definition on its way out cannot: its objects are being deleted with it.
    Raises one of FAILURES.
    """
    try:
        answer = _get(connection, f"/apis/{group_version}", {}, _JSON)
    except KindMissing:
        return frozenset()
    return frozenset(
        str(each["name"]) for each in answer["resources"] if "create" in each.get("verbs", ())
    )


class Watch:
    """One watch request: iterate over its events, then `close`."""

    def __init__(
        self, connection: ApiServerConnection, resource: Resource, version: str,
        *, seconds: float, silence_seconds: float,
    ) -> None:  # fmt: skip
        """Open it from `version`; it ends after `seconds`, or if nothing comes for a while.

        Raises KindMissing, VersionGone and one of FAILURES.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(int(seconds)),
        }
        timeout = (TIMEOUT_SECONDS, silence_seconds)
        self._response = _request(connection, resource.path, query, resource.accept(), timeout)

    def __iter__(self) -> Iterator[Json]:
        """Yield each event; raises VersionGone, ApiException for an error event, and FAILURES."""
        buffer = bytearray()
        for chunk in self._response.stream(_READ_BYTES, decode_content=False):
            buffer += chunk
            if b"\n" in chunk:
                *lines, rest = bytes(buffer).split(b"\n")
                buffer = bytearray(rest)
                yield from (_event(line) for line in lines if line.strip())
            if len(buffer) > MAXIMUM_EVENT_BYTES:
                raise ValueError(f"an event is larger than {MAXIMUM_EVENT_BYTES} bytes")

    def interrupt(self) -> None:
        """End the iteration, from any thread."""
        with contextlib.suppress(OSError, RuntimeError, ValueError):  # it has ended already
            self._response.shutdown()

    def close(self) -> None:
        """Give the connection up."""
        self._response.close()


def _event(line: bytes) -> Json:
    event: Json = orjson.loads(line)
    if event["type"] == "ERROR":
        status: Mapping[str, Any] = event["object"]
        if status.get("code") == _GONE:
            raise VersionGone(str(status.get("message")))
        raise ApiException(status=status.get("code"), reason=str(status.get("message"))[:200])
    return event


def _get(connection: ApiServerConnection, path: str, query: Mapping[str, str], accept: str) -> Json:
    timeout = (TIMEOUT_SECONDS, TIMEOUT_SECONDS)
    body = read_limited(_request(connection, path, query, accept, timeout), MAXIMUM_PAGE_BYTES)
    answer: Json = orjson.loads(body)
    return answer


def _request(
    connection: ApiServerConnection,
    path: str,
    query: Mapping[str, str],
    accept: str,
    timeout: tuple[float, float],
) -> Any:
    """Return the unread response to a GET, which is good."""
    client: Any = connection.client()
    parts = client.param_serialize(
        "GET", path, query_params=list(query.items()), header_params={"Accept": accept},
        auth_settings=["BearerToken"],
    )  # fmt: skip
    response = client.call_api(*parts, _request_timeout=timeout).response
    if response.status == _OK:
        return response
    response.drain_conn()
    response.release_conn()
    if response.status == _NOT_FOUND:
        raise KindMissing(path)
    if response.status == _GONE:
        raise VersionGone(path)
    raise ApiException(status=response.status, reason=response.reason)
