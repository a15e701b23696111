"""What deploy/vault/ prepares lets meshca do what it must, and nothing else."""

from typing import Any

import pytest
import urllib3

from tests.builders import make_csr
from tests.ca.vault.world import ALL, Prepared, prepare

WANTED: dict[str, Any] = {
    "csr": make_csr().decode(),
    "common_name": "example.org intermediate",
    "ttl": "168h",
    "max_path_length": "0",
    "uri_sans": "spiffe://example.org",
    "exclude_cn_from_sans": True,
    "format": "pem",
}
SIGN = "pki/root/sign-intermediate"
TRANSIT: dict[str, Any] = {
    "input": "A" * 43 + "=",
    "prehashed": True,
    "key_version": 1,
    "marshaling_algorithm": "asn1",
}
SIGNATURE = "transit/sign/meshca/sha2-256"
DENIED = [
    ("another path length", SIGN, {**WANTED, "max_path_length": "1"}),
    ("a path length as number", SIGN, {**WANTED, "max_path_length": 0}),
    ("no path length", SIGN, {k: v for k, v in WANTED.items() if k != "max_path_length"}),
    ("a longer life", SIGN, {**WANTED, "ttl": "8760h"}),
    ("another trust domain", SIGN, {**WANTED, "uri_sans": "spiffe://example.com"}),
    ("two names", SIGN, {**WANTED, "uri_sans": "spiffe://example.org,spiffe://example.com"}),
    ("a DNS name", SIGN, {**WANTED, "alt_names": "example.org"}),
    ("another common name", SIGN, {**WANTED, "common_name": "evil.com"}),
    ("the CSR's own values", SIGN, {**WANTED, "use_csr_values": True}),
    ("another issuer", "pki/issuer/default/sign-intermediate", WANTED),
    ("another root", "pki/root/generate/internal", {"common_name": "x"}),
    ("a leaf", "pki/sign-verbatim", {"csr": WANTED["csr"]}),
    ("a revocation", "pki/revoke", {"serial_number": "00"}),
    ("a cross-signed root", "pki/intermediate/cross-sign", {"common_name": "x"}),
    ("an issuer", "pki/issuers/import/cert", {"pem_bundle": "x"}),
    ("another default", "pki/root/replace", {"default": "x"}),
    ("another policy", "sys/policies/acl/meshca", {"policy": 'path "*" {}'}),
    ("a signature by another hash", "transit/sign/meshca/sha2-512", TRANSIT),
    ("a signature over what is not hashed", SIGNATURE, {**TRANSIT, "prehashed": False}),
    ("a signature by any version", SIGNATURE, {k: TRANSIT[k] for k in ("input", "prehashed")}),
    ("another key", "transit/keys/other", {"type": "ecdsa-p256"}),
    ("a key that may be exported", "transit/keys/meshca/config", {"exportable": True}),
    ("a key wrapped for no authority", "transit/encrypt/meshca-keys", {"plaintext": "AA=="}),
    ("a new wrapping key", "transit/keys/meshca-keys/rotate", {}),
    ("a token for others", "auth/token/create", {}),
]


def ask(vault: Prepared, path: str, body: dict[str, Any]) -> int:
    """Return the status of a request with a token under our policy."""
    url = f"{vault.server.address}/v1/{path}"
    headers = {"X-Vault-Token": vault.token()}
    return urllib3.request("POST", url, json=body, headers=headers, retries=False).status


def test_the_policy_allows_what_we_ask_for(vault: Prepared) -> None:
    assert ask(vault, SIGN, WANTED) == 200
    assert ask(vault, SIGNATURE, TRANSIT) == 200


@pytest.mark.parametrize(("path", "body"), [row[1:] for row in DENIED], ids=[r[0] for r in DENIED])
def test_the_policy_denies(vault: Prepared, path: str, body: dict[str, Any]) -> None:
    assert ask(vault, path, body) == 403


def test_running_the_script_again_keeps_the_root(vault: Prepared) -> None:
    before = vault.server.call("LIST", "pki/issuers")["data"]["keys"]

    again = prepare(vault.server, AUTH="approle", **ALL)

    assert vault.server.call("LIST", "pki/issuers")["data"]["keys"] == before
    assert again.upstream == vault.upstream


def test_a_root_added_later_does_not_become_the_default(vault: Prepared) -> None:
    configured = vault.server.call("GET", "pki/config/issuers")["data"]

    assert configured["default_follows_latest_issuer"] is False
