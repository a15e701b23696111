"""`meshca config check` looks for the files that an upstream names."""

from pathlib import Path

import pytest

from meshca.cli.config_files import problems
from meshca.settings import load

CONFIG = """\
trust_domain: example.org
data_dir: data
upstream: {{kind: {kind}, address: "https://vault:8200", {rest}}}
clusters:
  - {{name: demo, issuer: "https://demo.invalid", audiences: [meshca], keys: {{file: meshca.yaml}}}}
"""
NAMED = [
    (
        "vault",
        "ca_file: ca.pem, auth: {method: token, token_file: t}",
        ["ca_file", "auth.token_file"],
    ),
    ("vault", "auth: {method: approle, role_id: r, secret_id_file: s}", ["auth.secret_id_file"]),
    (
        "vault_transit",
        "key_name: k, auth: {method: jwt, role: r, token_file: t}",
        ["auth.token_file"],
    ),
]


@pytest.mark.parametrize(("kind", "rest", "missing"), NAMED)
def test_files_of_vault_that_are_not_there(
    tmp_path: Path, kind: str, rest: str, missing: list[str]
) -> None:
    path = tmp_path / "meshca.yaml"
    path.write_text(CONFIG.format(kind=kind, rest=rest))

    found = problems(load(path, {}), str(path))

    assert [p.path for p in found] == [f"upstream.{key}" for key in missing]
    assert all("cannot be read" in p.message for p in found)
