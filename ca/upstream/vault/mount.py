"""Watching a PKI mount: its roots, the bridges between them, and the lists of what is revoked.

Lists and bridges are kept: Vault does not answer while it is sealed, and that is when they are
needed.
"""

from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509

from ca.upstream.bridges import Bridges
from ca.upstream.issuer_crl import IssuerCrl
from ca.upstream.vault.client import Connection
from ca.upstream.vault.issuers import (
    Issuer,
    fetch_crl,
    fetch_issuers,
    trusted_roots,
)
from meshca.clock import Clock
from meshca.errors import AuthorityUnavailable
from meshca.logs import get_logger
from meshca.metrics import Metrics

log = get_logger("vault")


@dataclass(slots=True, kw_only=True)
class MountView:
    """What anybody may know of a PKI mount; safe to use from several threads.

    What is kept is put in place whole; of two who look at once, the last one's stays.
    """

    connection: Connection
    mount: str
    issuer: str
    trust_domain: str
    clock: Clock
    metrics: Metrics
    _crls: dict[str, IssuerCrl] = field(default_factory=dict)
    _bridges: Bridges = field(default_factory=Bridges)

    @property
    def crls(self) -> tuple[IssuerCrl, ...]:
        """Return the lists as last fetched; whether they are current is for the caller to ask."""
        return tuple(self._crls.values())

    def roots(self, now: datetime, *, deadline: float) -> tuple[x509.Certificate, ...]:
        """Return every root of the mount that may speak for the trust domain; see all the rest.

        Raises VaultFault, or AuthorityUnavailable when there is none.
        """
        try:
            issuers = fetch_issuers(self.connection, self.mount, self.issuer, deadline=deadline)
            roots = trusted_roots(issuers, trust_domain=self.trust_domain, now=now)
            if not roots:
                raise AuthorityUnavailable(
                    f"mount {self.mount} has no root that may speak for {self.trust_domain}"
                )
        except AuthorityUnavailable:
            self.metrics.upstream_failures.labels("roots").inc()
            raise
        self._refresh_crls(issuers, deadline)
        shown = [certificate for issuer in issuers for certificate in issuer.chain]
        self._bridges.look(shown, roots, trust_domain=self.trust_domain, now=now)
        return roots

    def revokes(self, certificate: x509.Certificate, now: datetime) -> bool:
        """Return whether a list that is current revokes `certificate`."""
        return any(crl.is_current(now) and crl.revokes(certificate) for crl in self.crls)

    def bridges(self) -> tuple[x509.Certificate, ...]:
        """Return the bridges as last seen, but for those that have ended or are revoked."""
        now = self.clock.now()
        return tuple(b for b in self._bridges.valid(now) if not self.revokes(b, now))

    def _refresh_crls(self, issuers: tuple[Issuer, ...], deadline: float) -> None:
        """Fetch the lists; one that cannot be had stays as it was."""
        kept = {}
        for issuer in issuers:
            before = self._crls.get(issuer.reference)
            if before is not None:
                kept[issuer.reference] = before
            try:
                crl = fetch_crl(self.connection, self.mount, issuer, deadline=deadline)
            except AuthorityUnavailable as error:
                self.metrics.upstream_failures.labels("crl").inc()
                log.warning("vault_crl_not_fetched", issuer=issuer.reference, error=str(error))
            else:
                kept[issuer.reference] = crl
        self._crls = kept
