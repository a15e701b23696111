"""What proxies must know of revocation: every list that is in force, and who is cut off by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from types import MappingProxyType
from typing import Final

from ca.pem import crl_pem


@dataclass(frozen=True)
class Crl:
    """The revocation list of one leaf issuer as it was signed; `number` grows with each.

    It knows every revocation up to `revision` (ca/revocation/store.py).
    """

    authority_id: str
    number: int
    revision: int
    this_update: datetime
    next_update: datetime
    signed_at: datetime
    der: bytes = field(repr=False)

    @cached_property
    def pem(self) -> bytes:
        """Return it as PEM."""
        return crl_pem(self.der)


@dataclass(frozen=True, slots=True, eq=False)
class RevocationView:
    """The state of revocation at one time; another object as soon as anything of it changes.

    `lists` has one for each authority whose leaves may be shown, ordered by authority: an Envoy
    that has any list refuses every leaf whose issuer has none. `upper` is the PEM of the lists of
    every CA above them, or None unless each of those has a current one. `revoked` are the SHA-256
    fingerprints (hex) of revoked certificates that have not ended, by SPIFFE ID.
    """

    revision: int = 0
    lists: tuple[Crl, ...] = ()
    upper: bytes | None = None
    revoked: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))


NOTHING_REVOKED: Final = RevocationView()
