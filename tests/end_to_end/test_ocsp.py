"""A certificate's own word leads `openssl ocsp` to the server, which says what became of it."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshca.demo.ports import free_port
from tests.end_to_end.server import RunningServer
from tests.meshca.test_cli_server import issue
from tests.real_parts import require, wait_until
from tests.stores import postgresql


@pytest.fixture
def public(tmp_path: Path) -> Iterator[RunningServer]:
    """A server with a public door."""
    require(shutil.which("openssl") is not None, "openssl", "apt-get install openssl")
    with with_public_door(RunningServer(tmp_path / "server")) as running:
        yield running


def with_public_door(running: RunningServer) -> RunningServer:
    """Return the server, told to open one."""
    port = free_port()
    running.settings = {
        **running.settings,
        "listen": {
            "mesh": f"127.0.0.1:{running.port}",
            "metrics": f"127.0.0.1:{running.metrics_port}",
            "public": f"127.0.0.1:{port}",
        },
        "public_url": f"http://127.0.0.1:{port}",
    }
    return running


def openssl(*arguments: str) -> str:
    """Return all that openssl says."""
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def issued(server: RunningServer, directory: Path) -> tuple[Path, Path]:
    """Return files with a new certificate, and with its issuer's."""
    result = issue(server, directory, server.token("orders"))
    assert result.status == 0, result.err
    leaf, issuer, *_ = re.findall(r"-----BEGIN.*?END CERTIFICATE-----\n", result.out, re.DOTALL)
    paths = directory / "leaf.pem", directory / "issuer.pem"
    for path, pem in zip(paths, (leaf, issuer), strict=True):
        path.write_text(pem)
    return paths


@pytest.mark.end_to_end
def test_openssl_is_led_to_the_server_and_hears_of_a_revocation(
    public: RunningServer, tmp_path: Path
) -> None:
    leaf, issuer = issued(public, tmp_path)
    url = openssl("x509", "-in", str(leaf), "-noout", "-ocsp_uri").strip()
    serial = openssl("x509", "-in", str(leaf), "-noout", "-serial").strip().partition("=")[2]
    question = ["ocsp", "-url", url, "-issuer", str(issuer), "-CAfile", str(public.roots)]
    question += ["-cert", str(leaf)]
    wait_until(
        lambda: f"{leaf}: good" in openssl(*question), within_seconds=20, what="the signer's answer"
    )
    for more in ([], ["-no_nonce"]):
        said = openssl(*question, *more)
        assert "Response verify OK" in said
        assert f"{leaf}: good" in said

    public.meshca("svid", "revoke", "--serial", serial, "--reason", "superseded", "--why", "test")

    for more in ([], ["-no_nonce"]):
        said = openssl(*question, *more)
        assert "Response verify OK" in said
        assert f"{leaf}: revoked" in said
        assert "Reason: superseded" in said
    entries = public.query("audit", "query", "--kind", "authority_change")["entries"]
    assert "OCSP signer certified" in {entry["reason"] for entry in entries}


@pytest.mark.end_to_end
def test_one_replica_answers_for_the_authority_of_another(tmp_path: Path) -> None:
    require(shutil.which("openssl") is not None, "openssl", "apt-get install openssl")
    with postgresql() as database:
        first, second = (
            RunningServer(tmp_path / name, settings={"replica": name, "database": database.url})
            for name in ("a", "b")
        )
        with with_public_door(first) as a:
            second.root_of = a
            with with_public_door(second) as b:
                leaf, issuer = issued(a, tmp_path)
                question = ["ocsp", "-url", f"{b.settings['public_url']}/ocsp"]
                question += ["-issuer", str(issuer), "-CAfile", str(a.roots), "-cert", str(leaf)]
                wait_until(
                    lambda: f"{leaf}: good" in openssl(*question),
                    within_seconds=45,
                    what="the other replica's answer",
                )
                assert "Response verify OK" in openssl(*question)
