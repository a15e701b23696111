"""What was read of single documents, so that a set of which little has changed loads quickly.

A document means the same wherever it stands: it is known by its text. What is remembered is good
for one way of loading (trust domain, aliases, providers, root namespace), holds no mistake, and is
forgotten by the first good load that does not use it; of loads that were refused, the last two are
remembered beside it. A text that cannot be cut safely is one document.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

from authz.documents import split_documents
from authz.peer_authentication import PeerAuthentication
from authz.policy import Policy
from authz.request_authentication import RequestAuthentication
from meshca.errors import Problem

_Placed = TypeVar("_Placed", Policy, PeerAuthentication, RequestAuthentication)


class Known(NamedTuple):
    """What one text holds: read from `source`, where it began after `line` lines."""

    source: str
    line: int
    policies: tuple[Policy, ...]
    peers: tuple[PeerAuthentication, ...]
    requests: tuple[RequestAuthentication, ...]
    warnings: tuple[Problem, ...]

    def at(self, source: str, line: int) -> "Known":
        """Return the same as read from `source` after `line` lines."""
        if (source, line) == (self.source, self.line):
            return self
        further = line - self.line
        return Known(
            source,
            line,
            tuple([_at(each, source, further) for each in self.policies]),
            tuple([_at(each, source, further) for each in self.peers]),
            tuple([_at(each, source, further) for each in self.requests]),
            tuple([replace(w, file=source, line=w.line + further) for w in self.warnings]),
        )


@dataclass(slots=True)
class LoadMemory:
    """What the last load has read, and what this one has so far; one load at a time.

    `before` is of the last good load, `refused` of the one since then that was refused.
    """

    before: dict[str, Known] = field(default_factory=dict)
    refused: dict[str, Known] = field(default_factory=dict)
    now: dict[str, Known] = field(default_factory=dict)
    way: Any = None

    def begin(self, way: Any) -> None:
        """Begin a load in this `way`; what was read in another is forgotten."""
        if way != self.way:
            self.before, self.now = {}, {}
        self.refused, self.now, self.way = self.now, {}, way

    def finish(self) -> None:
        """End a load that went well: only what it used is remembered."""
        self.before, self.refused, self.now = self.now, {}, {}

    def find(self, text: str, source: str, line: int) -> Known | None:
        """Return what is known of `text`, placed in `source` after `line` lines."""
        known = self.now.get(text) or self.refused.get(text) or self.before.get(text)
        return None if known is None else self.keep(text, known.at(source, line))

    def keep(self, text: str, known: Known) -> Known:
        """Remember and return `known`."""
        self.now[text] = known
        return known


def parts(text: str) -> Iterator[tuple[str, int]]:
    """Yield each document of `text`, and how many lines come before it."""
    if text.startswith(("%", "\ufeff")) or "\n%" in text or "\n..." in text:
        yield text, 0
        return
    line = 0
    for part in split_documents(text):
        yield part, line
        line += part.count("\n")


def _at(document: _Placed, source: str, further: int) -> _Placed:
    """Return `document` as read elsewhere; `replace` took most of the time of an apply."""
    moved = object.__new__(type(document))
    vars(moved).update(vars(document), source=source, line=document.line + further)
    return moved
