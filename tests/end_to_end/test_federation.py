"""Two meshes of two trust domains, each with its own server and real Envoys."""

import itertools
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ca.ca_certificate import make_intermediate
from ca.keys import check_public_key, load_private_key
from meshca.clock import SystemClock
from meshca.demo.app import EchoApp
from meshca.demo.ports import free_port
from tests.builders import Pki, make_csr, make_key
from tests.ca.endpoints import leaf, pki_now
from tests.end_to_end.proxies import Proxy
from tests.end_to_end.server import NAMESPACE, RunningServer, allow, spiffe_id
from tests.real_parts import envoy, wait_until

pytestmark = pytest.mark.end_to_end

OURS, THEIRS = "example.org", "partner.test"
_NUMBERS = itertools.count(600)


@contextmanager
def running(directory: Path, trust_domain: str, **endpoint: str) -> Iterator[RunningServer]:
    """Run a server whose bundle endpoint is in https_spiffe, unless `endpoint` says otherwise."""
    address = f"127.0.0.1:{free_port()}"
    settings = {"bundle_endpoint": {"listen": address, "profile": "https_spiffe", **endpoint}}
    server = RunningServer(directory, trust_domain=trust_domain, settings=settings)
    with server:
        yield server


def federate(server: RunningServer, other: RunningServer, *how: str) -> None:
    """Let `server` federate with `other`, whose endpoint is verified as `how` says."""
    endpoint = f"https://{other.settings['bundle_endpoint']['listen']}/bundle.json"
    given = (other.trust_domain, "--endpoint", endpoint, "--reason", "test", *how)
    server.meshca("federation", "add", *given)


def by_seed(other: RunningServer) -> tuple[str, ...]:
    """Return how an https_spiffe endpoint is verified: by the bundle, had over another way."""
    seed = other.directory / "seed.json"
    seed.write_text(other.meshca("bundle", "show", "--format", "spiffe"))
    endpoint_id = f"spiffe://{other.trust_domain}/meshca/server"
    return ("--profile", "https_spiffe", "--endpoint-id", endpoint_id, "--bundle", str(seed))


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[RunningServer, RunningServer]]:
    """Our server, and one of another trust domain."""
    envoy()
    with running(tmp_path / "ours", OURS) as ours, running(tmp_path / "theirs", THEIRS) as theirs:
        yield ours, theirs


def domains(server: RunningServer) -> dict[str, str]:
    """Return the federated domains of `server` and what went wrong with each."""
    listed = server.query("federation", "list")["trust_domains"]
    return {each["trust_domain"]: each["last_error"] for each in listed}


def caller_and_called(
    ours: RunningServer, theirs: RunningServer, app: EchoApp
) -> tuple[Proxy, Proxy]:
    """Return our frontend, which calls their orders, and their orders, which lets it in."""
    policy = allow("frontend", "orders")
    policy["spec"]["rules"][0]["from"][0]["source"]["principals"] = [
        f"{OURS}/ns/{NAMESPACE}/sa/frontend"
    ]
    theirs.apply(policy)
    orders = Proxy(theirs, "orders", app_port=app.port, options=["--federate", OURS])
    return Proxy(ours, "frontend", calls=[orders]), orders


def test_a_call_across_works_after_federation_and_not_before_or_afterwards(
    servers: tuple[RunningServer, RunningServer], app: EchoApp
) -> None:
    ours, theirs = servers
    frontend, orders = caller_and_called(ours, theirs, app)
    with frontend, orders:
        frontend.wait_ready()
        orders.wait_ready()
        port = frontend.outbound["orders"]
        assert frontend.call(port).status_code == 503

        federate(ours, theirs, *by_seed(theirs))
        assert domains(ours) == {THEIRS: ""}
        assert frontend.call(port).status_code == 503  # they do not trust us yet
        federate(theirs, ours, *by_seed(ours))
        wait_until(
            lambda: frontend.call(port).status_code == 200,
            within_seconds=10,
            what="a call across the trust domains",
        )
        caller = frontend.call(port).json()["headers"]["x-forwarded-client-cert"]
        assert f"URI=spiffe://{OURS}/ns/{NAMESPACE}/sa/frontend" in caller

        theirs.meshca("federation", "remove", OURS, "--reason", "test")
        with Proxy(ours, "late", calls=[orders], token=ours.token("frontend")) as late:
            late.wait_ready()
            wait_until(
                lambda: late.call(late.outbound["orders"]).status_code == 503,
                within_seconds=10,
                what="a new connection is refused",
            )
    kinds = [
        entry["details"]["change"]
        for entry in theirs.query("audit", "query", "--kind", "federation_change")["entries"]
    ]
    assert kinds == ["removed", "added"]


