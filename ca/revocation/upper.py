"""Whether the lists of the CAs above are complete: all of them are pushed, or none.

An Envoy that checks whole chains (the SPIFFE flavour) needs a current list from every CA of a chain
that it is shown, the root's own too. One that is missing, or has ended, makes it refuse everybody,
and none at all makes it check nothing. So here is found out, before anything is pushed, whether
each CA above each of our issuers has a list that will do for an hour at least.

A bridge is nothing of its own: it has the name and the key of a root, and with them its list. What
signed it is another root of the bundle; where both are trusted, verifiers stop at the first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509

from ca.pem import crl_pem
from ca.upstream.chain import describe, is_issued_by
from ca.upstream.issuer_crl import IssuerCrl, check_usable, same_ca
from meshca.errors import AuthorityUnavailable

MARGIN: Final = timedelta(hours=1)
"""How long before its end a list counts as missing: proxies must have something else by then."""
WARN_AT: Final = 8
"""A list is about to end when this part of its validity is left: nine hours of Vault's 72."""


@dataclass(frozen=True, slots=True)
class Upper:
    """What is known of the CAs above: the list of each that has one, and why others have none.

    `spare` are the lists of roots of the bundle that nothing chains to.
    """

    lists: tuple[IssuerCrl, ...] = ()
    spare: tuple[IssuerCrl, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def pem(self) -> bytes | None:
        """Return all lists as PEM, or None unless every CA that needs one has it."""
        if self.missing or not self.lists:
            return None
        return b"".join(crl_pem(each.der) for each in (*self.lists, *self.spare))

    def ending(self, now: datetime) -> tuple[IssuerCrl, ...]:
        """Return the lists that end soon, by the measure of their validity."""
        return tuple(c for c in self.lists if c.next_update - now <= _validity(c) / WARN_AT)


def find_upper(
    chains: Iterable[Sequence[x509.Certificate]],
    roots: Sequence[x509.Certificate],
    lists: Sequence[IssuerCrl],
    now: datetime,
) -> Upper:
    """Return what is known of the CAs above `chains`, each a leaf issuer and what follows it.

    `roots` are those of the bundle.
    """
    found: list[IssuerCrl] = []
    missing: list[str] = []
    needed = cas_above(chains, roots)
    for ca in needed:
        try:
            found.append(_list_of(ca, lists, now))
        except AuthorityUnavailable as error:
            missing.append(str(error))
    spare = []
    for root in roots:
        if not any(same_ca(root, ca) for ca in needed):
            spare += _if_any(root, lists, now)
    return Upper(tuple(found), tuple(spare), tuple(missing))


def cas_above(
    chains: Iterable[Sequence[x509.Certificate]], roots: Sequence[x509.Certificate]
) -> tuple[x509.Certificate, ...]:
    """Return each CA above a leaf issuer of `chains` once, in an order that does not change."""
    found: list[x509.Certificate] = []
    for chain in chains:
        above = [*chain[1:], *(root for root in roots if is_issued_by(chain[-1], root))]
        found += [ca for ca in above if not any(same_ca(ca, other) for other in found)]
    return tuple(sorted(found, key=lambda ca: (ca.subject.public_bytes(), ca.serial_number)))


def _if_any(ca: x509.Certificate, lists: Sequence[IssuerCrl], now: datetime) -> list[IssuerCrl]:
    try:
        return [_list_of(ca, lists, now)]
    except AuthorityUnavailable:
        return []


def _list_of(ca: x509.Certificate, lists: Sequence[IssuerCrl], now: datetime) -> IssuerCrl:
    """Return the newest list of `ca`; raises AuthorityUnavailable, saying why none will do."""
    own = [each for each in lists if same_ca(each.issuer, ca)]
    begun = [each for each in own if each.this_update <= now]
    newest = max(begun, key=lambda each: (each.this_update, each.next_update), default=None)
    if newest is None:
        what = f"begins at {own[0].this_update.isoformat()} only" if own else "is not there"
        raise AuthorityUnavailable(f"the revocation list of {describe(ca)} {what}")
    if newest.next_update - MARGIN <= now:
        raise AuthorityUnavailable(
            f"the revocation list of {describe(ca)} ends at {newest.next_update.isoformat()}"
        )
    check_usable(newest)
    return newest


def _validity(crl: IssuerCrl) -> timedelta:
    return crl.next_update - crl.this_update
