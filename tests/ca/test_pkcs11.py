"""Keys on a real token: SoftHSM2 over PKCS#11."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pkcs11
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pkcs11.util.ec import decode_ec_private_key, decode_ec_public_key

from ca.ca_certificate import make_intermediate
from ca.keys import PrivateKeySigner, public_key_der
from ca.pkcs11 import TokenKey, TokenSigner, generate_on_token, open_signer
from ca.upstream.probe import check_by_probe
from ca.upstream.token import TokenIntermediate
from meshca.errors import AuthorityUnavailable
from tests.builders import NOW, TRUST_DOMAIN, make_key, make_pki
from tests.softhsm import PIN, softhsm

numbers = count()
MESSAGE = b"to be signed"


@pytest.fixture
def location(tmp_path: Path) -> TokenKey:
    """Where this test's key is to be: a label that nobody else uses."""
    pin_file = tmp_path / "pin"
    pin_file.write_text(PIN + "\n")
    pin_file.chmod(0o600)
    return TokenKey(
        module=softhsm().module,
        token_label="meshca",
        key_label=f"key {next(numbers)}",
        pin_file=pin_file,
    )


def verify(signer: TokenSigner, signature: bytes, message: bytes = MESSAGE) -> None:
    """Raise InvalidSignature unless `signature` is the signer's."""
    key: Any = signer.public_key
    if isinstance(key, ec.EllipticCurvePublicKey):
        digest = hashes.SHA256() if key.key_size == 256 else hashes.SHA384()
        key.verify(signature, message, ec.ECDSA(digest))
    else:
        key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(AuthorityUnavailable) as caught:
        act()
    return str(caught.value)


def on_token(location: TokenKey, *objects: dict[Any, Any]) -> None:
    """Put objects on the token, with the label of `location`."""
    token = pkcs11.lib(str(location.module)).get_token(token_label=location.token_label)
    try:
        session = token.open(rw=True, user_pin=PIN)
    except pkcs11.UserAlreadyLoggedIn:
        session = token.open(rw=True)
    for attributes in objects:
        more = {pkcs11.Attribute.LABEL: location.key_label, pkcs11.Attribute.TOKEN: True}
        session.create_object({**attributes, **more})


def private_half(number: int) -> dict[Any, Any]:
    der = make_key("p256", number).private_bytes(
        Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    )
    attributes = decode_ec_private_key(der)
    return {**attributes, pkcs11.Attribute.SIGN: True, pkcs11.Attribute.SENSITIVE: True}


def public_half(number: int) -> dict[Any, Any]:
    key = make_key("p256", number).public_key()
    return {**decode_ec_public_key(public_key_der(key)), pkcs11.Attribute.VERIFY: True}


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048", "rsa3072"])
def test_a_key_that_is_made_on_the_token_signs(kind: str, location: TokenKey) -> None:
    generate_on_token(location, kind)
    signer = open_signer(location)
    verify(signer, signer.sign(MESSAGE))
    assert signer.signature_algorithm == PrivateKeySigner(make_key(kind)).signature_algorithm


def test_a_key_that_was_brought_to_the_token_signs(location: TokenKey) -> None:
    on_token(location, private_half(801), public_half(801))
    signer = open_signer(location)
    verify(signer, signer.sign(MESSAGE))
    assert signer.public_key == make_key("p256", 801).public_key()


def test_many_signatures_have_every_length_of_der(location: TokenKey) -> None:
    generate_on_token(location, "p256")
    signer = open_signer(location)
    signatures = [signer.sign(b"%d" % number) for number in range(300)]
    for number, signature in enumerate(signatures):
        verify(signer, signature, b"%d" % number)
    assert len({len(signature) for signature in signatures}) > 1


def test_threads_take_turns(location: TokenKey) -> None:
    generate_on_token(location, "p256")
    signer = open_signer(location)
    session = signer._session
    messages = [b"%d" % number for number in range(400)]
    with ThreadPoolExecutor(8) as pool:
        signatures = list(pool.map(signer.sign, messages))
    assert signer._session is session  # no operation was disturbed by another's
    for message, signature in zip(messages, signatures, strict=True):
        verify(signer, signature, message)


def test_a_key_made_here_cannot_be_read(location: TokenKey) -> None:
    generate_on_token(location, "p256")
    private: Any = open_signer(location)._private
    assert private[pkcs11.Attribute.EXTRACTABLE] is False
    with pytest.raises(pkcs11.AttributeSensitive):
        private[pkcs11.Attribute.VALUE]


def test_a_label_that_is_taken_is_left_alone(location: TokenKey) -> None:
    generate_on_token(location, "p256")
    before = open_signer(location).public_key
    said = refusal(lambda: generate_on_token(location, "p256"))
    assert "exists already" in said
    assert open_signer(location).public_key == before


def test_a_wrong_pin_is_told_from_a_missing_token_and_not_shown(location: TokenKey) -> None:
    elsewhere = replace(location, token_label="renewed")
    location.pin_file.write_text("13579")
    said = refusal(lambda: open_signer(elsewhere))
    assert said == f"the PIN in {location.pin_file} is not that of token 'renewed'"
    assert "13579" not in said


def test_a_missing_token_is_named(location: TokenKey) -> None:
    said = refusal(lambda: open_signer(replace(location, token_label="nowhere")))
    assert said == f"there is no token 'nowhere' in {location.module}"


def test_two_tokens_of_one_label_are_not_chosen_from(location: TokenKey) -> None:
    said = refusal(lambda: open_signer(replace(location, token_label="twins")))
    assert said == "there are several tokens called 'twins'"


