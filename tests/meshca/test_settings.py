"""Configuration: every mistake at once, with file, line and key; the environment wins."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from meshca.errors import InvalidDocument
from meshca.settings import Disk, KeysInMemory, SelfSigned, Settings, load
from meshca.settings_vault import Vault, VaultAppRole, VaultJwt

GOOD = """\
trust_domain: example.org
data_dir: data
upstream: {kind: self_signed}
clusters:
  - name: demo
    issuer: https://demo.invalid
    audiences: [meshca]
    keys: {file: jwks.json}
"""


def loaded(tmp_path: Path, text: str, environment: Mapping[str, str] | None = None) -> Settings:
    path = tmp_path / "meshca.yaml"
    path.write_text(text)
    return load(path, environment or {})


def problems(
    tmp_path: Path, text: str, environment: Mapping[str, str] | None = None
) -> list[tuple[str, int, str]]:
    with pytest.raises(InvalidDocument) as caught:
        loaded(tmp_path, text, environment)
    assert {p.file for p in caught.value.problems} == {str(tmp_path / "meshca.yaml")}
    return [(p.path, p.line, p.message) for p in caught.value.problems]


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


def upstream(kind: str, rest: str) -> str:
    """Return GOOD with another upstream."""
    return GOOD.replace("{kind: self_signed}", f"{{kind: {kind}, {rest}}}")


def test_every_mistake_is_reported_at_once_with_its_line(tmp_path: Path) -> None:
    text = """\
trust_domain: Example.org
data_dir: 7
listen: {mesh: nowhere, admin: 127.0.0.1:1}
lifetimes:
  svid: 90
  intermediate: 1x
