"""Ceremonies from plan to files: what is made works, what is refused leaves nothing behind."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ca.ceremony.hold import hold, rehearse
from ca.ceremony.plan import load_plan
from ca.keys import load_private_key, private_key_pem, write_private_key
from ca.upstream.disk import DiskIntermediate
from meshca.errors import AuthorityUnavailable, RequestRefused
from tests.builders import NOW, TRUST_DOMAIN, make_key
from tests.ca.ceremony.plans import (
    CRL,
    INTERMEDIATE,
    PASSPHRASE,
    ROOT,
    Table,
    edited,
    refusal,
    table_with_root,
)

DAY = timedelta(days=1)


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
