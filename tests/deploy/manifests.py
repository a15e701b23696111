"""The Kubernetes manifests as plain values, in the order `kubectl apply` takes them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.real_parts import ROOT

DIRECTORY = ROOT / "deploy" / "kubernetes"
SERVICE = DIRECTORY
ADMIN = DIRECTORY / "admin"
SAMPLE = DIRECTORY / "sample"

Manifest = dict[str, Any]


def documents(directory: Path) -> list[Manifest]:
    """Return every document of every file in `directory` itself."""
    texts = (path.read_text() for path in sorted(directory.glob("*.yaml")))
    return [document for text in texts for document in yaml.safe_load_all(text)]


def everything() -> list[Manifest]:
    """Return the service's documents, those of its admin door, then the sample's."""
    return documents(SERVICE) + documents(ADMIN) + documents(SAMPLE)


def find(directory: Path, kind: str, name: str) -> Manifest:
    """Return the one document of `kind` and `name` in `directory`."""
    (found,) = [
        document
        for document in documents(directory)
        if document["kind"] == kind and document["metadata"]["name"] == name
    ]
    return found


def describe(document: Manifest) -> str:
    """Return how to call `document` in a test's name."""
    metadata = document["metadata"]
    return f"{document['kind']}/{metadata.get('namespace', '')}/{metadata['name']}"


def pod_templates() -> list[Manifest]:
    """Return every Deployment as the Pod it would create, complete but for a name's suffix."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **document["spec"]["template"]["metadata"],
                "name": document["metadata"]["name"],
                "namespace": document["metadata"]["namespace"],
            },
            "spec": document["spec"]["template"]["spec"],
        }
        for document in everything()
        if document["kind"] == "Deployment"
    ]


def containers(pod: Manifest) -> Iterator[Manifest]:
    """Yield the containers of `pod`, those that run first included."""
    yield from pod["spec"].get("initContainers", [])
    yield from pod["spec"]["containers"]
