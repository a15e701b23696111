"""Key sets: which keys of a JWKS are used, with which algorithm, and which are left out."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm

from identity.keys import MAXIMUM_BYTES, parse_key_set
from tests.identity.builders import EC_KEY, RSA_KEY, jwk, jwks

P384 = ec.generate_private_key(ec.SECP384R1())
P521 = ec.generate_private_key(ec.SECP521R1())
K256 = ec.generate_private_key(ec.SECP256K1())
WEAK = rsa.generate_private_key(65537, 1024)  # noqa: S505  # the weak key that must be left out


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (jwk(RSA_KEY, "k"), "RS256"),
        (jwk(RSA_KEY, "k", alg="RS512"), "RS512"),
        (jwk(EC_KEY, "k"), "ES256"),
        (jwk(P384, "k"), "ES384"),
        (jwk(P521, "k", alg="ES512"), "ES512"),
        (jwk(EC_KEY, "k", use=None), "ES256"),
    ],
)
def test_each_key_is_pinned_to_one_algorithm(key: dict[str, Any], algorithm: str) -> None:
    assert parse_key_set(jwks(key), source="test")["k"].algorithm == algorithm


LEFT_OUT: dict[str, Any] = {
    "RSA of 1024 bits": jwk(WEAK, "bad"),
    "HMAC secret": {"kty": "oct", "k": "c2VjcmV0", "kid": "bad", "alg": "HS256"},
    "Ed25519": {
        **OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate().public_key(), as_dict=True),
        "kid": "bad",
    },
    "unknown kty": {"kty": "AKP", "kid": "bad"},
    "secp256k1": jwk(K256, "bad"),
    "for encryption": jwk(EC_KEY, "bad", use="enc"),
    "no kid": jwk(EC_KEY, None),
    "empty kid": jwk(EC_KEY, ""),
    "kid is a number": {**jwk(EC_KEY, "bad"), "kid": 5},
    "alg of another type": jwk(EC_KEY, "bad", alg="RS256"),
    "alg of another curve": jwk(EC_KEY, "bad", alg="ES384"),
    "alg HS256 on an RSA key": jwk(RSA_KEY, "bad", alg="HS256"),
    "alg PS256": jwk(RSA_KEY, "bad", alg="PS256"),
    "alg is a list": jwk(RSA_KEY, "bad", alg=["RS256"]),
    "kty is a list": {"kty": ["EC"], "kid": "bad"},
    "private key": {**ECAlgorithm.to_jwk(EC_KEY, as_dict=True), "kid": "bad"},
    "no modulus": jwk(RSA_KEY, "bad", n=None),
    "modulus is a number": jwk(RSA_KEY, "bad", n=5),
    "point not on the curve": jwk(EC_KEY, "bad", y=jwk(P384, "x")["y"][:43]),
    "text": "key",
    "null": None,
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_we_do_not_use_is_left_out_and_stops_no_other_key(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = parse_key_set(jwks(LEFT_OUT[name], jwk(EC_KEY, "good")), source="test")

    assert set(keys) == {"good"}
    assert "key_not_used" in capsys.readouterr().out


def test_a_kid_given_twice_means_its_first_key() -> None:
    keys = parse_key_set(jwks(jwk(EC_KEY, "k"), jwk(RSA_KEY, "k")), source="test")

    assert keys["k"].algorithm == "ES256"


def test_a_private_key_in_the_document_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    private = {**ECAlgorithm.to_jwk(EC_KEY, as_dict=True), "kid": "k"}
    parse_key_set(jwks(private, {**private, "x": 5}, {**private, "alg": "HS256"}), source="test")

    captured = capsys.readouterr()
    assert private["d"] not in captured.out + captured.err


def test_an_empty_key_set_is_believed() -> None:
    assert parse_key_set(b'{"keys": []}', source="test") == {}


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps({"keys": [], "x": "y" * MAXIMUM_BYTES}).encode(),
        RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ],
    ids=["empty", "html", "list", "no keys", "keys no list", "bytes", "deep", "huge", "pem"],
)
def test_what_is_no_key_set_is_refused_as_a_whole(document: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_key_set(document, source="test")
