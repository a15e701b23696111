"""The upstreams on disk: files as an operator leaves them, and every way they are wrong."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.keys import PrivateKeySigner, write_private_key
from ca.upstream import self_signed
from ca.upstream.chain import make_authority
from ca.upstream.disk import DiskIntermediate, DiskRoot
from meshca.errors import AuthorityUnavailable
from tests.builders import NOW, TRUST_DOMAIN, Pki, make_key, make_pki
from tests.ca.test_chain import LOWER, ROOT, UPPER, Ca, constraints
from tests.openssl import make_authority as make_by_openssl

PKI = make_pki()
WEEK = timedelta(days=7)


def write_certificates(path: Path, *certificates: x509.Certificate) -> Path:
    path.write_bytes(b"".join(c.public_bytes(Encoding.PEM) for c in certificates))
    return path


def intermediate(directory: Path, pki: Pki = PKI, **changes: Any) -> DiskIntermediate:
    """Return the upstream of `pki`, its files written to `directory`."""
    write_certificates(directory / "root.pem", pki.root)
    write_certificates(directory / "chain.pem", pki.intermediate)
    if not (directory / "intermediate.key").exists():
        write_private_key(directory / "intermediate.key", pki.intermediate_key)
    values = {
        "root": directory / "root.pem",
        "chain": directory / "chain.pem",
        "key": directory / "intermediate.key",
        "passphrase_file": None,
        "trust_domain": TRUST_DOMAIN,
    }
    return DiskIntermediate(**{**values, **changes})


def root(
    directory: Path, pki: Pki = PKI, *, passphrase: bytes | None = None, **changes: Any
) -> DiskRoot:
    """Return the upstream of `pki`'s root, its files written to `directory`."""
    write_certificates(directory / "root.pem", pki.root)
    write_private_key(directory / "root.key", pki.root_key, passphrase)
    if passphrase is not None:
        (directory / "passphrase").write_bytes(passphrase + b"\n")
        (directory / "passphrase").chmod(0o600)
    values = {
        "root": directory / "root.pem",
        "root_key": directory / "root.key",
        "passphrase_file": directory / "passphrase" if passphrase else None,
        "trust_domain": TRUST_DOMAIN,
        "lifetime": WEEK,
    }
    return DiskRoot(**{**values, **changes})


def test_an_intermediate_is_loaded_and_cannot_be_renewed(tmp_path: Path) -> None:
    upstream = intermediate(tmp_path)
    provision = upstream.provide(NOW)
    assert provision.authority.chain == (PKI.intermediate,)
    assert provision.roots == (PKI.root,)
    assert not upstream.can_renew
    message = b"to be signed"
    assert provision.authority.signer.sign(message)


def test_what_the_documents_say_to_do_with_openssl_works(tmp_path: Path) -> None:
    make_by_openssl(tmp_path)
    (certificate,) = x509.load_pem_x509_certificates((tmp_path / "chain.pem").read_bytes())
    upstream = DiskIntermediate(
        root=tmp_path / "root.pem",
        chain=tmp_path / "chain.pem",
        key=tmp_path / "intermediate.key",
        passphrase_file=None,
        trust_domain=TRUST_DOMAIN,
    )
    provision = upstream.provide(certificate.not_valid_before_utc)
    assert provision.authority.chain == (certificate,)


@pytest.mark.parametrize("passphrase", [None, b"offline"])
def test_a_root_key_signs_a_fresh_intermediate_each_time(
    tmp_path: Path, passphrase: bytes | None
) -> None:
    upstream = root(tmp_path, passphrase=passphrase)
    first, second = upstream.provide(NOW), upstream.provide(NOW + timedelta(hours=1))
    assert upstream.can_renew
    assert first.roots == second.roots == (PKI.root,)
    assert first.authority.authority_id != second.authority.authority_id
    assert first.authority.not_after == NOW + WEEK
    assert second.authority.not_after == NOW + timedelta(hours=1) + WEEK


def test_a_fresh_intermediate_ends_with_its_root(tmp_path: Path) -> None:
    pki = make_pki(root_lifetime=timedelta(days=3))
    assert root(tmp_path, pki).provide(NOW).authority.not_after == NOW + timedelta(days=3)


def test_the_root_of_the_key_is_found_among_several(tmp_path: Path) -> None:
    other = make_pki(number=5)
    upstream = root(tmp_path)
    write_certificates(tmp_path / "root.pem", other.root, PKI.root)
    provision = upstream.provide(NOW)
    assert provision.authority.root == PKI.root
    assert provision.roots == (other.root, PKI.root)


def refusal(upstream: DiskIntermediate | DiskRoot, after: timedelta = timedelta(0)) -> str:
    """Return why `upstream` provides nothing."""
    with pytest.raises(AuthorityUnavailable) as caught:
        upstream.provide(NOW + after)
    return str(caught.value)


