"""The command line and a server elsewhere: what it proves itself with, how it words errors."""

import ssl
from pathlib import Path

import pytest

from meshca.cli.credentials import Credentials
from meshca.cli.failure import CommandFailed
from meshca.demo.ports import free_port
from tests.ca.endpoints import ENDPOINT_ID, leaf, pki_now
from tests.meshca.cli import Result, meshca
from tests.meshca.configuration import GOOD


def ask(**environment: object) -> Result:
    """Run a command at a port where nobody listens."""
    given = {f"MESHCA_{name.upper()}": str(value) for name, value in environment.items()}
    return meshca("whoami", "--url", f"https://localhost:{free_port()}", environment=given)


def test_a_server_that_is_not_there_is_said_so() -> None:
    result = ask()
    assert (result.status, "cannot be reached" in result.err) == (1, True)


def test_options_come_before_the_command_and_files_must_be_there(tmp_path: Path) -> None:
    missing = str(tmp_path / "none")
    for option in ("--token-file", "--ca", "--cert"):
        result = meshca(option, missing, "whoami", "--url", "https://localhost:1")
        assert (result.status, f"cannot read {missing}" in result.err) == (1, True), option


def test_a_key_without_a_certificate_is_wrong_usage(tmp_path: Path) -> None:
    assert ask(key=tmp_path / "key").status == 2


@pytest.mark.parametrize("url", ["http://localhost:1", "https://", "unix:", "localhost:1"])
def test_other_addresses_are_wrong_usage(url: str) -> None:
    result = meshca("whoami", "--url", url)
    assert (result.status, "unix:/path/to/admin.sock nor https://" in result.err) == (2, True)


@pytest.mark.parametrize("text", ["", "  \n", "tök", "x" * 20_000], ids=["", "blank", "ö", "long"])
def test_a_file_without_one_token_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    with pytest.raises(CommandFailed, match="does not hold one token"):
        Credentials(token_file=path).headers()


def test_a_token_goes_into_the_header_only(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("abc.def.ghi\n")
    assert Credentials(token_file=path).headers() == {"authorization": "Bearer abc.def.ghi"}


def test_a_certificate_goes_with_its_own_key_only(tmp_path: Path) -> None:
    pki = pki_now()
    key, chain = leaf(pki, uri=ENDPOINT_ID)
    for name, content in (("cert", chain), ("key", key), ("both", chain + key)):
        (tmp_path / name).write_bytes(content)
    context = Credentials(cert=tmp_path / "cert", key=tmp_path / "key").context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    Credentials(cert=tmp_path / "both").context()
    with pytest.raises(CommandFailed, match="not its key"):
        Credentials(cert=tmp_path / "cert").context()


def test_config_check_looks_for_the_keys_of_the_issuer(tmp_path: Path) -> None:
    oidc = "{issuer: i, audience: a, jwks: {file: idp.json}}"
    admin = f"admin: {{oidc: {oidc}, roles: {{auditor: ['oidc:ann']}}}}\n"
    config = tmp_path / "meshca.yaml"
    (tmp_path / "jwks.json").write_text("{}")
    config.write_text(f"{GOOD}listen: {{admin: '127.0.0.1:0'}}\n{admin}")
    found = meshca("config", "check", "--config", str(config), "-o", "json").data
    assert "admin.oidc.jwks.file" in {problem["path"] for problem in found["problems"]}
