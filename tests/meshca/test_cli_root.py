"""`meshca root`: an operator's side of a ceremony, with pipes and a terminal as they are."""

import os
import pty
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from ca.keys import load_private_key
from ca.pkcs11 import token_key
from ca.upstream.probe import check_by_probe
from ca.upstream.token import TokenIntermediate
from meshca.clock import SystemClock
from meshca.settings import Disk, load
from tests.ca.ceremony.plans import CRL, INTERMEDIATE, ROOT
from tests.end_to_end.server import MESHCA
from tests.meshca.cli import Result, meshca
from tests.real_parts import wait_until
from tests.softhsm import PIN, softhsm

PASSPHRASE = b"correct horse battery staple"
NOW_ROOT = ROOT.replace(
    "{not_before: 2026-11-01T12:00:00Z, not_after: 2036-11-01T12:00:00Z}", "{lifetime: 3650d}"
)


def pipe(content: bytes) -> int:
    """Return a descriptor from which `content` can be read."""
    reader, writer = os.pipe()
    os.write(writer, content)
    os.close(writer)
    return reader


def write(directory: Path, text: str) -> str:
    path = directory / "plan.yaml"
    path.write_text(text)
    return str(path)


def ceremony(directory: Path, text: str, *options: str, passphrase: bytes = PASSPHRASE) -> Result:
    """Hold the ceremony of a plan, the passphrase from a descriptor."""
    fd = str(pipe(passphrase + b"\n"))
    return meshca("root", "ceremony", write(directory, text), "--passphrase-fd", fd, *options)


def test_a_root_a_request_an_intermediate_and_a_list(tmp_path: Path) -> None:
    assert ceremony(tmp_path, NOW_ROOT).status == 0
    request = meshca(
        *("root", "request", "--trust-domain", "example.org", "--no-passphrase"),
        *("--key", str(tmp_path / "i.key"), "--csr", str(tmp_path / "intermediate.csr")),
    )
    assert request.status == 0, request.err
    assert ceremony(tmp_path, INTERMEDIATE).status == 0
    assert ceremony(tmp_path, CRL).status == 0
    root = x509.load_pem_x509_certificate((tmp_path / "root.pem").read_bytes())
    chain = x509.load_pem_x509_certificate((tmp_path / "chain.pem").read_bytes())
    chain.verify_directly_issued_by(root)
    assert chain.public_key() == load_private_key(tmp_path / "i.key").public_key()


def test_the_passphrase_is_what_the_descriptor_gives_less_one_newline(tmp_path: Path) -> None:
    assert ceremony(tmp_path, NOW_ROOT).status == 0
    load_private_key(tmp_path / "root.key", PASSPHRASE)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"\n", "is empty"), (b"x" * 1025, "longer than 1024 bytes"), (b"short", "shorter than 12")],
    ids=["empty", "too long", "too short"],
)
def test_a_passphrase_that_will_not_do(content: bytes, said: str, tmp_path: Path) -> None:
    fd = str(pipe(content))
    result = meshca("root", "ceremony", write(tmp_path, NOW_ROOT), "--passphrase-fd", fd)
    assert result.status == 1
    assert said in result.err
    assert not (tmp_path / "root.key").exists()


def test_a_descriptor_that_is_not_open_is_named(tmp_path: Path) -> None:
    result = meshca("root", "ceremony", write(tmp_path, NOW_ROOT), "--passphrase-fd", "987")
    assert result.status == 1
    assert "file descriptor 987 cannot be read" in result.err
    assert "3< FILE" in result.err


