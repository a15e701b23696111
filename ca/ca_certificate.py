"""CA certificates of our own making: roots, and what stands under a root key we hold.

Profile (X509-SVID 3.2, 4; RFC 5280 4.2.1.9): URI SAN `spiffe://<trust domain>` without a path,
critical keyCertSign + cRLSign, path length 0 on the intermediate, a distinct name per key. A root
has path length 2: while it is replaced, its successor and an intermediate stand below it.
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
KEY_USAGE = x509.KeyUsage(
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


def make_root(
    key: PrivateKey, *, trust_domain: str, now: datetime, lifetime: timedelta
) -> x509.Certificate:
    """Return a self-signed root for `trust_domain`."""
    public = check_public_key(key.public_key())
    builder = ca_builder(
        public,
        subject=_name(f"{trust_domain} development root", public),
        trust_domain=trust_domain,
        not_before=now - BACKDATE,
        not_after=now + lifetime,
        path_length=2,
        issuer=None,
    )
    return builder.sign(key, signing_hash(public))


def make_bridge(
    root: x509.Certificate,
    *,
    issuer: x509.Certificate,
    issuer_key: PrivateKey,
    trust_domain: str,
    now: datetime,
) -> x509.Certificate:
    """Return `root` cross-signed by another one, `issuer`, until the first of the two ends."""
    public = check_public_key(root.public_key())
    builder = ca_builder(
        public,
        subject=root.subject,
        trust_domain=trust_domain,
        not_before=max(now - BACKDATE, issuer.not_valid_before_utc),
        not_after=min(root.not_valid_after_utc, issuer.not_valid_after_utc),
        path_length=1,
        issuer=issuer,
    )
    return builder.sign(issuer_key, signing_hash(check_public_key(issuer_key.public_key())))


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
    builder = ca_builder(
        public,
        subject=_name(f"{trust_domain} intermediate", public),
        trust_domain=trust_domain,
        not_before=max(now - BACKDATE, root.not_valid_before_utc),
        not_after=not_after,
        path_length=0,
        issuer=root,
    )
    return builder.sign(root_key, signing_hash(check_public_key(root_key.public_key())))


def ca_builder(
    public: LeafPublicKey,
    *,
    subject: x509.Name,
    trust_domain: str,
    not_before: datetime,
    not_after: datetime,
    path_length: int,
    issuer: x509.Certificate | None,
) -> x509.CertificateBuilder:
    """Return the CA certificate of `public`, to be signed by `issuer`, or by itself where None."""
    uri = x509.UniformResourceIdentifier(str(SpiffeId(trust_domain, "")))
    constraints = x509.BasicConstraints(ca=True, path_length=path_length)
    builder = (
        x509.CertificateBuilder()
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(constraints, critical=True)
        .add_extension(KEY_USAGE, critical=True)
        .add_extension(subject_key_identifier(public), critical=False)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
    )
    if issuer is None:
        return builder
    return builder.add_extension(authority_key_identifier(issuer), critical=False)


def authority_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Return the identifier of the key of `issuer`, as its own certificate says it."""
    ski = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)


def subject_key_identifier(public: LeafPublicKey) -> x509.SubjectKeyIdentifier:
    """Return the identifier of `public` (RFC 7093 method 1)."""
    return x509.SubjectKeyIdentifier(subject_key_id(public_key_der(public)))


def signing_hash(public: LeafPublicKey) -> hashes.SHA256 | hashes.SHA384:
    """Return the hash that the key of `public` signs with: SHA-384 for P-384, else SHA-256."""
    wide = isinstance(public, ec.EllipticCurvePublicKey) and public.curve.key_size > 256
    return hashes.SHA384() if wide else hashes.SHA256()


def _name(common_name: str, public: LeafPublicKey) -> x509.Name:
    key_id = subject_key_id(public_key_der(public)).hex()[:16]
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "meshca"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{common_name}"[:64]),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, key_id),
        ]
    )
