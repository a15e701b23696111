"""An issuer of tokens, and policies that name it."""

import json
from dataclasses import dataclass, field

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from authz.jwks import NOBODYS
from authz.request_authentication import JwtRule
from meshca.clock import SystemClock


@dataclass(frozen=True)
class TokenIssuer:
    """One issuer; `keys` are those of this issuer and of no other."""

    name: str = "https://issuer.test"
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def jwks(self) -> str:
        """Return its key set."""
        entry = jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return json.dumps({"keys": [{**entry, "kid": "one"}]})

    def keys(self, rule: JwtRule) -> str:
        """Return the key set of `rule`'s issuer, as proxies are sent it."""
        return self.jwks() if rule.issuer == self.name else NOBODYS

    def token(self, *, seconds: int = 600, **claims: object) -> str:
        """Return a token of bob for `shop` that ends in `seconds`."""
        now = int(SystemClock().now().timestamp())
        said = {"iss": self.name, "sub": "bob", "aud": "shop", "exp": now + seconds, **claims}
        return jwt.encode(said, self.key, algorithm="ES256", headers={"kid": "one"})


def request_authentication(*issuers: str, more: str = "") -> str:
    """Return the RequestAuthentication of namespace shop for tokens of `issuers` for `shop`."""
    rules = "".join(
        f"  - {{issuer: '{name}', jwksUri: '{name}/keys', audiences: [shop]{more}}}\n"
        for name in issuers
    )
    return (
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\n"
        f"metadata: {{name: tokens, namespace: shop}}\nspec:\n  jwtRules:\n{rules}"
    )
