"""Labels of a workload as one value of a call's metadata.

The server writes them into a filter that calls it; so whichever replica is called knows for which
workload the filter was made. They are the same hints as those of a node (sds/node_hints.py).
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Final

import orjson

from authz.workload import Workload
from sds.node_hints import bounded_labels

LABELS_KEY: Final = "x-meshca-labels"
LONGEST: Final = 16_384


def write_labels(workload: Workload) -> str:
    """Return the labels of `workload` as the value of `LABELS_KEY`."""
    return base64.urlsafe_b64encode(orjson.dumps(dict(sorted(workload.labels)))).decode()


def read_labels(text: str) -> Mapping[str, str] | None:
    """Return the labels that `write_labels` wrote; None for anything else."""
    if len(text) > LONGEST:
        return None
    try:
        labels = orjson.loads(base64.b64decode(text, altchars=b"-_", validate=True))
    except (binascii.Error, orjson.JSONDecodeError, ValueError):
        return None
    if not isinstance(labels, dict) or not all(isinstance(v, str) for v in labels.values()):
        return None
    return labels if bounded_labels(labels) == labels else None
