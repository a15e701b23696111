"""What is taken from a bundle that another trust domain published, and what is refused."""

import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from ca.bundle import TrustBundle, unnumbered_json
from ca.ca_certificate import make_root
from ca.federation.document import MAXIMUM_BYTES, read_bundle, read_seed
from meshca.errors import RequestRefused
from tests.builders import NOW, make_authority, make_key, make_pki

PARTNER = "partner.test"
ROOT = make_pki(trust_domain=PARTNER, number=7).root
DOCUMENT: dict[str, Any] = orjson.loads(TrustBundle(PARTNER, (ROOT,), 5).spiffe_json())


def changed(**values: Any) -> bytes:
    return orjson.dumps({**DOCUMENT, **values})


def with_key(**values: Any) -> bytes:
    return changed(keys=[{**DOCUMENT["keys"][0], **values}])


def test_what_we_publish_is_what_we_read() -> None:
    for kind in ("p256", "p384", "rsa2048"):
        root = make_pki(kind, trust_domain=PARTNER, number=7).root

        bundle = read_bundle(TrustBundle(PARTNER, (root,), 5).spiffe_json(), PARTNER)

        assert (bundle.roots, bundle.sequence, bundle.refresh_hint) == ((root,), 5, 300)


def test_the_document_is_as_the_standard_has_it() -> None:
    (key,) = DOCUMENT["keys"]

    assert set(DOCUMENT) == {"spiffe_sequence", "spiffe_refresh_hint", "keys"}
    assert set(key) == {"use", "kty", "crv", "x", "y", "x5c"}  # no kid
    assert key["use"] == "x509-svid"
    assert len(key["x5c"]) == 1


@pytest.mark.parametrize(
    ("why", "document"),
    [
        ("B-7: another use", with_key(use="jwt-svid")),
        ("B-13: no use", with_key(use=None)),
        ("B-12: use is case-sensitive", with_key(use="X509-SVID")),
        ("B-11: an unknown key type", with_key(kty="OKP")),
        ("X-26: an empty x5c", with_key(x5c=[])),
        ("B-6: no key at all", changed(keys=[])),
    ],
)
def test_ignores_what_the_standard_says_to_ignore(why: str, document: bytes) -> None:
    assert read_bundle(document, PARTNER).roots == ()


def test_only_the_first_certificate_of_a_key_counts() -> None:
    x5c = [*DOCUMENT["keys"][0]["x5c"], "garbage"]

    assert read_bundle(with_key(x5c=x5c), PARTNER).roots == (ROOT,)


def test_sequence_and_hint_may_be_missing_and_more_may_be_there() -> None:
    document = orjson.dumps({"keys": DOCUMENT["keys"], "more": 1})

    bundle = read_bundle(document, PARTNER)

    assert (bundle.sequence, bundle.refresh_hint) == (None, None)
    assert bundle.roots == (ROOT,)


def leaf_document() -> bytes:
    leaf = make_pki(trust_domain=PARTNER).intermediate
    builder = x509.CertificateBuilder(
        leaf.issuer,
        leaf.subject,
        leaf.public_key(),
        7,
        leaf.not_valid_before_utc,
        leaf.not_valid_after_utc,
    )
    return unnumbered_json([builder.sign(make_key(), hashes.SHA256())])


def weak_document() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505  # what is to be refused
    root = make_root(key, trust_domain=PARTNER, now=NOW, lifetime=timedelta(days=1))
    return unnumbered_json([root])


def many_document() -> bytes:
    roots = [make_pki(trust_domain=PARTNER, number=n).root for n in range(65)]
    return unnumbered_json(roots)


REFUSED: list[tuple[str, str, Callable[[], bytes]]] = [
    ("too large", "too_large", lambda: b" " * (MAXIMUM_BYTES + 1)),
    ("too many roots", "too_large", many_document),
    ("not JSON", "malformed", lambda: b"<html>"),
    ("a list", "malformed", lambda: b"[]"),
    ("no keys", "malformed", lambda: b'{"spiffe_sequence": 1}'),
    ("keys that are no list", "malformed", lambda: changed(keys={})),
    ("a key that is no object", "malformed", lambda: changed(keys=["x"])),
    ("a certificate that is none", "malformed", lambda: with_key(x5c=["AAAA"])),
    ("x5c that is no list", "malformed", lambda: with_key(x5c={"a": 1})),
    ("a negative sequence", "malformed", lambda: changed(spiffe_sequence=-1)),
    ("a fractional sequence", "malformed", lambda: changed(spiffe_sequence=1.5)),
    ("a sequence that is true", "malformed", lambda: changed(spiffe_sequence=True)),
    ("a sequence of 65 bits", "malformed", lambda: changed(spiffe_sequence=2**63)),
    ("a hint that is text", "malformed", lambda: changed(spiffe_refresh_hint="300")),
    ("a leaf as root", "not_a_ca", leaf_document),
    ("a weak key", "weak_key", weak_document),
    (
        "a root of another trust domain",
        "foreign_root",
        lambda: unnumbered_json([make_authority().root]),
    ),
]


@pytest.mark.parametrize(("why", "reason", "make"), REFUSED, ids=[case[0] for case in REFUSED])
def test_refuses(why: str, reason: str, make: Callable[[], bytes]) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_bundle(make(), PARTNER)

    assert refused.value.reason == reason


@given(st.data())
def test_nothing_but_a_refusal_comes_of_any_mutation(data: st.DataObject) -> None:
    document = bytearray(orjson.dumps(DOCUMENT))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(document) - 1))
        document[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RequestRefused):
        read_bundle(bytes(document), PARTNER)


def test_a_seed_may_be_pem() -> None:
    seed = read_seed(ROOT.public_bytes(Encoding.PEM), PARTNER)

    assert (seed.roots, seed.sequence) == ((ROOT,), None)


@pytest.mark.parametrize("seed", [b"", b'{"keys": []}', b"-----BEGIN X-----\n"])
def test_a_seed_without_roots_is_refused(seed: bytes) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_seed(seed, PARTNER)

    assert refused.value.reason == "malformed"
