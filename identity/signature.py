"""The signature of a token, verified by PyJWT with every option spelled out.

Which key and which algorithm is decided before: never by the token beyond its `kid`.
"""

from typing import Any, Final

import jwt

from identity.claims import REQUIRED, Expected
from identity.keys import VerificationKey
from meshca.errors import ProofRefused

# PyJWT's refusals and our reasons; the first that matches counts.
_REASONS: Final = (
    (jwt.InvalidSignatureError, "bad_signature"),
    (jwt.InvalidAlgorithmError, "wrong_algorithm"),
    (jwt.MissingRequiredClaimError, "missing_claim"),
    (jwt.InvalidAudienceError, "wrong_audience"),
    (jwt.InvalidIssuerError, "unknown_issuer"),
    (jwt.PyJWTError, "malformed"),
)
_OPTIONS: Final[Any] = {
    "verify_signature": True,
    "enforce_minimum_key_length": True,
    "require": list(REQUIRED),
    "verify_aud": True,
    "strict_aud": False,  # Kubernetes writes a list
    "verify_iss": True,
    "verify_sub": True,
    "verify_jti": True,
    # PyJWT reads the system's clock, which no test and no second step could share:
    # `claims.check_times` compares all three with the injected clock.
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}


def verify_signature(token: str, key: VerificationKey, expected: Expected) -> dict[str, Any]:
    """Return the payload of `token`, signed by `key`, from the issuer and for an audience of ours.

    Raises ProofRefused. The caller still owes every check of `identity.claims`, times included.
    """
    try:
        return jwt.decode(
            token,
            key=key.public_key,
            algorithms=[key.algorithm],
            options=_OPTIONS,
            audience=expected.audiences,
            issuer=expected.issuer,
        )
    except jwt.PyJWTError as error:
        reason = next(reason for kind, reason in _REASONS if isinstance(error, kind))
        raise ProofRefused(reason, f"the token does not verify: {reason}") from error