def test_an_expired_intermediate_is_named_with_its_file_and_times(tmp_path: Path) -> None:
    said = refusal(intermediate(tmp_path), timedelta(days=7))
    assert said.startswith(f"{tmp_path}/chain.pem: certificate ")
    assert "to 2026-11-08T12:00:00+00:00; it is 2026-11-08T12:00:00+00:00" in said


def test_an_intermediate_that_is_not_valid_yet_is_refused(tmp_path: Path) -> None:
    said = refusal(intermediate(tmp_path), timedelta(seconds=-61))
    assert "valid from 2026-11-01T11:59:00+00:00" in said


def test_an_expired_root_signs_nothing(tmp_path: Path) -> None:
    said = refusal(root(tmp_path), timedelta(days=3650))
    assert said.startswith(f"{tmp_path}/root.pem: the root expired at 2036-")


def test_a_key_that_is_not_the_intermediates_is_refused(tmp_path: Path) -> None:
    write_private_key(tmp_path / "intermediate.key", make_key("p256", 77))
    assert "chain.pem: the key does not belong to" in refusal(intermediate(tmp_path))


def test_a_key_that_is_not_the_roots_is_refused(tmp_path: Path) -> None:
    upstream = root(tmp_path)
    (tmp_path / "root.key").unlink()
    write_private_key(tmp_path / "root.key", make_key("p256", 77))
    said = refusal(upstream)
    assert said == (
        f"the key in {tmp_path}/root.key belongs to no certificate in {tmp_path}/root.pem"
    )


def test_keys_that_others_can_read_are_refused(tmp_path: Path) -> None:
    upstream = intermediate(tmp_path)
    (tmp_path / "intermediate.key").chmod(0o640)
    assert "intermediate.key has mode 0640" in refusal(upstream)


def test_a_passphrase_that_others_can_read_is_refused(tmp_path: Path) -> None:
    upstream = root(tmp_path, passphrase=b"offline")
    (tmp_path / "passphrase").chmod(0o604)
    assert "passphrase has mode 0604" in refusal(upstream)


def test_a_wrong_passphrase_is_refused_and_not_shown(tmp_path: Path) -> None:
    upstream = root(tmp_path, passphrase=b"offline")
    (tmp_path / "passphrase").write_bytes(b"guessed")
    said = refusal(upstream)
    assert "root.key is not a private key we can load (is its passphrase right?)" in said
    assert "guessed" not in said


def test_a_wrong_passphrase_of_the_intermediate_is_refused(tmp_path: Path) -> None:
    write_private_key(tmp_path / "intermediate.key", PKI.intermediate_key, b"online")
    (tmp_path / "passphrase").write_bytes(b"guessed")
    (tmp_path / "passphrase").chmod(0o600)
    upstream = intermediate(tmp_path, passphrase_file=tmp_path / "passphrase")
    said = refusal(upstream)
    assert "intermediate.key is not a private key we can load (is its passphrase right?)" in said
    assert "guessed" not in said
    (tmp_path / "passphrase").write_bytes(b"online\n")
    assert upstream.provide(NOW).authority.chain == (PKI.intermediate,)


def test_an_encrypted_key_without_a_passphrase_says_what_to_set(tmp_path: Path) -> None:
    write_private_key(tmp_path / "intermediate.key", PKI.intermediate_key, b"online")
    said = refusal(intermediate(tmp_path))
    assert "is it encrypted? set passphrase_file" in said


def test_an_intermediate_under_an_expired_root_is_refused(tmp_path: Path) -> None:
    root = Ca("root", 1, end=NOW - timedelta(seconds=1))
    upstream = intermediate(tmp_path)
    (tmp_path / "intermediate.key").unlink()
    write_private_key(tmp_path / "intermediate.key", UPPER.key)
    write_certificates(tmp_path / "root.pem", root.certificate)
    write_certificates(tmp_path / "chain.pem", Ca("upper", 2, by=root).certificate)
    said = refusal(upstream)
    assert said.startswith(f"{tmp_path}/chain.pem: certificate 'CN=root' is valid from ")
    assert "to 2026-11-01T11:59:59+00:00; it is 2026-11-01T12:00:00+00:00" in said


def longer_chain(directory: Path, *chain: x509.Certificate) -> DiskIntermediate:
    """Return the upstream of two intermediates, one under the other, in the order given."""
    upstream = intermediate(directory)
    (directory / "intermediate.key").unlink()
    write_private_key(directory / "intermediate.key", LOWER.key)
    write_certificates(directory / "root.pem", ROOT.certificate)
    write_certificates(directory / "chain.pem", *chain)
    return upstream


def test_a_chain_in_the_right_order_is_loaded(tmp_path: Path) -> None:
    upstream = longer_chain(tmp_path, LOWER.certificate, UPPER.certificate)
    assert len(upstream.provide(NOW).authority.chain) == 2


