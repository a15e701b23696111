"""What is kept of an issuer's key set, and what never reaches a proxy."""

import base64
import hashlib
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from authz.jwks import MAXIMUM_BYTES, MAXIMUM_KEYS, NOBODYS, read_key_set

EC = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
WEAK = rsa.generate_private_key(65537, 1024)  # noqa: S505  # refused, which is the point
ED = ed25519.Ed25519PrivateKey.generate()


def jwk(key: Any, **more: str) -> dict[str, Any]:
    """Return the public JWK of `key`."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        entry = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    elif isinstance(key, rsa.RSAPrivateKey):
        entry = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        entry = jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**entry, "kid": "one", **more}


def private(key: Any) -> dict[str, Any]:
    """Return the private JWK of an EC `key`."""
    return {**jwt.algorithms.ECAlgorithm.to_jwk(key, as_dict=True), "kid": "one"}


def keys(*entries: Any) -> str:
    return json.dumps({"keys": list(entries)})


def test_keeps_public_keys_that_verify_signatures_and_nothing_else_of_them() -> None:
    found = read_key_set(
        keys(jwk(EC, use="sig", x5c="no", key_ops="verify"), jwk(RSA, alg="PS256"), jwk(ED))
    )

    assert found.keys == 3
    assert found.unused == ()
    kept = json.loads(found.text)["keys"]
    assert kept[0] == {**jwk(EC), "use": "sig"}
    assert kept[1] == {
        name: jwk(RSA, alg="PS256")[name] for name in ("kty", "kid", "alg", "n", "e")
    }


LEFT_OUT: dict[str, tuple[Any, str]] = {
    "a symmetric key": ({"kty": "oct", "k": "c2VjcmV0", "kid": "one"}, "it is symmetric"),
    "a public key for HS256": (jwk(RSA, alg="HS256"), "it is symmetric"),
    "a private key": (private(EC), "it holds private values"),
    "a key for encryption": (jwk(RSA, use="enc"), "it is not for signatures"),
    "no object": ("key", "not an object"),
    "a value that is no text": ({**jwk(EC), "x": 7}, "a value is no text"),
    "an unknown curve": ({**jwk(EC), "crv": "secp256k1"}, "neither RSA"),
    "an algorithm of another type": (jwk(EC, alg="RS256"), "its `alg` does not go"),
    "a point that is not on the curve": ({**jwk(EC), "y": jwk(EC)["x"]}, "its values are no key"),
    "a short RSA key": (jwk(WEAK), "RSA of 1024 bits"),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_leaves_out_a_key_for_its_reason_only_and_keeps_the_others(case: str) -> None:
    entry, reason = LEFT_OUT[case]

    found = read_key_set(keys(entry, jwk(EC)))

    assert json.loads(found.text)["keys"] == [jwk(EC)]
    (said,) = found.unused
    assert said.startswith(f"keys[0]: {reason}")
    assert read_key_set(keys(entry)).text == NOBODYS


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("[]", "not a JSON object with a list"),
        ('{"keys": {}}', "not a JSON object with a list"),
        ("{", "Expecting"),
        ("[" * 100_000, "nested too deeply"),
        (" " * (MAXIMUM_BYTES + 1), "larger than"),
        (keys(*[{}] * (MAXIMUM_KEYS + 1)), "more than"),
    ],
    ids=["list", "keys are no list", "not JSON", "deep", "large", "many"],
)
def test_refuses_what_is_no_key_set(document: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_key_set(document)


def test_nobody_knows_the_private_half_of_nobodys_key() -> None:
    x = hashlib.sha256(b"meshca: nobody's key 0").digest()
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x02" + x)

    (entry,) = json.loads(NOBODYS)["keys"]

    numbers = point.public_numbers()
    for name, value in (("x", numbers.x), ("y", numbers.y)):
        assert base64.urlsafe_b64decode(entry[name] + "=") == value.to_bytes(32, "big")
