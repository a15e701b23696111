"""The `disk` upstream with its key on a token: certificates from files, signatures over PKCS#11."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509

from ca.pkcs11 import TokenKey, open_signer
from ca.upstream.chain import make_remote_authority, naming, read_certificates
from ca.upstream.list_files import ListFiles
from ca.upstream.provision import OfFiles, Provision, above


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIntermediate(OfFiles):
    """An intermediate that somebody else signed, for a key that no file holds."""

    root: Path
    chain: Path
    key: TokenKey
    trust_domain: str
    list_files: ListFiles = field(default_factory=ListFiles)

    @property
    def can_renew(self) -> bool:
        """Return False: the certificates are what they are."""
        return False

    def roots(self, now: datetime) -> tuple[x509.Certificate, ...]:
        """Return the roots in the file as it is now; raises AuthorityUnavailable, naming it."""
        return read_certificates(self.root)

    def provide(self, now: datetime) -> Provision:
        """Return the authority of the files and the token.

        Raises AuthorityUnavailable, naming the file, or what of the token is missing or wrong.
        """
        roots, chain = read_certificates(self.root), read_certificates(self.chain)
        signer = open_signer(self.key)
        with naming(self.chain):
            authority = make_remote_authority(
                chain,
                roots,
                signer,
                public_key=signer.public_key,
                trust_domain=self.trust_domain,
                now=now,
            )
        self.list_files.check(above(chain, self.root))
        return Provision(authority, roots)
