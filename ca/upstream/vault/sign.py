"""Having Vault's PKI sign our CSR: the one request that we make, and what we accept as its answer.

The parameters are exactly these: what is left out, Vault fills in (a path length of its own, a DNS
name from the common name), and `use_csr_values` would let the CSR decide what it becomes. Texts
where Vault would take numbers too, since its policies compare texts.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from cryptography import x509

from ca.upstream.chain import up_to_root
from ca.upstream.intermediate import common_name
from ca.upstream.vault.client import Answer, not_vault
from ca.upstream.vault.errors import Reaction, VaultFault
from ca.upstream.vault.issuers import DEFAULT_ISSUER, certificates_of
from ca.upstream.vault.session import Session
from meshca.logs import clip
from meshca.spiffe_id import SpiffeId

# Normal for what we ask. Any other warning says that something else was done than was asked.
HARMLESS_WARNINGS: Final = (
    "This mount hasn't configured any authority information access (AIA) fields",
    "Max path length of the signed certificate is zero",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PkiMount:
    """Where our intermediate is signed: a mount, and its default issuer or one that is pinned."""

    mount: str
    issuer: str
    trust_domain: str
    lifetime: timedelta

    @property
    def path(self) -> str:
        """Return the path that signs; policies name exactly this one."""
        if self.issuer == DEFAULT_ISSUER:
            return f"{self.mount}/root/sign-intermediate"
        return f"{self.mount}/issuer/{self.issuer}/sign-intermediate"

    def parameters(self, csr_pem: str) -> dict[str, Any]:
        """Return the whole request."""
        return {
            "csr": csr_pem,
            "common_name": common_name(self.trust_domain),
            "ttl": lifetime_text(self.lifetime),
            "max_path_length": "0",
            "uri_sans": str(SpiffeId(self.trust_domain, "")),
            "exclude_cn_from_sans": True,
            "format": "pem",
        }


def lifetime_text(lifetime: timedelta) -> str:
    """Return `lifetime` in its largest whole unit of h, m, s: policies compare this text."""
    seconds = int(lifetime.total_seconds())
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def sign_csr(
    session: Session, pki: PkiMount, csr_pem: str, *, deadline: float
) -> tuple[x509.Certificate, ...]:
    """Return the chain of the certificate that Vault signed, beginning with it; raises VaultFault.

    Roots, and the bridges that Vault lists after them, are not part of it. Whether it is what we
    asked for is for the caller to check, on the certificate itself.
    """
    answer = session.ask("post", pki.path, pki.parameters(csr_pem), deadline=deadline)
    _check_warnings(answer)
    above = answer.data.get("ca_chain")
    chain = above if isinstance(above, list) and above else [answer.text("issuing_ca")]
    certificates = up_to_root(certificates_of([answer.text("certificate"), *chain]))
    if not certificates:
        raise not_vault("the answer holds no intermediate")
    return certificates


def _check_warnings(answer: Answer) -> None:
    """Refuse an answer that did something else: a shorter life, a parameter that was ignored."""
    other = [text for text in answer.warnings if not text.startswith(HARMLESS_WARNINGS)]
    if other:
        raise VaultFault(
            "warning",
            Reaction.CONFIGURE,
            f"the intermediate is not what was asked for: {clip(' / '.join(other), 300)}",
        )
