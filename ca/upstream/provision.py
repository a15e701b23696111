"""What an upstream is: something that can give us an authority, and perhaps a fresh one later.

It may also revoke what it signed, show the revocation lists of the CAs above us, and roots that
others have cross-signed. One whose intermediate is in files has its lists in files, too, and can do
nothing else of that: `OfFiles` says so for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from cryptography import x509

from ca.authority import Authority
from ca.upstream.chain import read_certificates
from ca.upstream.issuer_crl import IssuerCrl
from ca.upstream.list_files import ListFiles


@dataclass(frozen=True, slots=True)
class Provision:
    """What an upstream provides: an authority that may sign, and every root to be trusted."""

    authority: Authority
    roots: tuple[x509.Certificate, ...]


class Upstream(Protocol):
    """The source of our intermediate."""

    @property
    def can_renew(self) -> bool:
        """Whether `provide` returns a fresh intermediate at each call."""
        ...

    def roots(self, now: datetime) -> tuple[x509.Certificate, ...]:
        """Return every root it may sign under, now or soon; raises AuthorityUnavailable.

        May block, and is asked every half minute: a new root enters the bundle before anything is
        signed under it.
        """
        ...

    def provide(self, now: datetime) -> Provision:
        """Return an authority that may sign now; raises AuthorityUnavailable. May block."""
        ...

    def revoke(self, certificate: x509.Certificate, now: datetime) -> bool:
        """Have the issuer of `certificate`, an intermediate of ours, put it on its list.

        True: it is done, or was before, or has ended since. False: this upstream cannot, and
        never will. Raises AuthorityUnavailable when it failed and may be tried again. May block.
        """
        ...

    def revokes(self, certificate: x509.Certificate, now: datetime) -> bool:
        """Whether a list of its issuer, current and last seen with the roots, has `certificate`.

        False where there are no lists. Does not block.
        """
        ...

    def lists(self, now: datetime) -> tuple[IssuerCrl, ...]:
        """Return the revocation lists of the CAs above our intermediates, as last known.

        Each is signed by its CA; whether it is current, or one is missing, is for the caller to
        see. Raises AuthorityUnavailable. May block, and is asked every half minute.
        """
        ...

    def bridges(self) -> tuple[x509.Certificate, ...]:
        """Return the cross-signed roots that were last seen with the roots. Does not block.

        Each has the subject and the key of one root; ca/upstream/bridges.py says what was checked.
        """
        ...


class OfFiles:
    """What upstreams made of files answer: revoking is `meshca root`'s, and nothing crosses."""

    __slots__ = ()

    root: Path
    chain: Path
    list_files: ListFiles

    def revoke(self, certificate: x509.Certificate, now: datetime) -> bool:
        """Return False."""
        return False

    def revokes(self, certificate: x509.Certificate, now: datetime) -> bool:
        """Return whether a list in a file, as last read and current, has it."""
        return any(c.is_current(now) and c.revokes(certificate) for c in self.list_files.seen)

    def lists(self, now: datetime) -> tuple[IssuerCrl, ...]:
        """Return those in the files as they are now; raises AuthorityUnavailable.

        Only for a root or a chain that cannot be read: of a list, what was last good is known.
        """
        return self.list_files.look(above(read_certificates(self.chain), self.root))

    def bridges(self) -> tuple[x509.Certificate, ...]:
        """Return none."""
        return ()


def above(chain: Sequence[x509.Certificate], root: Path) -> tuple[x509.Certificate, ...]:
    """Return the CAs above the first of `chain`, with the roots in the file."""
    return tuple(dict.fromkeys((*chain[1:], *read_certificates(root))))
