"""What makes a relation or a received bundle acceptable: pure rules, none of which asks anybody.

| reason | what is refused |
|---|---|
| own_trust_domain | a relation with ourselves |
| invalid | a name, URL, SPIFFE ID or PEM that is none |
| no_seed | an `https_spiffe` endpoint with nothing to verify its first answer by |
| sequence_lower | a bundle that is older than the one held, or has lost its number |
| sequence_reused | other content under the number of the one held |
| shared_root | a root whose key is also ours, or another federated domain's |

A shared root would merge the trust domains: whoever signs under it could speak for both.
"""

from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca.federation.document import ForeignBundle, read_pem
from ca.federation.endpoint import check_url
from ca.federation.store import Relation
from meshca.errors import RequestRefused
from meshca.spiffe_id import SpiffeId, parse_trust_domain


def check_relation(relation: Relation, own_trust_domain: str) -> None:
    """Raise RequestRefused unless `relation` can be one."""
    try:
        parse_trust_domain(relation.trust_domain)
        check_url(relation.url)
    except ValueError as error:
        raise RequestRefused("invalid", str(error)) from error
    if relation.trust_domain == own_trust_domain:
        raise RequestRefused("own_trust_domain", f"{own_trust_domain} is our own trust domain")
    if relation.profile == "https_web":
        _check_web(relation)
    else:
        _check_spiffe(relation)


def _check_web(relation: Relation) -> None:
    if relation.endpoint_id:
        raise RequestRefused("invalid", "an endpoint's SPIFFE ID belongs to profile https_spiffe")
    if relation.web_roots and not read_pem(relation.web_roots.encode()):
        raise RequestRefused("invalid", "the endpoint's roots hold no certificate")


def _check_spiffe(relation: Relation) -> None:
    if relation.web_roots:
        raise RequestRefused("invalid", "roots for the endpoint belong to profile https_web")
    try:
        endpoint = SpiffeId.parse(relation.endpoint_id)
    except ValueError as error:
        raise RequestRefused("invalid", f"the endpoint's SPIFFE ID: {error}") from error
    if not endpoint.is_leaf:
        raise RequestRefused("invalid", f"{endpoint} names a trust domain, not an endpoint")


def check_bundle(
    received: ForeignBundle,
    held: ForeignBundle | None,
    others: Iterable[x509.Certificate],
) -> None:
    """Raise RequestRefused unless `received` may take the place of `held`.

    `others` are our own roots and those of every other federated domain.
    """
    if held is not None and held.sequence is not None:
        _check_order(received, held, held.sequence)
    taken = {_key(root) for root in others}
    for root in received.roots:
        if _key(root) in taken:
            raise RequestRefused(
                "shared_root",
                f"a root of {received.trust_domain} is also another trust domain's: "
                f"{root.subject.rfc4514_string()[:200]!r}",
            )


def _check_order(received: ForeignBundle, held: ForeignBundle, sequence: int) -> None:
    if received.sequence is None or received.sequence < sequence:
        raise RequestRefused(
            "sequence_lower",
            f"{received.trust_domain} offers bundle {received.sequence}; {sequence} is held",
        )
    if received.sequence == sequence and received.fingerprints != held.fingerprints:
        raise RequestRefused(
            "sequence_reused",
            f"{received.trust_domain} offers another bundle under the number held, {sequence}",
        )


def _key(root: x509.Certificate) -> bytes:
    return root.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
