"""Configurations that are refused, each for one reason, by the key that is wrong."""

from pathlib import Path

import pytest

from tests.meshca.configuration import DISK, GOOD, TOKEN, edited, problems, upstream


def test_every_mistake_is_reported_at_once_with_its_line(tmp_path: Path) -> None:
    text = """\
trust_domain: Example.org
data_dir: 7
listen: {mesh: nowhere, console: 127.0.0.1:1}
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
        ("listen.console", 3),
        ("lifetimes.svid", 5),
        ("lifetimes.intermediate", 6),
        ("upstream", 7),
        ("clusters[0].audiences", 11),
        ("clusters[0].validation", 12),
        ("clusters[0].keys", 13),
        ("colour", 14),
    }


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
    (
        "a time to keep that is none",
        GOOD + "audit: {retention: {kinds: {read: 3 months}}}\n",
        "audit.retention.kinds.read",
        "is not a duration",
    ),
    (
        "a time to keep that is a number",
        GOOD + "audit: {retention: {default: 7}}\n",
        "audit.retention.default",
        "write how long to keep as text",
    ),
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
