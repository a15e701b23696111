"""Keys at rest open for whoever may, in their own place, and in no other way."""

import base64
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from ca.at_rest import KeyAtRest, KeyFileAtRest, PassphraseAtRest, key_at_rest
from ca.keys import private_key_pem
from meshca.errors import AuthorityUnavailable
from meshca.settings import KeysInMemory, KeysUnderKey, KeysUnderPassphrase
from tests.builders import KEY_KINDS, make_key

AUTHORITY = "2715f257b1c3d5a88b6f0e4c9d2a7e1f03c5b7d9"
KEY = private_key_pem(make_key())
FILE_KEY = base64.b64encode(bytes(range(32)))


def secret(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def with_passphrase(directory: Path) -> KeyAtRest:
    return PassphraseAtRest(secret(directory / "passphrase", b"correct horse\n"))


def with_key_file(directory: Path) -> KeyAtRest:
    return KeyFileAtRest(secret(directory / "wrapping.key", FILE_KEY + b"\n"))


KINDS: dict[str, Callable[[Path], KeyAtRest]] = {
    "passphrase": with_passphrase,
    "file": with_key_file,
}
every_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


def refusal(at_rest: KeyAtRest, blob: bytes, context: str = AUTHORITY) -> str:
    with pytest.raises(AuthorityUnavailable) as caught:
        at_rest.unwrap(blob, context=context)
    return str(caught.value)


@every_kind
@pytest.mark.parametrize("kind", KEY_KINDS)
def test_a_key_comes_back_as_it_was(
    make: Callable[[Path], KeyAtRest], kind: str, tmp_path: Path
) -> None:
    at_rest, pem = make(tmp_path), private_key_pem(make_key(kind))
    blob = at_rest.wrap(pem, context=AUTHORITY)
    assert at_rest.unwrap(blob, context=AUTHORITY) == pem


@every_kind
def test_nothing_of_the_key_is_in_the_clear(
    make: Callable[[Path], KeyAtRest], tmp_path: Path
) -> None:
    blob = make(tmp_path).wrap(KEY, context=AUTHORITY)
    secret_number = make_key().private_numbers().private_value  # type: ignore[union-attr]  # it is EC
    held = b"".join(
        base64.b64decode(part + b"==")
        for part in re.findall(rb"[A-Za-z0-9+/]{16,}", blob.replace(b"\n", b""))
    )
    assert secret_number.to_bytes(32, "big") not in held
    assert b"BEGIN PRIVATE KEY" not in blob


@every_kind
def test_two_wrappings_of_one_key_differ(make: Callable[[Path], KeyAtRest], tmp_path: Path) -> None:
    at_rest = make(tmp_path)
    assert at_rest.wrap(KEY, context=AUTHORITY) != at_rest.wrap(KEY, context=AUTHORITY)


@every_kind
def test_it_does_not_open_for_another_authority(
    make: Callable[[Path], KeyAtRest], tmp_path: Path
) -> None:
    at_rest = make(tmp_path)
    said = refusal(at_rest, at_rest.wrap(KEY, context=AUTHORITY), "another")
    assert "does not open" in said
    assert "another authority's" in said


@every_kind
def test_no_bit_can_be_flipped(make: Callable[[Path], KeyAtRest], tmp_path: Path) -> None:
    at_rest = make(tmp_path)
    blob = at_rest.wrap(KEY, context=AUTHORITY)
    for place in range(len(blob)):
        changed = blob[:place] + bytes([blob[place] ^ 1]) + blob[place + 1 :]
        try:
            opened = at_rest.unwrap(changed, context=AUTHORITY)
        except AuthorityUnavailable:
            continue
        # The last character of base64, or a line's end in PEM, may carry nothing.
        assert opened == KEY, place


@every_kind
def test_no_end_can_be_cut_off(make: Callable[[Path], KeyAtRest], tmp_path: Path) -> None:
    at_rest = make(tmp_path)
    blob = at_rest.wrap(KEY, context=AUTHORITY).rstrip(b"\n")
    for length in range(len(blob)):
        assert refusal(at_rest, blob[:length]), length


def test_a_wrong_passphrase_is_named_and_not_shown(tmp_path: Path) -> None:
    at_rest = with_passphrase(tmp_path)
    blob = at_rest.wrap(KEY, context=AUTHORITY)
    secret(tmp_path / "passphrase", b"guessed")
    said = refusal(at_rest, blob)
    assert "a stored key does not open: another passphrase" in said
    assert "guessed" not in said


def test_another_file_key_is_told_from_a_changed_blob(tmp_path: Path) -> None:
    at_rest = with_key_file(tmp_path)
    blob = at_rest.wrap(KEY, context=AUTHORITY)
    secret(tmp_path / "wrapping.key", base64.b64encode(bytes(32)))
    assert re.search(
        r"wrapped under key '[0-9a-f]{8}'; .*wrapping.key is '66687aad'", refusal(at_rest, blob)
    )


def test_the_passphrase_of_a_blob_is_the_documented_one(tmp_path: Path) -> None:
    blob = with_passphrase(tmp_path).wrap(KEY, context=AUTHORITY)
    key = load_pem_private_key(blob, f"correct horse:{AUTHORITY}".encode())
    assert private_key_pem(key) == KEY  # type: ignore[arg-type]  # it is EC


@every_kind
def test_secrets_that_others_can_read_are_refused(
    make: Callable[[Path], KeyAtRest], tmp_path: Path
) -> None:
    at_rest = make(tmp_path)
    (file,) = tmp_path.iterdir()
    file.chmod(0o640)
    with pytest.raises(AuthorityUnavailable, match=rf"{file} has mode 0640"):
        at_rest.wrap(KEY, context=AUTHORITY)


@every_kind
def test_a_missing_secret_is_named(make: Callable[[Path], KeyAtRest], tmp_path: Path) -> None:
    at_rest = make(tmp_path)
    (file,) = tmp_path.iterdir()
    file.unlink()
    with pytest.raises(AuthorityUnavailable, match=rf"{file} cannot be read"):
        at_rest.wrap(KEY, context=AUTHORITY)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\n", "holds 0 bytes, not 32"),
        (base64.b64encode(bytes(16)), "holds 16 bytes, not 32; make one with openssl rand"),
        (bytes(range(32)), "is not base64"),
    ],
    ids=["empty", "16 bytes", "not base64"],
)
def test_a_file_key_that_is_none_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    at_rest = KeyFileAtRest(secret(tmp_path / "wrapping.key", content))
    with pytest.raises(AuthorityUnavailable, match=said):
        at_rest.wrap(KEY, context=AUTHORITY)


