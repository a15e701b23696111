"""One configured cluster: what its tokens must say, who gets identities, who vouches for them."""

from dataclasses import dataclass

from identity.caller import Evidence
from identity.claims import Expected
from identity.key_ring import KeyRing
from identity.key_sources import build_source
from identity.review import ApiServerReviewer, TokenReviews
from meshca.api_server import ApiServerConnection
from meshca.clock import Clock
from meshca.errors import IdentityForbidden
from meshca.settings import Cluster as Settings
from meshca.settings import fill_identity_template
from meshca.settings_values import ApiServer
from meshca.spiffe_id import SpiffeId


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster's rules and what vouches for its tokens: `keys`, `reviews`, or both."""

    expected: Expected
    identity: str
    names: frozenset[str]
    prefixes: tuple[str, ...]
    keys: KeyRing | None
    reviews: TokenReviews | None

    def __post_init__(self) -> None:
        if self.keys is None and self.reviews is None:
            raise ValueError("nothing would vouch for the cluster's tokens")

    def check_namespace(self, namespace: str) -> None:
        """Raise IdentityForbidden unless `namespace` gets identities."""
        if namespace not in self.names and not namespace.startswith(self.prefixes):
            raise IdentityForbidden("namespace_not_allowed", "the namespace is not on the list")

    def derive_identity(self, evidence: Evidence, trust_domain: str) -> SpiffeId:
        """Return the one SPIFFE ID that the template makes of the caller's names.

        Raises IdentityForbidden `no_identity`.
        """
        values = {
            "trust_domain": trust_domain,
            "cluster": evidence.cluster,
            "namespace": evidence.namespace,
            "service_account": evidence.service_account,
        }
        try:
            identity = SpiffeId.parse(fill_identity_template(self.identity, values))
        except ValueError as error:
            raise IdentityForbidden("no_identity", f"no SPIFFE ID can be made: {error}") from error
        if identity.trust_domain != trust_domain or not identity.is_leaf:
            raise IdentityForbidden("no_identity", "the template leaves the trust domain")
        return identity

    def close(self) -> None:
        """Close what is open."""
        for part in (self.keys, self.reviews):
            if part is not None:
                part.close()


def build_cluster(settings: Settings, *, clock: Clock) -> Cluster:
    """Return the cluster that the configuration describes; nothing is read or connected yet."""
    patterns = settings.allow.namespaces
    return Cluster(
        expected=Expected(
            cluster=settings.name,
            issuer=settings.issuer,
            audiences=frozenset(settings.audiences),
            unbound_tokens=settings.allow.unbound_tokens,
            method=f"kubernetes_{settings.validation}",
        ),
        identity=settings.identity,
        names=frozenset(pattern for pattern in patterns if not pattern.endswith("*")),
        prefixes=tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*")),
        keys=_build_keys(settings, clock=clock),
        reviews=_build_reviews(settings),
    )


def _build_keys(settings: Settings, *, clock: Clock) -> KeyRing | None:
    if settings.validation == "token_review" or settings.keys is None:
        return None
    return KeyRing(build_source(settings.keys), clock=clock)


def _build_reviews(settings: Settings) -> TokenReviews | None:
    if settings.validation == "jwks":
        return None
    api_server = settings.review or (settings.keys and settings.keys.api_server) or ApiServer()
    return TokenReviews(ApiServerReviewer(ApiServerConnection(api_server)))
