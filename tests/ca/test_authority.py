"""Authorities and the bundle: which one signs now, and whom proxies are told to trust."""

import base64
import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from ca.authority import Authorities
from ca.bundle import REFRESH_HINT_SECONDS, TrustBundle
from meshca.errors import AuthorityUnavailable
from tests.builders import KEY_KINDS, NOW, TRUST_DOMAIN, make_authority, make_pki


def activated(**pki: object) -> Authorities:
    authorities = Authorities(TRUST_DOMAIN)
    authority = make_authority(**pki)  # type: ignore[arg-type]  # a builder's arguments
    authorities.activate(authority, (authority.root,))
    return authorities


def test_nothing_signs_before_an_authority_is_loaded() -> None:
    authorities = Authorities(TRUST_DOMAIN)
    with pytest.raises(AuthorityUnavailable, match="no authority is loaded"):
        authorities.active(NOW)
    with pytest.raises(AuthorityUnavailable, match="no trust bundle is loaded"):
        _ = authorities.bundle


def test_an_authority_signs_from_its_first_to_its_last_second() -> None:
    authorities = activated(lifetime=timedelta(days=7))
    for at in (NOW - timedelta(seconds=60), NOW, NOW + timedelta(days=7, seconds=-1)):
        assert authorities.active(at).not_after == NOW + timedelta(days=7)


def test_an_expired_authority_does_not_sign() -> None:
    authorities = activated(lifetime=timedelta(days=7))
    with pytest.raises(AuthorityUnavailable, match=r"expired at 2026-11-08T12:00:00\+00:00"):
        authorities.active(NOW + timedelta(days=7))


def test_an_authority_that_is_not_valid_yet_does_not_sign() -> None:
    with pytest.raises(AuthorityUnavailable, match=r"is valid from 2026-11-01T11:59:00\+00:00 on"):
        activated().active(NOW - timedelta(seconds=61))


def test_the_root_bounds_the_authority_too() -> None:
    pki = make_pki(root_lifetime=timedelta(days=3650))
    short = make_pki(root_lifetime=timedelta(hours=1))
    authority = pki.authority()
    assert authority.not_after == NOW + timedelta(days=7)
    assert short.authority().not_after == NOW + timedelta(hours=1)


def test_an_authority_whose_root_nobody_trusts_is_not_activated() -> None:
    with pytest.raises(ValueError, match="must hold the root"):
        Authorities(TRUST_DOMAIN).activate(make_authority(), (make_authority(number=5).root,))


def test_subscribers_hear_of_each_change() -> None:
    authorities, heard = Authorities(TRUST_DOMAIN), []
    authorities.subscribe(lambda: heard.append(authorities.active(NOW).authority_id))
    first, second = make_authority(), make_authority(number=5)
    authorities.activate(first, (first.root,))
    authorities.activate(second, (second.root,))
    assert heard == [first.authority_id, second.authority_id]


def test_the_bundle_changes_with_its_roots_only_and_its_number_grows() -> None:
    authorities = activated()
    before = authorities.bundle
    fresh = make_authority(lifetime=timedelta(days=6))
    old = authorities.active(NOW)
    authorities.activate(old, (old.root,), sequence=99)
    assert authorities.bundle is before
    authorities.activate(old, (old.root, fresh.root), sequence=0)
    assert authorities.bundle.sequence == before.sequence + 1
    authorities.activate(old, (old.root,), sequence=1_793_000_000)
    assert authorities.bundle.sequence == 1_793_000_000


def test_an_authority_does_not_show_its_key() -> None:
    assert "PRIVATE" not in repr(make_authority())


# ruff: noqa: N802  # conformance tests are named after the ids of the checklist


def document(bundle: TrustBundle) -> dict[str, object]:
    return dict(json.loads(bundle.spiffe_json()))


def keys(bundle: TrustBundle) -> list[dict[str, object]]:
    found = document(bundle)["keys"]
    assert isinstance(found, list)
    return found


BUNDLE = TrustBundle(TRUST_DOMAIN, tuple(make_pki(kind).root for kind in KEY_KINDS), 7)


def test_X_22_the_use_is_x509_svid() -> None:
    assert [key["use"] for key in keys(BUNDLE)] == ["x509-svid"] * 3


def test_X_23_no_kid_is_set() -> None:
    assert not any("kid" in key for key in keys(BUNDLE))


def test_X_24_x5c_is_exactly_one_ca_certificate() -> None:
    for key, root in zip(keys(BUNDLE), BUNDLE.roots, strict=True):
        x5c = key["x5c"]
        assert isinstance(x5c, list)
        (encoded,) = x5c
        assert base64.b64decode(encoded, validate=True) == root.public_bytes(Encoding.DER)
        constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
        assert constraints.value.ca


def test_X_25_roots_of_our_own_making_are_self_signed() -> None:
    for root in BUNDLE.roots:
        root.verify_directly_issued_by(root)


def test_B_2_and_B_3_the_sequence_is_an_integer() -> None:
    assert document(BUNDLE)["spiffe_sequence"] == 7


def test_B_4_and_B_5_the_refresh_hint_is_whole_seconds() -> None:
    assert document(BUNDLE)["spiffe_refresh_hint"] == REFRESH_HINT_SECONDS == 300


def test_B_6_keys_are_present_and_never_empty() -> None:
    assert len(keys(BUNDLE)) == 3
    with pytest.raises(ValueError, match="without roots"):
        TrustBundle(TRUST_DOMAIN, (), 1)


def test_B_9_no_parameters_beyond_those_specified() -> None:
    assert set(document(BUNDLE)) == {"spiffe_sequence", "spiffe_refresh_hint", "keys"}
    for key in keys(BUNDLE):
        assert set(key) <= {"use", "x5c", "kty", "crv", "x", "y", "n", "e"}


def test_B_10_the_parameters_are_those_of_the_key() -> None:
    number: Callable[[object], int] = lambda text: int.from_bytes(  # noqa: E731
        base64.urlsafe_b64decode(f"{text}=="), "big"
    )
    for key, root in zip(keys(BUNDLE), BUNDLE.roots, strict=True):
        public = root.public_key()
        if isinstance(public, ec.EllipticCurvePublicKey):
            assert key["kty"] == "EC"
            assert key["crv"] == {"secp256r1": "P-256", "secp384r1": "P-384"}[public.curve.name]
            assert number(key["x"]) == public.public_numbers().x
            assert number(key["y"]) == public.public_numbers().y
            assert len(str(key["x"])) == len(str(key["y"]))
        else:
            assert isinstance(public, rsa.RSAPublicKey)
            assert key["kty"] == "RSA"
            assert number(key["n"]) == public.public_numbers().n
            assert number(key["e"]) == public.public_numbers().e


def test_the_bundle_as_pem_is_every_root() -> None:
    assert tuple(x509.load_pem_x509_certificates(BUNDLE.pem())) == BUNDLE.roots
