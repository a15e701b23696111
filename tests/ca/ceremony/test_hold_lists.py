"""Ceremonies that sign revocation lists."""

import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from tests.builders import NOW
from tests.ca.ceremony.plans import (
    CRL,
    INTERMEDIATE,
    Table,
    edited,
    refusal,
    table_with_root,
)
from tests.real_parts import require


def test_an_empty_list_is_signed_by_the_root(table: Table) -> None:
    table.hold(CRL)
    crl = table.crl()
    assert len(list(crl)) == 0
    assert crl.is_signature_valid(table.certificate("root.pem").public_key())  # type: ignore[arg-type]  # it is EC
    assert crl.next_update_utc == NOW + timedelta(days=180)


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
