"""A server whose root is offline and whose intermediate's key is on a token, from plan to SVID."""

import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from tests.builders import make_csr
from tests.ca.ceremony.plans import CRL, INTERMEDIATE, PASSPHRASE, ROOT
from tests.ca.test_upstream_lists import signed_list
from tests.end_to_end.server import MESHCA, RunningServer, spiffe_id
from tests.softhsm import PIN, softhsm

pytestmark = pytest.mark.end_to_end
PLAN = ROOT.replace(
    "{not_before: 2026-11-01T12:00:00Z, not_after: 2036-11-01T12:00:00Z}", "{lifetime: 3650d}"
)


def run(directory: Path, *arguments: str) -> None:
    """Run `meshca root ...` as a person in `directory` does, the passphrase from a pipe."""
    reader, writer = os.pipe()
    os.write(writer, PASSPHRASE)
    os.close(writer)
    given = [str(reader) if argument == "FD" else argument for argument in arguments]
    subprocess.run(
        [MESHCA, "root", *given], cwd=directory, pass_fds=[reader], check=True, capture_output=True
    )
    os.close(reader)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which the ceremonies were held."""
    directory = tmp_path_factory.mktemp("offline")
    (directory / "pin").write_text(PIN)
    (directory / "pin").chmod(0o600)
    config = {
        "trust_domain": "example.org",
        "data_dir": "data",
        "upstream": upstream(directory),
        "clusters": [
            {"name": "c", "issuer": "i", "audiences": ["a"], "keys": {"file": "jwks.json"}}
        ],
    }
    (directory / "request.yaml").write_text(yaml.safe_dump(config))
    (directory / "root.yaml").write_text(PLAN)
    (directory / "intermediate.yaml").write_text(INTERMEDIATE)
    (directory / "crl.yaml").write_text(CRL)
    options = ("--config", "request.yaml", "--generate", "--csr", "intermediate.csr")
    run(directory, "token-request", *options)
    run(directory, "ceremony", "root.yaml", "--passphrase-fd", "FD")
    run(directory, "ceremony", "intermediate.yaml", "--passphrase-fd", "FD")
    run(directory, "ceremony", "crl.yaml", "--passphrase-fd", "FD")
    return directory


def upstream(directory: Path) -> dict[str, Any]:
    """Return the configuration of the upstream."""
    return {
        "kind": "disk",
        "root": str(directory / "root.pem"),
        "chain": str(directory / "chain.pem"),
        "pkcs11": {
            "module": str(softhsm().module),
            "token_label": "meshca",
            "key_label": "end to end",
            "pin_file": str(directory / "pin"),
        },
    }


@pytest.fixture
def server(directory: Path, tmp_path: Path) -> Iterator[RunningServer]:
    """A server of that upstream."""
    settings = {"upstream": {**upstream(directory), "lists": [str(directory / "root.crl")]}}
    with RunningServer(tmp_path / "s", settings=settings) as server:
        yield server


def issued(server: RunningServer, root: Path) -> list[x509.Certificate]:
    """Return the chain of an SVID that the server issues for a CSR."""
    (server.directory / "orders.csr").write_bytes(make_csr())
    (server.directory / "orders.token").write_text(server.token("orders"))
    pem = server.meshca(
        *("svid", "issue", "--csr", "orders.csr", "--token-file", "orders.token"),
        *("--server", f"localhost:{server.port}", "--trust-bundle", str(root)),
    )
    return x509.load_pem_x509_certificates(pem.encode())


def test_an_svid_is_signed_by_the_token_under_the_offline_root(
    directory: Path, server: RunningServer
) -> None:
    leaf, intermediate = issued(server, directory / "root.pem")
    root = x509.load_pem_x509_certificate((directory / "root.pem").read_bytes())
    leaf.verify_directly_issued_by(intermediate)
    intermediate.verify_directly_issued_by(root)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == [spiffe_id("orders")]


def test_the_roots_list_is_there_from_the_ceremony(server: RunningServer) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics") as answer:
        metrics = answer.read().decode()
    assert 'meshca_revocation_upper_lists{state="current"} 1.0' in metrics
    assert 'meshca_revocation_upper_lists{state="missing"} 0.0' in metrics


def test_a_list_of_another_root_stops_the_start(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "stranger.crl").write_bytes(signed_list())
    wrong = {**upstream(directory), "lists": [str(tmp_path / "stranger.crl")]}
    server = RunningServer(tmp_path / "s", settings={"upstream": wrong})
    with pytest.raises(AssertionError), server:
        pass
    assert "stranger.crl: a revocation list of" in server.log_text()
    assert "which is not above our intermediate" in server.log_text()


def test_with_a_wrong_pin_it_does_not_start_and_says_why(directory: Path, tmp_path: Path) -> None:
    wrong = upstream(directory)
    (tmp_path / "wrong-pin").write_text("13579")
    (tmp_path / "wrong-pin").chmod(0o600)
    wrong["pkcs11"]["pin_file"] = str(tmp_path / "wrong-pin")
    server = RunningServer(tmp_path / "s", settings={"upstream": wrong})
    with pytest.raises(AssertionError), server:
        pass
    assert "is not that of token 'meshca'" in server.log_text()
    assert "13579" not in server.log_text()
