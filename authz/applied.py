"""The applied set as a source: its newest version as it is known, and drafts of the next one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from authz.documents import without
from authz.store import AppliedSet, get, latest, latest_version
from meshca.clock import Clock
from meshca.errors import Conflict, StoreUnavailable
from meshca.logs import get_logger

log = get_logger("authz")

Write = Callable[[AppliedSet | None], str]
"""Makes the documents of the next applied set from the one before."""


@dataclass(frozen=True, slots=True)
class Draft:
    """How the next applied set comes to be, by whom and why.

    With `expect_version` it is refused when the newest is another (0: none was ever applied).
    """

    write: Write
    author: str
    reason: str
    expect_version: int | None = None
    may_be_empty: bool = False

    def make(self, before: AppliedSet | None, clock: Clock) -> AppliedSet:
        """Return the set after `before`.

        Raises Conflict when `before` is not the expected one, and what `write` raises.
        """
        known = 0 if before is None else before.version
        if self.expect_version is not None and self.expect_version != known:
            raise Conflict(
                f"the applied set is version {known} by now, not {self.expect_version}: "
                "somebody has changed it meanwhile; look at it and try again"
            )
        documents = self.write(before)
        return AppliedSet(known + 1, clock.now(), self.author, self.reason, documents)


def replacing(documents: str) -> Write:
    """Return what puts `documents` in place of the whole set."""
    return lambda _: documents


def removing(names: Sequence[str]) -> Write:
    """Return what takes the documents with `names` out; see `authz.documents.without`."""
    return lambda before: without("" if before is None else before.documents, names)


def restoring(engine: sa.Engine, version: int) -> Write:
    """Return what puts the documents of `version` in place; raises NotFound when called."""
    return lambda _: get(engine, version).documents


@dataclass(slots=True)
class AppliedSource:
    """Knows the newest applied set; a database that does not answer leaves it as it was known."""

    engine: sa.Engine
    known: AppliedSet | None = None
    _answers: bool = True

    @property
    def version(self) -> int:
        """Return the newest version that is known; 0 without any."""
        return 0 if self.known is None else self.known.version

    def load(self) -> None:
        """Read it for the first time; raises StoreUnavailable."""
        self.known = latest(self.engine)

    def newest(self) -> AppliedSet | None:
        """Return the newest applied set, as far as it can be known."""
        try:
            if latest_version(self.engine) != self.version:
                self.known = latest(self.engine)
        except StoreUnavailable as error:
            if self._answers:
                log.warning("applied_policies_unknown", error=str(error), kept=self.version)
            self._answers = False
        else:
            self._answers = True
        return self.known