upstream: {kind: disk, root: root.pem}
clusters:
  - name: demo
    issuer: https://demo.invalid
    audiences: []
    validation: maybe
    keys: {file: a, url: https://x}
colour: blue
"""
    found = problems(tmp_path, text)
    assert {(path, line) for path, line, _ in found} == {
        ("trust_domain", 1),
        ("data_dir", 2),
        ("listen.mesh", 3),
        ("listen.admin", 3),
        ("lifetimes.svid", 5),
        ("lifetimes.intermediate", 6),
        ("upstream", 7),
        ("clusters[0].audiences", 11),
        ("clusters[0].validation", 12),
        ("clusters[0].keys", 13),
        ("colour", 14),
    }


def edited(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


DISK = "{kind: disk, root: r, chain: c, "
TOKEN = "{module: m.so, token_label: meshca, key_label: intermediate, pin_file: pin}"
LIFETIMES = "lifetimes: {{svid: {svid}, intermediate: {intermediate}{more}}}\n"

SINGLE = [
    ("unknown key", GOOD + "colour: blue\n", "colour", "unknown key"),
    ("missing key", edited("trust_domain: example.org\n", ""), "trust_domain", "missing"),
    (
        "an SVID outlives a sixth of the intermediate",
        GOOD + "lifetimes: {svid: 2h, intermediate: 11h}\n",
        "lifetimes",
        "at least six times as long as svid: at least 12h",
    ),
    (
        "svid over its maximum",
        GOOD + "lifetimes: {svid: 25h, intermediate: 30d}\n",
        "lifetimes",
        "longer than svid_maximum",
    ),
    ("svid too short", GOOD + "lifetimes: {svid: 9s}\n", "lifetimes", "shorter than 10s"),
    ("backdate too long", GOOD + "lifetimes: {backdate: 2h}\n", "lifetimes", "backdate is longer"),
    ("a zero duration", GOOD + "lifetimes: {svid: 0s}\n", "lifetimes.svid", "is zero"),
    ("a number as duration", GOOD + "lifetimes: {svid: 60}\n", "lifetimes.svid", "as text"),
    ("port too large", GOOD + "listen: {mesh: a:65536}\n", "listen.mesh", "is not HOST:PORT"),
    ("no port", GOOD + "listen: {mesh: localhost}\n", "listen.mesh", "is not HOST:PORT"),
    ("not a database", GOOD + "database: mysql://x\n", "database", "write sqlite:///"),
    (
        "a URL with credentials",
        edited("{file: jwks.json}", '{url: "https://u:p@x/"}'),
        "clusters[0].keys.url",
        "without user",
    ),
    (
        "a trailing newline",
        edited("trust_domain: example.org", 'trust_domain: "example.org\\n"'),
        "trust_domain",
        "characters other than",
    ),
    (
        "two ways to get keys",
        edited("{file: jwks.json}", "{file: a, api_server: {}}"),
        "clusters[0].keys",
        "exactly one",
    ),
    ("no way to get keys", edited("{file: jwks.json}", "{}"), "clusters[0].keys", "exactly one"),
    ("no keys", edited("    keys: {file: jwks.json}\n", ""), "clusters[0]", "needs `keys`"),
    ("no audience", edited("[meshca]", "[]"), "clusters[0].audiences", "at least 1"),
    ("an empty audience", edited("[meshca]", "['']"), "clusters[0].audiences[0]", "at least 1"),
    ("no namespaces", GOOD + "    allow: {namespaces: []}\n", "clusters[0].allow.namespaces", "1"),
    ("no clusters", GOOD[: GOOD.index("clusters")] + "clusters: []\n", "clusters", "at least 1"),
    (
        "identities without namespace",
        GOOD + "    identity: spiffe://{trust_domain}/sa/{service_account}\n",
        "clusters[0].identity",
        "callers would share one ID",
    ),
    (
        "identities of another trust domain",
        GOOD + "    identity: spiffe://other/{namespace}/{service_account}\n",
        "clusters[0].identity",
        "must begin with",
    ),
    (
        "an unknown field in the identity",
        GOOD + "    identity: 'spiffe://{trust_domain}/{namespace}/{service_account}/{pod}'\n",
        "clusters[0].identity",
        "unknown field",
    ),
    (
        "an expression in the identity",
        GOOD + "    identity: 'spiffe://{trust_domain}/{namespace.x}/{service_account}'\n",
        "clusters[0].identity",
        "unknown field",
    ),
    (
        "an identity that is no SPIFFE ID",
        GOOD + "    identity: 'spiffe://{trust_domain}//{namespace}/{service_account}'\n",
        "clusters[0].identity",
        "empty segment",
    ),
    (
        "a public URL without a door",
        GOOD + "public_url: http://x\n",
        "",
        "nothing would answer",
    ),
    (
        "a bundle endpoint for the web without its certificate",
        GOOD + "bundle_endpoint: {listen: 'a:1', profile: https_web}\n",
        "bundle_endpoint",
        "needs `certificate` and `key`",
    ),
    (
        "a bundle endpoint with our SVID and another certificate",
        GOOD + "bundle_endpoint: {listen: 'a:1', profile: https_spiffe, certificate: c, key: k}\n",
        "bundle_endpoint",
        "shows our own SVID",
    ),
    (
        "an unknown profile of bundle endpoints",
        GOOD + "bundle_endpoint: {listen: 'a:1', profile: http}\n",
        "bundle_endpoint.profile",
        "'https_web' or 'https_spiffe'",
    ),
    (
        "a publication of nothing",
        GOOD + "publish: [{cluster: here}]\n",
        "publish[0]",
        "give `config_map`",
    ),
    (
        "a publication to no namespace",
        GOOD + "publish: [{cluster: here, config_map: {}}]\n",
        "publish[0].config_map",
        "either `namespaces` or `selector`",
    ),
    (
        "a signer without a domain",
        GOOD + "publish: [{cluster: here, cluster_trust_bundle: {signer_name: mesh}}]\n",
        "publish[0].cluster_trust_bundle.signer_name",
        "pattern",
    ),
    (
        "a cluster published to twice",
        GOOD + "publish:\n" + "  - {cluster: here, config_map: {namespaces: [a]}}\n" * 2,
        "",
        "publish names here twice",
    ),
    ("an unknown upstream", edited("self_signed", "magic"), "upstream", "'self_signed', 'disk'"),
    (
        "half an intermediate",
        edited("{kind: self_signed}", "{kind: disk, root: r, chain: c}"),
        "upstream",
        "`chain` with either `key` or `pkcs11`, or `root_key`",
    ),
    (
        "both an intermediate and the root key",
        edited("{kind: self_signed}", "{kind: disk, root: r, chain: c, key: k, root_key: x}"),
        "upstream",
        "`chain` with either `key` or `pkcs11`, or `root_key`",
    ),
    (
        "keys at rest under nothing known",
        GOOD + "key_at_rest: {kind: magic}\n",
        "key_at_rest",
        "'memory', 'passphrase', 'file'",
    ),
    (
        "keys at rest without the key",
        GOOD + "key_at_rest: {kind: file}\n",
        "key_at_rest.key_file",
        "missing",
    ),
    (
        "Vault over plain http",
        upstream("vault", "address: http://vault:8200, auth: {method: token, token_file: t}"),
        "upstream.address",
        "write https",
    ),
    (
        "an address with a path",
        upstream("vault", "address: https://vault/v1, auth: {method: token, token_file: t}"),
        "upstream.address",
        "without a path",
    ),
    (
        "a way to log in that Vault has not",
        upstream("vault", "address: https://vault, auth: {method: magic}"),
        "upstream.auth",
        "'token', 'approle', 'kubernetes', 'jwt'",
    ),
    (
        "half a login",
        upstream("vault", "address: https://vault, auth: {method: approle, role_id: r}"),
        "upstream.auth.secret_id_file",
        "missing",
    ),
    (
        "a mount that leads elsewhere",
        upstream(
            "vault", "address: https://vault, mount: ../sys, auth: {method: token, token_file: t}"
        ),
        "upstream.mount",
        "pattern",
    ),
    (
        "an intermediate of Vault too short for our SVIDs",
        upstream("vault", "address: https://vault, ttl: 5h, auth: {method: token, token_file: t}"),
        "",
        "upstream.ttl must be six times lifetimes.svid: at least 6h",
    ),
    (
        "Transit without a key",
        upstream("vault_transit", "address: https://vault, auth: {method: token, token_file: t}"),
        "upstream.key_name",
        "missing",
    ),
    (
        "both a key file and a token",
        edited("{kind: self_signed}", DISK + "key: k, pkcs11: " + TOKEN + "}"),
        "upstream",
        "`chain` with either `key` or `pkcs11`",
    ),
    (
        "a passphrase for a token",
        edited("{kind: self_signed}", DISK + "passphrase_file: p, pkcs11: " + TOKEN + "}"),
        "upstream",
        "a token has its `pin_file`",
    ),
    (
        "a token without its PIN",
        edited("{kind: self_signed}", DISK + "pkcs11: {module: m, token_label: t, key_label: k}}"),
        "upstream.pkcs11.pin_file",
        "missing",
    ),
    ("a boolean as name", edited("name: demo", "name: true"), "clusters[0].name", "string"),
    ("an odd server name", GOOD + "server_names: ['a b']\n", "server_names[0]", "pattern"),
    ("a list as whole", "- a\n", "", "must be one YAML mapping"),
    ("two documents", GOOD + "---\n" + GOOD, "", "must be one YAML mapping"),
]


@pytest.mark.parametrize(("name", "text", "path", "said"), SINGLE, ids=[c[0] for c in SINGLE])
def test_refuses_for_this_reason_only(
    tmp_path: Path, name: str, text: str, path: str, said: str
) -> None:
    ((found, _, message),) = problems(tmp_path, text)
    assert found == path
    assert said in message


@pytest.mark.parametrize("what", ["name", "issuer"])
def test_two_clusters_cannot_share_their_name_or_issuer(tmp_path: Path, what: str) -> None:
    other = {"name": "other", "issuer": "https://other.invalid"}
    del other[what]
    second = GOOD[GOOD.index("  - name") :]
    for key, value in other.items():
        second = second.replace({"name": "demo", "issuer": "https://demo.invalid"}[key], value, 1)
    ((_, _, message),) = problems(tmp_path, GOOD + second)
    assert message.startswith(f"two clusters have the {what}")


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
