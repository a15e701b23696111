"""Lists of the CAs above: those in files, and that of a root whose key is here."""

import shutil
import subprocess
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from structlog.testing import capture_logs

from ca.ca_certificate import authority_key_identifier
from ca.ceremony.crl_lint import crl_number
from ca.upstream import self_signed
from ca.upstream.disk import DiskIntermediate, DiskRoot
from ca.upstream.issuer_crl import IssuerCrl, check_usable
from ca.upstream.list_files import ListFiles, read_lists
from meshca.errors import AuthorityUnavailable
from tests.builders import NOW, Pki, make_key, make_pki
from tests.ca.test_upstreams import intermediate, root, write_certificates
from tests.real_parts import require

PKI = make_pki(number=61)
OTHER = make_pki(number=62)
DAY = timedelta(days=1)


def signed_list(
    pki: Pki = PKI,
    serials: Sequence[int] = (),
    *,
    key: Any = None,
    begin: datetime = NOW - timedelta(minutes=10),
    end: datetime = NOW + 30 * DAY,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    key_id: x509.Certificate | None = None,
) -> bytes:
    """Return the PEM of a list of the root of `pki`."""
    builder = (
        x509.CertificateRevocationListBuilder(pki.root.subject)
        .last_update(begin)
        .next_update(end)
        .add_extension(authority_key_identifier(key_id or pki.root), critical=False)
        .add_extension(x509.CRLNumber(1), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    for serial in serials:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder(serial, begin).build()
        )
    crl = builder.sign(key or pki.root_key, hashes.SHA256())
    return crl.public_bytes(Encoding.PEM)


def with_list(directory: Path, content: bytes) -> DiskIntermediate:
    """Return an upstream of files with the file of lists `root.crl`."""
    path = directory / "root.crl"
    path.write_bytes(content)
    return intermediate(directory, PKI, list_files=ListFiles((path,)))


def revoked(crl: IssuerCrl) -> set[int]:
    return {entry.serial_number for entry in crl.parsed}


def test_the_list_in_a_file_is_known(tmp_path: Path) -> None:
    upstream = with_list(tmp_path, signed_list())
    upstream.provide(NOW)

    (crl,) = upstream.lists(NOW)

    assert crl.issuer == PKI.root
    assert crl.is_current(NOW)
    assert not upstream.revokes(PKI.intermediate, NOW)


def test_a_list_that_has_our_intermediate_says_so_once_it_is_read(tmp_path: Path) -> None:
    upstream = with_list(tmp_path, signed_list())
    upstream.provide(NOW)
    (tmp_path / "root.crl").write_bytes(signed_list(PKI, [PKI.intermediate.serial_number]))

    upstream.lists(NOW)

    assert upstream.revokes(PKI.intermediate, NOW)
    assert not upstream.revokes(PKI.intermediate, NOW + 31 * DAY)


DELTA = x509.DeltaCRLIndicator(1)
PART = x509.IssuingDistributionPoint(None, None, True, False, None, False, False)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "holds no PEM revocation lists"),
        (b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "holds no PEM"),
        (signed_list(key=make_key("p256", 999)), "is not signed by it"),
        (signed_list(OTHER), "which is not above our intermediate"),
        (signed_list(key_id=OTHER.root), "names another key than its issuer's"),
        (signed_list(extensions=[(DELTA, True)]), "less than a whole list: 2.5.29.27"),
        (signed_list(extensions=[(PART, True)]), "less than a whole list: 2.5.29.28"),
    ],
)
def test_a_file_that_is_wrong_stops_the_start_and_is_named(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    with pytest.raises(AuthorityUnavailable, match=reason) as caught:
        with_list(tmp_path, content).provide(NOW)

    assert str(caught.value).startswith(str(tmp_path / "root.crl"))


def test_a_file_that_is_missing_stops_the_start(tmp_path: Path) -> None:
    upstream = with_list(tmp_path, signed_list())
    (tmp_path / "root.crl").unlink()

    with pytest.raises(AuthorityUnavailable, match=r"root\.crl cannot be read: No such file"):
        upstream.provide(NOW)


def test_our_own_intermediates_list_is_not_one_of_those_above(tmp_path: Path) -> None:
    key = PKI.intermediate_key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    own = Pki(PKI.intermediate, key, PKI.intermediate, key)

    with pytest.raises(AuthorityUnavailable, match="not above our intermediate"):
        with_list(tmp_path, signed_list(own)).provide(NOW)


def test_an_ended_list_stops_no_certificates(tmp_path: Path) -> None:
    ended = signed_list(begin=NOW - 3 * DAY, end=NOW - DAY)
    upstream = with_list(tmp_path, ended)

    assert upstream.provide(NOW).authority.certificate == PKI.intermediate
    (crl,) = upstream.lists(NOW)
    assert not crl.is_current(NOW)


def test_a_file_that_goes_wrong_later_leaves_what_was_known_and_says_so_once(
    tmp_path: Path,
) -> None:
    upstream = with_list(tmp_path, signed_list())
    before = upstream.lists(NOW)
    (tmp_path / "root.crl").write_bytes(signed_list(OTHER))

    with capture_logs() as logs:
        assert upstream.lists(NOW) == upstream.lists(NOW) == before

    assert [(each["event"], each["log_level"]) for each in logs] == [
        ("list_file_not_taken", "error")
    ]
    (tmp_path / "root.crl").write_bytes(signed_list(serials=[5]))
    assert [revoked(crl) for crl in upstream.lists(NOW)] == [{5}]


def test_a_file_may_hold_the_lists_of_several_cas(tmp_path: Path) -> None:
    (tmp_path / "both.crl").write_bytes(signed_list() + signed_list(OTHER))

    found = read_lists(tmp_path / "both.crl", (PKI.root, OTHER.root))

    assert [crl.issuer for crl in found] == [PKI.root, OTHER.root]


def openssl_verifies(crl: Path, roots: Path) -> bool:
    program = shutil.which("openssl")
    require(program is not None, "openssl", "apt-get install openssl")
    command = [str(program), "crl", "-in", str(crl), "-CAfile", str(roots), "-noout"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode == 0 and "verify OK" in done.stdout + done.stderr


def test_a_root_whose_key_is_here_has_a_list_from_the_first_time_it_is_asked_for(
    tmp_path: Path,
) -> None:
    upstream = root(tmp_path, PKI)

    (crl,) = upstream.lists(NOW)

    check_usable(crl)
    assert revoked(crl) == set()
    assert crl.this_update == PKI.root.not_valid_before_utc  # or ten minutes ago
    assert crl.next_update == NOW + 30 * DAY
    assert upstream.lists(NOW + 9 * DAY) == (crl,)
    assert openssl_verifies(tmp_path / "root.crl.pem", tmp_path / "root.pem")


def test_it_is_signed_again_when_a_third_is_gone_and_across_a_restart(tmp_path: Path) -> None:
    (first,) = root(tmp_path, PKI).lists(NOW)
    again = reopened(tmp_path)
    assert again.lists(NOW + DAY) == (first,)

    (second,) = again.lists(NOW + 11 * DAY)

    assert second.next_update == NOW + 41 * DAY
    assert crl_number(second.parsed) > crl_number(first.parsed)


def test_the_number_grows_when_the_clock_is_set_back(tmp_path: Path) -> None:
    upstream = root(tmp_path, make_pki(now=NOW - 9 * DAY, number=63))
    (first,) = upstream.lists(NOW)

    (second,) = upstream.lists(NOW - DAY)

    assert second.is_current(NOW - DAY)
    assert crl_number(second.parsed) == crl_number(first.parsed) + 1


def test_a_list_outlives_every_intermediate_signed_while_it_was_in_force(tmp_path: Path) -> None:
    upstream = root(tmp_path, PKI, lifetime=timedelta(days=90))
    (crl,) = upstream.lists(NOW)
    at, step = NOW, timedelta(days=5)
    while upstream.lists(at + step) == (crl,):
        at += step

    assert at > NOW
    assert upstream.provide(at).authority.not_after < crl.next_update


def reopened(directory: Path) -> DiskRoot:
    """Return the upstream of the files that are there."""
    return DiskRoot(
        root=directory / "root.pem",
        root_key=directory / "root.key",
        passphrase_file=None,
        trust_domain="example.org",
        lifetime=timedelta(days=7),
    )


def test_what_is_revoked_is_on_the_list_at_once_and_for_good(tmp_path: Path) -> None:
    upstream = root(tmp_path, PKI)
    stolen, other = (upstream.provide(NOW).authority.certificate for _ in range(2))
    upstream.lists(NOW)

    assert upstream.revoke(stolen, NOW)
    assert upstream.revoke(stolen, NOW)

    (crl,) = upstream.lists(NOW)
    assert revoked(crl) == {stolen.serial_number}
    assert upstream.revokes(stolen, NOW)
    assert not upstream.revokes(other, NOW)
    again = reopened(tmp_path)
    assert again.revoke(other, NOW + 12 * DAY)  # it has ended: there is nothing to do
    (later,) = again.lists(NOW + 12 * DAY)
    assert revoked(later) == {stolen.serial_number}


def test_what_another_root_signed_is_not_revoked(tmp_path: Path) -> None:
    upstream = root(tmp_path, PKI)

    assert not upstream.revoke(OTHER.intermediate, NOW)
    assert not (tmp_path / "root.crl.pem").exists()


def test_a_file_beside_the_root_that_is_not_its_list_is_never_written_over(tmp_path: Path) -> None:
    upstream = root(tmp_path, PKI)
    forged = signed_list(key=make_key("p256", 999))
    (tmp_path / "root.crl.pem").write_bytes(forged)

    for ask in (upstream.lists, lambda now: upstream.revoke(PKI.intermediate, now)):
        with pytest.raises(AuthorityUnavailable, match=r"root\.crl\.pem: .* is not signed by it"):
            ask(NOW)

    assert (tmp_path / "root.crl.pem").read_bytes() == forged


def test_where_nothing_can_be_written_a_list_is_there_and_nothing_is_revoked(
    tmp_path: Path,
) -> None:
    upstream = root(tmp_path, PKI)
    (tmp_path / "root.crl.pem" / "in the way").mkdir(parents=True)

    (crl,) = upstream.lists(NOW)

    assert crl.is_current(NOW)
    assert upstream.lists(NOW) == (crl,)
    with pytest.raises(AuthorityUnavailable, match="cannot be written, so nothing was revoked"):
        upstream.revoke(PKI.intermediate, NOW)
    assert not upstream.revokes(PKI.intermediate, NOW)


def test_a_root_whose_key_has_gone_leaves_a_last_list(tmp_path: Path) -> None:
    self_signed.create(tmp_path, trust_domain="example.org", now=NOW)
    old = development(tmp_path).provide(NOW).authority
    self_signed.add_root(tmp_path, trust_domain="example.org", now=NOW + DAY)

    lists = development(tmp_path).lists(NOW + DAY)

    assert len(lists) == 2
    (last,) = [crl for crl in lists if crl.issuer.subject == old.root.subject]
    assert last.next_update == old.root.not_valid_after_utc
    assert development(tmp_path).lists(NOW + 40 * DAY)


def development(directory: Path) -> DiskRoot:
    return self_signed.unsafe_self_signed(
        directory, trust_domain="example.org", lifetime=timedelta(days=7)
    )


def test_the_list_of_a_root_that_has_left_the_file_is_no_matter(tmp_path: Path) -> None:
    upstream = root(tmp_path, PKI)
    upstream.lists(NOW)
    with (tmp_path / "root.crl.pem").open("ab") as file:
        file.write(signed_list(OTHER))

    assert [crl.issuer for crl in upstream.lists(NOW)] == [PKI.root]
    write_certificates(tmp_path / "root.pem", PKI.root, OTHER.root)
    assert [crl.issuer for crl in upstream.lists(NOW)] == [PKI.root, OTHER.root]
