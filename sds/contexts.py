"""Validation contexts: whose roots a proxy trusts, and the revocation lists under them.

Two flavours, as Envoy has two validators (measured: docs/revocation.md):

- `default`: roots and the lists of every leaf issuer, leaves checked only. Any root speaks for any
  trust domain, so it is only ever made of our own.
- `spiffe`: each trust domain's roots for itself. This validator reads lists only inside a domain's
  bundle and checks whole chains, so ours has the lists of leaf issuers and of every CA above them;
  while one of the latter is missing it has none at all: an incomplete set refuses everybody. What
  is revoked is then only refused by the filters (sds/revoked.py). Other domains' lists are theirs.

A proxy chooses by a bundle name's end (`ROOTCA@spiffe`), or for all its names by node metadata
(`validator`); otherwise it is `default` until a second trust domain is federated.

A list that is not current goes out as it is, and is logged as an error. Envoy refuses every leaf
whose issuer's list is not current, and just so every leaf whose issuer has none beside others: to
leave one out gains nothing, and to leave out all would let the revoked in. Nor would our clock be a
better judge than the proxy's: were it wrong, it would drop lists that are good. A list outlives the
leaves under it (it is signed for 30 days, or for the issuer's life), so none that lives is lost.
"""

from datetime import datetime
from enum import Enum
from typing import Final

from ca.bundle import Federated, TrustBundle
from ca.revocation.view import RevocationView
from meshca.errors import IssuanceFault
from meshca.logs import get_logger
from sds.resources import NOBODY, Resource, spiffe_validation_context, validation_context

OWN_BUNDLE_NAME: Final = "ROOTCA"
EVERY_BUNDLE_NAME: Final = "ALL"
_SCHEME: Final = "spiffe://"

log = get_logger("sds")


class Validator(Enum):
    """Which of Envoy's validators a context is for; the value is how proxies name it."""

    DEFAULT = "default"
    SPIFFE = "spiffe"


def split_bundle_name(name: str) -> tuple[str, Validator | None]:
    """Return a bundle's name without its flavour, and the flavour it ends in; None without one.

    Raises ValueError for an end that is no flavour.
    """
    base, at, flavour = name.rpartition("@")
    return (base, Validator(flavour)) if at else (name, None)


def find_validator(text: str) -> Validator | None:
    """Return the flavour that node metadata names, or None when it names none."""
    return next((each for each in Validator if each.value == text), None)


def is_bundle_name(name: str, trust_domain: str, federated: Federated) -> bool:
    """Return whether `name` is a bundle's, for a proxy of ours in `trust_domain`.

    The default flavour is there for our own bundle alone: another's root would speak for us.
    """
    try:
        base, asked = split_bundle_name(name)
    except ValueError:
        return False
    if base in (OWN_BUNDLE_NAME, f"{_SCHEME}{trust_domain}"):
        return True
    if asked is Validator.DEFAULT:
        return False
    return base == EVERY_BUNDLE_NAME or (
        base.startswith(_SCHEME) and base.removeprefix(_SCHEME) in federated
    )


def validator_of(
    name: str, chosen: Validator | None, own: TrustBundle, federated: Federated
) -> Validator:
    """Return the flavour of the context `name`, where `chosen` is that of names without one.

    Several trust domains are never for the default validator, whatever was chosen.
    """
    base, asked = split_bundle_name(name)
    wanted = asked or chosen
    is_own = base in (OWN_BUNDLE_NAME, f"{_SCHEME}{own.trust_domain}")
    if wanted is not None and (is_own or not federated.bundles):
        return wanted
    return Validator.SPIFFE if federated.bundles else Validator.DEFAULT


def make_context(
    name: str,
    validator: Validator,
    own: TrustBundle,
    federated: Federated,
    view: RevocationView,
) -> Resource:
    """Return the context `name`, which `is_bundle_name` has accepted, for its `validator_of`.

    A name of a domain without roots trusts nobody. Raises IssuanceFault for a list without content:
    Envoy would refuse it, and every later list with it.
    """
    if not all(each.der for each in view.lists):
        raise IssuanceFault("an empty revocation list was about to be pushed")
    base, _ = split_bundle_name(name)
    domain = base.removeprefix(_SCHEME)
    if domain in federated.without_roots:
        return spiffe_validation_context(name, {NOBODY: own})
    lists = b"".join(each.pem for each in view.lists)
    if validator is Validator.DEFAULT:
        return validation_context(name, own, lists)
    bundle = federated.bundles.get(domain, own)
    bundles = {bundle.trust_domain: bundle}
    if base == EVERY_BUNDLE_NAME:
        bundles = {**federated.bundles, own.trust_domain: own}
    within = {} if view.upper is None else {own.trust_domain: lists + view.upper}
    if lists and not within:
        log.warning(
            "context_without_revocation_lists",
            name=name,
            hint="the list of a CA above our issuers is missing, and a set that is not complete "
            "would refuse everybody; what is revoked is refused by proxies' filters only",
        )
    return spiffe_validation_context(name, bundles, within)


def complain_of_lists(view: RevocationView, now: datetime) -> None:
    """Log each list of `view` under which proxies will refuse everybody."""
    for each in view.lists:
        if not each.this_update <= now < each.next_update:
            log.error(
                "revocation_list_not_current",
                authority=each.authority_id,
                number=each.number,
                this_update=each.this_update.isoformat(),
                next_update=each.next_update.isoformat(),
                hint="proxies refuse every certificate of this authority on new connections",
            )