def test_an_empty_passphrase_is_refused(tmp_path: Path) -> None:
    at_rest = PassphraseAtRest(secret(tmp_path / "passphrase", b"\n"))
    with pytest.raises(AuthorityUnavailable, match="passphrase is empty"):
        at_rest.wrap(KEY, context=AUTHORITY)


def test_a_key_in_the_clear_is_not_taken_for_a_wrapped_one(tmp_path: Path) -> None:
    assert "not encrypted PKCS#8" in refusal(with_passphrase(tmp_path), KEY)
    assert "not of format" in refusal(with_key_file(tmp_path), KEY)


def test_only_keys_of_authorities_and_of_the_log_are_wrapped(tmp_path: Path) -> None:
    for_exchange = x25519.X25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    at_rest = with_passphrase(tmp_path)
    for pem, said in ((for_exchange, "not ECDSA, RSA or Ed25519"), (b"hello", "is not a private")):
        with pytest.raises(AuthorityUnavailable, match=said):
            at_rest.wrap(pem, context=AUTHORITY)


def test_the_configuration_chooses() -> None:
    file = Path("secret")
    under_passphrase = KeysUnderPassphrase.model_construct(kind="passphrase", passphrase_file=file)
    under_key = KeysUnderKey.model_construct(kind="file", key_file=file)
    assert key_at_rest(KeysInMemory(kind="memory")) is None
    assert key_at_rest(under_passphrase) == PassphraseAtRest(file)
    assert key_at_rest(under_key) == KeyFileAtRest(file)
