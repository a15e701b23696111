"""Reading what documents of all kinds have in common: metadata, selector and targets.

What an API server adds to a document that is read back from it is no policy and is ignored.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from authz.reader import StrictReader, hint
from meshca.yaml_source import Path

MAXIMUM_TARGETS: Final = 16
GATEWAY_GROUP: Final = "gateway.networking.k8s.io"

_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_LONGEST_NAME = 253
_LABEL_NAME = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_IGNORED = (
    *("labels", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"),
    *("ownerReferences", "finalizers", "selfLink", "deletionTimestamp"),
    *("deletionGracePeriodSeconds", "generateName"),
)
_OTHER_TARGETS: Final = {
    "Service": "select its workloads with spec.selector",
    "ServiceEntry": "select the workloads behind it with spec.selector",
    "GatewayClass": "name each Gateway, or select its workloads with spec.selector",
}


@dataclass(frozen=True, slots=True)
class Metadata:
    """Where a document lives, and what its annotations say; `created` is RFC 3339 or empty."""

    namespace: str
    name: str
    annotations: Mapping[str, Any]
    created: str


@dataclass(frozen=True, slots=True)
class Target:
    """Which workloads a document selects: by labels, or those that implement a Gateway."""

    selector: frozenset[tuple[str, str]]
    gateways: frozenset[str] = frozenset()


def read_metadata(strict: StrictReader, value: Any) -> Metadata:
    """Return the metadata of a document, noting what is wrong with it."""
    path: Path = ("metadata",)
    metadata = strict.mapping(path, value, ("name", "namespace", "annotations"), ignored=_IGNORED)
    if metadata is None:
        return Metadata("", "", {}, "")
    annotations = metadata.get("annotations")
    if not isinstance(annotations, dict | None):
        strict.problem((*path, "annotations"), "must be a mapping")
        annotations = None
    return Metadata(
        namespace=_name(strict, metadata, "namespace", _NAMESPACE),
        name=_name(strict, metadata, "name", _NAME),
        annotations=annotations or {},
        created=_created(strict, metadata.get("creationTimestamp")),
    )


def _name(
    strict: StrictReader, metadata: Mapping[str, Any], key: str, form: re.Pattern[str]
) -> str:
    path: Path = ("metadata", key)
    value = metadata.get(key)
    if value is None:
        strict.problem(path, f"missing: write the {key}; it is never guessed")
        return ""
    if not isinstance(value, str) or len(value) > _LONGEST_NAME or not form.fullmatch(value):
        strict.problem(path, f"{value!r} is not the {key} of a Kubernetes object")
        return ""
    return value


def _created(strict: StrictReader, value: Any) -> str:
    if value is None:
        return ""
    time = parse_time(value)
    if time is None:
        strict.problem(("metadata", "creationTimestamp"), f"{value!r} is not a time (RFC 3339)")
        return ""
    return time.isoformat()


def parse_time(value: Any) -> datetime | None:
    """Return the time, in UTC, that `value` (RFC 3339 with its offset) names; None for others."""
    if not isinstance(value, str) or len(value) > 40 or "T" not in value:
        return None
    try:
        time = datetime.fromisoformat(value)
        return None if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def read_selector(strict: StrictReader, spec: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """Return the labels that `spec.selector` demands; none where there is no selector."""
    path: Path = ("spec", "selector")
    if "selector" not in spec:
        return frozenset()
    selector = strict.mapping(path, spec["selector"], ("matchLabels",))
    labels = None if selector is None else selector.get("matchLabels")
    if not isinstance(labels, dict) or not labels:
        advice = "leave selector out to select every workload of the namespace"
        strict.problem(path, f"has no labels in matchLabels; {advice}")
        return frozenset()
    return frozenset(
        (key, _label(strict, (*path, "matchLabels", key), labels[key])) for key in labels
    )


def _label(strict: StrictReader, path: Path, value: Any) -> str:
    if not _LABEL_NAME.fullmatch(str(path[-1])):
        strict.problem(path, f"{path[-1]!r} is not the name of a label")
    text = strict.text(path, value)
    if text is None or _LABEL_VALUE.fullmatch(text):
        return text or ""
    strict.problem(path, f"{text!r} is not the value of a label; there are no wildcards")
    return ""


def read_target(strict: StrictReader, spec: Mapping[str, Any], namespace: str) -> Target:
    """Return whom a document of `namespace` selects: by selector, targetRef or targetRefs."""
    said = [name for name in ("selector", "targetRef", "targetRefs") if name in spec]
    if len(said) > 1:
        strict.problem(("spec", said[1]), f"cannot stand beside {said[0]}; write one of them")
    gateways: set[str] = set()
    if "targetRef" in spec:
        gateways.add(_gateway(strict, ("spec", "targetRef"), spec["targetRef"], namespace))
    if "targetRefs" in spec:
        path: Path = ("spec", "targetRefs")
        entries = strict.entries(path, spec["targetRefs"], at_most=MAXIMUM_TARGETS)
        gateways |= {_gateway(strict, (*path, i), e, namespace) for i, e in enumerate(entries)}
    return Target(read_selector(strict, spec), frozenset(gateways))


def _gateway(strict: StrictReader, path: Path, value: Any, namespace: str) -> str:
    """Return the name of the Gateway that a target reference names."""
    reference = strict.mapping(path, value, ("group", "kind", "name", "namespace"))
    if reference is None:
        return ""
    kind, group = reference.get("kind"), reference.get("group", "")
    if isinstance(kind, str) and kind in _OTHER_TARGETS:
        advice = _OTHER_TARGETS[kind]
        strict.problem((*path, "kind"), f"{kind} is not a target of policy here; {advice}")
    elif kind != "Gateway":
        near = hint(str(kind), ("Gateway",))
        strict.problem((*path, "kind"), f"{kind!r} is not a target: write Gateway{near}")
    elif group != GATEWAY_GROUP:
        strict.problem((*path, "group"), f"the group of a Gateway is {GATEWAY_GROUP}")
    if reference.get("namespace", namespace) != namespace:
        advice = "put the policy into the namespace of the Gateway"
        strict.problem((*path, "namespace"), f"a target is of the same namespace; {advice}")
    return _name(strict, {"name": reference.get("name")}, "name", _NAME)
