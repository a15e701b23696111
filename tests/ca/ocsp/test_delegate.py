"""The certificate of a signer: what it says, how long it lives, and that lint reads it first."""

import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from ca.authority import Authority
from ca.keys import PrivateKeySigner, generate_key, public_key_der
from ca.ocsp import delegate
from meshca.errors import AuthorityUnavailable, IssuanceFault
from tests.builders import KEY_KINDS, NOW, TRUST_DOMAIN, make_authority, make_key, make_pki
from tests.real_parts import require

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


def certified(authority: Authority, after: timedelta = timedelta(0)) -> delegate.Delegate:
    signer = PrivateKeySigner(generate_key())
    public_key = public_key_der(signer.key.public_key())
    certificate = delegate.sign(delegate.make(authority, NOW + after, TRUST_DOMAIN, public_key))
    return delegate.appoint(authority.authority_id, certificate, signer, NOW + after)


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_it_is_issued_directly_by_the_authority_and_may_only_sign_answers(kind: str) -> None:
    authority = make_authority(kind)
    made = certified(authority).certificate

    made.verify_directly_issued_by(authority.certificate)
    extended = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(extended) == [ExtendedKeyUsageOID.OCSP_SIGNING]
    assert not made.extensions.get_extension_for_class(x509.OCSPNoCheck).critical
    with pytest.raises(x509.ExtensionNotFound):
        made.extensions.get_extension_for_class(x509.SubjectAlternativeName)


@pytest.mark.parametrize(
    ("authority_lives", "it_lives"),
    [
        (timedelta(days=60), timedelta(days=7)),
        (timedelta(days=8), timedelta(days=2)),
        (timedelta(hours=2), HOUR),
        (timedelta(minutes=30), timedelta(minutes=30)),
    ],
    ids=["a week at most", "a quarter", "an hour at least", "never longer than its authority"],
)
def test_it_lives(authority_lives: timedelta, it_lives: timedelta) -> None:
    made = certified(make_authority(lifetime=authority_lives))

    assert made.not_after == NOW + it_lives
    assert made.renew_at == NOW + it_lives / 2
    assert made.certificate.not_valid_after_utc == made.not_after


def test_it_is_backdated_for_clocks_that_are_behind_but_not_before_its_chain() -> None:
    authority = make_authority()

    assert certified(authority, HOUR).not_before == NOW + HOUR - 10 * MINUTE
    assert certified(authority).not_before == authority.not_before


@pytest.mark.parametrize("after", [timedelta(days=7), timedelta(days=-1)], ids=["ended", "not yet"])
def test_none_is_made_under_an_authority_that_is_not_valid(after: timedelta) -> None:
    with pytest.raises(AuthorityUnavailable, match="not valid now"):
        certified(make_authority(), after)


def test_lint_reads_it_before_the_key_is_touched() -> None:
    class Untouchable:
        # A name that is no CA's: the issuer would be empty.
        signature_algorithm = PrivateKeySigner(make_key("p384", 1)).signature_algorithm

        def sign(self, message: bytes) -> bytes:
            raise AssertionError("the key was touched")

    authority = make_authority(signer=Untouchable())
    object.__setattr__(authority, "subject_der", b"\x30\x00")

    with pytest.raises(IssuanceFault, match="issuer_is_the_authority"):
        certified(authority)


def test_a_signature_by_another_key_makes_no_signer() -> None:
    authority = make_authority(signer=PrivateKeySigner(make_key("p256", 99)))

    with pytest.raises(IssuanceFault, match="signature_verifies"):
        certified(authority)


def test_a_key_that_fails_without_a_word_is_our_fault() -> None:
    class Broken:
        signature_algorithm = PrivateKeySigner(make_key()).signature_algorithm

        def sign(self, message: bytes) -> bytes:
            raise RuntimeError("no")

    with pytest.raises(IssuanceFault, match="did not sign"):
        certified(make_authority(signer=Broken()))


def test_its_key_is_not_shown() -> None:
    made = certified(make_authority())
    number = made.signer.key.private_numbers().private_value  # type: ignore[union-attr]  # EC

    assert str(number) not in repr(made)
    assert "PRIVATE" not in repr(made)


def test_openssl_takes_it_for_an_ocsp_signer(tmp_path: Path) -> None:
    require(shutil.which("openssl") is not None, "openssl", "apt-get install openssl")
    pki = make_pki()
    made = certified(pki.authority()).certificate
    paths = {name: tmp_path / f"{name}.pem" for name in ("root", "intermediate", "signer")}
    for path, certificate in zip(paths.values(), (pki.root, pki.intermediate, made), strict=True):
        path.write_bytes(certificate.public_bytes(Encoding.PEM))
    command = ["openssl", "verify", "-purpose", "ocsphelper", "-x509_strict"]
    command += ["-attime", str(int(NOW.timestamp())), "-CAfile", str(paths["root"])]
    command += ["-untrusted", str(paths["intermediate"]), str(paths["signer"])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
