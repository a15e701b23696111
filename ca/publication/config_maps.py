"""Our bundle as a ConfigMap in namespaces of a cluster, for workloads to mount.

    data:
      bundle.pem    the roots, PEM
      bundle.json   the same as SPIFFE JWKS, with its sequence

One that is missing is created, one that somebody changed is corrected; keys of others are left
alone, and so is the ConfigMap of a namespace that is selected no longer. Namespaces on their way
out are skipped. One namespace that refuses does not hold up the next, but an API server that does
not answer ends the round.

Rights: `create` on ConfigMaps, `get` and `update` on those of our name; with a selector `list` on
those of our name too (the field selector `metadata.name` is what lets a role say so), and `list`
on namespaces.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from ca.bundle import TrustBundle
from ca.publication.place import Published, explain
from meshca.api_server import TIMEOUT_SECONDS, ApiServerConnection
from meshca.settings import ConfigMapTarget

PEM_KEY: Final = "bundle.pem"
JSON_KEY: Final = "bundle.json"
LABELS: Final = {"app.kubernetes.io/managed-by": "meshca"}
_PAGE: Final = 500
_SHOWN_PROBLEMS: Final = 5
_NOT_FOUND: Final = 404


@dataclass(frozen=True, slots=True)
class ConfigMaps:
    """The ConfigMaps of one cluster; `namespaces` or `selector` of `target` say where."""

    cluster: str
    connection: ApiServerConnection
    target: ConfigMapTarget
    kind: str = "config_map"

    def publish(self, bundle: TrustBundle) -> Published:
        """Make the ConfigMap of every selected namespace hold `bundle`.

        Raises one of `meshca.api_server.FAILURES` when the API server cannot be asked at all.
        """
        api: Any = client.CoreV1Api(self.connection.client())  # its objects may lack any part
        wanted = {PEM_KEY: bundle.pem().decode(), JSON_KEY: bundle.spiffe_json().decode()}
        try:
            if self.target.namespaces:
                return self._correct(api, self.target.namespaces, partial(self._read, api), wanted)
            existing = self._list(api)
            return self._correct(api, self._selected(api), existing.get, wanted)
        except ApiException as error:
            self.connection.note(error)
            raise

    def _list(self, api: Any) -> dict[str, Any]:
        """Return every ConfigMap of our name, by namespace."""
        field = f"metadata.name={self.target.name}"
        pages = _pages(api.list_config_map_for_all_namespaces, field_selector=field)
        return {item.metadata.namespace: item for item in pages}

    def _selected(self, api: Any) -> list[str]:
        pages = _pages(api.list_namespace, label_selector=self.target.selector)
        return [item.metadata.name for item in pages if item.status.phase == "Active"]

    def _read(self, api: Any, namespace: str) -> Any:
        try:
            return api.read_namespaced_config_map(
                self.target.name, namespace, _request_timeout=TIMEOUT_SECONDS
            )
        except ApiException as error:
            if error.status != _NOT_FOUND:
                raise
            return None

    def _correct(
        self,
        api: Any,
        namespaces: Sequence[str],
        find: Callable[[str], Any],
        wanted: Mapping[str, str],
    ) -> Published:
        written, problems = 0, []
        for namespace in namespaces:
            try:
                existing = find(namespace)
                if existing is None or not _holds(existing, wanted):
                    self._write(api, namespace, existing, wanted)
                    written += 1
            except ApiException as error:
                self.connection.note(error)
                problems.append(f"namespace {namespace}: {explain(error)}")
        return Published(written, len(problems), tuple(problems[:_SHOWN_PROBLEMS]))

    def _write(
        self,
        api: Any,
        namespace: str,
        existing: Any,
        wanted: Mapping[str, str],
    ) -> None:
        if existing is None:
            metadata = client.V1ObjectMeta(name=self.target.name, labels=dict(LABELS))
            body = client.V1ConfigMap(metadata=metadata, data=dict(wanted))
            api.create_namespaced_config_map(namespace, body, _request_timeout=TIMEOUT_SECONDS)
            return
        existing.metadata.labels = {**(existing.metadata.labels or {}), **LABELS}
        existing.data = {**(existing.data or {}), **wanted}
        api.replace_namespaced_config_map(  # refused if it changed since it was read
            self.target.name, namespace, existing, _request_timeout=TIMEOUT_SECONDS
        )


def _pages(listing: Callable[..., Any], **selectors: str) -> Iterator[Any]:
    """Yield every item of a list, page by page."""
    after: str | None = None
    while True:
        page = listing(limit=_PAGE, _continue=after, _request_timeout=TIMEOUT_SECONDS, **selectors)
        yield from page.items
        after = page.metadata._continue
        if not after:
            return


def _holds(existing: Any, wanted: Mapping[str, str]) -> bool:
    data, labels = existing.data or {}, existing.metadata.labels or {}
    return wanted.items() <= data.items() and LABELS.items() <= labels.items()
