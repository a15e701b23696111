"""Reading PeerAuthentication documents, and settling several of one scope.

Per scope (the mesh, a namespace, one selector) the oldest counts, as in Istio. Files carry no age:
two of one scope that are not both dated are an error.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from authz.annotations import refuse_annotations
from authz.metadata import Metadata, read_selector
from authz.peer_authentication import Mode, PeerAuthentication
from authz.reader import StrictReader
from meshca.errors import Problem
from meshca.yaml_source import Path

KIND: Final = "PeerAuthentication"

_PORT = re.compile(r"[1-9][0-9]{0,4}")
_HIGHEST_PORT = 65535


def read_peer_authentication(
    strict: StrictReader, metadata: Metadata, spec: Mapping[str, Any], root_namespace: str
) -> PeerAuthentication:
    """Return what a PeerAuthentication says, noting what is wrong with it."""
    refuse_annotations(strict, metadata.annotations, KIND)
    selector = read_selector(strict, spec)
    ports = _ports(strict, spec, has_selector=bool(selector))
    if selector and metadata.namespace == root_namespace:
        strict.warn(
            ("spec", "selector"),
            f"in the root namespace {root_namespace} a selector selects nothing; leave it out to "
            "speak for the mesh, or put the document into the namespace of the workload",
        )
    return PeerAuthentication(
        namespace=metadata.namespace,
        name=metadata.name,
        selector=selector,
        mode=_mutual_tls(strict, ("spec", "mtls"), spec["mtls"]) if "mtls" in spec else Mode.UNSET,
        ports=ports,
        created=metadata.created,
        source=strict.document.source,
        line=strict.document.line_of(()),
    )


def _mutual_tls(strict: StrictReader, path: Path, value: Any) -> Mode:
    settings = strict.mapping(path, value, ("mode",))
    if not settings:
        return Mode.UNSET
    mode = settings.get("mode")
    if not isinstance(mode, str) or mode not in list(Mode):
        message = f"{mode!r} is none of {', '.join(Mode)}"
        strict.unknown((*path, "mode"), message, str(mode), list(Mode))
        return Mode.STRICT
    return Mode(mode)


def _ports(strict: StrictReader, spec: Mapping[str, Any], *, has_selector: bool) -> dict[int, Mode]:
    if "portLevelMtls" not in spec:
        return {}
    path: Path = ("spec", "portLevelMtls")
    value = spec["portLevelMtls"]
    if not isinstance(value, dict) or not value:
        strict.problem(path, 'must be a mapping of ports, like "8080": {mode: PERMISSIVE}')
        return {}
    if not has_selector:
        strict.problem(path, "ports are those of a workload; write a selector beside them")
    ports: dict[int, Mode] = {}
    for key, settings in value.items():
        if not _PORT.fullmatch(key) or int(key) > _HIGHEST_PORT:
            strict.problem((*path, key), f"{key!r} is not a port: write a number from 1 to 65535")
            continue
        ports[int(key)] = _mutual_tls(strict, (*path, key), settings)
    return ports


def settle_scopes(documents: Iterable[PeerAuthentication]) -> tuple[list[Problem], list[Problem]]:
    """Return the problems and the warnings of several documents that speak for one scope."""
    scopes: dict[Any, list[PeerAuthentication]] = {}
    for document in documents:
        scopes.setdefault((document.namespace, document.selector), []).append(document)
    problems: list[Problem] = []
    warnings: list[Problem] = []
    for several in scopes.values():
        oldest = min(several, key=lambda each: (each.created, each.name))
        for other in several:
            if other is oldest:
                continue
            if oldest.created and other.created:
                warnings.append(_problem(other, oldest, "is older and counts instead"))
            else:
                problems.append(_problem(other, oldest, "speaks for the same; keep one of them"))
    return problems, warnings


def _problem(other: PeerAuthentication, oldest: PeerAuthentication, why: str) -> Problem:
    where = f"{oldest.namespace}/{oldest.name} ({oldest.source}:{oldest.line})"
    message = f"{other.namespace}/{other.name}: {where} {why}"
    return Problem("spec.selector", message, other.source, other.line, others=(oldest.source,))
