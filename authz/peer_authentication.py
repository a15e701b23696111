"""PeerAuthentication: whether a workload takes connections without mutual TLS, port by port.

Istio's rules: a policy of the root namespace without a selector speaks for the mesh, one without
a selector for its namespace, one with a selector for workloads of its namespace (in the root
namespace it speaks for nobody). The effective mode begins as PERMISSIVE and is overridden by mesh,
namespace and workload, in this order, by each that is not UNSET. Ports are those of the workload.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from authz.workload import Workload


class Mode(StrEnum):
    """What is expected of a connection."""

    UNSET = "UNSET"
    DISABLE = "DISABLE"
    PERMISSIVE = "PERMISSIVE"
    STRICT = "STRICT"


@dataclass(frozen=True)  # without slots: thousands are moved at once (authz.load_memory)
class PeerAuthentication:
    """One document; an empty `selector` selects the namespace, or from the root namespace the mesh.

    `created` (RFC 3339, empty for a file) orders several of one scope: the oldest counts.
    """

    namespace: str
    name: str
    selector: frozenset[tuple[str, str]]
    mode: Mode
    ports: Mapping[int, Mode]
    created: str = field(default="", compare=False)
    source: str = field(default="", compare=False)
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Modes:
    """The effective mode of a workload: of its ports that have their own, and of all others."""

    default: Mode = Mode.PERMISSIVE
    ports: Mapping[int, Mode] = field(default_factory=dict)

    def of(self, port: int | None) -> Mode:
        """Return the mode of `port`; of an unknown port STRICT if any port is."""
        if port is None:
            return Mode.STRICT if Mode.STRICT in self.ports.values() else self.default
        return self.ports.get(port, self.default)


def effective_modes(
    documents: Iterable[PeerAuthentication], workload: Workload, root_namespace: str
) -> Modes:
    """Return the modes of `workload` under `documents`."""
    mesh: list[PeerAuthentication] = []
    namespace: list[PeerAuthentication] = []
    own: list[PeerAuthentication] = []
    for document in documents:
        if document.namespace == root_namespace and not document.selector:
            mesh.append(document)
        elif document.namespace == workload.namespace and document.namespace != root_namespace:
            if not document.selector:
                namespace.append(document)
            elif document.selector <= workload.labels:
                own.append(document)
    mode = Mode.PERMISSIVE
    ports: dict[int, Mode] = {}
    for scope in (mesh, namespace, own):
        if scope:
            oldest = min(scope, key=lambda each: (each.created, each.name))
            mode = mode if oldest.mode is Mode.UNSET else oldest.mode
            ports = dict(oldest.ports) if scope is own else {}
    return Modes(mode, {port: mode if each is Mode.UNSET else each for port, each in ports.items()})
