"""What a configuration file and the environment say, and what the defaults are."""

from datetime import timedelta
from pathlib import Path

import pytest

from meshca.errors import InvalidDocument
from meshca.settings import Disk, KeysInMemory, SelfSigned, load
from meshca.settings_vault import Vault, VaultAppRole, VaultJwt
from tests.meshca.configuration import DISK, GOOD, TOKEN, edited, loaded, problems, upstream


def test_the_smallest_configuration_has_the_defaults_of_the_design(tmp_path: Path) -> None:
    settings = loaded(tmp_path, GOOD)
    assert settings.listen.mesh == "0.0.0.0:8443"
    assert settings.listen.metrics == "127.0.0.1:9464"
    assert settings.lifetimes.svid == timedelta(hours=1)
    assert settings.lifetimes.intermediate == timedelta(days=7)
    assert settings.policy.default == "deny"
    assert settings.policy.root_namespace == "meshca"
    assert isinstance(settings.upstream, SelfSigned)
    assert settings.key_at_rest == KeysInMemory(kind="memory")
    cluster = settings.clusters[0]
    assert cluster.validation == "jwks"
    assert cluster.identity == "spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}"
    assert cluster.allow.namespaces == ["*"]


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    settings = loaded(tmp_path, GOOD)
    assert settings.data_dir == tmp_path / "data"
    assert settings.admin_socket == tmp_path / "data" / "admin.sock"
    assert settings.database_url == f"sqlite:///{tmp_path}/data/meshca.db"
    assert settings.clusters[0].keys is not None
    assert settings.clusters[0].keys.file == tmp_path / "jwks.json"


def test_a_file_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(InvalidDocument, match="No such file"):
        load(tmp_path / "none.yaml", {})


def test_a_file_that_is_not_text_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "meshca.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidDocument, match="cannot be read"):
        load(tmp_path / "meshca.yaml", {})


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    environment = {
        "MESHCA_TRUST_DOMAIN": "other.org",
        "MESHCA_LISTEN_MESH": "127.0.0.1:1",
        "MESHCA_LIFETIMES_SVID": "30m",
        "MESHCA_DATABASE": "postgresql+psycopg://u:secret@db/meshca",
        "MESHCA_CONFIG": "ignored",
    }
    settings = loaded(tmp_path, GOOD + "lifetimes: {svid: 1h}\n", environment)
    assert settings.trust_domain == "other.org"
    assert settings.listen.mesh == "127.0.0.1:1"
    assert settings.lifetimes.svid == timedelta(minutes=30)
    assert settings.database == "postgresql+psycopg://u:secret@db/meshca"


def test_the_environment_reaches_into_the_upstream(tmp_path: Path) -> None:
    text = edited("{kind: self_signed}", "{kind: disk, root: r, root_key: k}")
    settings = loaded(tmp_path, text, {"MESHCA_UPSTREAM_PASSPHRASE_FILE": "/run/pass"})
    assert isinstance(settings.upstream, Disk)
    assert settings.upstream.passphrase_file == Path("/run/pass")


def test_vault_is_asked_where_the_design_says(tmp_path: Path) -> None:
    rest = "address: https://vault:8200, auth: {method: jwt, role: meshca, token_file: t}"
    settings = loaded(tmp_path, upstream("vault", rest), {"MESHCA_UPSTREAM_NAMESPACE": "team/a"})
    assert isinstance(settings.upstream, Vault)
    assert (settings.upstream.mount, settings.upstream.issuer) == ("pki", "default")
    assert settings.upstream.namespace == "team/a"
    assert isinstance(settings.upstream.auth, VaultJwt)
    assert settings.upstream.auth.token_file == tmp_path / "t"


def test_the_environment_reaches_into_the_login(tmp_path: Path) -> None:
    rest = "address: https://vault:8200, auth: {method: approle, secret_id_file: s}"
    settings = loaded(tmp_path, upstream("vault", rest), {"MESHCA_UPSTREAM_AUTH_ROLE_ID": "r"})
    assert isinstance(settings.upstream, Vault)
    assert isinstance(settings.upstream.auth, VaultAppRole)
    assert settings.upstream.auth.role_id == "r"


def test_a_key_may_be_on_a_token(tmp_path: Path) -> None:
    settings = loaded(tmp_path, edited("{kind: self_signed}", DISK + f"pkcs11: {TOKEN}}}"))
    assert isinstance(settings.upstream, Disk)
    assert settings.upstream.pkcs11 is not None
    assert settings.upstream.pkcs11.module == tmp_path / "m.so"
    assert settings.upstream.pkcs11.pin_file == tmp_path / "pin"


def test_a_mistake_in_the_environment_names_the_key(tmp_path: Path) -> None:
    ((path, _, message),) = problems(tmp_path, GOOD, {"MESHCA_LISTEN_METRICS": "x"})
    assert path == "listen.metrics"
    assert "is not HOST:PORT" in message


def test_no_problem_repeats_a_secret(tmp_path: Path) -> None:
    ((_, _, message),) = problems(tmp_path, GOOD, {"MESHCA_DATABASE": "mysql://u:hunter2@db"})
    assert "hunter2" not in message
