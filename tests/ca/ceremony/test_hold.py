"""Ceremonies from plan to files: what is made works, what is refused leaves nothing behind."""

import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ca.ceremony.hold import hold, rehearse
from ca.ceremony.plan import load_plan
from ca.keys import load_private_key, private_key_pem, write_private_key
from ca.upstream.disk import DiskIntermediate
from identity.peer import verify_peer
from meshca.errors import AuthorityUnavailable, InvalidDocument, ProofRefused, RequestRefused
from tests.builders import NOW, TRUST_DOMAIN, make_key
from tests.ca.ceremony.plans import (
    CRL,
    INTERMEDIATE,
    PASSPHRASE,
    ROOT,
    Table,
    table_with_root,
)
from tests.real_parts import require

DAY = timedelta(days=1)


def edited(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


def refusal(table: Table, text: str) -> list[tuple[str, str]]:
    """Return what is wrong with the ceremony of a plan; it must leave nothing behind."""
    before = table.files()
    with pytest.raises(InvalidDocument) as caught:
        table.hold(text)
    assert table.files() == before
    return [(problem.path, problem.message) for problem in caught.value.problems]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """A table with a root and a request."""
    table = table_with_root(tmp_path)
    table.request()
    return table


def test_a_root_says_what_the_plan_says(tmp_path: Path) -> None:
    table = table_with_root(tmp_path)
    root = table.certificate("root.pem")
    assert root.subject.rfc4514_string() == "CN=example.org root R1,O=Example,C=CH"
    assert root.not_valid_before_utc == NOW
    assert root.not_valid_after_utc == NOW.replace(year=2036)
    assert isinstance(root.public_key(), ec.EllipticCurvePublicKey)
    assert table.files() == {"root.key", "root.pem"}


def test_a_roots_key_is_encrypted_and_its_owners_only(tmp_path: Path) -> None:
    table_with_root(tmp_path)
    file = tmp_path / "root.key"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    with pytest.raises(TypeError, match="encrypted"):
        load_pem_private_key(file.read_bytes(), None)
    load_private_key(file, PASSPHRASE)


@pytest.mark.parametrize(
    ("key_type", "kind", "size"),
    [
        ("p256", ec.EllipticCurvePublicKey, 256),
        ("p384", ec.EllipticCurvePublicKey, 384),
        ("rsa3072", rsa.RSAPublicKey, 3072),
    ],
)
def test_every_kind_of_root_signs_intermediates_and_lists(
    key_type: str, kind: type, size: int, tmp_path: Path
) -> None:
    table = table_with_root(tmp_path, edited(ROOT, "p384", key_type))
    table.request()
    table.hold(INTERMEDIATE)
    table.hold(CRL)
    key = table.certificate("root.pem").public_key()
    assert isinstance(key, kind)
    assert key.key_size == size  # type: ignore[union-attr]  # both kinds have one


def test_what_a_ceremony_signs_is_an_upstream(table: Table) -> None:
    table.hold(INTERMEDIATE)
    upstream = DiskIntermediate(
        root=table.directory / "root.pem",
        chain=table.directory / "chain.pem",
        key=table.directory / "intermediate.key",
        passphrase_file=None,
        trust_domain=TRUST_DOMAIN,
    )
    authority = upstream.provide(NOW).authority
    assert authority.not_after == NOW + 90 * DAY
    assert authority.certificate.subject.rfc4514_string().startswith("CN=example.org intermediate")


def test_one_ceremony_signs_several_requests(table: Table) -> None:
    table.request("second", 601)
    item = INTERMEDIATE[INTERMEDIATE.index("  - csr") :]
    second = item.replace("intermediate.csr", "second.csr").replace("chain", "second")
    table.hold(INTERMEDIATE + second)
    assert {"chain.pem", "second.pem"} <= table.files()


def test_from_a_request_the_key_is_taken_and_nothing_else(table: Table) -> None:
    key = make_key("p256", 602)
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "evil")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("evil.com")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (table.directory / "intermediate.csr").write_bytes(csr.public_bytes(Encoding.PEM))
    table.hold(INTERMEDIATE)
    made = table.certificate("chain.pem")
    assert "evil" not in made.subject.rfc4514_string()
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == ["spiffe://example.org"]


def test_a_request_of_another_key_than_planned_is_refused(table: Table) -> None:
    text = edited(INTERMEDIATE, "    output", f"    public_key_sha256: {'ab' * 32}\n    output")
    ((key, said),) = refusal(table, text)
    assert key == "certificates[0].public_key_sha256"
    assert "is another one" in said


