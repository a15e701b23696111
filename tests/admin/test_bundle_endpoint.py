"""The bundle endpoint over real TLS, in both profiles, asked as another trust domain asks."""

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from admin.public import create_bundle_app
from admin.serve import serve_tcp
from admin.tls import CertificateFiles, ServerTls
from ca.bundle import TrustBundle
from ca.federation.document import read_bundle
from ca.federation.endpoint import BundleEndpoints
from ca.federation.store import Profile, Relation
from ca.keys import private_key_pem
from meshca.errors import CannotListen
from sds.server_identity import ServerIdentity
from tests.admin.test_doors import get
from tests.builders import make_key
from tests.ca.endpoints import ENDPOINT_ID, PARTNER, leaf, pki_now

PKI, OTHER, WEB = pki_now(), pki_now(number=2), pki_now("web.test", number=4)
BUNDLE = TrustBundle(PARTNER, (PKI.root,), 7)


async def fetch(address: str, profile: Profile, roots: Sequence[x509.Certificate] = ()) -> bytes:
    """Ask the endpoint at `address` as a federated trust domain does."""
    is_web = profile == "https_web"
    trusted = WEB.root.public_bytes(Encoding.PEM).decode() if is_web else ""
    relation = Relation(
        PARTNER, f"https://{address}/bundle.json", profile, "" if is_web else ENDPOINT_ID, trusted
    )
    return await BundleEndpoints().fetch(relation, roots)


def write_pair(directory: Path, pair: tuple[bytes, bytes]) -> tuple[Path, Path]:
    """Write a certificate and its key, as a renewal does, and return where."""
    certificate, key = directory / "tls.pem", directory / "tls.key"
    key.unlink(missing_ok=True)
    key.touch(mode=0o600)
    key.write_bytes(pair[0])
    certificate.write_bytes(pair[1])
    return certificate, key


def test_https_web_shows_the_operators_certificate(tmp_path: Path) -> None:
    async def story() -> bytes:
        tls = ServerTls()
        CertificateFiles(*write_pair(tmp_path, leaf(WEB, ip="127.0.0.1")), tls).load()
        app = create_bundle_app(lambda: BUNDLE)
        async with serve_tcp(app, "127.0.0.1:0", key="x", tls=tls.context) as address:
            return await fetch(address, "https_web")

    document = asyncio.run(story())

    assert read_bundle(document, PARTNER).sequence == 7


def test_https_spiffe_shows_our_svid_and_follows_its_renewal() -> None:
    async def story() -> None:
        identity, tls = ServerIdentity(lambda: b""), ServerTls()
        identity.replace(*leaf(PKI, uri=ENDPOINT_ID))
        identity.follow(tls.replace)
        app = create_bundle_app(lambda: BUNDLE)
        async with serve_tcp(app, "127.0.0.1:0", key="x", tls=tls.context) as address:
            assert await fetch(address, "https_spiffe", (PKI.root,)) == BUNDLE.spiffe_json()

            identity.replace(*leaf(OTHER, uri=ENDPOINT_ID))

            assert await fetch(address, "https_spiffe", (OTHER.root,)) == BUNDLE.spiffe_json()

    asyncio.run(story())


def test_files_that_change_are_shown_and_bad_ones_are_not(tmp_path: Path) -> None:
    async def story() -> None:
        tls = ServerTls()
        files = CertificateFiles(*write_pair(tmp_path, leaf(WEB, dns="old.test")), tls)
        files.load()
        app = create_bundle_app(lambda: BUNDLE)
        async with serve_tcp(app, "127.0.0.1:0", key="x", tls=tls.context) as address:
            write_pair(tmp_path, leaf(WEB, ip="127.0.0.1"))
            files.load()
            assert await fetch(address, "https_web") == BUNDLE.spiffe_json()

            _, chain = leaf(OTHER, dns="stranger.test")
            write_pair(tmp_path, (private_key_pem(make_key(number=301)), chain))
            with pytest.raises(CannotListen, match="not a chain and its key"):
                files.load()

            assert await fetch(address, "https_web") == BUNDLE.spiffe_json()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("mode", "key", "said"),
    [(0o644, b"", "others can read it"), (0o600, b"not a key", "not a chain and its key")],
)
def test_a_key_that_cannot_be_used_does_not_start(
    tmp_path: Path, mode: int, key: bytes, said: str
) -> None:
    private, chain = leaf(WEB, ip="127.0.0.1")
    certificate, path = write_pair(tmp_path, (key or private, chain))
    path.chmod(mode)

    with pytest.raises(CannotListen, match=said):
        CertificateFiles(certificate, path, ServerTls()).load()


def test_tls_1_1_is_refused(tmp_path: Path) -> None:
    assert ServerTls().context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_plain_http_gets_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        tls = ServerTls()
        tls.replace(*leaf(PKI, uri=ENDPOINT_ID))
        app = create_bundle_app(lambda: BUNDLE)
        async with (
            serve_tcp(app, "127.0.0.1:0", key="x", tls=tls.context) as address,
            httpx.AsyncClient(trust_env=False) as client,
        ):
            with pytest.raises(httpx.TransportError):
                await client.get(f"http://{address}/bundle.json")

    asyncio.run(story())


def test_the_endpoint_has_the_document_and_nothing_else() -> None:
    app = create_bundle_app(lambda: BUNDLE)

    for path in ("/", "/bundle.json"):
        response = get(app, path)
        assert response.headers["content-type"] == "application/json"  # F-20
        assert response.content == BUNDLE.spiffe_json()
    for path in ("/bundle.pem", "/crl/x.crl", "/v1/status", "/metrics", "/docs"):
        assert get(app, path).status_code == 404
