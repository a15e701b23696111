"""What an upstream gives must prove that it works before it may sign."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ca.ca_certificate import make_intermediate, make_root
from ca.keys import check_public_key, write_private_key
from ca.upstream import self_signed
from ca.upstream.chain import make_authority, read_certificates
from ca.upstream.disk import DiskIntermediate, DiskRoot
from meshca.errors import AuthorityUnavailable
from tests.builders import NOW, TRUST_DOMAIN, make_caller, make_key, make_pki

PKI = make_pki()
OTHER = make_pki(number=2)


def refused(*chain: object, roots: object = None, key: object = None, **more: object) -> str:
    """Return why the authority is refused."""
    arguments = {"trust_domain": TRUST_DOMAIN, "now": NOW} | more
    with pytest.raises(AuthorityUnavailable) as caught:
        make_authority(
            chain,  # type: ignore[arg-type]  # the table names certificates
            roots or (PKI.root,),  # type: ignore[arg-type]
            key or PKI.intermediate_key,  # type: ignore[arg-type]
            **arguments,  # type: ignore[arg-type]
        )
    return str(caught.value)


def test_takes_an_intermediate_under_its_root_and_leaves_the_root_out_of_the_chain() -> None:
    authority = make_authority(
        (PKI.intermediate, PKI.root),
        (OTHER.root, PKI.root),
        PKI.intermediate_key,
        trust_domain=TRUST_DOMAIN,
        now=NOW,
    )
    assert authority.chain == (PKI.intermediate,)
    assert authority.root == PKI.root
    assert authority.not_after == PKI.intermediate.not_valid_after_utc


def test_refuses_a_key_of_another_certificate() -> None:
    assert "the key does not belong" in refused(PKI.intermediate, key=OTHER.intermediate_key)


def test_refuses_a_foreign_root() -> None:
    assert "not signed by any of the roots" in refused(PKI.intermediate, roots=(OTHER.root,))


def test_refuses_a_chain_in_the_wrong_order() -> None:
    assert "the next in chain" in refused(PKI.intermediate, OTHER.intermediate)


def test_refuses_roots_alone() -> None:
    assert "no intermediate" in refused(PKI.root, key=PKI.root_key)


def test_refuses_what_is_not_valid_now() -> None:
    assert "is valid from" in refused(PKI.intermediate, now=NOW + timedelta(days=8))
    assert "is valid from" in refused(PKI.intermediate, now=NOW - timedelta(days=1))


def test_refuses_another_trust_domain() -> None:
    assert "not for trust domain other.org" in refused(PKI.intermediate, trust_domain="other.org")


def test_refuses_more_cas_than_the_path_length_allows() -> None:
    below = make_intermediate(
        check_public_key(make_key("p256", 301).public_key()),
        root=PKI.intermediate,
        root_key=PKI.intermediate_key,
        trust_domain=TRUST_DOMAIN,
        now=NOW,
        lifetime=timedelta(days=1),
    )
    assert "CAs below it" in refused(below, PKI.intermediate, key=make_key("p256", 301))


def test_refuses_a_leaf_as_an_authority() -> None:
    from ca import issuer
    from tests.builders import make_profile, make_request

    prepared = issuer.prepare(
        make_caller(),
        make_request(),
        authority=PKI.authority(),
        profile=make_profile(),
        now=NOW,
    )
    leaf = issuer.compare(prepared, issuer.sign(prepared))
    assert "not a CA certificate" in refused(leaf, PKI.intermediate, key=make_key("p256"))


def write(directory: Path, passphrase: bytes | None = None) -> None:
    """Write root, chain and both keys."""
    (directory / "root.pem").write_bytes(PKI.root.public_bytes(Encoding.PEM))
    (directory / "chain.pem").write_bytes(PKI.intermediate.public_bytes(Encoding.PEM))
    write_private_key(directory / "chain.key", PKI.intermediate_key, passphrase)
    write_private_key(directory / "root.key", PKI.root_key, passphrase)
    (directory / "passphrase").write_bytes(b"correct horse\n")
    (directory / "passphrase").chmod(0o600)


def intermediate_in(directory: Path, passphrase: str | None = None) -> DiskIntermediate:
    """Return the upstream of the files."""
    return DiskIntermediate(
        root=directory / "root.pem",
        chain=directory / "chain.pem",
        key=directory / "chain.key",
        passphrase_file=directory / passphrase if passphrase else None,
        trust_domain=TRUST_DOMAIN,
    )


def test_an_intermediate_on_disk(tmp_path: Path) -> None:
    write(tmp_path)
    upstream = intermediate_in(tmp_path)
    provision = upstream.provide(NOW)
    assert provision.authority.certificate == PKI.intermediate
    assert provision.roots == (PKI.root,)
    assert not upstream.can_renew


def test_an_encrypted_key_needs_its_passphrase(tmp_path: Path) -> None:
    write(tmp_path, b"correct horse")
    assert intermediate_in(tmp_path, "passphrase").provide(NOW).authority.chain
    with pytest.raises(AuthorityUnavailable, match="set passphrase_file"):
        intermediate_in(tmp_path).provide(NOW)
    (tmp_path / "passphrase").write_bytes(b"wrong")
    with pytest.raises(AuthorityUnavailable, match="is its passphrase right"):
        intermediate_in(tmp_path, "passphrase").provide(NOW)


def test_a_root_key_on_disk_signs_a_fresh_intermediate_each_time(tmp_path: Path) -> None:
    write(tmp_path, b"correct horse")
    upstream = DiskRoot(
        root=tmp_path / "root.pem",
        root_key=tmp_path / "root.key",
        passphrase_file=tmp_path / "passphrase",
        trust_domain=TRUST_DOMAIN,
        lifetime=timedelta(days=7),
    )
    first, second = upstream.provide(NOW).authority, upstream.provide(NOW).authority
    assert first.authority_id != second.authority_id
    assert first.root == second.root == PKI.root
    assert upstream.can_renew


def test_a_root_key_that_is_not_the_roots_is_found(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "root.pem").write_bytes(OTHER.root.public_bytes(Encoding.PEM))
    upstream = DiskRoot(
        root=tmp_path / "root.pem",
        root_key=tmp_path / "root.key",
        passphrase_file=None,
        trust_domain=TRUST_DOMAIN,
        lifetime=timedelta(days=7),
    )
    with pytest.raises(AuthorityUnavailable, match="not signed by any of the roots"):
        upstream.provide(NOW)


def test_files_that_are_missing_or_hold_no_certificate_are_named(tmp_path: Path) -> None:
    with pytest.raises(AuthorityUnavailable, match="cannot be read"):
        read_certificates(tmp_path / "nothing.pem")
    (tmp_path / "text.pem").write_text("hello")
    with pytest.raises(AuthorityUnavailable, match="no PEM certificates"):
        read_certificates(tmp_path / "text.pem")


def test_a_development_root_is_made_once_and_warns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    self_signed.create(tmp_path, trust_domain=TRUST_DOMAIN, now=NOW)
    with pytest.raises(FileExistsError):
        self_signed.create(tmp_path, trust_domain=TRUST_DOMAIN, now=NOW)
    assert (tmp_path / "pki" / "root.key").stat().st_mode & 0o077 == 0
    upstream = self_signed.unsafe_self_signed(
        tmp_path, trust_domain=TRUST_DOMAIN, lifetime=timedelta(days=7)
    )
    captured = capsys.readouterr()
    assert "unsafe_self_signed_root" in captured.out + captured.err
    assert upstream.provide(NOW).authority.chain


def test_a_root_ends_the_life_of_what_is_under_it() -> None:
    root = make_root(
        make_key("p256", 302), trust_domain=TRUST_DOMAIN, now=NOW, lifetime=timedelta(days=1)
    )
    arguments = {"root": root, "root_key": make_key("p256", 302), "trust_domain": TRUST_DOMAIN}
    public = check_public_key(make_key("p256", 303).public_key())
    certificate = make_intermediate(
        public,
        now=NOW,
        lifetime=timedelta(days=7),
        **arguments,  # type: ignore[arg-type]
    )
    assert certificate.not_valid_after_utc == root.not_valid_after_utc
    with pytest.raises(AuthorityUnavailable, match="the root expired"):
        make_intermediate(
            public,
            now=NOW + timedelta(days=2),
            lifetime=timedelta(days=7),
            **arguments,  # type: ignore[arg-type]
        )
