"""What an upstream gives us must prove that it works before it may sign."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ca.authority import Authority
from ca.upstream.chain import certificate_of, make_authority, read_certificates
from meshca.errors import AuthorityUnavailable
from tests.builders import NOW, TRUST_DOMAIN, make_key, make_pki
from tests.key_usage import key_usage

DAY = timedelta(days=1)
Extensions = dict[str, tuple[x509.ExtensionType, bool] | None]


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def constraints(*, ca: bool = True, path_length: int | None = None) -> tuple[Any, bool]:
    return x509.BasicConstraints(ca=ca, path_length=path_length), True


def identity(uri: str) -> tuple[Any, bool]:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), False


@dataclass(eq=False)
class Ca:
    """A CA certificate and its key; `by` signed it, or it signed itself."""

    called: str
    number: int
    by: "Ca | None" = None
    begin: datetime = NOW - DAY
    end: datetime = NOW + 30 * DAY
    changes: Extensions = field(default_factory=dict)

    @property
    def key(self) -> Any:
        """Return its private key."""
        return make_key("p256", 300 + self.number)

    @cached_property
    def certificate(self) -> x509.Certificate:
        """Return its certificate."""
        issuer = self.by or self
        public = self.key.public_key()
        extensions: Extensions = {
            "constraints": constraints(),
            "usage": (key_usage(key_cert_sign=True, crl_sign=True), True),
            "ski": (x509.SubjectKeyIdentifier.from_public_key(public), False),
            "san": identity(f"spiffe://{TRUST_DOMAIN}"),
            **self.changes,
        }
        builder = (
            x509.CertificateBuilder()
            .serial_number(1000 + self.number)
            .subject_name(name(self.called))
            .issuer_name(name(issuer.called))
            .not_valid_before(self.begin)
            .not_valid_after(self.end)
            .public_key(public)
        )
        for extension in extensions.values():
            if extension is not None:
                builder = builder.add_extension(extension[0], critical=extension[1])
        return builder.sign(issuer.key, hashes.SHA256())


ROOT = Ca("root", 1)
UPPER = Ca("upper", 2, by=ROOT)
LOWER = Ca("lower", 3, by=UPPER)
OTHER_ROOT = Ca("other root", 4)
ABOVE = Ca("above", 7, by=ROOT)
BETWEEN = Ca("between", 8, by=ABOVE)


def build(
    *chain: Ca, roots: tuple[Ca, ...] = (ROOT,), key: Any = None, now: datetime = NOW
) -> Authority:
    """Return the authority of `chain` under `roots`."""
    return make_authority(
        [ca.certificate for ca in chain],
        [ca.certificate for ca in roots],
        key or chain[0].key,
        trust_domain=TRUST_DOMAIN,
        now=now,
    )


def refusal(*chain: Ca, **arguments: Any) -> str:
    """Return what is wrong with `chain`."""
    with pytest.raises(AuthorityUnavailable) as caught:
        build(*chain, **arguments)
    return str(caught.value)


def test_an_intermediate_under_a_root() -> None:
    authority = build(UPPER)
    assert authority.root.subject == name("root")
    assert [c.subject for c in authority.chain] == [name("upper")]


def test_a_longer_chain_under_one_of_several_roots() -> None:
    authority = build(LOWER, UPPER, roots=(OTHER_ROOT, ROOT))
    assert authority.root.subject == name("root")
    assert [c.subject for c in authority.chain] == [name("lower"), name("upper")]


def test_the_root_in_the_chain_file_is_not_sent_to_peers() -> None:
    root, upper = ROOT.certificate, UPPER.certificate
    arguments: dict[str, Any] = {"trust_domain": TRUST_DOMAIN, "now": NOW}
    authority = make_authority([upper, root], [root], UPPER.key, **arguments)
    assert authority.chain == (upper,)


def test_the_whole_chain_bounds_what_is_signed() -> None:
    upper = Ca("upper", 2, by=ROOT, begin=NOW - timedelta(hours=1), end=NOW + DAY)
    authority = build(Ca("lower", 3, by=upper), upper)
    assert authority.not_before == NOW - timedelta(hours=1)
    assert authority.not_after == NOW + DAY


def test_an_intermediate_without_a_spiffe_id_is_accepted() -> None:
    assert build(Ca("upper", 2, by=ROOT, changes={"san": None})).authority_id


def test_path_lengths_that_just_suffice_are_accepted() -> None:
    root = Ca("root", 1, changes={"constraints": constraints(path_length=2)})
    upper = Ca("upper", 2, by=root, changes={"constraints": constraints(path_length=1)})
    lower = Ca("lower", 3, by=upper, changes={"constraints": constraints(path_length=0)})
    assert build(lower, upper, roots=(root,)).authority_id


SHALLOW: Extensions = {"constraints": constraints(path_length=0)}
SHALLOW_ROOT = Ca("root", 1, changes=SHALLOW)
SHALLOW_UPPER = Ca("upper", 2, by=ROOT, changes=SHALLOW)
OLD_ROOT = Ca("root", 1, end=NOW - timedelta(seconds=1))
EXPIRED = NOW - timedelta(seconds=1)
REFUSED: dict[str, tuple[str, tuple[Ca, ...], dict[str, Any]]] = {
    "nothing but the root": ("only roots", (ROOT,), {}),
    "wrong order": (
        "the chain is in the wrong order: .*lower.*, whose key this is, must come first",
        (UPPER, LOWER),
        {"key": LOWER.key},
    ),
    "wrong order above": (
        "lower.* is not signed by .*above.*, the next in chain",
        (Ca("lower", 3, by=BETWEEN), ABOVE, BETWEEN),
        {},
    ),
    "a gap": ("lower.* is not signed by any of the roots", (LOWER,), {}),
    "a stranger between": (
        "lower.* is not signed by .*stranger.*, the next in chain",
        (LOWER, Ca("stranger", 6, by=OTHER_ROOT), UPPER),
        {},
    ),
    "foreign root": (
        "upper.* is not signed by any of the roots",
        (UPPER,),
        {"roots": (OTHER_ROOT,)},
    ),
    "a root of the same name": (
        "upper.* is not signed by any of the roots",
        (UPPER,),
        {"roots": (Ca("root", 5),)},
    ),
    "no roots": ("upper.* is not signed by any of the roots", (UPPER,), {"roots": ()}),
    "another's key": ("the key does not belong to .*upper", (UPPER,), {"key": LOWER.key}),
    "path length of the root": (
        "root.* allows only 0 CAs below it",
        (Ca("upper", 2, by=SHALLOW_ROOT),),
        {"roots": (SHALLOW_ROOT,)},
    ),
    "path length of an intermediate": (
        "upper.* allows only 0 CAs below it",
        (Ca("lower", 3, by=SHALLOW_UPPER), SHALLOW_UPPER),
        {},
    ),
    "not a CA": (
        "upper.* may not sign certificates",
        (Ca("upper", 2, by=ROOT, changes={"constraints": constraints(ca=False)}),),
        {},
    ),
    "without keyCertSign": (
        "upper.* may not sign certificates",
        (Ca("upper", 2, by=ROOT, changes={"usage": (key_usage(crl_sign=True), True)}),),
        {},
    ),
    "without basic constraints": (
        "upper.* is not a CA certificate: No .*BasicConstraints",
        (Ca("upper", 2, by=ROOT, changes={"constraints": None}),),
        {},
    ),
    "without key usage": (
        "upper.* is not a CA certificate: No .*KeyUsage",
        (Ca("upper", 2, by=ROOT, changes={"usage": None}),),
        {},
    ),
    "without a key identifier": (
        "upper.* is not a CA certificate: No .*SubjectKeyIdentifier",
        (Ca("upper", 2, by=ROOT, changes={"ski": None}),),
        {},
    ),
    "another trust domain": (
        "upper.* is for spiffe://example.com, not for trust domain example.org",
        (Ca("upper", 2, by=ROOT, changes={"san": identity("spiffe://example.com")}),),
        {},
    ),
    "an ID with a path": (
        "upper.* is for spiffe://example.org/ns/shop/sa/orders, not for",
        (
            Ca(
                "upper",
                2,
                by=ROOT,
                changes={"san": identity("spiffe://example.org/ns/shop/sa/orders")},
            ),
        ),
        {},
    ),
    "expired": (
        r"upper.* is valid from .* to 2026-11-01T11:59:59\+00:00; it is 2026-11-01T12:00:00\+00:00",
        (Ca("upper", 2, by=ROOT, end=EXPIRED),),
        {},
    ),
    "expires now": ("upper.* is valid from", (Ca("upper", 2, by=ROOT, end=NOW),), {}),
    "not valid yet": (
        "upper.* is valid from 2026-11-01T12:00:01",
        (Ca("upper", 2, by=ROOT, begin=NOW + timedelta(seconds=1)),),
        {},
    ),
    "an expired root": (
        "root.* is valid from",
        (Ca("upper", 2, by=OLD_ROOT),),
        {"roots": (OLD_ROOT,)},
    ),
    "another trusted root that is no CA": (
        "other root.* may not sign certificates",
        (UPPER,),
        {"roots": (ROOT, Ca("other root", 4, changes={"constraints": constraints(ca=False)}))},
    ),
    "another trusted root of another trust domain": (
        "other root.* is for spiffe://example.com",
        (UPPER,),
        {"roots": (ROOT, Ca("other root", 4, changes={"san": identity("spiffe://example.com")}))},
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refuses(what: str) -> None:
    said, chain, arguments = REFUSED[what]
    with pytest.raises(AuthorityUnavailable, match=said):
        build(*chain, **arguments)


def test_refuses_a_key_that_no_proxy_could_be_told_of() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    root = (
        x509.CertificateBuilder()
        .serial_number(1)
        .subject_name(name("edwards"))
        .issuer_name(name("edwards"))
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .public_key(key.public_key())
        .sign(key, None)
    )
    with pytest.raises(AuthorityUnavailable, match=r"edwards.* has a key that is not ECDSA or RSA"):
        make_authority(
            [UPPER.certificate],
            [ROOT.certificate, root],
            UPPER.key,
            trust_domain=TRUST_DOMAIN,
            now=NOW,
        )


def test_finds_the_certificate_of_a_key() -> None:
    certificates = [OTHER_ROOT.certificate, ROOT.certificate]
    assert certificate_of(ROOT.key, certificates) == certificates[1]
    assert certificate_of(UPPER.key, certificates) is None


def test_reads_every_certificate_of_a_file(tmp_path: Path) -> None:
    pki = make_pki()
    file = tmp_path / "chain.pem"
    file.write_bytes(b"".join(c.public_bytes(Encoding.PEM) for c in (pki.intermediate, pki.root)))
    assert read_certificates(file) == (pki.intermediate, pki.root)


@pytest.mark.parametrize("content", [None, b"", b"hello", b"-----BEGIN CERTIFICATE-----\nMA==\n"])
def test_names_a_file_without_certificates(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "chain.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(AuthorityUnavailable, match=f"^{file} (cannot be read|holds no PEM)"):
        read_certificates(file)
