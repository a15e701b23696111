"""Trust bundles: which roots speak for a trust domain (SPIFFE Trust Domain and Bundle).

A bundle is one monotonic document: its `sequence` grows with every change of content. It is never
empty, since an empty validation context would turn mutual TLS off in Envoy. Bundles of several
trust domains stand side by side, each under its own name, and are never merged (Federation 4.2): a
root of one must not speak for another.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import orjson
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

REFRESH_HINT_SECONDS = 300
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """The roots of one trust domain; raises ValueError when built without any."""

    trust_domain: str
    roots: tuple[x509.Certificate, ...]
    sequence: int
    _pem: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.roots:
            raise ValueError("a trust bundle without roots would turn verification off")
        pem = b"".join(root.public_bytes(Encoding.PEM) for root in self.roots)
        object.__setattr__(self, "_pem", pem)

    def pem(self) -> bytes:
        """Return the roots as concatenated PEM."""
        return self._pem

    def spiffe_json(self) -> bytes:
        """Return the bundle as a SPIFFE JWKS document (clauses 4.1, 4.2; X509-SVID 6.1)."""
        numbers = {
            "spiffe_sequence": self.sequence,
            "spiffe_refresh_hint": REFRESH_HINT_SECONDS,
        }
        return orjson.dumps({**numbers, **_keys(self.roots)})


@dataclass(frozen=True, slots=True)
class Federated:
    """The trust domains beside ours: those with a bundle, and the names of those without.

    `without_roots` are known but trust nobody now: not fetched yet, emptied, or removed.
    """

    bundles: Mapping[str, TrustBundle] = field(default_factory=lambda: MappingProxyType({}))
    without_roots: frozenset[str] = frozenset()

    def __contains__(self, trust_domain: object) -> bool:
        """Return whether the trust domain's name has an answer."""
        return trust_domain in self.bundles or trust_domain in self.without_roots


NO_FEDERATION = Federated()


def unnumbered_json(roots: Sequence[x509.Certificate]) -> bytes:
    """Return `roots` as a SPIFFE JWKS document that says nothing of its order or age."""
    return orjson.dumps(_keys(roots))


def _keys(roots: Sequence[x509.Certificate]) -> dict[str, object]:
    return {"keys": [_jwk(root) for root in roots]}


def _jwk(root: x509.Certificate) -> dict[str, str | list[str]]:
    x5c = base64.b64encode(root.public_bytes(Encoding.DER)).decode()
    return {"use": "x509-svid", "x5c": [x5c], **_key_parameters(root)}


def _key_parameters(root: x509.Certificate) -> dict[str, str]:
    key = root.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        size = (key.curve.key_size + 7) // 8
        numbers = key.public_numbers()
        curve = _CURVES[key.curve.name]
        return {"kty": "EC", "crv": curve, "x": _b64(numbers.x, size), "y": _b64(numbers.y, size)}
    if isinstance(key, rsa.RSAPublicKey):
        public = key.public_numbers()
        return {
            "kty": "RSA",
            "n": _b64(public.n, (public.n.bit_length() + 7) // 8),
            "e": _b64(public.e, (public.e.bit_length() + 7) // 8),
        }
    raise ValueError(f"a root with a {type(key).__name__} cannot be in a SPIFFE bundle")


def _b64(number: int, size: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(size, "big")).rstrip(b"=").decode()
