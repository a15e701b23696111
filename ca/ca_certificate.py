"""CA certificates of our own making: development roots, and intermediates under a root key we hold.

Profile (X509-SVID 3.2, 4; RFC 5280 4.2.1.9): URI SAN `spiffe://<trust domain>` without a path,
critical keyCertSign + cRLSign, path length 0 on the intermediate, a distinct name per key.
"""

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ca.keys import LeafPublicKey, PrivateKey, check_public_key, public_key_der, subject_key_id
from meshca.errors import AuthorityUnavailable
from meshca.spiffe_id import SpiffeId

BACKDATE = timedelta(seconds=60)


def make_root(
    key: PrivateKey, *, trust_domain: str, now: datetime, lifetime: timedelta
) -> x509.Certificate:
    """Return a self-signed root for `trust_domain`."""
    public = check_public_key(key.public_key())
    name = _name(f"{trust_domain} development root", public)
    builder = _builder(public, trust_domain, now=now, not_after=now + lifetime)
    builder = builder.subject_name(name).issuer_name(name)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
    return builder.sign(key, _hash(key))


def make_intermediate(
    public: LeafPublicKey,
    *,
    root: x509.Certificate,
    root_key: PrivateKey,
    trust_domain: str,
    now: datetime,
    lifetime: timedelta,
) -> x509.Certificate:
    """Return an intermediate for `public` under `root`, ending no later than it.

    Raises AuthorityUnavailable when the root has expired.
    """
    not_after = min(now + lifetime, root.not_valid_after_utc)
    if not_after <= now:
        raise AuthorityUnavailable(f"the root expired at {root.not_valid_after_utc.isoformat()}")
    issuer_ski = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = _builder(
        public,
        trust_domain,
        now=max(now, root.not_valid_before_utc + BACKDATE),
        not_after=not_after,
    )
    builder = builder.subject_name(_name(f"{trust_domain} intermediate", public))
    builder = builder.issuer_name(root.subject)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_ski), critical=False
    )
    return builder.sign(root_key, _hash(root_key))


def _builder(
    public: LeafPublicKey, trust_domain: str, *, now: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    uri = x509.UniformResourceIdentifier(str(SpiffeId(trust_domain, "")))
    return (
        x509.CertificateBuilder()
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(not_after)
        .add_extension(usage, critical=True)
        .add_extension(_subject_key_identifier(public), critical=False)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
    )


def _subject_key_identifier(public: LeafPublicKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier(subject_key_id(public_key_der(public)))


def _name(common_name: str, public: LeafPublicKey) -> x509.Name:
    key_id = subject_key_id(public_key_der(public)).hex()[:16]
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "meshca"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{common_name}"[:64]),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, key_id),
        ]
    )


def _hash(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384:
    wide = isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size > 256
    return hashes.SHA384() if wide else hashes.SHA256()
