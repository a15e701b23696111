"""The signature of a token (RFC 7515 5.2), verified by PyJWT's algorithm objects.

Which key and which algorithm is decided before: never by the token beyond its `kid`. The bytes
that are verified are those whose payload was read: a token is taken apart once, in
`identity.unverified`, and there is no second reader that could see something else.
"""

from typing import Any

from identity.keys import VerificationKey
from identity.unverified import UnverifiedToken
from meshca.errors import ProofRefused


def verify_signature(token: UnverifiedToken, key: VerificationKey) -> dict[str, Any]:
    """Return the payload of `token`, which `key` has signed.

    Raises ProofRefused `wrong_algorithm` or `bad_signature`. The caller still owes every check of
    `identity.claims`.
    """
    if token.header.get("alg") != key.algorithm:
        raise ProofRefused("wrong_algorithm", f"the token's key verifies {key.algorithm} only")
    if not key.verifier.verify(token.signing_input, key.public_key, token.signature):
        raise ProofRefused("bad_signature", "the token was not signed by the key that it names")
    return token.payload
