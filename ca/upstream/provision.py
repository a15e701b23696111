"""What an upstream is: something that can give us an authority, and perhaps a fresh one later."""

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
