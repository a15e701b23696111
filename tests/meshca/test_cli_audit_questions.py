"""`meshca audit identity`, `certificate`, `at` and `report`, as an auditor types them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.end_to_end.server import RunningServer, spiffe_id
from tests.meshca.cli import Result, meshca
from tests.meshca.test_cli_revocation import hex_serial, issued
from tests.meshca.test_cli_server import run
from tests.real_parts import wait_until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("questions")) as running:
        yield running


@pytest.fixture(scope="module")
def found(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a certificate that was issued, and then revoked."""
    directory = tmp_path_factory.mktemp("found")
    certificate = issued(server, directory, "orders")
    path = directory / "found.pem"
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    revoked = run(server, "svid", "revoke", "--serial", hex_serial(certificate), "--why", "INC-7")
    assert revoked.status == 0, revoked.err
    return path


def ask(server: RunningServer, *arguments: str) -> Result:
    return run(server, "audit", *arguments)


def test_a_found_certificate_is_told_by_file_and_by_serial(
    server: RunningServer, found: Path
) -> None:
    serial = hex_serial(x509.load_pem_x509_certificate(found.read_bytes()))

    by_file = ask(server, "certificate", str(found))
    by_serial = ask(server, "certificate", serial, "-o", "json")

    assert (by_file.status, by_serial.status) == (0, 0), by_file.err
    assert f"issued here to {spiffe_id('orders')}, byte for byte" in by_file.out
    assert "INC-7" in by_file.out
    assert by_serial.data["revocation"]["decided"]["why"] == "INC-7"


def test_a_certificate_that_is_not_ours_exits_1(server: RunningServer, tmp_path: Path) -> None:
    never = ask(server, "certificate", "abc123")
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    no_pem = ask(server, "certificate", str(wrong))

    assert (never.status, no_pem.status) == (1, 1)
    assert "unknown: no certificate with serial abc123 was issued here" in never.out
    assert "not a certificate in PEM" in no_pem.err


def test_the_life_of_an_identity_and_of_nobody(server: RunningServer, found: Path) -> None:
    life = ask(server, "identity", spiffe_id("orders"))
    nobody = ask(server, "identity", "spiffe://example.org/ns/none/sa/none")
    misspelt = ask(server, "identity", "orders")

    assert life.status == 0, life.err
    assert "issuance" in life.out
    assert "revocation" in life.out
    assert nobody.status == 1
    assert misspelt.status == 1
    assert "does not begin with spiffe://" in misspelt.err


def test_how_things_stood(server: RunningServer, found: Path) -> None:
    wait_until(
        lambda: ask(server, "at", "1s", "-o", "json").data["policies"] is not None,
        within_seconds=30,
        what="the set in force on record",
    )
    now = ask(server, "at", "1s", "--destination", "shop/orders")
    before = ask(server, "at", "2020-01-01T00:00:00Z", "-o", "json")
    alone = ask(server, "at", "1s", "--label", "a=b")

    assert now.status == 0, now.err
    assert "policies:" in now.out
    assert "nothing else is allowed" in now.out + now.err
    assert before.data["log_size"] == 0
    assert alone.status == 2


def test_a_report_is_written_once_and_verified_offline(
    server: RunningServer, found: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "report"
    wait_until(
        lambda: ask(server, "checkpoint").status == 0,
        within_seconds=30,
        what="the first checkpoint",
    )
    arguments = ("report", "--from", "1h", "-d", str(directory))
    written, again = ask(server, *arguments), ask(server, *arguments)
    key = ask(server, "keys", "-o", "json").data["keys"][0]["key"]
    verified = meshca("audit", "verify-report", str(directory), "--key", key, "-o", "json")

    assert written.status == 0, written.err
    assert {path.name for path in directory.iterdir()} == {
        *("report.html", "report.json", "report.sig"),
    }
    assert again.status == 1
    assert "cannot write" in again.err
    assert verified.status == 0, verified.err
    report = json.loads((directory / "report.json").read_text())
    assert report["revocations"][0]["why"] == "INC-7"
    assert verified.data["entries"] == report["completeness"]["entries"]

    (directory / "report.html").write_text("<p>nothing happened</p>")
    changed = meshca("audit", "verify-report", str(directory), "--key", key)
    unknown = meshca("audit", "verify-report", str(directory))
    assert (changed.status, unknown.status) == (1, 2)
    assert "report.html is not the file that was signed" in changed.err