def stolen(server: RunningServer) -> Pki:
    """Return the root of `server` with its key, and an intermediate of it that nobody knows of."""
    pki, now = server.config.parent / "pki", SystemClock().now()
    root = x509.load_pem_x509_certificate((pki / "root.pem").read_bytes())
    root_key, key = load_private_key(pki / "root.key"), make_key(number=500)
    intermediate = make_intermediate(
        check_public_key(key.public_key()),
        root=root,
        root_key=root_key,
        trust_domain=server.trust_domain,
        now=now,
        lifetime=timedelta(hours=1),
    )
    return Pki(root, root_key, intermediate, key)


def call_as(proxy: Proxy, pair: tuple[bytes, bytes]) -> int | None:
    """Return the status that a caller with key and chain gets, or None when TLS refuses it."""
    pem = proxy.path.with_name("caller.pem")
    pem.write_bytes(b"".join(reversed(pair)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # who is called is not in question here
    context.load_cert_chain(pem)
    try:
        with httpx.Client(verify=context, trust_env=False, timeout=5) as client:
            return client.get(f"https://127.0.0.1:{proxy.inbound}/items").status_code
    except httpx.TransportError:
        return None


@pytest.fixture
def server_and_partner(tmp_path: Path) -> Iterator[tuple[RunningServer, RunningServer]]:
    """Our server, federated with one whose endpoint has a certificate of the web."""
    envoy()
    web = pki_now("web.test", number=4)
    key, chain = leaf(web, ip="127.0.0.1")
    (tmp_path / "web.pem").write_bytes(chain)
    (tmp_path / "web.key").touch(mode=0o600)
    (tmp_path / "web.key").write_bytes(key)
    (tmp_path / "web-root.pem").write_bytes(web.root.public_bytes(Encoding.PEM))
    files = {"certificate": str(tmp_path / "web.pem"), "key": str(tmp_path / "web.key")}
    with (
        running(tmp_path / "ours", OURS) as ours,
        running(tmp_path / "theirs", THEIRS, profile="https_web", **files) as theirs,
    ):
        federate(ours, theirs, "--ca-file", str(tmp_path / "web-root.pem"))
        yield ours, theirs


def test_the_root_of_another_domain_cannot_speak_for_ours(
    server_and_partner: tuple[RunningServer, RunningServer], app: EchoApp
) -> None:
    """Whoever has their root key is every workload of theirs, and none of ours."""
    ours, theirs = server_and_partner
    assert domains(ours) == {THEIRS: ""}
    policy = allow("frontend", "orders")
    policy["spec"]["rules"][0]["from"][0]["source"]["principals"] = ["*"]
    ours.apply(policy)
    root = stolen(theirs)
    with Proxy(ours, "orders", app_port=app.port, options=["--federate", THEIRS]) as orders:
        orders.wait_ready()
        theirs_for_theirs = leaf(root, uri=spiffe_id("frontend", THEIRS))
        wait_until(
            lambda: call_as(orders, theirs_for_theirs) == 200,
            within_seconds=10,
            what="their frontend is let in",
        )

        assert call_as(orders, leaf(root, uri=spiffe_id("frontend", OURS))) is None
        assert call_as(orders, leaf(root, uri=spiffe_id("frontend", "third.test"))) is None
        assert call_as(orders, leaf(stolen(ours), uri=spiffe_id("frontend", THEIRS))) is None
        # An intermediate that our root signed behind our back has no list: refused as well.
        assert call_as(orders, leaf(stolen(ours), uri=spiffe_id("frontend", OURS))) is None
        assert call_as(orders, issued(ours, "frontend")) == 200


def issued(server: RunningServer, account: str) -> tuple[bytes, bytes]:
    """Return key and chain of a workload of `server`, as it certified them."""
    key = make_key(number=next(_NUMBERS))
    (server.directory / "t").write_text(server.token(account))
    (server.directory / "csr.pem").write_bytes(make_csr(key))
    (server.directory / "bundle.pem").write_text(server.meshca("bundle", "show"))
    files = ("--csr", "csr.pem", "--token-file", "t", "--trust-bundle", "bundle.pem")
    chain = server.meshca("svid", "issue", *files)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private, chain.encode()


def test_a_revoked_caller_of_ours_is_refused_beside_another_trust_domain(
    server_and_partner: tuple[RunningServer, RunningServer], app: EchoApp
) -> None:
    """The validator of several domains checks whole chains: our root's list is there, too."""
    ours, theirs = server_and_partner
    policy = allow("frontend", "orders")
    policy["spec"]["rules"][0]["from"][0]["source"]["principals"] = ["*"]
    ours.apply(policy)
    thief, other = issued(ours, "frontend"), issued(ours, "frontend")
    partner = leaf(stolen(theirs), uri=spiffe_id("frontend", THEIRS))
    with Proxy(ours, "orders", app_port=app.port, options=["--federate", THEIRS]) as orders:
        orders.wait_ready()
        assert [call_as(orders, pair) for pair in (thief, other, partner)] == [200, 200, 200]

        serial = f"{x509.load_pem_x509_certificate(thief[1]).serial_number:x}"
        ours.meshca("svid", "revoke", "--serial", serial, "--why", "test")

        wait_until(
            lambda: call_as(orders, thief) is None, within_seconds=10, what="the thief is refused"
        )
        assert [call_as(orders, pair) for pair in (other, partner)] == [200, 200]


def test_a_domain_without_roots_is_trusted_for_nothing_by_envoy(
    tmp_path: Path, app: EchoApp
) -> None:
    """A proxy that asks for the other domain's roots by name starts, and trusts nobody by it."""
    partner = pki_now(THEIRS, number=5)
    seed = tmp_path / "seed.pem"
    seed.write_bytes(partner.root.public_bytes(Encoding.PEM))
    add = ("federation", "add", THEIRS, "--endpoint", "https://127.0.0.1:1/", "--reason", "test")
    theirs = leaf(partner, uri=spiffe_id("frontend", THEIRS))
    envoy()
    with running(tmp_path / "ours", OURS) as ours:
        policy = allow("frontend", "orders")
        policy["spec"]["rules"][0]["from"][0]["source"]["principals"] = ["*"]
        ours.apply(policy)
        ours.meshca(*add)
        orders = Proxy(ours, "orders", app_port=app.port, options=["--federate", THEIRS])
        orders.path.write_text(orders.path.read_text().replace('"ALL"', f'"spiffe://{THEIRS}"'))
        with orders:
            orders.wait_ready()
            forged = leaf(stolen(ours), uri=spiffe_id("frontend", OURS))
            assert [call_as(orders, pair) for pair in (theirs, forged)] == [None, None]

            ours.meshca(*add, "--replace", "--bundle", str(seed))
            wait_until(
                lambda: call_as(orders, theirs) == 200, within_seconds=10, what="theirs is let in"
            )
            assert call_as(orders, forged) is None

            ours.meshca("federation", "remove", THEIRS, "--reason", "test")
            wait_until(
                lambda: call_as(orders, theirs) is None, within_seconds=10, what="theirs is refused"
            )
            assert call_as(orders, forged) is None