def test_a_plan_may_name_the_key_of_its_request(table: Table) -> None:
    report = rehearse(load_plan(table.write(INTERMEDIATE)), now=NOW)
    digest = report.results[0].facts["public_key_sha256"]
    table.hold(edited(INTERMEDIATE, "    output", f"    public_key_sha256: {digest}\n    output"))
    assert "chain.pem" in table.files()


def test_a_request_whose_signature_does_not_verify_is_refused(table: Table) -> None:
    file = table.directory / "intermediate.csr"
    csr = x509.load_pem_x509_csr(file.read_bytes()).public_bytes(Encoding.DER)
    file.write_bytes(csr[:-1] + bytes([csr[-1] ^ 1]))
    ((key, said),) = refusal(table, INTERMEDIATE)
    assert key == "certificates[0].csr"
    assert "does not verify" in said


def test_every_request_that_cannot_be_signed_is_named(table: Table) -> None:
    table.request("second", 601)
    (table.directory / "intermediate.csr").write_text("not a request")
    item = INTERMEDIATE[INTERMEDIATE.index("  - csr") :]
    second = item.replace("intermediate.csr", "second.csr").replace("chain", "second")
    second = edited(second, "lifetime: 90d", "not_after: 2026-11-01T00:00:00Z")
    assert [key for key, _ in refusal(table, INTERMEDIATE + second)] == [
        "certificates[0].csr",
        "certificates[1].validity",
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("lifetime: 90d", "lifetime: 4000d", "validity_is_inside_the_issuers: outlives its issuer"),
        ("    output", "    path_length: 1\n    output", "path_length_is_below_the_issuers"),
        (
            "organization: Example, common_name: example.org intermediate 2026-11",
            "country: CH, organization: Example, common_name: example.org root R1",
            "subject_is_not_the_issuers",
        ),
    ],
    ids=["outlives its root", "as deep as its root", "the root's name"],
)
def test_lint_refuses_before_the_key_is_opened(old: str, new: str, said: str, table: Table) -> None:
    (table.directory / "root.key").write_text("not a key: nobody may open it")
    ((key, message),) = refusal(table, edited(INTERMEDIATE, old, new))
    assert key == "certificates[0]"
    assert said in message
    assert message.count("_is_") == 1 or said.startswith("path_length")


def test_a_root_of_another_trust_domain_signs_nothing(table: Table) -> None:
    text = edited(INTERMEDIATE, "trust_domain: example.org", "trust_domain: example.com")
    with pytest.raises(AuthorityUnavailable, match=r"root.pem: .* is for spiffe://example.org"):
        table.hold(text)


def test_a_root_that_has_ended_signs_nothing(table: Table) -> None:
    table.write(INTERMEDIATE)
    with pytest.raises(InvalidDocument, match=r"issuer.certificate: valid from .* to 2036"):
        table.hold(INTERMEDIATE, now=NOW.replace(year=2037))


def test_a_certificate_that_is_no_ca_signs_nothing(table: Table) -> None:
    table.hold(INTERMEDIATE)
    shutil.copy(table.directory / "chain.pem", table.directory / "root.pem")
    again = edited(INTERMEDIATE, "output: chain.pem", "output: more.pem")
    ((_, said),) = refusal(table, edited(again, "2026-11", "2026-12"))
    assert "path_length_is_below_the_issuers: path length 0 under an issuer of 0" in said


def test_which_of_several_certificates_signs_must_be_clear(table: Table) -> None:
    pem = (table.directory / "root.pem").read_bytes()
    (table.directory / "root.pem").write_bytes(pem * 2)
    ((key, said),) = refusal(table, INTERMEDIATE)
    assert (key, "several" in said) == ("issuer.certificate", True)


def test_a_wrong_passphrase_signs_nothing_and_is_not_shown(table: Table) -> None:
    before = table.files()
    with pytest.raises(AuthorityUnavailable, match="is its passphrase right") as caught:
        table.hold(INTERMEDIATE, passphrase=b"guessed horse battery")
    assert "guessed" not in str(caught.value)
    assert table.files() == before


def test_the_key_of_another_root_signs_nothing(table: Table) -> None:
    (table.directory / "root.key").unlink()
    write_private_key(table.directory / "root.key", make_key("p384", 603), PASSPHRASE)
    with pytest.raises(AuthorityUnavailable, match=r"root.key is not that of .*root.pem"):
        table.hold(INTERMEDIATE)


def test_a_root_key_that_others_can_read_is_not_used(table: Table) -> None:
    (table.directory / "root.key").chmod(0o644)
    with pytest.raises(AuthorityUnavailable, match="has mode 0644"):
        table.hold(INTERMEDIATE)


