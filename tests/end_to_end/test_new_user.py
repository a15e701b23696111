"""The first steps of a new user, with nothing but what `meshca` itself prints and writes."""

import json
import subprocess
from pathlib import Path

import pytest

from meshca.demo.app import EchoApp
from meshca.demo.ports import free_port
from tests.end_to_end.server import RunningServer, spiffe_id
from tests.envoy import RunningEnvoy

pytestmark = pytest.mark.end_to_end


def test_four_commands_make_a_serving_proxy(
    server: RunningServer, app: EchoApp, tmp_path: Path
) -> None:
    token = server.run("dev", "token", "--namespace", "shop", "--service-account", "orders")
    (tmp_path / "orders.token").write_text(token.stdout)
    inbound, admin = free_port(), free_port()
    written = server.run(
        *("envoy", "bootstrap", "--server", f"localhost:{server.port}"),
        *("--token-file", "orders.token", "--trust-bundle", str(server.roots)),
        *("--inbound", str(inbound), "--app", f"127.0.0.1:{app.port}"),
        *("--admin", str(admin), "--write", "orders.json"),
    )

    assert written.returncode == 0, written.stderr
    with RunningEnvoy(tmp_path / "orders.json", admin_port=admin) as envoy:
        envoy.wait_ready()
        assert envoy.identities() == {spiffe_id("orders")}
        proxies = server.query("proxies")["proxies"]
        assert [proxy["spiffe_id"] for proxy in proxies] == [spiffe_id("orders")]
        server.wait_in_step()


def test_a_wrong_option_writes_nothing_and_names_every_mistake(
    server: RunningServer, tmp_path: Path
) -> None:
    done = server.run(
        *("envoy", "bootstrap", "--server", "localhost", "--token-file", "t"),
        *("--trust-bundle", str(server.roots), "--outbound", "1=2"),
    )

    assert done.returncode == 1
    assert "--server: 'localhost' is not HOST:PORT" in done.stderr
    assert "--outbound: '1=2' is not PORT=HOST:PORT=SPIFFE_ID" in done.stderr
    assert not (tmp_path / "envoy.json").exists()


def test_a_certificate_for_a_request_made_with_openssl(
    server: RunningServer, tmp_path: Path
) -> None:
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "o.key")
    subprocess.run(
        ["openssl", "req", "-new", *key, "-subj", "/CN=whoever", "-out", "o.csr"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    (tmp_path / "o.token").write_text(server.token("orders"))

    chain = server.meshca("svid", "issue", "--csr", "o.csr", "--token-file", "o.token")

    (tmp_path / "chain.pem").write_text(chain)
    verified = subprocess.run(
        ["openssl", "verify", "-CAfile", server.roots, "-untrusted", "chain.pem", "chain.pem"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stderr
    shown = subprocess.run(
        ["openssl", "x509", "-in", "chain.pem", "-noout", "-ext", "subjectAltName", "-subject"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert f"URI:{spiffe_id('orders')}" in shown
    assert "whoever" not in shown


def test_status_is_one_screen_of_a_healthy_server(server: RunningServer) -> None:
    status = json.loads(server.meshca("status", "--output", "json"))

    assert status["ready"] is True
    assert status["trust_domain"] == "example.org"
