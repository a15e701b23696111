"""A prepared OpenBao, files with tokens, and upstreams that stand on them."""

import subprocess
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from ca.upstream.provision import Upstream
from ca.upstream.vault.build import build_session, build_vault
from ca.upstream.vault.patience import Patience
from ca.upstream.vault.session import Session
from ca.upstream.vault.upstream import VaultUpstream
from meshca.clock import SystemClock
from meshca.metrics import Metrics
from meshca.settings_vault import Vault, VaultTransit
from tests.builders import TRUST_DOMAIN
from tests.fakes import FakeClock
from tests.openbao import OpenBao
from tests.real_parts import ROOT

SCRIPT = ROOT / "deploy" / "vault" / "setup.sh"
WEEK = timedelta(days=7)
ALL = {"PKI_MOUNT": "pki", "KEY_NAME": "meshca", "AT_REST_KEY": "meshca-keys"}
"""What the script is told by every test that shares the server's one policy."""

NO_TIME = timedelta(0)


@dataclass(frozen=True)
class Prepared:
    """A server after the set-up script, and the `upstream:` that the script printed."""

    server: OpenBao
    upstream: dict[str, Any]

    def token(self, **changes: Any) -> str:
        """Return a fresh token under our policy, as the script says to make it."""
        wanted = {"policies": ["meshca"], "no_default_policy": True, "no_parent": True}
        answer = self.server.call("POST", "auth/token/create", {**wanted, "ttl": "1h", **changes})
        return str(answer["auth"]["client_token"])

    def wrapped_secret_id(self) -> str:
        """Return a wrapping token of a secret id, as the script says to make it."""
        path, headers = "auth/approle/role/meshca/secret-id", {"X-Vault-Wrap-TTL": "600"}
        answer = self.server.call("POST", path, {}, headers=headers)
        return str(answer["wrap_info"]["token"])

    def secret_id(self) -> str:
        """Return a secret id as it is."""
        answer = self.server.call("POST", "auth/approle/role/meshca/secret-id", {})
        return str(answer["data"]["secret_id"])


def prepare(server: OpenBao, **environment: str) -> Prepared:
    """Run the set-up script and return what it printed."""
    done = subprocess.run(
        [str(SCRIPT)],
        env={**server.environment, "TRUST_DOMAIN": TRUST_DOMAIN, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Prepared(server, yaml.safe_load(done.stdout)["upstream"])


def secret_file(path: Path, content: str) -> Path:
    """Write a file that only its owner reads."""
    path.write_text(content + "\n")
    path.chmod(0o600)
    return path


def settings(values: dict[str, Any], directory: Path) -> Vault:
    """Return the settings of an upstream, with paths relative to `directory`."""
    model = VaultTransit if values["kind"] == "vault_transit" else Vault
    return model.model_validate(values, context={"directory": directory})


def token_settings(address: str, directory: Path, **changes: Any) -> Vault:
    """Return settings with a token file, for the mount `pki`."""
    values: dict[str, Any] = {
        "kind": "vault",
        "address": address,
        "auth": {"method": "token", "token_file": "token"},
    }
    return settings({**values, **changes}, directory)


@dataclass
class World:
    """An upstream with its surroundings; waiting moves the clock and takes no time."""

    settings: Vault
    clock: FakeClock = field(default_factory=lambda: FakeClock(at=SystemClock().now()))
    metrics: Metrics = field(default_factory=Metrics)
    waited: list[float] = field(default_factory=list)

    @property
    def patience(self) -> Patience:
        """Return a patience that does not really wait."""
        return Patience(clock=self.clock, wait=self.wait)

    def wait(self, seconds: float) -> None:
        """Let time pass on our clock."""
        self.waited.append(seconds)
        self.clock.advance(timedelta(seconds=seconds))

    def now(self) -> datetime:
        """Return what our clock says."""
        return self.clock.now()

    def upstream(self, **changes: Any) -> Upstream:
        """Return the upstream that the settings name."""
        return build_vault(
            self.settings,
            trust_domain=TRUST_DOMAIN,
            lifetime=WEEK,
            clock=self.clock,
            metrics=self.metrics,
            **{"patience": self.patience, **changes},
        )

    def hasty(self, seconds: float = 0.3) -> VaultUpstream:
        """Return an upstream that waits less long for each answer."""
        upstream = self.upstream()
        assert isinstance(upstream, VaultUpstream)
        connection = upstream.vault.session.connection
        upstream.vault.session.connection = replace(connection, call_seconds=seconds)
        upstream.vault.view.connection = upstream.vault.session.connection
        return upstream

    def session(self) -> Session:
        """Return a session alone."""
        return build_session(
            self.settings, clock=self.clock, metrics=self.metrics, patience=self.patience
        )

    def failures(self, step: str) -> float:
        """Return how often a step has failed."""
        return (
            self.metrics.registry.get_sample_value("meshca_upstream_failures_total", {"step": step})
            or 0.0
        )
