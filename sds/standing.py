"""What one proxy has of a revocation: of the lists, and of the filter.  Pure.

A proxy is a holder over all of its streams, and has it when every resource that it follows has
acknowledged a version that carries it. What it follows is its own choice: one without a validation
context of ours, or whose context cannot have lists, is not waited for there, but counted.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ca.bundle import NO_FEDERATION
from sds.bootstrap_filters import HTTP_REVOKED, TCP_REVOKED
from sds.carried import Carried, CarriedVersions
from sds.contexts import is_bundle_name
from sds.ledger import AnySession
from sds.resources import EXTENSION_TYPE
from sds.snapshot import CERTIFICATE_NAME
from sds.subscription import Wanted


@dataclass(frozen=True, slots=True)
class Wants:
    """A revocation: the revision, and of each authority's list from which on it says so.

    `lists` is None while that is not known.
    """

    revision: int
    lists: Mapping[str, int] | None
    trust_domain: str


@dataclass(slots=True)
class Mark:
    """One of the two: whether the proxy follows it, lacks it, since when it has it, its NACK."""

    follows: bool = False
    lacks: bool = False
    at: datetime | None = None
    nack: str = ""

    def take(self, wanted: Wanted, *, has: bool) -> None:
        """Take one resource into account."""
        self.follows = True
        if not has:
            self.lacks, self.nack = True, wanted.nack or self.nack
        elif wanted.accepted_at is not None and (self.at is None or self.at < wanted.accepted_at):
            self.at = wanted.accepted_at


@dataclass(slots=True)
class Standing:
    """What a proxy has."""

    listed: Mark = field(default_factory=Mark)
    filtered: Mark = field(default_factory=Mark)

    @property
    def has_all(self) -> bool:
        """Return whether it has everything that it follows."""
        return not (self.listed.lacks or self.filtered.lacks)

    @property
    def lacks(self) -> str:
        """Return what it has not acknowledged, in words."""
        marks = (("list", self.listed), ("filter", self.filtered))
        return " and ".join(name for name, mark in marks if mark.lacks)

    @property
    def nack(self) -> str:
        """Return what it said when it refused what it lacks."""
        return self.listed.nack or self.filtered.nack


def standing(sessions: Iterable[AnySession], wants: Wants, carried: CarriedVersions) -> Standing:
    """Return what the proxy with `sessions` has of what `wants` says."""
    found = Standing()
    for session in sessions:
        for subscription in session.subscriptions:
            is_extension = subscription.type_url == EXTENSION_TYPE
            for name, wanted in subscription.wanted.items():
                if is_extension:
                    _take_filter(found.filtered, name, wanted, wants, carried)
                else:
                    _take_context(found.listed, name, wanted, wants, carried)
    return found


def _take_filter(
    mark: Mark, name: str, wanted: Wanted, wants: Wants, carried: CarriedVersions
) -> None:
    if name in (HTTP_REVOKED, TCP_REVOKED):
        known = carried.find(wanted.accepted)
        mark.take(wanted, has=known is not None and known.revision >= wants.revision)


def _take_context(
    mark: Mark, name: str, wanted: Wanted, wants: Wants, carried: CarriedVersions
) -> None:
    if name == CERTIFICATE_NAME or not is_bundle_name(name, wants.trust_domain, NO_FEDERATION):
        return
    known = carried.find(wanted.accepted)
    if not _has_none(known, wants):
        has = known is not None and wants.lists is not None and known.lists_all(wants.lists)
        mark.take(wanted, has=has)


def _has_none(known: Carried | None, wants: Wants) -> bool:
    """Return whether the context of now has no lists at all: there is none to wait for."""
    return known is not None and not known.lists and known.revision >= wants.revision
