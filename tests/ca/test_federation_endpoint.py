"""Asking a real bundle endpoint over TLS: who may answer, and what is not accepted as an answer."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.federation.document import MAXIMUM_BYTES
from ca.federation.endpoint import BundleEndpoints, check_url
from ca.federation.store import Profile, Relation
from meshca.errors import MeshcaError, ProofRefused, RequestRefused, Unavailable
from tests.builders import Pki
from tests.ca.endpoints import ENDPOINT_ID, PARTNER, Served, https_server, leaf, pki_now

WEB = pki_now("web.test", number=4)
PKI = pki_now()


def web_roots(pki: Pki = WEB) -> str:
    return pki.root.public_bytes(Encoding.PEM).decode()


def ask(
    directory: Path,
    pair: tuple[bytes, bytes],
    served: Served,
    *,
    profile: Profile = "https_web",
    endpoint_id: str = "",
    roots: Sequence[x509.Certificate] = (),
    trusted: str = "",
    seconds: float = 10.0,
) -> bytes:
    """Serve `served` with the certificate `pair`, and ask once."""

    async def story() -> bytes:
        async with https_server(directory, *pair, served):
            relation = Relation(PARTNER, served.url, profile, endpoint_id, trusted)
            return await BundleEndpoints(seconds).fetch(relation, roots)

    return asyncio.run(story())


def ask_web(directory: Path, served: Served) -> bytes:
    return ask(directory, leaf(WEB, ip="127.0.0.1"), served, trusted=web_roots())


def ask_spiffe(
    directory: Path,
    pair: tuple[bytes, bytes],
    roots: Sequence[x509.Certificate] = (PKI.root,),
    endpoint_id: str = ENDPOINT_ID,
) -> bytes:
    return ask(
        directory,
        pair,
        Served(b"body"),
        profile="https_spiffe",
        endpoint_id=endpoint_id,
        roots=roots,
    )


def test_https_web_takes_the_answer_of_the_named_server(tmp_path: Path) -> None:
    served = Served(b'{"keys": []}')

    assert ask_web(tmp_path, served) == b'{"keys": []}'
    assert served.requests[0].startswith(b"GET /bundle.json ")


@pytest.mark.parametrize(
    ("names", "trusted"),
    [
        ({"dns": "other.test"}, web_roots()),
        ({"uri": ENDPOINT_ID}, web_roots()),
        ({"ip": "127.0.0.1"}, web_roots(PKI)),
        ({"ip": "127.0.0.1"}, ""),
    ],
    ids=["another name", "a SPIFFE ID only", "another root", "not a root of the system"],
)
def test_https_web_refuses_a_server_with(
    tmp_path: Path, names: dict[str, str], trusted: str
) -> None:
    served = Served()

    with pytest.raises(ProofRefused) as refused:
        ask(tmp_path, leaf(WEB, **names), served, trusted=trusted)

    assert refused.value.reason == "untrusted_endpoint"
    assert served.requests == []


def test_https_spiffe_takes_the_answer_of_the_agreed_identity(tmp_path: Path) -> None:
    assert ask_spiffe(tmp_path, leaf(PKI, uri=ENDPOINT_ID)) == b"body"


@pytest.mark.parametrize(
    ("names", "pki", "reason"),
    [
        ({"uri": f"spiffe://{PARTNER}/other"}, PKI, "wrong_endpoint"),
        ({"uri": "spiffe://third.test/meshca/server"}, PKI, "wrong_endpoint"),
        ({"dns": PARTNER}, PKI, "not_an_svid"),
        ({"uri": ENDPOINT_ID}, WEB, "untrusted_endpoint"),
    ],
    ids=["another identity", "another trust domain", "no identity", "another root"],
)
def test_https_spiffe_refuses_a_server_with(
    tmp_path: Path, names: dict[str, str], pki: Pki, reason: str
) -> None:
    with pytest.raises(ProofRefused) as refused:
        ask_spiffe(tmp_path, leaf(pki, **names))

    assert refused.value.reason == reason


def test_https_spiffe_never_falls_back_to_the_roots_of_the_web(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no bundle to verify"):
        ask_spiffe(tmp_path, leaf(PKI, uri=ENDPOINT_ID), roots=())


@pytest.mark.parametrize(
    ("served", "kind", "said"),
    [
        (Served(status="404 Not Found"), Unavailable, "status 404"),
        (Served(b"x" * (MAXIMUM_BYTES + 1)), RequestRefused, "over"),
        (Served(headers=["Content-Encoding: gzip"]), RequestRefused, "encoding"),
        (Served(status="302 Found", headers=["Location: http://x/"]), RequestRefused, "leads on"),
        (Served(status="302 Found", headers=["Location: https://u@x/"]), RequestRefused, "leads"),
        (Served(status="307 No", headers=["Location: /bundle.json"]), RequestRefused, "redirects"),
        (Served(status="nonsense"), Unavailable, "127.0.0.1"),
    ],
    ids=["not found", "too large", "compressed", "to http", "with a user", "in a circle", "odd"],
)
def test_refuses_an_answer(
    tmp_path: Path, served: Served, kind: type[MeshcaError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        ask_web(tmp_path, served)


def test_a_redirect_is_followed_and_held_to_the_same_rules(tmp_path: Path) -> None:
    async def story() -> bytes:
        goal = Served(b"body")
        (tmp_path / "goal").mkdir()
        pair = leaf(WEB, ip="127.0.0.1")
        async with https_server(tmp_path / "goal", *pair, goal):
            first = Served(status="302 Found", headers=[f"Location: {goal.url}"])
            async with https_server(tmp_path, *pair, first):
                relation = Relation(PARTNER, first.url, "https_web", "", web_roots())
                return await BundleEndpoints().fetch(relation, ())

    assert asyncio.run(story()) == b"body"


def test_https_spiffe_follows_no_redirect(tmp_path: Path) -> None:
    served = Served(status="302 Found", headers=["Location: /bundle.json"])

    with pytest.raises(Unavailable, match="status 302"):
        ask(
            tmp_path,
            leaf(PKI, uri=ENDPOINT_ID),
            served,
            profile="https_spiffe",
            endpoint_id=ENDPOINT_ID,
            roots=(PKI.root,),
        )


@pytest.mark.parametrize("served", [Served(hold=True), Served(drips=True)], ids=["mute", "drips"])
def test_an_answer_that_takes_too_long_is_given_up(tmp_path: Path, served: Served) -> None:
    started = time.monotonic()

    with pytest.raises(Unavailable, match=r"no answer within 0\.5 s"):
        ask(tmp_path, leaf(WEB, ip="127.0.0.1"), served, trusted=web_roots(), seconds=0.5)

    assert time.monotonic() - started < 5


def test_nobody_there_is_unavailable() -> None:
    relation = Relation(PARTNER, "https://127.0.0.1:1/", "https_web")

    with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
        asyncio.run(BundleEndpoints().fetch(relation, ()))


@pytest.mark.parametrize(
    "url",
    ["https://x", "https://x/", "https://mesh.partner.test:8443/a/b?c=d", "https://[::1]:1/"],
)
def test_takes_an_https_url(url: str) -> None:
    assert check_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://x/",
        "https://user@x/",
        "https://user:p@x/",
        "https://x/#y",
        "https://",
        "https://x/\n",
        "https://x y/",
        "https:///x",
        "ftp://x/",
        "https://" + "x" * 2048,
    ],
)
def test_takes_no_other_url(url: str) -> None:
    with pytest.raises(ValueError, match="https URL"):
        check_url(url)
