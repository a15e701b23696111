"""The `vault` upstream: a fresh key of ours at each call, certified by a PKI mount of Vault's.

The key lives in memory: after a restart Vault signs another, unless `key_at_rest` keeps it.
Whatever Vault does, SVIDs go on being signed here for as long as the intermediate lives. Every call
has a deadline.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.authority import Authority
from ca.csr import certificate_request
from ca.keys import PrivateKeySigner, check_public_key, generate_key
from ca.upstream.chain import make_authority
from ca.upstream.intermediate import check_as_asked
from ca.upstream.issuer_crl import IssuerCrl
from ca.upstream.probe import check_by_probe
from ca.upstream.provision import Provision
from ca.upstream.vault.mount import MountView
from ca.upstream.vault.revoke import revoke_in
from ca.upstream.vault.session import Session
from ca.upstream.vault.sign import PkiMount, sign_csr
from meshca.errors import AuthorityUnavailable
from meshca.logs import get_logger

ROOTS_SECONDS: Final = 8.0
SIGN_SECONDS: Final = 12.0
REVOKE_SECONDS: Final = 12.0

log = get_logger("vault")


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultPki:
    """What both upstreams of this package do: have a CSR signed, and watch the mount."""

    session: Session
    pki: PkiMount
    view: MountView

    def fetch_roots(self, now: datetime) -> tuple[x509.Certificate, ...]:
        """Return the mount's roots, trying again for a few seconds; raises AuthorityUnavailable."""
        return self.session.patience.insist(
            "roots", lambda deadline: self.view.roots(now, deadline=deadline), seconds=ROOTS_SECONDS
        )

    def fetch_chain(self, csr_pem: str) -> tuple[x509.Certificate, ...]:
        """Return the chain of what Vault signed for this CSR, again and again the same one.

        Raises AuthorityUnavailable. Nothing of it has been checked.
        """
        try:
            return self.session.patience.insist(
                "sign",
                lambda deadline: sign_csr(self.session, self.pki, csr_pem, deadline=deadline),
                seconds=SIGN_SECONDS,
            )
        except AuthorityUnavailable:
            self.session.metrics.upstream_failures.labels("sign").inc()
            raise

    def accept(
        self, authority: Authority, roots: tuple[x509.Certificate, ...], now: datetime
    ) -> Provision:
        """Return the provision of `authority` if it is as asked and its probe verifies."""
        check_as_asked(authority, self.pki.trust_domain)
        check_by_probe(authority, trust_domain=self.pki.trust_domain, now=now)
        log.info(
            "vault_signed",
            authority=authority.authority_id,
            serial=f"{authority.certificate.serial_number:x}",
            not_after=authority.not_after.isoformat(),
        )
        return Provision(authority, roots)

    def poll(self, now: datetime) -> tuple[x509.Certificate, ...]:
        """Return the mount's roots now, asked once; keep our token alive on the way.

        Raises AuthorityUnavailable.
        """
        deadline = self.session.clock.monotonic() + ROOTS_SECONDS
        self.session.keep_alive(deadline=deadline)
        return self.view.roots(now, deadline=deadline)

    def revoke(self, certificate: x509.Certificate) -> bool:
        """Do what `Upstream.revoke` says, trying again for a few seconds."""
        try:
            return self.session.patience.insist(
                "revoke",
                lambda deadline: revoke_in(
                    self.session, self.pki.mount, certificate, deadline=deadline
                ),
                seconds=REVOKE_SECONDS,
            )
        except AuthorityUnavailable:
            self.session.metrics.upstream_failures.labels("revoke").inc()
            raise


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultUpstream:
    """Our intermediate, signed by Vault."""

    vault: VaultPki

    @property
    def can_renew(self) -> bool:
        """Return True: each call gives a fresh intermediate."""
        return True

    def provide(self, now: datetime) -> Provision:
        """Return a fresh authority, checked and probed; raises AuthorityUnavailable.

        Blocks, for 20 seconds at most.
        """
        vault, trust_domain = self.vault, self.vault.pki.trust_domain
        key = generate_key()
        roots = vault.fetch_roots(now)
        public = check_public_key(key.public_key())
        csr = certificate_request(PrivateKeySigner(key), public, trust_domain=trust_domain)
        chain = vault.fetch_chain(csr.public_bytes(Encoding.PEM).decode())
        authority = make_authority(chain, roots, key, trust_domain=trust_domain, now=now)
        return vault.accept(authority, roots, now)

    def roots(self, now: datetime) -> tuple[x509.Certificate, ...]:
        """Return every root of the mount now; raises AuthorityUnavailable."""
        return self.vault.poll(now)

    def revoke(self, certificate: x509.Certificate, now: datetime) -> bool:
        """Have the mount revoke it, if it issued it; raises AuthorityUnavailable.

        Blocks, for 12 seconds at most.
        """
        return self.vault.revoke(certificate)

    def revokes(self, certificate: x509.Certificate, now: datetime) -> bool:
        """Return whether a list of the mount, as last fetched and current, has it."""
        return self.vault.view.revokes(certificate, now)

    def lists(self, now: datetime) -> tuple[IssuerCrl, ...]:
        """Return those of the mount's issuers, as last fetched with the roots."""
        return self.vault.view.crls

    def bridges(self) -> tuple[x509.Certificate, ...]:
        """Return the cross-signed roots among the mount's issuers, as last seen."""
        return self.vault.view.bridges()
