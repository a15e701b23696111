"""Objects of a cluster, as a test makes them, and a source of policies that holds them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from authz.directory import Texts
from authz.status import SourceStatus
from tests.authz.builders import document, rule, to_yaml

HEADER = {"outputPayloadToHeader": "x-payload"}


@dataclass
class Objects:
    """A live source that holds what it is told to."""

    source: str = "kubernetes"
    held: dict[str, str] = field(default_factory=dict)
    last_good: Texts | None = None

    def put(self, *documents: dict[str, Any]) -> None:
        """Create or replace objects."""
        for each in documents:
            self.held[self._name(each)] = to_yaml(each)

    def remove(self, each: dict[str, Any]) -> None:
        """Delete an object."""
        del self.held[self._name(each)]

    def start(self) -> None:
        """It is there already."""

    def texts(self) -> Texts:
        """Return what it holds, sorted."""
        return tuple(sorted(self.held.items()))

    def accepted(self, texts: Texts) -> None:
        """Remember what is in force."""
        self.last_good = texts

    def status(self) -> SourceStatus:
        """Return that all is well."""
        return SourceStatus(self.source, "kubernetes", len(self.held))

    async def run(self, changed: Callable[[], None]) -> None:
        """Change by the test's word only."""

    def _name(self, each: dict[str, Any]) -> str:
        metadata = each["metadata"]
        return f"{self.source}/{metadata['namespace']}/{each['kind']}/{metadata['name']}"


def tokens(namespace: str, **more: Any) -> dict[str, Any]:
    """Return a RequestAuthentication of one issuer; two of them spoil each other's HEADER."""
    found = {**document("tokens", namespace), "kind": "RequestAuthentication"}
    issuer = f"https://{namespace}.test"
    rules = [{"issuer": issuer, "jwksUri": f"{issuer}/keys", **more}]
    return {**found, "spec": {"jwtRules": rules}}


def denial(namespace: str) -> dict[str, Any]:
    """Return a DENY that everybody but `shop` wants in force."""
    return document(
        f"deny-of-{namespace}", namespace, action="DENY", rules=[rule({"namespaces": ["shop"]})]
    )
