"""What an upstream is: something that can give us an authority, and perhaps a fresh one later.

It may also revoke what it signed, and show roots that others have cross-signed. One that is made of
files can do neither: `OfFiles` says so for it.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cryptography import x509

from ca.authority import Authority


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

    def revoke(self, certificate: x509.Certificate) -> bool:
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

    def bridges(self) -> tuple[x509.Certificate, ...]:
        """Return the cross-signed roots that were last seen with the roots. Does not block.

        Each has the subject and the key of one root; ca/upstream/bridges.py says what was checked.
        """
        ...


class OfFiles:
    """What upstreams made of files answer: revoking is `meshca root`'s, and nothing crosses."""

    __slots__ = ()

    def revoke(self, certificate: x509.Certificate) -> bool:
        """Return False."""
        return False

    def revokes(self, certificate: x509.Certificate, now: datetime) -> bool:
        """Return False: no list is watched."""
        return False

    def bridges(self) -> tuple[x509.Certificate, ...]:
        """Return none."""
        return ()
