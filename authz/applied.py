"""The applied set as a source: its newest version as it is known, and drafts of the next one."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from authz.documents import without
from authz.policy import PolicySet
from authz.reading import applied_name
from authz.store import AppliedSet, get, latest, latest_version
from meshca.clock import Clock
from meshca.errors import Conflict, InvalidDocument, Problem, StoreUnavailable
from meshca.logs import get_logger

log = get_logger("authz")

PATIENCE_SECONDS: Final = 2.0

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
    """Knows the newest applied set; a database that does not answer leaves it as it was known.

    `patience` is how many seconds `look` waits for an answer.
    """

    engine: sa.Engine
    known: AppliedSet | None = None
    patience: float = PATIENCE_SECONDS
    _answers: bool = True
    _asking: "asyncio.Future[AppliedSet | None] | None" = None
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    @property
    def version(self) -> int:
        """Return the newest version that is known; 0 without any."""
        return _version(self.known)

    def load(self) -> None:
        """Read it for the first time; raises StoreUnavailable."""
        self.known = latest(self.engine)

    def take(self, applied: AppliedSet) -> None:
        """Take note that `applied` is the newest: it was just recorded."""
        with self._mutex:
            self.known = applied

    def newest(self) -> AppliedSet | None:
        """Return the newest applied set, as far as it can be known; blocks as the database does."""
        before = self.known
        try:
            if latest_version(self.engine) != _version(before):
                found = latest(self.engine)
                with self._mutex:
                    if self.known is before:  # else an answer that came late is out of date
                        self.known = found
        except StoreUnavailable as error:
            self._unanswered(str(error))
        else:
            self._answers = True
        return self.known

    async def look(self) -> None:
        """Bring `known` up to date, unless the database is silent: then its answer counts later.

        One question is under way at a time, and is waited for once.
        """
        if self._asking is not None and not self._asking.done():
            return
        self._asking = asyncio.ensure_future(asyncio.to_thread(self.newest))
        try:
            async with asyncio.timeout(self.patience):
                await asyncio.shield(self._asking)
        except TimeoutError:
            self._unanswered(f"the database is silent for {self.patience:g} s")

    def _unanswered(self, error: str) -> None:
        if self._answers:
            log.warning("applied_policies_unknown", error=error, kept=self.version)
        self._answers = False


def _version(applied: AppliedSet | None) -> int:
    return 0 if applied is None else applied.version


def check_not_empty(policies: PolicySet, applied: AppliedSet, consequence: str) -> None:
    """Raise InvalidDocument unless a document of `applied` is in `policies`."""
    name = applied_name(applied.version)
    sources = [
        *(each.source for each in policies.policies),
        *(each.source for each in policies.peer_authentications),
        *(each.source for each in policies.request_authentications),
    ]
    if name not in sources:
        raise InvalidDocument([Problem("", f"holds no policy; {consequence}", name)])
