"""The `vault_transit` upstream: the intermediate's key is made in Transit and never leaves Vault.

For those who may not hold the key of a CA. The price: every SVID is one request to Vault, and a
Vault that is sealed or away stops new SVIDs at once; certificates that are there live on.
"""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.csr import certificate_request
from ca.upstream.chain import make_remote_authority
from ca.upstream.issuer_crl import IssuerCrl
from ca.upstream.provision import Provision
from ca.upstream.vault.transit import fresh_signer
from ca.upstream.vault.upstream import VaultPki


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultTransitUpstream:
    """Our intermediate, its key in Transit, signed by the same Vault's PKI."""

    vault: VaultPki
    transit_mount: str
    key_name: str

    @property
    def can_renew(self) -> bool:
        """Return True: each call makes a new version of the key, and a fresh intermediate."""
        return True

    def provide(self, now: datetime) -> Provision:
        """Return a fresh authority, checked and probed; raises AuthorityUnavailable.

        Blocks, for half a minute at most.
        """
        vault, trust_domain = self.vault, self.vault.pki.trust_domain
        roots = vault.fetch_roots(now)
        signer = fresh_signer(vault.session, self.transit_mount, self.key_name)
        csr = certificate_request(signer, signer.public_key, trust_domain=trust_domain)
        chain = vault.fetch_chain(csr.public_bytes(Encoding.PEM).decode())
        authority = make_remote_authority(
            chain,
            roots,
            signer,
            public_key=signer.public_key,
            trust_domain=trust_domain,
            now=now,
        )
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
