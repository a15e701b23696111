"""The JSON that docs/cli.md shows is the JSON that commands print: the same keys everywhere."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding

from admin.staging_views import approval_json
from admin.views import proxy_json
from authz.staging.standing import Approval, Approver
from tests.admin.world import proxy
from tests.builders import make_pki
from tests.end_to_end.server import RunningServer, allow, spiffe_id
from tests.fakes import FakeClock
from tests.meshca.cli import meshca
from tests.meshca.test_cli_root import NOW_ROOT, PASSPHRASE, pipe
from tests.meshca.test_cli_server import issue
from tests.real_parts import ROOT

_SECTION = re.compile(r"^## (meshca [\w -]+)\n(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
_JSON = re.compile(r"^```json\n(.*?)^```", re.DOTALL | re.MULTILINE)


def documented() -> dict[str, Any]:
    """Return the JSON shown for each command."""
    sections = _SECTION.findall((ROOT / "docs" / "cli.md").read_text())
    blocks = {command: _JSON.search(text) for command, text in sections}
    return {command: json.loads(found[1]) for command, found in blocks.items() if found}


DOCUMENTED = documented()


def shape(value: Any) -> Any:
    """Return the keys of `value`, all the way down; a list has the shape of its first item."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()} or "an object"
    if isinstance(value, list):
        return [shape(value[0])] if value else "a list"
    return "a value"


def agree(shown: Any, printed: Any) -> bool:
    """Return whether two shapes agree; an empty list or object agrees with any, null too."""
    if isinstance(shown, dict) and isinstance(printed, dict):
        return shown.keys() == printed.keys() and all(agree(shown[k], printed[k]) for k in shown)
    if isinstance(shown, list) and isinstance(printed, list):
        return agree(shown[0], printed[0])
    return True


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("shapes")) as server:
        issued = issue(server, tmp_path_factory.mktemp("token"), server.token("orders"))
        assert issued.status == 0, issued.err
        server.wait_for_records("orders")
        why = ("--reason", "certificateHold", "--why", "test")
        server.meshca("svid", "revoke", "--service-account", "orders", *why)
        server.meshca("svid", "ban", "--node", "worker-7", "--why", "test")
        oncall = tmp_path_factory.mktemp("stage") / "oncall.yaml"
        oncall.write_text(yaml.safe_dump(allow("oncall", "orders")))
        server.meshca("authz", "stage", str(oncall), "--reason", "test")
        server.meshca("authz", "bypass", "shop/orders", "--for", "5m", "--reason", "test")
        yield server