def test_a_missing_key_is_named(location: TokenKey) -> None:
    said = refusal(lambda: open_signer(location))
    assert said == f"token 'meshca' has no key labelled {location.key_label!r} (private key)"


@pytest.mark.parametrize(
    ("half", "missing"),
    [(private_half, "public key"), (public_half, "private key")],
    ids=["private", "public"],
)
def test_half_a_key_is_no_key(
    half: Callable[[int], dict[Any, Any]], missing: str, location: TokenKey
) -> None:
    on_token(location, half(802))
    said = refusal(lambda: open_signer(location))
    assert said == f"token 'meshca' has no key labelled {location.key_label!r} ({missing})"


def test_two_keys_of_one_label_are_not_chosen_from(location: TokenKey) -> None:
    on_token(location, private_half(803), public_half(803), private_half(804), public_half(804))
    assert "has several keys labelled" in refusal(lambda: open_signer(location))


def test_halves_that_do_not_belong_together_are_found_out(location: TokenKey) -> None:
    on_token(location, private_half(805), public_half(806))
    said = refusal(lambda: open_signer(location))
    assert "the private key is not that of the public key of this label" in said


def test_a_module_that_is_none_is_named(location: TokenKey, tmp_path: Path) -> None:
    (tmp_path / "module.so").write_text("not a library")
    for module in (tmp_path / "module.so", tmp_path / "missing.so"):
        said = refusal(lambda module=module: open_signer(replace(location, module=module)))  # type: ignore[misc]  # bound at once
        assert str(module) in said


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (PIN.encode(), 0o644, "has mode 0644"),
        (b"\n", 0o600, "is empty"),
        (b"\xff\xfe", 0o600, "is not text"),
    ],
    ids=["others can read it", "empty", "not text"],
)
def test_a_pin_file_that_will_not_do(
    content: bytes, mode: int, said: str, location: TokenKey
) -> None:
    location.pin_file.write_bytes(content)
    location.pin_file.chmod(mode)
    assert f"{location.pin_file} {said}" in refusal(lambda: open_signer(location))


def test_a_session_that_is_gone_is_opened_again(location: TokenKey) -> None:
    generate_on_token(location, "p256")
    signer = open_signer(location)
    signer.close()
    verify(signer, signer.sign(MESSAGE))


def test_a_pin_that_was_refused_is_not_tried_again_until_it_changes(location: TokenKey) -> None:
    mine = replace(location, token_label="renewed")
    generate_on_token(mine, "p256")
    signer = open_signer(mine)
    signer.close()
    mine.pin_file.write_text("13579")
    assert "is not that of token" in refusal(lambda: signer.sign(MESSAGE))
    assert "not tried again" in refusal(lambda: signer.sign(MESSAGE))
    mine.pin_file.write_text(PIN)
    verify(signer, signer.sign(MESSAGE))
    signer.close()


def test_many_threads_try_a_wrong_pin_once(location: TokenKey) -> None:
    mine = replace(location, token_label="renewed")
    generate_on_token(mine, "p256")
    signer = open_signer(mine)
    signer.close()
    mine.pin_file.write_text("13579")
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda _: refusal(lambda: signer.sign(MESSAGE)), range(8)))
    assert sum("is not that of token" in text for text in said) == 1
    assert sum("not tried again" in text for text in said) == 7


def test_nothing_shows_the_pin(location: TokenKey) -> None:
    generate_on_token(location, "p256")
    assert PIN not in repr(open_signer(location))


def upstream(directory: Path, location: TokenKey, public: Any) -> TokenIntermediate:
    """Return the upstream of an intermediate for `public`, its files written to `directory`."""
    pki = make_pki()
    intermediate = make_intermediate(
        public,
        root=pki.root,
        root_key=pki.root_key,
        trust_domain=TRUST_DOMAIN,
        now=NOW,
        lifetime=timedelta(days=7),
    )
    (directory / "root.pem").write_bytes(pki.root.public_bytes(Encoding.PEM))
    (directory / "chain.pem").write_bytes(intermediate.public_bytes(Encoding.PEM))
    return TokenIntermediate(
        root=directory / "root.pem",
        chain=directory / "chain.pem",
        key=location,
        trust_domain=TRUST_DOMAIN,
    )


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048"])
def test_an_intermediate_on_a_token_issues_svids(
    kind: str, location: TokenKey, tmp_path: Path
) -> None:
    generate_on_token(location, kind)
    provision = upstream(tmp_path, location, open_signer(location).public_key).provide(NOW)
    assert provision.authority.chain[0].not_valid_after_utc == NOW + timedelta(days=7)
    check_by_probe(provision.authority, trust_domain=TRUST_DOMAIN, now=NOW)


def test_a_key_that_is_not_the_certificates_is_refused(location: TokenKey, tmp_path: Path) -> None:
    generate_on_token(location, "p256")
    there = upstream(tmp_path, location, make_key("p256", 807).public_key())
    said = refusal(lambda: there.provide(NOW))
    assert said.startswith(f"{tmp_path}/chain.pem: the key does not belong to certificate ")


def test_an_upstream_on_a_token_cannot_renew_and_knows_its_roots(
    location: TokenKey, tmp_path: Path
) -> None:
    there = upstream(tmp_path, location, make_key("p256", 807).public_key())
    assert not there.can_renew
    assert [root.subject for root in there.roots(NOW)] == [make_pki().root.subject]


def test_a_server_without_tokens_does_not_need_the_library() -> None:
    assert "pkcs11" not in vars(sys.modules["ca.pkcs11"])
