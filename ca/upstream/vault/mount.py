"""Watching a PKI mount: its roots each time it is asked, its revocation lists now and then.

The lists are kept: Vault does not answer while it is sealed, and that is when they are needed.
"""

import math
import threading
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography import x509

from ca.upstream.vault.client import Connection
from ca.upstream.vault.issuers import (
    Issuer,
    IssuerCrl,
    fetch_crl,
    fetch_issuers,
    trusted_roots,
)
from meshca.clock import Clock
from meshca.errors import AuthorityUnavailable
from meshca.logs import get_logger
from meshca.metrics import Metrics

CRL_EVERY_SECONDS: Final = 300.0

log = get_logger("vault")


@dataclass(slots=True, kw_only=True)
class MountView:
    """What anybody may know of a PKI mount; safe to use from several threads."""

    connection: Connection
    mount: str
    issuer: str
    trust_domain: str
    clock: Clock
    metrics: Metrics
    _crls: dict[str, IssuerCrl] = field(default_factory=dict)
    _crls_at: float = -math.inf
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def crls(self) -> tuple[IssuerCrl, ...]:
        """Return the lists as last fetched; whether they are current is for the caller to ask."""
        return tuple(self._crls.values())

    def roots(self, now: datetime, *, deadline: float) -> tuple[x509.Certificate, ...]:
        """Return every root of the mount that may speak for the trust domain.

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
        return roots

    def revokes(self, certificate: x509.Certificate, now: datetime) -> bool:
        """Return whether a list that is current revokes `certificate`."""
        return any(crl.is_current(now) and crl.revokes(certificate) for crl in self.crls)

    def _refresh_crls(self, issuers: tuple[Issuer, ...], deadline: float) -> None:
        """Fetch the lists if they were not lately; one that cannot be had stays as it was."""
        with self._lock:
            if self.clock.monotonic() - self._crls_at < CRL_EVERY_SECONDS:
                return
            self._crls_at = self.clock.monotonic()
        for issuer in issuers:
            try:
                crl = fetch_crl(self.connection, self.mount, issuer, deadline=deadline)
            except AuthorityUnavailable as error:
                self.metrics.upstream_failures.labels("crl").inc()
                log.warning("vault_crl_not_fetched", issuer=issuer.reference, error=str(error))
            else:
                self._crls[issuer.reference] = crl
        for reference in self._crls.keys() - {issuer.reference for issuer in issuers}:
            del self._crls[reference]
