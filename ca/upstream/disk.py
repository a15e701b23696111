"""The `disk` upstream: an intermediate and its key from files, or a root key that signs one.

Key files must be readable by their owner only. A fresh intermediate's key lives in memory: after a
restart the root key signs another. Whoever has the root's key signs its revocation list, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from ca.ca_certificate import make_intermediate
from ca.keys import (
    PrivateKey,
    check_public_key,
    generate_key,
    load_private_key,
    read_secret_file,
)
from ca.upstream.bridges import Bridges
from ca.upstream.chain import (
    certificate_of,
    is_issued_by,
    make_authority,
    naming,
    read_certificates,
)
from ca.upstream.issuer_crl import IssuerCrl
from ca.upstream.list_files import ListFiles
from ca.upstream.provision import OfFiles, Provision, above
from ca.upstream.root_list import RootList, list_file_of, validity_for
from meshca.errors import AuthorityUnavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskIntermediate(OfFiles):
    """An intermediate that somebody else signed; when it ends, somebody must replace the files."""

    root: Path
    chain: Path
    key: Path
    passphrase_file: Path | None
    trust_domain: str
    list_files: ListFiles = field(default_factory=ListFiles)

    @property
    def can_renew(self) -> bool:
        """Return False: the files are what they are."""
        return False

    def roots(self, now: datetime) -> tuple[x509.Certificate, ...]:
        """Return the roots in the file as it is now; raises AuthorityUnavailable, naming it."""
        return read_certificates(self.root)

    def provide(self, now: datetime) -> Provision:
        """Return the authority in the files; raises AuthorityUnavailable, naming the file."""
        roots = read_certificates(self.root)
        key = load_private_key(self.key, _passphrase(self.passphrase_file))
        chain = read_certificates(self.chain)
        with naming(self.chain):
            authority = make_authority(chain, roots, key, trust_domain=self.trust_domain, now=now)
        self.list_files.check(above(chain, self.root))
        return Provision(authority, roots)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskRoot:
    """A root whose (encrypted) key is on disk: each call signs a fresh intermediate under it.

    `bridge` is the file, if it is there, of roots that older ones cross-signed. The root's list is
    in a file beside it (ca/upstream/root_list.py).
    """

    root: Path
    root_key: Path
    passphrase_file: Path | None
    trust_domain: str
    lifetime: timedelta
    bridge: Path | None = None
    _bridges: Bridges = field(default_factory=Bridges, init=False, repr=False, compare=False)
    _list: RootList = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_list", RootList(path=list_file_of(self.root)))

    @property
    def can_renew(self) -> bool:
        """Return True: the root key is here."""
        return True

    def roots(self, now: datetime) -> tuple[x509.Certificate, ...]:
        """Return the roots in the file as it is now; raises AuthorityUnavailable, naming it."""
        roots = read_certificates(self.root)
        if self.bridge is not None and self.bridge.exists():
            found = read_certificates(self.bridge)
            self._bridges.look(found, roots, trust_domain=self.trust_domain, now=now)
        return roots

    def bridges(self) -> tuple[x509.Certificate, ...]:
        """Return those in the file as last read."""
        return self._bridges.seen

    def provide(self, now: datetime) -> Provision:
        """Return a fresh authority; raises AuthorityUnavailable, naming the file."""
        roots = self.roots(now)  # with the bridges: what it signs first may need one
        root, root_key = self._signer(roots)
        key = generate_key()
        with naming(self.root):
            certificate = make_intermediate(
                check_public_key(key.public_key()),
                root=root,
                root_key=root_key,
                trust_domain=self.trust_domain,
                now=now,
                lifetime=self.lifetime,
            )
            authority = make_authority(
                [certificate], roots, key, trust_domain=self.trust_domain, now=now
            )
        return Provision(authority, roots)

    def lists(self, now: datetime) -> tuple[IssuerCrl, ...]:
        """Return the lists of the roots; sign that of the one whose key is here when it is due.

        Raises AuthorityUnavailable, naming the file.
        """
        roots = read_certificates(self.root)
        seen = self._list.look(roots)
        if not any(self._list.is_due(root, now) for root in roots):
            return seen
        root, key = self._signer(roots)
        if self._list.is_due(root, now):
            self._list.sign(roots, root, key, now=now, valid=validity_for(self.lifetime))
        self._list.give_up([each for each in roots if each != root])
        return self._list.seen

    def revoke(self, certificate: x509.Certificate, now: datetime) -> bool:
        """Put it on the list of the root whose key is here; False if another signed it.

        Raises AuthorityUnavailable, naming the file.
        """
        roots = read_certificates(self.root)
        root, key = self._signer(roots)
        if not is_issued_by(certificate, root):
            return False
        if now < certificate.not_valid_after_utc:
            valid = validity_for(self.lifetime)
            self._list.revoke(roots, root, key, certificate.serial_number, now=now, valid=valid)
        return True

    def revokes(self, certificate: x509.Certificate, now: datetime) -> bool:
        """Return whether a list as last read has it."""
        return any(crl.is_current(now) and crl.revokes(certificate) for crl in self._list.seen)

    def _signer(self, roots: Sequence[x509.Certificate]) -> tuple[x509.Certificate, PrivateKey]:
        root_key = load_private_key(self.root_key, _passphrase(self.passphrase_file))
        root = certificate_of(root_key, roots)
        if root is None:
            raise AuthorityUnavailable(
                f"the key in {self.root_key} belongs to no certificate in {self.root}"
            )
        return root, root_key


def _passphrase(path: Path | None) -> bytes | None:
    return None if path is None else read_secret_file(path).rstrip(b"\r\n")
