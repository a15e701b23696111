"""Keys: which are loaded, from which files, and that none is shown or overwritten."""

import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from ca.keys import (
    PrivateKeySigner,
    check_public_key,
    generate_key,
    load_private_key,
    private_key_pem,
    public_key_der,
    read_secret_file,
    subject_key_id,
    write_private_key,
)
from meshca.errors import AuthorityUnavailable
from tests.builders import KEY_KINDS, make_key

PASSPHRASE = b"correct horse battery staple"


def written(directory: Path, *, mode: int = 0o600, **arguments: Any) -> Path:
    """Return a file of `mode` with a key in it."""
    path = directory / "the.key"
    write_private_key(path, make_key(), **arguments)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("kind", KEY_KINDS)
@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_a_written_key_is_loaded_again(tmp_path: Path, kind: str, passphrase: bytes | None) -> None:
    path = tmp_path / "the.key"
    write_private_key(path, make_key(kind), passphrase)
    loaded = load_private_key(path, passphrase)
    assert private_key_pem(loaded) == private_key_pem(make_key(kind))
    assert path.stat().st_mode & 0o777 == 0o600
    assert (b"ENCRYPTED" in path.read_bytes()) == (passphrase is not None)


def test_a_key_is_written_for_its_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert written(tmp_path).stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = written(tmp_path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        write_private_key(path, generate_key())
    assert path.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610, 0o601, 0o620, 0o777])
def test_refuses_a_key_that_others_can_reach(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path, mode=mode)
    with pytest.raises(AuthorityUnavailable, match=f"has mode {mode:04o}: .* chmod 600 {path}"):
        load_private_key(path)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_accepts_a_key_that_only_its_owner_can_reach(tmp_path: Path, mode: int) -> None:
    key = load_private_key(written(tmp_path, mode=mode))
    assert private_key_pem(key) == private_key_pem(make_key())


def test_a_symlink_is_judged_by_what_it_leads_to(tmp_path: Path) -> None:
    link = tmp_path / "link.key"
    link.symlink_to(written(tmp_path))
    assert private_key_pem(load_private_key(link)) == private_key_pem(make_key())
    link.resolve().chmod(0o644)
    with pytest.raises(AuthorityUnavailable, match="has mode 0644"):
        load_private_key(link)


def test_refuses_a_directory(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o700)
    with pytest.raises(AuthorityUnavailable, match="keys cannot be read: Is a directory"):
        load_private_key(tmp_path / "keys")


def test_refuses_a_pipe_instead_of_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(AuthorityUnavailable, match="is not a regular file"):
        read_secret_file(tmp_path / "pipe")


def test_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(AuthorityUnavailable, match=r"none\.key cannot be read: No such file"):
        load_private_key(tmp_path / "none.key")


def test_refuses_a_huge_file(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_bytes(bytes(65 * 1024))
    with pytest.raises(AuthorityUnavailable, match="larger than 65536 bytes"):
        load_private_key(path)


@pytest.mark.parametrize(
    ("kept", "given", "hint"),
    [
        (PASSPHRASE, b"wrong", "is its passphrase right"),
        (PASSPHRASE, None, "is it encrypted"),
        (None, PASSPHRASE, "is its passphrase right"),
        (PASSPHRASE, b"", "is it encrypted"),
    ],
    ids=["wrong", "missing", "needless", "empty"],
)
def test_refuses_a_passphrase_that_does_not_fit(
    tmp_path: Path, kept: bytes | None, given: bytes | None, hint: str
) -> None:
    path = written(tmp_path, passphrase=kept)
    with pytest.raises(AuthorityUnavailable, match=hint) as caught:
        load_private_key(path, given)
    assert "correct horse" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"-----BEGIN PRIVATE KEY-----\nMA==\n"])
def test_refuses_what_is_no_key(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path)
    path.write_bytes(content)
    with pytest.raises(AuthorityUnavailable, match="is not a private key we can load"):
        load_private_key(path)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (ed25519.Ed25519PrivateKey.generate(), "Ed25519PublicKey is not accepted"),
        (ec.generate_private_key(ec.SECP256K1()), "curve secp256k1 is not accepted"),
        (rsa.generate_private_key(65537, 1024), "1024 bits is not accepted"),  # noqa: S505  # the weak key of the test
    ],
    ids=["Ed25519", "secp256k1", "RSA 1024"],
)
def test_refuses_a_key_that_we_do_not_sign_with(tmp_path: Path, key: Any, said: str) -> None:
    path = written(tmp_path)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(AuthorityUnavailable, match=said):
        load_private_key(path)


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_a_signer_signs_with_the_hash_that_fits_its_key(kind: str) -> None:
    key, message = make_key(kind), b"to be signed"
    signature = PrivateKeySigner(key).sign(message)
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        public.verify(signature, message, padding.PKCS1v15(), SHA256())
    else:
        public.verify(signature, message, ec.ECDSA(SHA384() if kind == "p384" else SHA256()))


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_a_signer_does_not_show_its_key(kind: str) -> None:
    key = make_key(kind)
    assert repr(PrivateKeySigner(key)) == "PrivateKeySigner()"


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_the_key_identifier_is_method_1_of_rfc_7093(kind: str) -> None:
    public = check_public_key(make_key(kind).public_key())
    if isinstance(public, rsa.RSAPublicKey):
        bits = public.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    else:
        bits = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert subject_key_id(public_key_der(public)) == sha256(bits).digest()[:20]