def test_without_a_terminal_it_says_how_to_give_the_passphrase(tmp_path: Path) -> None:
    result = subprocess.run(
        [MESHCA, "root", "ceremony", write(tmp_path, NOW_ROOT)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "no terminal to ask for the passphrase" in result.stderr
    assert "--passphrase-fd" in result.stderr


def test_it_asks_twice_on_a_terminal_and_shows_nothing(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [MESHCA, "root", "ceremony", write(tmp_path, NOW_ROOT), "--output", "json"],
        stdin=slave,
        stdout=subprocess.DEVNULL,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    os.set_blocking(master, False)
    shown = bytearray()

    def shows(text: bytes) -> bool:
        try:
            shown.extend(os.read(master, 4096))
        except BlockingIOError:
            pass
        except OSError:
            return True
        return text in shown

    for prompt in (b"passphrase of the root's key: ", b"Repeat for confirmation: "):
        wait_until(lambda asked=prompt: shows(asked), within_seconds=20, what=str(prompt))  # type: ignore[misc]  # bound at once
        os.write(master, PASSPHRASE + b"\n")
    assert process.wait(30) == 0
    os.close(master)
    assert PASSPHRASE not in shown
    load_private_key(tmp_path / "root.key", PASSPHRASE)


def test_every_problem_of_a_plan_is_told_with_line_and_key(tmp_path: Path) -> None:
    result = ceremony(tmp_path, NOW_ROOT.replace("p384", "p111") + "colour: blue\n")
    assert result.status == 1
    assert f"{tmp_path}/plan.yaml:5: key_type: " in result.err
    assert f"{tmp_path}/plan.yaml:8: colour: unknown key" in result.err
    assert result.out == ""


def test_a_rehearsal_needs_no_passphrase_and_leaves_nothing(tmp_path: Path) -> None:
    result = meshca("root", "ceremony", write(tmp_path, NOW_ROOT), "--dry-run")
    assert result.status == 0
    assert "rehearsal: nothing was written" in result.out
    assert [path.name for path in tmp_path.iterdir()] == ["plan.yaml"]


def test_the_report_ends_with_what_the_witnesses_check(tmp_path: Path) -> None:
    result = ceremony(tmp_path, NOW_ROOT)
    report, _, checklist = result.out.partition("witnesses check\n")
    assert "fingerprint sha256:" in report
    assert "plan sha256:" in report
    assert checklist.count("[ ] ") == 9


def test_name_constraints_warn_on_standard_error(tmp_path: Path) -> None:
    result = ceremony(tmp_path, NOW_ROOT + "name_constraints: true\n")
    assert result.status == 0
    assert "warning: name_constraints is on." in result.err


def test_a_request_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "i.key").write_text("precious")
    result = meshca(
        *("root", "request", "--trust-domain", "example.org", "--no-passphrase"),
        *("--key", str(tmp_path / "i.key"), "--csr", str(tmp_path / "i.csr")),
    )
    assert result.status == 1
    assert "i.key cannot be written: File exists" in result.err
    assert (tmp_path / "i.key").read_text() == "precious"
    assert not (tmp_path / "i.csr").exists()


def test_a_requests_key_is_encrypted_unless_told_otherwise(tmp_path: Path) -> None:
    result = meshca(
        *("root", "request", "--trust-domain", "example.org"),
        *("--passphrase-fd", str(pipe(PASSPHRASE)), "--key-type", "p384", "--output", "json"),
        *("--key", str(tmp_path / "i.key"), "--csr", str(tmp_path / "i.csr")),
    )
    assert result.status == 0, result.err
    assert set(result.data) == {"key", "csr", "public_key_sha256"}
    assert (tmp_path / "i.key").stat().st_mode & 0o777 == 0o600
    assert load_private_key(tmp_path / "i.key", PASSPHRASE).key_size == 384


CONFIG = """\
trust_domain: example.org
data_dir: data
upstream:
  kind: disk
  root: root.pem
  chain: chain.pem
  pkcs11: {{module: {module}, token_label: meshca, key_label: {label}, pin_file: pin}}
clusters:
  - {{name: c, issuer: https://c.invalid, audiences: [meshca], keys: {{file: jwks.json}}}}
"""


def test_a_request_for_a_key_on_a_token_becomes_an_upstream(tmp_path: Path) -> None:
    (tmp_path / "pin").write_text(PIN)
    (tmp_path / "pin").chmod(0o600)
    config = tmp_path / "meshca.yaml"
    config.write_text(CONFIG.format(module=softhsm().module, label="from-the-command-line"))
    csr = tmp_path / "intermediate.csr"
    options = ("--config", str(config), "--csr", str(csr), "--output", "json")
    assert "has no key labelled" in meshca("root", "token-request", *options).err
    made = meshca("root", "token-request", "--generate", *options)
    assert made.status == 0, made.err
    assert "exists already" in meshca("root", "token-request", "--generate", *options).err
    assert ceremony(tmp_path, NOW_ROOT).status == 0
    report = ceremony(tmp_path, INTERMEDIATE, "--output", "json")
    facts = report.data["results"][0]["facts"]
    assert facts["public_key_sha256"] == made.data["public_key_sha256"]
    chosen = load(config, {}).upstream
    assert isinstance(chosen, Disk)
    assert chosen.pkcs11 is not None
    upstream = TokenIntermediate(
        root=tmp_path / "root.pem",
        chain=tmp_path / "chain.pem",
        key=token_key(chosen.pkcs11),
        trust_domain="example.org",
    )
    now = SystemClock().now()
    check_by_probe(upstream.provide(now).authority, trust_domain="example.org", now=now)


def test_a_configuration_without_a_token_has_no_token_request(tmp_path: Path) -> None:
    assert meshca("init", str(tmp_path / "d"), "--trust-domain", "example.org").status == 0
    config = str(tmp_path / "d" / "meshca.yaml")
    result = meshca("root", "token-request", "--config", config, "--csr", "i.csr")
    assert result.status == 1
    assert "names no key on a token" in result.err
