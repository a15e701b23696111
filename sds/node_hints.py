"""What a proxy says of itself in the node of a stream's first message: hints, and no proof.

Labels only ever select which policies a proxy enforces on itself, the validator whom it believes,
and the filters what it is sent; a proxy that lies harms what is behind it, and nobody else.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from envoy.config.core.v3.base_pb2 import Node

from meshca.logs import clip
from sds.contexts import Validator, find_validator

MAXIMUM_LABELS: Final = 64
MAXIMUM_FILTERS: Final = 32
LONGEST_LABEL_NAME: Final = 317
LONGEST_LABEL_VALUE: Final = 63
"""What Kubernetes takes for a label: a name of 253 and 63 characters about a slash, and a value."""
_LONGEST_ID: Final = 128


@dataclass(frozen=True, slots=True)
class NodeHints:
    """An id for the logs, labels, a validator of choice, and the names of the proxy's filters.

    A proxy that names no filters has those of the first bootstraps.
    """

    node_id: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    validator: Validator | None = None
    filters: frozenset[str] = frozenset()


def bounded_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the first of `labels`, without those that Kubernetes would not take for their length.

    They are remembered with what is compiled for them, so whoever writes them does not choose how
    much that is.
    """
    fitting = (
        (name, value)
        for name, value in labels.items()
        if len(name) <= LONGEST_LABEL_NAME and len(value) <= LONGEST_LABEL_VALUE
    )
    return dict(itertools.islice(fitting, MAXIMUM_LABELS))


def read_hints(node: Node) -> NodeHints:
    """Return what `node` says; what it says in another form is left out."""
    fields = node.metadata.fields
    labels = list(fields["labels"].struct_value.fields.items()) if "labels" in fields else []
    filters = list(fields["filters"].list_value.values) if "filters" in fields else []
    return NodeHints(
        node_id=clip(node.id, _LONGEST_ID),
        labels=bounded_labels({k: v.string_value for k, v in labels if v.string_value}),
        validator=find_validator(fields["validator"].string_value)
        if "validator" in fields
        else None,
        filters=frozenset(each.string_value for each in filters[:MAXIMUM_FILTERS]),
    )
