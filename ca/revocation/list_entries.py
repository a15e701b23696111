"""What is on one authority's list, encoded, and kept from one list to the next.

Encoding is most of the work of a long list, so each entry is encoded once. A certificate that has
ended stays on for an hour: for a verifier whose clock is behind it has not ended yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import compress
from operator import is_not
from typing import Final

from ca.authority import Authority
from ca.crl import crl_fields, encode_crl, encode_entry, sign_crl
from ca.revocation.store import Revocation
from ca.revocation.view import Crl

KEPT_AFTER_THE_END: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Difference:
    """What a look changed: `is_news` if anybody was revoked or released, `ended` if entries went.

    Entries that went are no news: whoever has the old list only has a longer one.
    """

    is_news: bool
    ended: bool


@dataclass(slots=True)
class ListEntries:
    """The entries of one authority's list, by serial, in the order in which they were revoked."""

    _held: dict[str, Revocation] = field(default_factory=dict)
    _encoded: dict[str, bytes] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._encoded)

    def take(self, revoked: dict[str, Revocation], now: datetime) -> Difference:
        """Hold `revoked`, by serial, and what of the others has ended only just.

        `revoked` is the caller's no more: it is kept.
        """
        held, encoded, is_news, ended = self._held, self._encoded, False, False
        is_other = map(is_not, revoked.values(), map(held.get, revoked))  # no loop: they are many
        fresh = list(compress(revoked.values(), is_other))
        added = sum(1 for r in fresh if r.serial not in held)
        for r in fresh:
            entry = encode_entry(int(r.serial, 16), r.revoked_at, r.reason)
            is_news = is_news or encoded.get(r.serial) != entry
            encoded[r.serial] = entry
        is_less = len(held) + added != len(revoked)
        for serial in held.keys() - revoked.keys() if is_less else ():
            end = held[serial].not_after
            if end <= now < end + KEPT_AFTER_THE_END:
                revoked[serial] = held[serial]
                continue
            del encoded[serial]
            is_news, ended = is_news or end > now, ended or end <= now  # released, or ended
        self._held = revoked
        return Difference(is_news, ended)

    def sign(self, authority: Authority, *, number: int, revision: int, now: datetime) -> Crl:
        """Return the list of `authority`; blocks as its signer does, and raises what it raises."""
        fields = crl_fields(authority, number=number, now=now)
        der = sign_crl(authority, encode_crl(fields, self._encoded.values()))
        return Crl(
            authority_id=authority.authority_id,
            number=number,
            revision=revision,
            this_update=fields.this_update,
            next_update=fields.next_update,
            signed_at=now,
            der=der,
        )


def newest_revisions(revoked: Sequence[Revocation]) -> dict[str, int]:
    """Return the latest revision of each authority that `revoked` speaks of."""
    newest: dict[str, int] = {}
    for r in revoked:
        if r.revision > newest.get(r.authority_id, 0):
            newest[r.authority_id] = r.revision
    return newest