def test_a_chain_in_the_wrong_order_is_refused(tmp_path: Path) -> None:
    said = refusal(longer_chain(tmp_path, UPPER.certificate, LOWER.certificate))
    assert said == (
        f"{tmp_path}/chain.pem: the chain is in the wrong order: certificate 'CN=lower', "
        "whose key this is, must come first"
    )


@pytest.mark.parametrize("missing", ["root.pem", "chain.pem", "intermediate.key"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    upstream = intermediate(tmp_path)
    (tmp_path / missing).unlink()
    assert refusal(upstream) == f"{tmp_path}/{missing} cannot be read: No such file or directory"


def test_a_development_root_is_made_once_and_warns(tmp_path: Path) -> None:
    self_signed.create(tmp_path, trust_domain=TRUST_DOMAIN, now=NOW)
    before = (tmp_path / "pki" / "root.pem").read_bytes()
    with pytest.raises(FileExistsError):
        self_signed.create(tmp_path, trust_domain=TRUST_DOMAIN, now=NOW)
    assert (tmp_path / "pki" / "root.pem").read_bytes() == before
    with structlog.testing.capture_logs() as logs:
        upstream = self_signed.unsafe_self_signed(
            tmp_path, trust_domain=TRUST_DOMAIN, lifetime=WEEK
        )
    assert [(e["log_level"], e["event"]) for e in logs] == [("warning", "unsafe_self_signed_root")]
    assert upstream.provide(NOW).authority.not_after == NOW + WEEK


def test_a_development_root_key_is_its_owners_only(tmp_path: Path) -> None:
    self_signed.create(tmp_path, trust_domain=TRUST_DOMAIN, now=NOW)
    assert (tmp_path / "pki").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "pki" / "root.key").stat().st_mode & 0o777 == 0o600


def development(directory: Path) -> DiskRoot:
    """Return the upstream of the development root in `directory`, made at NOW."""
    self_signed.create(directory, trust_domain=TRUST_DOMAIN, now=NOW)
    return self_signed.unsafe_self_signed(directory, trust_domain=TRUST_DOMAIN, lifetime=WEEK)


def test_another_development_root_is_crossed_by_the_one_before(tmp_path: Path) -> None:
    upstream = development(tmp_path)
    (old,) = upstream.roots(NOW)
    assert upstream.bridges() == ()

    new = self_signed.add_root(tmp_path, trust_domain=TRUST_DOMAIN, now=NOW)
    assert upstream.roots(NOW) == (new, old)

    (bridge,) = upstream.bridges()
    authority = upstream.provide(NOW).authority
    assert authority.chain == (authority.certificate,)
    assert authority.root == new
    arguments: dict[str, Any] = {"trust_domain": TRUST_DOMAIN, "now": NOW}
    key = authority.signer
    assert isinstance(key, PrivateKeySigner)
    crossed = make_authority([*authority.chain, bridge], [old], key.key, **arguments)
    assert crossed.root == old


def test_who_is_only_asked_for_an_authority_sees_the_bridge_to_its_root(tmp_path: Path) -> None:
    upstream = development(tmp_path)
    upstream.provide(NOW)

    new = self_signed.add_root(tmp_path, trust_domain=TRUST_DOMAIN, now=NOW)

    assert upstream.provide(NOW).authority.root == new
    assert [bridge.subject for bridge in upstream.bridges()] == [new.subject]


def test_a_development_root_without_room_crosses_nothing(tmp_path: Path) -> None:
    upstream = development(tmp_path)
    shallow = Ca("root", 1, changes={"constraints": constraints(path_length=1)})
    write_certificates(tmp_path / "pki" / "root.pem", shallow.certificate)
    (tmp_path / "pki" / "root.key").unlink()
    write_private_key(tmp_path / "pki" / "root.key", shallow.key)

    self_signed.add_root(tmp_path, trust_domain=TRUST_DOMAIN, now=NOW)

    assert len(upstream.roots(NOW)) == 2
    assert upstream.bridges() == ()
    assert not (tmp_path / "pki" / "bridge.pem").exists()


def test_a_file_that_holds_no_bridge_is_named(tmp_path: Path) -> None:
    upstream = development(tmp_path)
    (tmp_path / "pki" / "bridge.pem").write_bytes(b"")

    with pytest.raises(AuthorityUnavailable, match=r"bridge\.pem holds no PEM certificates"):
        upstream.roots(NOW)


def test_files_revoke_nothing_and_show_no_bridges(tmp_path: Path) -> None:
    upstream = intermediate(tmp_path)
    upstream.roots(NOW)

    assert not upstream.revoke(PKI.intermediate, NOW)
    assert not upstream.revokes(PKI.intermediate, NOW)
    assert upstream.bridges() == ()
