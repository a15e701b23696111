"""SVIDs as proof: which peer certificates of a renew call are accepted, and which never."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from identity.caller import Caller
from identity.peer import verify_peer
from meshca.errors import KeysUnavailable, ProofRefused
from tests.fakes import FakeClock
from tests.key_usage import key_usage

NOW = FakeClock().now()
HOUR = timedelta(hours=1)
ORDERS = "spiffe://example.org/ns/shop/sa/orders"
BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


@dataclass
class Authority:
    """A root or an intermediate."""

    name: str
    issuer: "Authority | None" = None
    not_after: datetime = NOW + 24 * HOUR
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def __post_init__(self) -> None:
        issuer = self.issuer or self
        builder = _start(self.name, issuer, self.key.public_key(), NOW - HOUR, self.not_after)
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        bits = key_usage(key_cert_sign=True, crl_sign=True)
        self.certificate = builder.add_extension(bits, critical=True).sign(
            issuer.key, hashes.SHA256()
        )

    def leaf(self, **changes: Any) -> x509.Certificate:
        """Return an SVID with one thing changed."""
        p = _Leaf(**changes)
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        builder = _start("", self, key, p.not_before, p.not_after)
        names = [x509.UniformResourceIdentifier(uri) for uri in p.uris]
        names += [x509.DNSName(name) for name in p.dns]  # type: ignore[misc]  # both are names
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
        if p.ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(p.ca, None), critical=True)
        if p.usage is not None:
            builder = builder.add_extension(p.usage, critical=True)
        if p.purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(p.purposes), critical=False)
        return builder.sign(self.key, hashes.SHA256())


@dataclass
class _Leaf:
    uris: tuple[str, ...] = (ORDERS,)
    dns: tuple[str, ...] = ()
    ca: bool | None = False
    usage: x509.KeyUsage | None = field(default_factory=lambda: key_usage(digital_signature=True))
    purposes: tuple[x509.ObjectIdentifier, ...] = BOTH
    not_before: datetime = NOW - HOUR
    not_after: datetime = NOW + HOUR


def _start(
    name: str,
    issuer: Authority,
    key: ec.EllipticCurvePublicKey,
    not_before: datetime,
    not_after: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer.name))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()),
            critical=False,
        )
    )


def _name(text: str) -> x509.Name:
    attribute = x509.NameAttribute(x509.NameOID.COMMON_NAME, text) if text else None
    return x509.Name([attribute] if attribute else [])


ROOT = Authority("root")
INTERMEDIATE = Authority("intermediate", ROOT)


def verify(*chain: x509.Certificate, now: datetime = NOW) -> Caller:
    """Return the caller that the chain proves to a server of example.org."""
    return verify_peer(chain, roots=[ROOT.certificate], trust_domain="example.org", now=now)


def refused(*chain: x509.Certificate, now: datetime = NOW) -> str:
    """Return the reason that the chain is refused for."""
    with pytest.raises(ProofRefused) as refusal:
        verify(*chain, now=now)
    return refusal.value.reason


def test_an_svid_proves_its_holder() -> None:
    leaf = INTERMEDIATE.leaf()

    caller = verify(leaf, INTERMEDIATE.certificate)

    assert str(caller.spiffe_id) == ORDERS
    assert caller.evidence.method == "svid"
    assert caller.evidence.token_id == f"serial:{leaf.serial_number:x}"
    assert caller.expires_at == NOW + HOUR


def test_the_chain_may_name_the_root_and_other_certificates_too() -> None:
    other = Authority("other")
    chain = (INTERMEDIATE.leaf(), other.certificate, ROOT.certificate, INTERMEDIATE.certificate)

    assert str(verify(*chain).spiffe_id) == ORDERS


def test_dns_names_beside_the_uri_are_allowed() -> None:
    leaf = ROOT.leaf(dns=("orders.shop.svc",))

    assert str(verify(leaf).spiffe_id) == ORDERS


BAD_LEAVES: dict[str, tuple[dict[str, Any], str]] = {
    "expired": ({"not_after": NOW - timedelta(seconds=1)}, "untrusted"),
    "not yet valid": ({"not_before": NOW + timedelta(seconds=1)}, "untrusted"),
    "a CA": ({"ca": True}, "untrusted"),
    "for servers only": ({"purposes": (ExtendedKeyUsageOID.SERVER_AUTH,)}, "untrusted"),
    "without a purpose": ({"purposes": ()}, "untrusted"),
    "without key usage": ({"usage": None}, "untrusted"),
    "without names": ({"uris": ()}, "untrusted"),
    "with two URIs": ({"uris": (ORDERS, ORDERS + "2")}, "not_an_svid"),
    "with a DNS name only": ({"uris": (), "dns": ("orders",)}, "not_an_svid"),
    "with an https URI": ({"uris": ("https://example.org/x",)}, "not_an_svid"),
    "with an authority's ID": ({"uris": ("spiffe://example.org",)}, "not_an_svid"),
    "with a trailing slash": ({"uris": (ORDERS + "/",)}, "not_an_svid"),
    "with dots": ({"uris": ("spiffe://example.org/a/../b",)}, "not_an_svid"),
    "that may not sign": ({"usage": key_usage(key_agreement=True)}, "not_an_svid"),
    "of another trust domain": ({"uris": ("spiffe://else.org/x",)}, "foreign_trust_domain"),
    "in capitals": ({"uris": ("spiffe://EXAMPLE.org/x",)}, "not_an_svid"),
}


@pytest.mark.parametrize("name", BAD_LEAVES)
def test_refuses_a_leaf(name: str) -> None:
    changes, reason = BAD_LEAVES[name]

    assert refused(ROOT.leaf(**changes)) == reason


@pytest.mark.parametrize("bit", ["key_cert_sign", "crl_sign"])
def test_refuses_a_leaf_that_may_sign_certificates_or_lists(bit: str) -> None:
    leaf = ROOT.leaf(usage=key_usage(digital_signature=True, **{bit: True}))

    assert refused(leaf) in {"untrusted", "not_an_svid"}


CHAINS: dict[str, Callable[[], tuple[x509.Certificate, ...]]] = {
    "the intermediate is missing": lambda: (INTERMEDIATE.leaf(),),
    "another root": lambda: (Authority("root").leaf(),),
    "self-signed": lambda: (Authority("x").certificate,),
    "the intermediate has expired": lambda: expired_intermediate(),
    "a leaf that signed a leaf": lambda: (Authority("leaf", INTERMEDIATE).leaf(), ROOT.leaf()),
    "the intermediate itself": lambda: (INTERMEDIATE.certificate,),
}


def expired_intermediate() -> tuple[x509.Certificate, ...]:
    """Return a good leaf under an intermediate that has expired."""
    authority = Authority("old", ROOT, not_after=NOW - timedelta(seconds=1))
    return authority.leaf(), authority.certificate


@pytest.mark.parametrize("name", CHAINS)
def test_refuses_a_chain(name: str) -> None:
    assert refused(*CHAINS[name]()) == "untrusted"


def test_time_is_what_it_is_told() -> None:
    leaf = ROOT.leaf()

    assert verify(leaf, now=NOW + timedelta(minutes=59)).expires_at == NOW + HOUR
    assert refused(leaf, now=NOW + HOUR + timedelta(seconds=1)) == "untrusted"
    assert refused(leaf, now=NOW - HOUR - timedelta(seconds=1)) == "untrusted"


def test_what_it_claimed_is_kept_for_the_audit_log() -> None:
    leaf = ROOT.leaf(uris=("spiffe://else.org/x",))

    with pytest.raises(ProofRefused) as refusal:
        verify(leaf)

    expected = {"serial": f"{leaf.serial_number:x}", "uri": "spiffe://else.org/x"}
    assert refusal.value.claimed == expected


def test_nothing_shown_is_refused_and_nothing_to_trust_is_unavailable() -> None:
    assert refused() == "no_certificate"
    with pytest.raises(KeysUnavailable):
        verify_peer([ROOT.leaf()], roots=[], trust_domain="example.org", now=NOW)
