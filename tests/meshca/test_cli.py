"""The command line without a server: init, config, tokens, bootstraps, offline checks."""

import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import jwt
import pytest

from meshca.settings import load
from tests.meshca.cli import Result, meshca

POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  action: ALLOW
  rules:
    - from: [{source: {principals: [example.org/ns/shop/sa/frontend]}}]
      to: [{operation: {methods: [GET]}}]
"""
FRONTEND = "spiffe://example.org/ns/shop/sa/frontend"


def made(tmp_path: Path) -> Path:
    directory = tmp_path / "d"
    result = meshca("init", str(directory), "--trust-domain", "example.org")
    assert result.status == 0, result.err
    return directory


def test_help_answers_at_once_and_from_anywhere() -> None:
    script = Path(sys.executable).with_name("meshca")
    code = "import sys; sys.argv = ['meshca', '--help']; from meshca.cli import main; main()"
    heavy = {"sqlalchemy", "cryptography", "grpc", "fastapi", "pydantic", "httpx", "alembic"}
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code],
        capture_output=True, text=True, check=True, cwd="/",
    )  # fmt: skip
    assert "svid" in shown.stdout
    imported = {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines()}
    assert imported & heavy == set()
    assert (
        subprocess.run([script, "--help"], cwd="/", check=False, capture_output=True).returncode
        == 0
    )


COMMANDS = [
    *(("init",), ("serve",), ("status",), ("proxies",), ("demo",)),
    *(("config", "check"), ("dev", "token"), ("envoy", "bootstrap"), ("bundle", "show")),
    *(("svid", "list"), ("svid", "show"), ("svid", "issue"), ("svid", "renew")),
    *(("svid", "revoke"), ("svid", "unrevoke"), ("svid", "revocation"), ("svid", "revocations")),
    *(("svid", "ban"), ("svid", "unban"), ("svid", "bans")),
    *(("authz", "get"), ("authz", "apply"), ("authz", "check")),
    *(("audit", "query"), ("audit", "verify"), ("root", "ceremony"), ("root", "request")),
    ("root", "token-request"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command: tuple[str, ...]) -> None:
    result = meshca(*command, "--help")
    assert result.status == 0
    assert len(result.out.split()) > 30


@pytest.mark.parametrize("arguments", [("nonsense",), ("svid", "list", "--nope"), ("init",)])
def test_wrong_usage_is_2_and_says_so_on_standard_error(arguments: tuple[str, ...]) -> None:
    result = meshca(*arguments)
    assert (result.status, result.out) == (2, "")
    assert "Error" in result.err


def test_init_makes_what_a_server_needs_and_keeps_keys_private(tmp_path: Path) -> None:
    directory = made(tmp_path)
    settings = load(directory / "meshca.yaml", {})
    assert settings.trust_domain == "example.org"
    assert settings.data_dir == directory
    assert settings.listen.mesh == "0.0.0.0:8443"
    assert settings.clusters[0].keys is not None
    assert settings.clusters[0].keys.file == directory / "cluster" / "jwks.json"
    for key in (directory / "pki" / "root.key", directory / "cluster" / "UNSAFE-signing-key.pem"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_init_says_what_to_do_next_on_standard_error(tmp_path: Path) -> None:
    result = meshca("init", str(tmp_path / "d"), "--trust-domain", "example.org")
    assert result.out == ""
    for command in ("meshca serve --config", "meshca dev token", "meshca envoy bootstrap"):
        assert command in result.err


def test_the_example_policy_loads_once_its_marks_are_taken_away(tmp_path: Path) -> None:
    policies = made(tmp_path) / "policies"
    example = policies / "example.yaml"
    lines = example.read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("# apiVersion"))
    example.write_text("\n".join(line.removeprefix("# ") for line in lines[start:]))
    result = check_offline(policies, FRONTEND, "GET", "/items/7")
    assert result.data["verdict"] == "allow"
    assert check_offline(policies, FRONTEND, "PUT", "/items/7").data["verdict"] == "deny"


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    directory = made(tmp_path)
    before = (directory / "pki" / "root.key").read_bytes()
    result = meshca("init", str(directory), "--trust-domain", "other.org")
    assert result.status == 1
    assert "overwrites nothing" in result.err
    assert (directory / "pki" / "root.key").read_bytes() == before


def test_init_refuses_a_trust_domain_that_is_none(tmp_path: Path) -> None:
    result = meshca("init", str(tmp_path / "d"), "--trust-domain", "Example.org")
    assert result.status == 2
    assert not (tmp_path / "d").exists()


def test_config_check_accepts_what_init_wrote(tmp_path: Path) -> None:
    config = str(made(tmp_path) / "meshca.yaml")
    result = meshca("config", "check", "--config", config, "--output", "json")
    assert result.status == 0
    assert result.data["valid"] is True
    assert result.data["listen"]["mesh"] == "0.0.0.0:8443"
    assert "example.org" in meshca("config", "check", "--config", config).out


def test_config_check_reports_every_problem_with_its_key(tmp_path: Path) -> None:
    config = made(tmp_path) / "meshca.yaml"
    config.write_text(config.read_text().replace("svid: 1h", "svid: 2d").replace("deny", "maybe"))
    shown = meshca("config", "check", "--config", str(config))
    assert (shown.status, shown.out) == (1, "")
    assert f"{config}:" in shown.err
    assert "lifetimes: " in shown.err
    assert "policy.default: " in shown.err
    as_json = meshca("config", "check", "--config", str(config), "-o", "json")
    assert as_json.status == 1
    assert {p["path"] for p in as_json.data["problems"]} == {"lifetimes", "policy.default"}


def test_config_check_looks_at_the_files_it_names_and_at_the_policies(tmp_path: Path) -> None:
    directory = made(tmp_path)
    (directory / "cluster" / "jwks.json").unlink()
    (directory / "policies" / "bad.yaml").write_text(POLICY.replace("ALLOW", "ALOW"))
    result = meshca("config", "check", "-c", str(directory / "meshca.yaml"), "-o", "json")
    assert result.status == 1
    found = {(Path(p["file"]).name, p["path"]) for p in result.data["problems"]}
    assert found == {("meshca.yaml", "clusters[0].keys.file"), ("bad.yaml", "spec.action")}


def test_the_environment_names_the_config_and_overrides_it(tmp_path: Path) -> None:
    environment = {
        "MESHCA_CONFIG": str(made(tmp_path) / "meshca.yaml"),
        "MESHCA_LISTEN_MESH": "127.0.0.1:9443",
    }
    result = meshca("config", "check", "-o", "json", environment=environment)
    assert result.data["listen"]["mesh"] == "127.0.0.1:9443"


def test_no_configuration_says_how_to_get_one(tmp_path: Path) -> None:
    result = meshca("status", "--config", str(tmp_path / "none.yaml"))
    assert result.status == 1
    assert "there is no configuration" in result.err
    assert "meshca init" in result.err


def token(tmp_path: Path, *more: str) -> dict[str, Any]:
    config = str(made(tmp_path) / "meshca.yaml")
    named = ("--namespace", "shop", "--service-account", "orders")
    result = meshca("dev", "token", "--config", config, *named, *more)
    assert result.status == 0, result.err
    claims: dict[str, Any] = jwt.decode(result.out.strip(), options={"verify_signature": False})
    return claims


def test_a_development_token_looks_like_a_projected_one(tmp_path: Path) -> None:
    claims = token(tmp_path)
    assert claims["aud"] == ["meshca"]
    assert claims["sub"] == "system:serviceaccount:shop:orders"
    assert claims["kubernetes.io"]["pod"]["name"] == "orders-0"
    assert claims["exp"] - claims["iat"] == 3600


def test_a_development_token_can_be_for_somebody_else(tmp_path: Path) -> None:
    claims = token(
        tmp_path, "--pod", "p", "--audience", "a", "--audience", "b", "--lifetime", "90s"
    )
    assert claims["aud"] == ["a", "b"]
    assert claims["kubernetes.io"]["pod"]["name"] == "p"
    assert claims["exp"] - claims["iat"] == 90


def test_without_a_development_cluster_there_are_no_tokens(tmp_path: Path) -> None:
    directory = made(tmp_path)
    (directory / "cluster" / "UNSAFE-signing-key.pem").unlink()
    result = meshca(
        *("dev", "token", "--config", str(directory / "meshca.yaml")),
        *("--namespace", "shop", "--service-account", "orders"),
    )
    assert (result.status, result.out) == (1, "")
    assert "development cluster" in result.err


def test_a_bootstrap_is_written_with_its_two_companions(tmp_path: Path) -> None:
    directory = made(tmp_path)
    result = meshca(
        *("envoy", "bootstrap", "--server", "localhost:8443", "--token-file", "/run/token"),
        *("--trust-bundle", str(directory / "pki" / "root.pem")),
        *("--inbound", "9001", "--app", "127.0.0.1:8000", "--write", str(tmp_path / "e.json")),
    )
    assert result.status == 0, result.err
    written = [Path(line) for line in result.out.splitlines()]
    assert [path.name for path in written] == ["e.json", "e-token.json", "e-trust-bundle.json"]
    assert all(json.loads(path.read_text()) for path in written)


def test_a_bootstrap_with_mistakes_names_each_option(tmp_path: Path) -> None:
    directory = made(tmp_path)
    result = meshca(
        *("envoy", "bootstrap", "--server", "localhost", "--token-file", "t"),
        *("--trust-bundle", str(directory / "pki" / "root.pem")),
        *("--outbound", "9002=x", "--write", str(tmp_path / "e.json")),
    )
    assert result.status == 1
    assert "--server: " in result.err
    assert "--outbound: " in result.err
    assert not (tmp_path / "e.json").exists()


def check_offline(directory: Path, source: str, method: str, path: str) -> Result:
    return meshca(
        *("authz", "check", "--policies", str(directory), "--source", source),
        *("--destination", "shop/orders", "--method", method, "--path", path, "-o", "json"),
    )


def policies(tmp_path: Path, text: str = POLICY) -> Path:
    directory = tmp_path / "policies"
    directory.mkdir()
    (directory / "p.yaml").write_text(text)
    return directory


def test_policies_are_checked_without_a_server(tmp_path: Path) -> None:
    directory = policies(tmp_path)
    allowed = check_offline(directory, FRONTEND, "GET", "/")
    assert (allowed.status, allowed.data["verdict"]) == (0, "allow")
    assert (allowed.data["policy"], allowed.data["rule"]) == ("shop/readers", 0)
    denied = check_offline(directory, FRONTEND, "POST", "/")
    assert (denied.status, denied.data["verdict"]) == (1, "deny")
    assert "methods" in denied.data["reason"]


def test_a_set_that_does_not_load_names_each_mistake_and_decides_nothing(tmp_path: Path) -> None:
    directory = policies(tmp_path, POLICY.replace("ALLOW", "ALOW").replace("methods", "method"))
    result = check_offline(directory, FRONTEND, "GET", "/")
    assert (result.status, result.out) == (1, "")
    assert f"{directory}/p.yaml:6: spec.action" in result.err
    assert f"{directory}/p.yaml:9: " in result.err


def test_a_batch_is_answered_line_by_line(tmp_path: Path) -> None:
    requests = [
        {"id": "a", "source": {"principal": FRONTEND}, "http": {"method": "GET", "path": "/"}},
        {"id": "b", "source": {"principal": FRONTEND}, "http": {"method": "PUT", "path": "/"}},
    ]
    destination = {"namespace": "shop", "labels": {"app": "orders"}}
    lines = [json.dumps({**request, "destination": destination}) for request in requests]
    batch = tmp_path / "batch.jsonl"
    batch.write_text("\n".join([lines[0], "", "not json", lines[1]]) + "\n")
    result = meshca(
        *("authz", "check", "--policies", str(policies(tmp_path)), "--batch", str(batch)),
        *("--trust-domain", "example.org"),
    )
    answers = [json.loads(line) for line in result.out.splitlines()]
    assert result.status == 0
    verdicts = [(answer["id"], answer["verdict"]) for answer in answers]
    assert verdicts == [("a", "allow"), (None, "deny"), ("b", "deny")]


def test_a_batch_streams(tmp_path: Path) -> None:
    script = str(Path(sys.executable).with_name("meshca"))
    arguments = ["--policies", str(policies(tmp_path)), "--trust-domain", "example.org"]
    with subprocess.Popen(
        [script, "authz", "check", *arguments, "--batch", "-"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(3):
            process.stdin.write(json.dumps({"id": number}) + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["id"] == number


TO = ("--destination", "a/b")
MISSING = ("--policies", "no-such-directory")
"""Options are held against their rules before any file is read."""
USAGE = [
    ("neither destination nor batch", (), "either --destination or --batch"),
    (
        "a bad default",
        (*TO, *MISSING, "--default", "x"),
        "allow or deny",
    ),
    ("no trust domain", (*TO, *MISSING), "needs --trust-domain"),
    ("a bad trust domain", (*TO, *MISSING, "--trust-domain", "A_B:1"), "--trust-domain: "),
    (
        "a bad alias",
        (*TO, *MISSING, "--trust-domain", "a", "--trust-domain-alias", "/"),
        "--trust-domain-alias: ",
    ),
    ("a bad label", ("--destination", "a/b", "--label", "x"), "is not KEY=VALUE"),
]


@pytest.mark.parametrize(("name", "arguments", "said"), USAGE, ids=[c[0] for c in USAGE])
def test_check_refuses_wrong_usage(name: str, arguments: tuple[str, ...], said: str) -> None:
    result = meshca("authz", "check", *arguments)
    assert result.status == 2
    assert said in result.err
