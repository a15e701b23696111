"""What is on one authority's list, encoded, and kept from one list to the next.

Encoding is most of the work of a long list, so each entry is encoded once. A certificate that has
ended stays on for an hour: for a verifier whose clock is behind it has not ended yet.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
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

    _held: dict[str, tuple[Revocation, bytes]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._held)

    def take(self, revoked: Iterable[Revocation], now: datetime) -> Difference:
        """Hold `revoked`, and what of the others has ended only just."""
        before, held, is_news, kept = self._held, {}, False, 0
        for r in revoked:
            known = before.get(r.serial)
            kept += known is not None
            if known is None or known[0] is not r:
                encoded = encode_entry(int(r.serial, 16), r.revoked_at, r.reason)
                is_news = is_news or known is None or known[1] != encoded
                known = r, encoded
            held[r.serial] = known
        ended = False
        if kept < len(before):
            for serial in before.keys() - held.keys():
                end = before[serial][0].not_after
                if end > now:
                    is_news = True  # it was released
                elif end + KEPT_AFTER_THE_END > now:
                    held[serial] = before[serial]
                else:
                    ended = True
        self._held = held
        return Difference(is_news, ended)

    def sign(self, authority: Authority, *, number: int, revision: int, now: datetime) -> Crl:
        """Return the list of `authority`; blocks as its signer does, and raises what it raises."""
        fields = crl_fields(authority, number=number, now=now)
        der = sign_crl(authority, encode_crl(fields, [e for _, e in self._held.values()]))
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
