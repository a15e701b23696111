"""The command line against a real server: what it prints, its exit status, its friendly errors."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from meshca.demo.ports import free_port
from tests.end_to_end.server import RunningServer, allow, spiffe_id
from tests.meshca.cli import Result, meshca

ORDERS = spiffe_id("orders")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("cli")) as server:
        yield server


def run(server: RunningServer, *arguments: str) -> Result:
    return meshca(*arguments, environment={"MESHCA_CONFIG": str(server.config)})


def csr(directory: Path) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    path = directory / "request.pem"
    path.write_bytes(request.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    return str(path)


def issue(server: RunningServer, directory: Path, token: str, *more: str) -> Result:
    (directory / "token").write_text(token)
    files = ("--csr", csr(directory), "--token-file", str(directory / "token"))
    return run(server, "svid", "issue", *files, *more)


def test_issue_prints_the_chain_leaf_first_without_the_root(
    server: RunningServer, tmp_path: Path
) -> None:
    result = issue(server, tmp_path, server.token("orders"), "--lifetime", "30m")
    assert result.status == 0, result.err
    leaf, intermediate = x509.load_pem_x509_certificates(result.out.encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [ORDERS]
    assert leaf.issuer == intermediate.subject
    assert intermediate.issuer != intermediate.subject
    server.wait_for_records("orders")
    shown = run(server, "svid", "show", f"{leaf.serial_number:x}", "-o", "json").data
    assert (shown["spiffe_id"], shown["status"], shown["pod_name"]) == (
        ORDERS,
        "issued",
        "orders-0",
    )
    assert shown["pem"].encode() == leaf.public_bytes(Encoding.PEM)


def test_a_refused_token_is_exit_1_and_says_where_the_reason_is(
    server: RunningServer, tmp_path: Path
) -> None:
    result = issue(server, tmp_path, "not-a-token")
    assert (result.status, result.out) == (1, "")
    assert "audit log" in result.err
    assert "meshca audit query" in result.err


def test_a_server_that_is_not_there_is_said_so(server: RunningServer, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    result = issue(server, tmp_path, server.token("orders"), "--server", address)
    assert result.status == 1
    assert f"{address} cannot be reached" in result.err


def test_a_server_under_another_root_is_not_trusted(server: RunningServer, tmp_path: Path) -> None:
    other = tmp_path / "other"
    meshca("init", str(other), "--trust-domain", "example.org")
    bundle = ("--trust-bundle", str(other / "pki" / "root.pem"))
    result = issue(server, tmp_path, server.token("orders"), *bundle)
    assert result.status == 1
    assert "its certificate is not one of" in result.err


def test_a_missing_file_is_named(server: RunningServer, tmp_path: Path) -> None:
    files = ("--csr", str(tmp_path / "none"), "--token-file", str(tmp_path / "none"))
    result = run(server, "svid", "issue", *files)
    assert result.status == 1
    assert f"cannot read {tmp_path}/none: No such file" in result.err


def test_certificates_are_listed_in_every_format(server: RunningServer, tmp_path: Path) -> None:
    issue(server, tmp_path, server.token("orders"))
    server.wait_for_records("orders")
    as_json = run(server, "svid", "list", "--identity", ORDERS, "-o", "json").data
    as_yaml = yaml.safe_load(run(server, "svid", "list", "--identity", ORDERS, "-o", "yaml").out)
    table = run(server, "svid", "list", "--identity", ORDERS)
    assert as_json == as_yaml
    assert {svid["spiffe_id"] for svid in as_json["svids"]} == {ORDERS}
    assert "SERIAL" in table.out.splitlines()[0]
    assert as_json["svids"][0]["serial"] in table.out


def test_a_page_says_how_to_get_the_next(server: RunningServer, tmp_path: Path) -> None:
    issue(server, tmp_path, server.token("orders"))
    first = run(server, "svid", "list", "--limit", "1", "-o", "json").data
    second = run(server, "svid", "list", "--cursor", str(first["next"]), "-o", "json").data
    assert first["svids"][0]["serial"] not in {svid["serial"] for svid in second["svids"]}
    assert f"--cursor {first['next']}" in run(server, "svid", "list", "--limit", "1").err


@pytest.mark.parametrize("serial", ["ff", "00:ff"])
def test_an_unknown_serial_is_exit_1(server: RunningServer, serial: str) -> None:
    result = run(server, "svid", "show", serial)
    assert (result.status, result.out) == (1, "")
    assert "no certificate with serial ff" in result.err


def test_a_serial_that_is_none_is_wrong_usage(server: RunningServer) -> None:
    assert run(server, "svid", "show", "../status").status == 2


def test_the_bundle_is_the_root_that_init_made(server: RunningServer) -> None:
    assert run(server, "bundle", "show").out == server.roots.read_text()
    assert '"x509-svid"' in run(server, "bundle", "show", "--format", "spiffe").out


def test_status_is_ready(server: RunningServer) -> None:
    result = run(server, "status")
    assert result.status == 0, result.err
    assert "ready:" in result.out
    assert run(server, "status", "--output", "json").data["ready"] is True


def test_proxies_without_any_are_an_empty_list(server: RunningServer) -> None:
    assert run(server, "proxies", "-o", "json").data == {"proxies": []}
    assert run(server, "proxies", "--behind").status == 0


def test_renewing_what_nobody_holds_is_exit_1(server: RunningServer) -> None:
    result = run(server, "svid", "renew", spiffe_id("nobody"), "-o", "json")
    assert (result.status, result.data["renewed"]) == (1, 0)


def test_the_servers_own_certificate_can_be_renewed(server: RunningServer) -> None:
    own = "spiffe://example.org/meshca/server"
    assert run(server, "svid", "renew", own).status == 0
    entries = run(server, "audit", "query", "--kind", "renewal", "-o", "json").data["entries"]
    assert entries[0]["spiffe_id"] == own
    assert entries[0]["actor"] == f"uid:{os.getuid()}"


def test_the_log_is_queried_and_verified(server: RunningServer, tmp_path: Path) -> None:
    issue(server, tmp_path, server.token("audited"))
    named = ("--identity", spiffe_id("audited"), "--since", "5m", "--kind", "issuance")
    entries = run(server, "audit", "query", *named, "-o", "json").data["entries"]
    assert [entry["pod"] for entry in entries] == ["audited-0"]
    assert spiffe_id("audited") in run(server, "audit", "query", *named).out
    verified = run(server, "audit", "verify", "-o", "json")
    assert (verified.status, verified.data["intact"]) == (0, True)
    assert "intact" in run(server, "audit", "verify").out


def test_an_unknown_kind_is_refused_with_the_known(server: RunningServer) -> None:
    result = run(server, "audit", "query", "--kind", "isuance")
    assert result.status == 1
    assert "issuance, refusal" in result.err


@pytest.mark.parametrize("since", ["yesterday", "5 minutes"])
def test_a_time_that_is_none_is_wrong_usage(server: RunningServer, since: str) -> None:
    assert run(server, "audit", "query", "--since", since).status == 2


def write_policies(directory: Path, text: str | None = None) -> Path:
    path = directory / "policies.yaml"
    path.write_text(text if text is not None else yaml.safe_dump(allow("frontend", "orders")))
    return path


def check(server: RunningServer, caller: str) -> Result:
    named = ("--source", spiffe_id(caller), "--destination", "shop/orders", "--method", "GET")
    return run(server, "authz", "check", *named, "--path", "/", "-o", "json")


def test_policies_are_applied_shown_and_decided_by(server: RunningServer, tmp_path: Path) -> None:
    path = write_policies(tmp_path)
    applied = run(server, "authz", "apply", str(path), "--reason", "INC-12", "-o", "json")
    assert applied.status == 0, applied.err
    listed = run(server, "authz", "get", "-o", "json").data
    assert listed["version"] == applied.data["version"]
    assert (listed["applied"]["reason"], listed["applied"]["author"]) == (
        "INC-12",
        f"uid:{os.getuid()}",
    )
    documents = run(server, "authz", "get", "--documents").out
    assert list(yaml.safe_load_all(documents))[-1] == yaml.safe_load(path.read_text())
    assert "frontend-orders" in run(server, "authz", "get").out
    allowed, denied = check(server, "frontend"), check(server, "payments")
    assert (allowed.status, allowed.data["verdict"]) == (0, "allow")
    assert (denied.status, denied.data["verdict"]) == (1, "deny")


def test_a_mistake_is_named_with_the_file_and_line_it_was_made_in(
    server: RunningServer, tmp_path: Path
) -> None:
    good = write_policies(tmp_path)
    bad = tmp_path / "bad.yaml"
    bad.write_text("# first line\n" + good.read_text().replace("ALLOW", "ALOW"))
    line = 1 + next(n for n, text in enumerate(bad.read_text().splitlines()) if "ALOW" in text)
    result = run(server, "authz", "apply", str(good), str(bad), "--reason", "x")
    assert (result.status, result.out) == (1, "")
    assert f"{bad}:{line}: spec.action" in result.err


def test_an_empty_reason_is_wrong_usage(server: RunningServer, tmp_path: Path) -> None:
    path = write_policies(tmp_path)
    assert run(server, "authz", "apply", str(path), "--reason", " ").status == 2


def test_a_batch_is_decided_by_the_server(server: RunningServer, tmp_path: Path) -> None:
    batch = tmp_path / "batch.jsonl"
    batch.write_text('{"id": 1, "destination": {"namespace": "x"}}\nnot json\n')
    lines = run(server, "authz", "check", "--batch", str(batch)).out.splitlines()
    assert len(lines) == 2
    assert '"verdict": "deny"' in lines[0]
    assert "invalid request" in lines[1]


def test_a_url_names_the_socket(server: RunningServer) -> None:
    url = f"unix:{server.config.parent / 'admin.sock'}"
    assert meshca("status", "--url", url).status == 0
    assert meshca("status", "--url", "http://localhost").status == 2


def test_a_server_that_is_not_running_says_how_to_start_it(tmp_path: Path) -> None:
    meshca("init", str(tmp_path / "d"), "--trust-domain", "example.org")
    config = str(tmp_path / "d" / "meshca.yaml")
    result = meshca("status", "--config", config)
    assert result.status == 1
    assert f"{tmp_path}/d/admin.sock" in result.err
    assert f"meshca serve --config {config}" in result.err


def test_a_socket_that_nobody_serves_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    result = meshca("status", "--url", f"unix:{path}")
    assert result.status == 1
    assert "nobody listens on it" in result.err


AS_NOBODY = """
import contextlib, os
from meshca.cli import main
with contextlib.suppress(SystemExit):
    main(["status", "--config", "/none"])  # the interpreter's files may be root's: import first
with contextlib.suppress(SystemExit):
    main(["status", "--url", "unix:/none"])
os.setgid(65534)
os.setuid(65534)
main({arguments})
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_is_told_that_it_is_a_matter_of_permission(server: RunningServer) -> None:
    socket_path = server.config.parent / "admin.sock"
    for option, path in (("--url", f"unix:{socket_path}"), ("--config", str(server.config))):
        code = AS_NOBODY.format(arguments=["status", option, path])
        command = [sys.executable, "-c", code]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        assert ended.returncode == 1
        assert "permission denied: user nobody" in ended.stderr
        assert "Traceback" not in ended.stderr


def test_output_that_nobody_reads_is_no_traceback(server: RunningServer) -> None:
    script = Path(sys.executable).with_name("meshca")
    command = f"{script} audit query --config {server.config} -o json | true"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert ended.stderr == ""
