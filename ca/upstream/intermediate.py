"""The exact shape of an intermediate that somebody else signed for us (docs/upstreams.md).

`make_authority` checks what every authority needs. Here is what we asked for besides, so that an
upstream that says yes and gives something else is found out.
"""

from collections.abc import Sequence
from itertools import pairwise

from cryptography import x509

from ca.authority import Authority
from meshca.errors import AuthorityUnavailable
from meshca.spiffe_id import SpiffeId


def common_name(trust_domain: str) -> str:
    """Return the name that we ask for: X.520 allows 64 characters."""
    return f"{trust_domain} intermediate"[:64]


def check_as_asked(authority: Authority, trust_domain: str) -> None:
    """Raise AuthorityUnavailable unless the certificate is the one that we ask upstreams for.

    One name, `spiffe://<trust domain>` (X509-SVID 3.2); path length 0; keyCertSign and cRLSign;
    and no certificate of the chain ends after the one that signed it.
    """
    certificate = authority.certificate
    names = _names(certificate)
    if names != [(x509.UniformResourceIdentifier, str(SpiffeId(trust_domain, "")))]:
        shown = ", ".join(str(value) for _, value in names) or "none"
        raise AuthorityUnavailable(
            f"the intermediate's names are not exactly spiffe://{trust_domain}: {shown}"
        )
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    if constraints.path_length != 0:
        raise AuthorityUnavailable(
            f"the intermediate has path length {constraints.path_length}, not 0: "
            "it could make other CAs"
        )
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    if not usage.crl_sign:
        raise AuthorityUnavailable("the intermediate may not sign revocation lists")
    _check_ends((*authority.chain, authority.root))


def _names(certificate: x509.Certificate) -> list[tuple[type[x509.GeneralName], object]]:
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [(type(name), name.value) for name in san]


def _check_ends(chain: Sequence[x509.Certificate]) -> None:
    for certificate, issuer in pairwise(chain):
        end, limit = certificate.not_valid_after_utc, issuer.not_valid_after_utc
        if end > limit:
            raise AuthorityUnavailable(
                f"certificate {certificate.subject.rfc4514_string()!r} ends at {end.isoformat()}, "
                f"after its issuer, which ends at {limit.isoformat()}"
            )