CHECK = (
    *("--source", spiffe_id("frontend"), "--destination", "shop/orders"),
    *("--method", "GET", "--path", "/"),
)
COMMANDS: dict[str, tuple[str, ...]] = {
    "meshca config check": (),
    "meshca status": (),
    "meshca whoami": (),
    "meshca ca show": (),
    "meshca svid list": (),
    "meshca svid revoke": ("--spiffe-id", "spiffe://example.org/meshca/server", "--dry-run"),
    "meshca svid revocation": ("REVOKED",),
    "meshca svid revocations": (),
    "meshca svid bans": (),
    "meshca svid renew": ("spiffe://example.org/meshca/server",),
    "meshca federation add": (
        *("partner.test", "--endpoint", "https://127.0.0.1:1/", "--reason", "test"),
        *("--bundle", "BUNDLE"),
    ),
    "meshca audit query": (),
    "meshca audit show": ("0",),
    "meshca audit verify": (),
    "meshca audit anchors": (),
    "meshca audit retention": (),
    "meshca audit hold": ("--namespace", "shop", "--since", "1h", "--reason", "test"),
    "meshca audit holds": (),
    "meshca audit backup": ("BACKUP",),
    "meshca audit identity": (spiffe_id("orders"),),
    "meshca audit certificate": ("ISSUED",),
    "meshca audit at": ("1s", "--destination", "shop/orders"),
    "meshca audit verify-report": ("REPORT", "--key", "LOG_KEY"),
    "meshca audit checkpoint": (),
    "meshca audit verify-growth": ("GROWTH", "--old", "KEPT", "--key", "LOG_KEY"),
    "meshca audit verify-export": ("EXPORT", "--key", "LOG_KEY"),
    "meshca audit verify-proof": ("PROOF", "--key", "LOG_KEY"),
    "meshca audit keys": (),
    "meshca audit rotate-key": (),
    "meshca authz apply": ("POLICIES", "--reason", "test"),
    "meshca authz get": (),
    "meshca authz history": (),
    "meshca authz rollback": ("1", "--reason", "test", "--dry-run"),
    "meshca authz delete": ("shop/frontend-orders", "--reason", "test", "--dry-run"),
    "meshca authz promote": ("--to", "shadow", "--reason", "test"),
    "meshca authz stage": ("show",),
    "meshca authz decisions": (),
    "meshca authz withdraw": ("--reason", "test"),
    "meshca authz bypass": (),
    "meshca authz check": CHECK,
    "meshca authz diff": ("EMPTY", "POLICIES", "--trust-domain", "example.org"),
    "meshca authz who-can": ("shop/orders",),
    "meshca authz reach": (spiffe_id("frontend"), "shop/orders"),
    "meshca authz explain": ("shop/orders",),
    "meshca authz test": ("TESTS",),
    "meshca authz replay": ("POLICIES",),
    "meshca authz suggest": (),
    "meshca authz findings": (),
    "meshca root ceremony": ("PLAN", "--passphrase-fd", "PASSPHRASE"),
    "meshca root request": (
        *("--trust-domain", "example.org", "--no-passphrase"),
        *("--key", "KEY", "--csr", "CSR"),
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_json_has_the_documented_keys(
    command: str, server: RunningServer, tmp_path: Path
) -> None:
    policies = tmp_path / "policies.yaml"
    policies.write_text(yaml.safe_dump(allow("frontend", "orders")))
    plan = tmp_path / "plan.yaml"
    plan.write_text(NOW_ROOT)
    files = {"POLICIES": policies, "PLAN": plan, "KEY": tmp_path / "key", "CSR": tmp_path / "csr"}
    values: dict[str, object] = {**files, "BUNDLE": tmp_path / "bundle.pem"}
    values["BACKUP"] = tmp_path / "audit.gz"
    values["EMPTY"] = tmp_path / "empty.yaml"
    (tmp_path / "empty.yaml").write_text("")
    values["TESTS"] = _policy_tests(tmp_path, policies)
    partner = make_pki(trust_domain="partner.test").root
    (tmp_path / "bundle.pem").write_bytes(partner.public_bytes(Encoding.PEM))
    if "REVOKED" in COMMANDS[command]:
        values["REVOKED"] = server.query("svid", "revocations")["revocations"][0]["serial"]
    if "PROOF" in COMMANDS[command]:
        values["PROOF"], values["LOG_KEY"] = _proof(server, tmp_path)
    if "ISSUED" in COMMANDS[command]:
        values["ISSUED"] = server.query("svid", "list")["svids"][0]["serial"]
    if "EXPORT" in COMMANDS[command]:
        values["EXPORT"], values["LOG_KEY"] = _export(server, tmp_path)
    if "REPORT" in COMMANDS[command]:
        values["REPORT"], values["LOG_KEY"] = _report(server, tmp_path)
    if "GROWTH" in COMMANDS[command]:
        values["KEPT"], values["GROWTH"], values["LOG_KEY"] = _growth(server, tmp_path)
    if "PASSPHRASE" in COMMANDS[command]:
        values["PASSPHRASE"] = pipe(PASSPHRASE)
    given = [str(values.get(argument, argument)) for argument in COMMANDS[command]]
    environment = {"MESHCA_CONFIG": str(server.config)}
    result = meshca(*command.split()[1:], *given, "-o", "json", environment=environment)
    assert result.status in (0, 1), result.err
    printed = result.data
    assert agree(shape(DOCUMENTED[command]), shape(printed)), (DOCUMENTED[command], printed)


def _policy_tests(directory: Path, policies: Path) -> Path:
    """Return a file of tests of `policies`, one of which fails."""
    case = {"name": "x", "request": {"destination": {"namespace": "shop"}}, "expect": "allow"}
    tests = {"trust_domain": "example.org", "policies": [policies.name], "cases": [case]}
    path = directory / "tests.yaml"
    path.write_text(yaml.safe_dump(tests))
    return path


def _proof(server: RunningServer, directory: Path) -> tuple[Path, str]:
    """Return a file that proves the first entry, and the key that verifies it."""
    path = directory / "proof"
    environment = {"MESHCA_CONFIG": str(server.config)}
    path.write_text(meshca("audit", "prove", "0", environment=environment).out)
    return path, server.query("audit", "keys")["keys"][0]["key"]


def _growth(server: RunningServer, directory: Path) -> tuple[Path, Path, str]:
    """Return a kept checkpoint, the proof that the log grew from it, and the key that verifies."""
    environment = {"MESHCA_CONFIG": str(server.config)}
    kept, growth = directory / "kept", directory / "growth"
    kept.write_text(meshca("audit", "checkpoint", environment=environment).out)
    growth.write_text(meshca("audit", "prove-growth", str(kept), environment=environment).out)
    return kept, growth, server.query("audit", "keys")["keys"][0]["key"]


def _export(server: RunningServer, directory: Path) -> tuple[Path, str]:
    """Return an export of the log, and the key that verifies it."""
    path, environment = directory / "export", {"MESHCA_CONFIG": str(server.config)}
    meshca("audit", "export", "-o", str(path), environment=environment)
    return path, server.query("audit", "keys")["keys"][0]["key"]


def _report(server: RunningServer, directory: Path) -> tuple[Path, str]:
    """Return the directory of a report, and the key that verifies it."""
    path, environment = directory / "report", {"MESHCA_CONFIG": str(server.config)}
    meshca("audit", "report", "--from", "1h", "-d", str(path), environment=environment)
    return path, server.query("audit", "keys")["keys"][0]["key"]


def test_a_proxy_has_the_documented_keys() -> None:
    printed = {"proxies": [proxy_json(proxy(FakeClock()))]}
    assert agree(shape(DOCUMENTED["meshca proxies"]), shape(printed))


def test_an_approval_has_the_documented_keys() -> None:
    now = FakeClock().now()
    approver = Approver(actor="uid:1002", at=now, reason="yes")
    approval = Approval(
        policy="shop/oncall",
        digest="9d",
        why="INC-7",
        needed=1,
        expires=now,
        last=1,
        approvers=(approver,),
    )
    printed = {"policy": approval_json(approval, now), "bypass": None}
    assert agree(shape(DOCUMENTED["meshca authz approve"]), shape(printed))


def test_every_documented_shape_is_compared() -> None:
    offline = {"meshca audit restore", "meshca audit verify-index"}
    elsewhere = {"meshca proxies", "meshca authz approve", *offline}
    assert set(DOCUMENTED) == {*COMMANDS, *elsewhere}


def test_a_missing_key_would_be_seen() -> None:
    assert not agree(shape({"a": [{"b": 1}]}), shape({"a": [{"c": 1}]}))
