"""Ceremonies that sign intermediates: what may be signed, and under which root."""

import shutil

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ca.ceremony.hold import rehearse
from ca.ceremony.plan import load_plan
from meshca.errors import AuthorityUnavailable, InvalidDocument
from tests.builders import NOW, make_key
from tests.ca.ceremony.plans import (
    INTERMEDIATE,
    Table,
    edited,
    refusal,
)


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
