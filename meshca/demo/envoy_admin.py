"""What an Envoy says of itself, read from its admin interface."""

from typing import Any, Self

import httpx


class EnvoyAdmin:
    """Reads the admin interface on 127.0.0.1:`port`."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(timeout=5.0, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def answers(self) -> bool:
        """Return whether the admin interface is there at all."""
        try:
            self.client.get(f"{self.url}/ready")
        except httpx.TransportError:
            return False
        return True

    def is_ready(self) -> bool:
        """Return whether every listener has its secrets and takes connections."""
        try:
            return self.client.get(f"{self.url}/ready").status_code == 200
        except httpx.TransportError:
            return False

    def certs(self) -> list[dict[str, Any]]:
        """Return the certificates Envoy has loaded, with their chains, as /certs has them."""
        certificates: list[dict[str, Any]] = self._json("/certs")["certificates"]
        return certificates

    def leaves(self) -> list[dict[str, Any]]:
        """Return the leaf certificates that Envoy presents."""
        return [leaf for each in self.certs() for leaf in each.get("cert_chain", [])[:1]]

    def serials(self) -> set[str]:
        """Return the serials of the SVIDs loaded now: hex, lowercase, no leading zeros."""
        return {str(leaf["serial_number"]).lstrip("0").lower() for leaf in self.leaves()}

    def identities(self) -> set[str]:
        """Return the SPIFFE IDs of the SVIDs loaded now."""
        names = [name for leaf in self.leaves() for name in leaf["subject_alt_names"]]
        return {str(name["uri"]) for name in names if "uri" in name}

    def config_dump(self, resource: str = "dynamic_active_secrets") -> list[dict[str, Any]]:
        """Return the resources of one kind that Envoy holds, keys redacted."""
        configs: list[dict[str, Any]] = self._json(f"/config_dump?resource={resource}").get(
            "configs", []
        )
        return configs

    def stats(self, pattern: str = "") -> dict[str, int]:
        """Return the counters and gauges whose name matches the regular expression `pattern`."""
        answer = self._json(f"/stats?format=json&filter={pattern}")
        return {each["name"]: int(each["value"]) for each in answer["stats"] if "name" in each}

    def _json(self, path: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.get(self.url + path).raise_for_status().json()
        return answer
