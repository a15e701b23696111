"""`meshca config check` looks for the files that an upstream names."""

from datetime import timedelta
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


def test_rules_of_retention_that_make_no_sense_are_named(tmp_path: Path) -> None:
    path = tmp_path / "meshca.yaml"
    text = CONFIG.format(kind="vault", rest="auth: {method: token, token_file: meshca.yaml}")
    rules = "{default: 7y, kinds: {read: 1h, reads: 90d, redaction: 1y, refusal: forever}}"
    path.write_text(text + f"audit: {{retention: {rules}}}\n")

    settings = load(path, {})
    assert settings.audit.retention.default == timedelta(days=7 * 365)
    assert settings.audit.retention.kinds["refusal"] is None
    found = {p.path: p.message for p in problems(settings, str(path))}

    assert found["audit.retention.kinds.read"].startswith("shorter than 1d")
    assert found["audit.retention.kinds.reads"].startswith("unknown kind; known: issuance,")
    assert found["audit.retention.kinds.redaction"] == "entries of this kind are kept for ever"
    assert len(found) == 3