@pytest.mark.parametrize("length", [0, 11])
def test_a_new_root_needs_a_passphrase_worth_the_name(length: int, tmp_path: Path) -> None:
    table = Table(tmp_path)
    with pytest.raises(RequestRefused, match="shorter than 12 characters"):
        table.hold(ROOT, passphrase=b"x" * length)
    assert table.files() == set()


def test_nothing_is_overwritten(table: Table) -> None:
    key = (table.directory / "root.key").read_bytes()
    keys = [key for key, _ in refusal(table, ROOT)]
    assert keys == ["outputs.key", "outputs.certificate"]
    assert (table.directory / "root.key").read_bytes() == key


def test_a_file_that_appears_in_the_meantime_is_not_overwritten(tmp_path: Path) -> None:
    table = Table(tmp_path)
    loaded = load_plan(table.write(ROOT))
    (tmp_path / "root.pem").write_text("precious")
    with pytest.raises(Exception, match=r"root.pem cannot be written: File exists; nothing was"):
        hold(loaded, passphrase=PASSPHRASE, now=NOW)
    assert (tmp_path / "root.pem").read_text() == "precious"
    assert table.files() == {"root.pem"}


def test_a_rehearsal_writes_nothing_and_needs_no_passphrase(table: Table) -> None:
    before = table.files()
    report = rehearse(load_plan(table.write(INTERMEDIATE)), now=NOW)
    assert report.is_rehearsal
    assert report.checklist == ()
    assert report.results[0].sha256 == ""
    assert table.files() == before


def test_a_report_says_what_the_witnesses_see(tmp_path: Path) -> None:
    table = Table(tmp_path)
    report = table.hold(ROOT)
    certificate, key = report.results
    fingerprint = table.certificate("root.pem").fingerprint(hashes.SHA256())
    assert certificate.facts["fingerprint_sha256"].replace(":", "").lower() == fingerprint.hex()
    assert (certificate.path, key.path) == (tmp_path / "root.pem", tmp_path / "root.key")
    assert any("-fingerprint -sha256" in line for line in report.checklist)
    assert report.warnings == ()


def test_no_report_shows_a_secret(tmp_path: Path) -> None:
    report = repr(Table(tmp_path).hold(ROOT))
    key = load_private_key(tmp_path / "root.key", PASSPHRASE)
    assert PASSPHRASE.decode() not in report
    assert "PRIVATE KEY" not in report
    assert private_key_pem(key).decode() not in report


def test_an_empty_list_is_signed_by_the_root(table: Table) -> None:
    table.hold(CRL)
    crl = table.crl()
    assert len(list(crl)) == 0
    assert crl.is_signature_valid(table.certificate("root.pem").public_key())  # type: ignore[arg-type]  # it is EC
    assert crl.next_update_utc == NOW + 180 * DAY


def revoking(*entries: str, number: int = 1) -> str:
    """Return the plan of list NUMBER.crl with `entries`."""
    listed = "".join(f"\n  - {entry}" for entry in entries) or " []"
    text = edited(CRL, "revoked: []", f"revoked:{listed}")
    return edited(text, "number: 1", f"number: {number}").replace("root.crl", f"{number}.crl")


def test_a_list_revokes_intermediates_by_file_and_by_serial(table: Table) -> None:
    table.hold(INTERMEDIATE)
    table.hold(
        revoking(
            "{certificate: chain.pem, time: 2026-10-31T00:00:00Z, reason: key_compromise}",
            "{serial: 'AB:CD', time: 2026-10-30T00:00:00Z}",
        )
    )
    serial = table.certificate("chain.pem").serial_number
    found = {e.serial_number: e.revocation_date_utc.day for e in table.crl("1.crl")}
    assert found == {serial: 31, 0xABCD: 30}
    entry = table.crl("1.crl").get_revoked_certificate_by_serial_number(serial)
    assert entry is not None
    reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    assert reason is x509.ReasonFlags.key_compromise


