"""Administration over the network: a real server, tokens of a test issuer, SVIDs that it issued."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ca.keys import private_key_pem
from meshca.clock import SystemClock
from meshca.demo.ports import free_port
from tests.end_to_end.server import RunningServer, allow, spiffe_id
from tests.identity.builders import EC_KEY, jwk, jwks
from tests.real_parts import wait_until

ISSUER = "https://idp.test"
OIDC = {"issuer": ISSUER, "audience": "meshca", "jwks": {"file": "idp.json"}}
ROLES = {
    "auditor": ["oidc-group:auditors"],
    "operator": [spiffe_id("deployer"), spiffe_id("thief")],
    "application": ["spiffe://example.org/ns/shop/sa/orders"],
}


class Doors:
    """A server with its admin door over TLS, and files to come to it with."""

    def __init__(self, server: RunningServer, port: int) -> None:
        self.server = server
        self.url = f"https://localhost:{port}"

    def token(self, person: str, **changes: Any) -> Path:
        """Return a file with a token of `person`."""
        now = int(SystemClock().now().timestamp())
        claims = {"iss": ISSUER, "aud": "meshca", "sub": person, "iat": now, "exp": now + 600}
        text = jwt.encode({**claims, **changes}, EC_KEY, "ES256", {"kid": "one"})
        path = self.server.directory / f"{person}.token"
        path.write_text(text)
        return path

    def svid(self, service_account: str) -> Path:
        """Return a file with a fresh SVID of its own key, chain and key together."""
        directory = self.server.directory
        key = ec.generate_private_key(ec.SECP256R1())
        csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        (directory / "csr").write_bytes(csr.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
        (directory / "token").write_text(self.server.token(service_account))
        files = ("--csr", str(directory / "csr"), "--token-file", str(directory / "token"))
        chain = self.server.meshca("svid", "issue", *files)
        path = directory / f"{service_account}.pem"
        path.write_text(chain + private_key_pem(key).decode())
        return path

    def run(self, *arguments: str, **files: Path) -> Any:
        """Run `meshca` against the door, proving oneself with `token_file` or `cert`."""
        environment = {f"MESHCA_{name.upper()}": str(path) for name, path in files.items()}
        given = {"MESHCA_URL": self.url, "MESHCA_CA": str(self.server.roots), **environment}
        return self.server.run(*arguments, environment=given)

    def client(self, cert: Path | None = None) -> httpx.Client:
        """Return a client of the door."""
        context = ssl.create_default_context(cafile=str(self.server.roots))
        if cert is not None:
            context.load_cert_chain(cert)
        return httpx.Client(base_url=f"{self.url}/v1", verify=context, trust_env=False)

    def entries(self, kind: str) -> list[dict[str, Any]]:
        """Return what the log has of `kind`, the newest first, as root reads it."""
        found = self.server.query("audit", "query", "--kind", kind, "--limit", "1000")
        return list(found["entries"])


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    server, port = RunningServer(tmp_path_factory.mktemp("doors")), free_port()
    server.settings = {
        "listen": {
            "mesh": f"127.0.0.1:{server.port}",
            "metrics": f"127.0.0.1:{server.metrics_port}",
            "admin": f"127.0.0.1:{port}",
        },
        "admin": {"oidc": OIDC, "roles": ROLES, "applications": {spiffe_id("orders"): ["shop"]}},
    }
    server.make()
    (server.config.parent / "idp.json").write_bytes(jwks(jwk(EC_KEY, "one")))
    try:
        server.start()
        yield Doors(server, port)
    finally:
        server.__exit__()


def test_an_auditor_by_token_reads_and_cannot_change(doors: Doors) -> None:
    ann = doors.token("ann", groups=["auditors"])
    who = orjson.loads(doors.run("whoami", "-o", "json", token_file=ann).stdout)
    assert (who["actor"], who["proof"], who["roles"]) == ("oidc:ann", "oidc", ["auditor"])
    listed = doors.run("svid", "list", "-o", "json", token_file=ann)
    assert orjson.loads(listed.stdout)["svids"], listed.stderr
    changed = doors.run("svid", "renew", spiffe_id("orders"), token_file=ann)
    assert (changed.returncode, "needs admin or operator" in changed.stderr) == (1, True)
    (read,) = [e for e in doors.entries("read") if e["details"]["route"] == "GET /v1/svids"][:1]
    assert (read["actor"], read["details"]["proof"]) == ("oidc:ann", "oidc")
    assert "oidc:ann" in {entry["actor"] for entry in doors.entries("login")}


def test_tokens_that_are_not_good_are_refused(doors: Doors) -> None:
    for changes in ({"aud": "another"}, {"exp": 1}, {"iss": "https://evil.test"}):
        bad = doors.token("eve", groups=["auditors"], **changes)
        refused = doors.run("svid", "list", token_file=bad)
        assert (refused.returncode, "authentication failed" in refused.stderr) == (1, True)
    nobody = doors.run("svid", "list")
    assert "--token-file" in nobody.stderr

    def reasons() -> set[str]:
        return {entry["reason"] for entry in doors.entries("refusal")}

    expected = {"wrong_audience", "expired", "unknown_issuer", "no_proof"}
    wait_until(lambda: reasons() >= expected, within_seconds=10, what="refusals on record")


def test_a_service_operates_by_its_svid_until_that_is_revoked(doors: Doors) -> None:
    thief = doors.svid("thief")
    own = ("svid", "renew", "spiffe://example.org/meshca/server")
    done = doors.run(*own, cert=thief)
    assert done.returncode == 0, done.stderr
    assert doors.entries("renewal")[0]["actor"] == spiffe_id("thief")
    with doors.client(thief) as open_connection:
        assert open_connection.get("/status").status_code == 200
        revoke = ("svid", "revoke", "--spiffe-id", spiffe_id("thief"), "--why", "stolen")
        doors.server.meshca(*revoke, "--reason", "keyCompromise")
        assert open_connection.get("/status").status_code == 401
    refused = doors.run(*own, cert=thief)
    assert (refused.returncode, "authentication failed" in refused.stderr) == (1, True)


def test_a_browser_shows_its_svid_alone_and_is_known(doors: Doors, tmp_path: Path) -> None:
    whole = doors.svid("deployer").read_text()
    leaf, *_, key = (f"-----BEGIN {each}" for each in whole.split("-----BEGIN ")[1:])
    (tmp_path / "alone.pem").write_text(leaf + key)
    with doors.client(tmp_path / "alone.pem") as browser:
        who = browser.get("/whoami", headers={"sec-fetch-site": "same-origin"}).json()
        page = browser.get(f"{doors.url}/console/", headers={"sec-fetch-site": "none"})
    assert (who["actor"], who["roles"]) == (spiffe_id("deployer"), ["operator"])
    assert page.headers["content-type"] == "text/html; charset=utf-8"


def test_an_svid_of_somebody_else_is_no_role(doors: Doors) -> None:
    refused = doors.run("status", cert=doors.svid("stranger"))
    assert "has no role here" in refused.stderr


def test_a_certificate_of_another_mesh_does_not_get_through_the_handshake(
    doors: Doors, tmp_path: Path
) -> None:
    with RunningServer(tmp_path / "other") as other:
        cert = Doors(other, 1).svid("deployer")
    with doors.client(cert) as client, pytest.raises(httpx.TransportError):
        client.get("/status")
    wait_until(
        lambda: "untrusted" in {entry["reason"] for entry in doors.entries("refusal")},
        within_seconds=10,
        what="the refused handshake on record",
    )


def asked(method: str, caller: str, namespace: str = "shop") -> dict[str, Any]:
    """Return a request to `orders` in the shape of `authz check`."""
    return {
        "id": f"{method} {caller}",
        "source": {"principal": spiffe_id(caller)},
        "destination": {"namespace": namespace, "labels": {"app": "orders"}, "port": 8080},
        "http": {"method": method, "path": "/items"},
    }


def test_an_application_is_answered_as_the_engine_decides(doors: Doors) -> None:
    doors.server.apply(allow("frontend", "orders", methods=["GET"]))
    requests = [asked(m, c) for m in ("GET", "POST") for c in ("frontend", "batch")]
    batch = doors.server.directory / "batch.jsonl"
    batch.write_bytes(b"\n".join(orjson.dumps(each) for each in requests))
    expected = doors.server.meshca("authz", "check", "--batch", str(batch)).splitlines()
    with doors.client(doors.svid("orders")) as application:
        answer = application.post("/authz/check", json={"requests": requests}).json()
        assert answer["answers"] == [orjson.loads(line) for line in expected]
        assert [each["verdict"] for each in answer["answers"]] == ["allow", "deny", "deny", "deny"]
        elsewhere = asked("GET", "frontend", namespace="bank")
        assert application.post("/authz/check", json=elsewhere).status_code == 403
        assert application.get("/policies").status_code == 403

    def doors_of_decisions() -> set[str]:
        found = doors.server.query("authz", "decisions", "--since", "5m")
        return {each["door"] for each in found["decisions"]}

    wait_until(
        lambda: "application" in doors_of_decisions(),
        within_seconds=20,
        what="the application's denials on record",
    )


def test_plain_http_gets_nothing(doors: Doors) -> None:
    with httpx.Client(trust_env=False) as client, pytest.raises(httpx.TransportError):
        client.get(doors.url.replace("https", "http") + "/v1/status")
