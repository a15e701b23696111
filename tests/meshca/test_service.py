"""Starting and stopping the real process: every way it can refuse to start says what to change."""

import signal
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding

from ca.ca_certificate import make_intermediate, make_root
from ca.keys import check_public_key, generate_key, write_private_key
from meshca.clock import SystemClock
from meshca.demo.ports import free_port
from tests.end_to_end.server import TRUST_DOMAIN, RunningServer, allow
from tests.real_parts import wait_until
from tests.stores import postgresql

MESHCA = Path(sys.executable).with_name("meshca")


def serve(config: Path, seconds: float = 20) -> "subprocess.CompletedProcess[str]":
    """Run `meshca serve`, which must end by itself; return what it said."""
    return subprocess.run(
        [str(MESHCA), "serve", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A fresh development server's configuration on free ports."""
    directory = tmp_path / "d"
    subprocess.run(
        [str(MESHCA), "init", str(directory), "--trust-domain", TRUST_DOMAIN],
        check=True,
        capture_output=True,
    )
    path = directory / "meshca.yaml"
    change(path, listen={"mesh": address(), "metrics": address()})
    return path


def address() -> str:
    """Return a free address of this machine."""
    return f"127.0.0.1:{free_port()}"


def change(path: Path, **values: object) -> None:
    """Set top-level keys of the configuration."""
    document = yaml.safe_load(path.read_text())
    document.update(values)
    path.write_text(yaml.safe_dump(document))


def write_chain(directory: Path, lifetime: timedelta, *, age: timedelta = timedelta(0)) -> None:
    """Write root.pem, chain.pem and chain.key: an intermediate made `age` ago for `lifetime`."""
    now = SystemClock().now() - age
    root_key, key = generate_key(), generate_key()
    root = make_root(root_key, trust_domain=TRUST_DOMAIN, now=now, lifetime=timedelta(days=9))
    intermediate = make_intermediate(
        check_public_key(key.public_key()),
        root=root,
        root_key=root_key,
        trust_domain=TRUST_DOMAIN,
        now=now,
        lifetime=lifetime,
    )
    (directory / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
    (directory / "chain.pem").write_bytes(intermediate.public_bytes(Encoding.PEM))
    write_private_key(directory / "chain.key", key)


DISK = {"kind": "disk", "root": "root.pem", "chain": "chain.pem", "key": "chain.key"}


@pytest.mark.parametrize("door", ["mesh", "metrics", "public", "renew"])
def test_a_port_in_use_is_named_with_its_key(config: Path, door: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        change(config, listen={"mesh": address(), "metrics": address()} | {door: where})
        result = serve(config)
    assert result.returncode == 1
    assert f"listen.{door}: {where}" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_expired_intermediate_does_not_start(config: Path) -> None:
    write_chain(config.parent, timedelta(hours=1), age=timedelta(hours=3))
    change(config, upstream=DISK)
    result = serve(config)
    assert result.returncode == 1
    assert "is valid from" in result.stderr
    assert "intermediate" in result.stderr


def test_an_intermediate_that_ends_within_the_hour_starts_and_says_so(config: Path) -> None:
    write_chain(config.parent, timedelta(minutes=30))
    change(config, upstream=DISK)
    process = subprocess.Popen(
        [str(MESHCA), "serve", "--config", str(config)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if '"ready"' in line:
                break
        text = "".join(lines)
        assert '"authority_ends"' in text
        assert "replace the intermediate's files" in text
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        process.stderr.close()


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_key_that_others_can_read_does_not_start(config: Path, mode: int) -> None:
    write_chain(config.parent, timedelta(days=7))
    (config.parent / "chain.key").chmod(mode)
    change(config, upstream=DISK)
    result = serve(config)
    assert result.returncode == 1
    assert "chmod 600" in result.stderr


def test_several_mistakes_are_reported_together(config: Path) -> None:
    change(config, trust_domain="NOT VALID", lifetimes={"svid": "2h", "intermediate": "3h"}, typo=1)
    result = serve(config)
    assert result.returncode == 1
    for key in ("trust_domain", "lifetimes", "typo"):
        assert key in result.stderr


def test_a_database_that_cannot_be_opened_is_named(config: Path) -> None:
    change(config, database="sqlite:////nonexistent/meshca.db")
    result = serve(config)
    assert result.returncode == 1
    assert "/nonexistent/meshca.db" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_policy_that_does_not_load_does_not_start(config: Path) -> None:
    (config.parent / "policies" / "bad.yaml").write_text("kind: Nonsense\n")
    result = serve(config)
    assert result.returncode == 1
    assert "bad.yaml" in result.stderr


def test_a_second_server_on_the_same_directory_does_not_start(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as first:
        document = yaml.safe_load(first.config.read_text())
        document["listen"] = {"mesh": address(), "metrics": address()}
        second = first.config.with_name("second.yaml")
        second.write_text(yaml.safe_dump(document))
        result = serve(second)
        assert result.returncode == 1
        assert "replica 'main' runs already on" in result.stderr
        assert first.is_ready()


def test_a_policy_that_changed_while_no_server_ran_is_audited(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        server.stop(signal.SIGTERM)
        server.start()
        assert "found changed at start" not in server.meshca("audit", "query", "--output", "json")
        server.stop(signal.SIGKILL)
        policies = server.config.parent / "policies"
        (policies / "added.yaml").write_text(yaml.safe_dump(allow("a", "b")))
        server.start()
        said = server.meshca("audit", "query", "--kind", "policy_change", "--output", "json")
        assert said.count("found changed at start") == 1
        assert str(policies) in said


def test_it_drains_on_a_signal_and_records_start_and_stop(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        assert server.stop(signal.SIGTERM) == 0
        server.start()
        result = server.run("audit", "query", "--output", "json")
        assert result.returncode == 0
        assert result.stdout.count('"server_start"') == 2
        assert result.stdout.count('"server_stop"') == 1


def test_it_is_not_ready_while_the_database_is_down(tmp_path: Path) -> None:
    with postgresql() as database, RunningServer(tmp_path) as server:
        server.stop()
        document = yaml.safe_load(server.config.read_text())
        document["database"] = database.url
        server.config.write_text(yaml.safe_dump(document))
        server.start()
        started = '"event": "ready"'  # its start is on record: before that, no database is no start
        wait_until(lambda: server.log_text().count(started) == 2, within_seconds=20, what=started)
        database.stop()
        wait_until(lambda: not server.is_ready(), within_seconds=20, what="readiness notices")
        database.start()
        wait_until(server.is_ready, within_seconds=20, what="the server recovers")