def test_openssl_holds_the_revoked_intermediate_to_be_revoked(table: Table) -> None:
    require(shutil.which("openssl") is not None, "openssl", "apt-get install openssl")
    table.hold(INTERMEDIATE)
    table.hold(CRL)
    table.hold(
        revoking("{certificate: chain.pem, time: 2026-10-31T00:00:00Z}", number=2),
    )

    def verify(crl: str) -> str:
        command = ["openssl", "verify", "-CAfile", "root.pem", "-crl_check", "-CRLfile", crl]
        command += ["-attime", str(int(NOW.timestamp()) + 60), "chain.pem"]
        done = subprocess.run(
            command, cwd=table.directory, capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    assert "chain.pem: OK" in verify("root.crl")
    assert "certificate revoked" in verify("2.crl")


def test_a_list_that_forgets_what_was_revoked_is_refused(table: Table) -> None:
    table.hold(revoking("{serial: ab, time: 2026-10-30T00:00:00Z}"))
    ((_, said),) = refusal(table, revoking(number=2) + "previous: 1.crl\n")
    assert "nothing_is_forgotten: not as on the list before: serial ab" in said


def test_a_list_after_another_needs_a_greater_number(table: Table) -> None:
    table.hold(CRL)
    text = CRL.replace("output: root.crl", "output: again.crl") + "previous: root.crl\n"
    ((_, said),) = refusal(table, text)
    assert "number_grows: number 1 after 1" in said


def test_another_issuers_certificate_is_not_revoked(table: Table, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    table_with_root(other)
    shutil.copy(other / "root.pem", table.directory / "foreign.pem")
    ((key, said),) = refusal(
        table, revoking("{certificate: foreign.pem, time: 2026-10-31T00:00:00Z}")
    )
    assert key == "revoked[0]"
    assert "foreign.pem was not signed by this issuer" in said


def test_a_serial_given_twice_is_a_mistake(table: Table) -> None:
    entry = "{serial: ab, time: 2026-10-30T00:00:00Z}"
    ((key, said),) = refusal(table, revoking(entry, entry))
    assert (key, said) == ("revoked[1]", "serial ab again")


@pytest.mark.parametrize(
    ("content", "said"),
    [("hello", "is not a revocation list in PEM"), (None, "was not signed by this issuer")],
    ids=["no list", "another issuer's"],
)
def test_a_previous_list_must_be_one_of_this_issuer(
    content: str | None, said: str, table: Table, tmp_path: Path
) -> None:
    if content is None:
        other = tmp_path / "other"
        other.mkdir()
        table_with_root(other).hold(CRL)
        content = (other / "root.crl").read_text()
    (table.directory / "before.crl").write_text(content)
    ((key, message),) = refusal(table, CRL + "previous: before.crl\n")
    assert key == "previous"
    assert said in message


CONSTRAINED = ROOT + "name_constraints: true\n"


def test_name_constraints_are_off_unless_asked_for_and_then_warn(tmp_path: Path) -> None:
    table = Table(tmp_path)
    report = table.hold(CONSTRAINED)
    found = table.certificate("root.pem").extensions.get_extension_for_class(x509.NameConstraints)
    assert found.critical
    (warning,) = report.warnings
    for who in ("OpenSSL", "Go", "Python's cryptography refuses", "rustls", "renew"):
        assert who in warning


def test_the_warning_is_true_of_cryptography(tmp_path: Path) -> None:
    table = table_with_root(tmp_path, CONSTRAINED)
    table.request()
    table.hold(INTERMEDIATE)
    with pytest.raises(ProofRefused, match="unsupported name constraint"):
        verify_peer(
            [leaf(table), table.certificate("chain.pem")],
            roots=[table.certificate("root.pem")],
            trust_domain=TRUST_DOMAIN,
            now=NOW,
        )


@pytest.mark.parametrize(
    ("trust_domain", "said"),
    [("example.org", "leaf.pem: OK"), ("example.com", "permitted subtree violation")],
)
def test_the_warning_is_true_of_openssl(trust_domain: str, said: str, tmp_path: Path) -> None:
    require(shutil.which("openssl") is not None, "openssl", "apt-get install openssl")
    table = table_with_root(tmp_path, CONSTRAINED)
    table.request()
    table.hold(INTERMEDIATE)
    pem = leaf(table, trust_domain).public_bytes(Encoding.PEM)
    (tmp_path / "leaf.pem").write_bytes(pem)
    command = ["openssl", "verify", "-CAfile", "root.pem", "-untrusted", "chain.pem"]
    command += ["-attime", str(int(NOW.timestamp()) + 60), "leaf.pem"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said in done.stdout + done.stderr


def leaf(table: Table, trust_domain: str = TRUST_DOMAIN) -> x509.Certificate:
    """Return a leaf under the table's intermediate, as a peer shows it."""
    key = make_key("p256", 604)
    issuer = table.certificate("chain.pem")
    ski = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    uri = x509.UniformResourceIdentifier(f"spiffe://{trust_domain}/ns/shop/sa/orders")
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .not_valid_before(NOW)
        .not_valid_after(NOW + DAY)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski), critical=False
        )
        .sign(make_key("p256", 600), hashes.SHA256())
    )
