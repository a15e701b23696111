"""Questions to the audit log: filters, order, pages, counts, groups.

Filters combine with "and". What the index knows is not read; what it does not know (text, entries
that are not indexed yet) is, and how much of that one answer reads is bounded: a page then says
where it stopped, a count that it is not exact. A redacted entry has its kind and its time left, and
is found by nothing else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, overload

import sqlalchemy as sa

from audit.counting import MAXIMUM_READ, Tally
from audit.filters import one_of, spelled
from audit.index.search import Snapshot, Span, batches, snapshot
from audit.index.terms import FIELDS
from audit.log import microseconds
from audit.matching import StoredRow, Wanted
from meshca.errors import RequestRefused

MAXIMUM_LIMIT: Final = 1_000
_MOST_ROWS: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which entries; None means "any". This is the list of filters: doors are made from it.

    `since` is inclusive. `serial` finds an entry that speaks of many as well. `text` stands
    anywhere in the entry, in any case.
    """

    since: datetime | None = None
    kind: str | None = None
    outcome: str | None = None
    actor: str | None = None
    spiffe_id: str | None = None
    serial: str | None = None
    fingerprint: str | None = None
    cluster: str | None = None
    namespace: str | None = None
    service_account: str | None = None
    pod: str | None = None
    node: str | None = None
    destination: str | None = None
    policy: str | None = None
    request_id: str | None = None
    reason: str | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query(Filters):
    """Which entries, in which order.

    `until` is exclusive. `cursor` is `next` of the page before. Raises RequestRefused for a filter
    that cannot be what it says (audit/filters.py), and names it.
    """

    until: datetime | None = None
    oldest_first: bool = False
    limit: int = 100
    cursor: int | None = None

    def __post_init__(self) -> None:
        for name in (*FIELDS, "text"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, spelled(name, value))
        if not 1 <= self.limit <= MAXIMUM_LIMIT:
            raise RequestRefused("limit", f"limit must be from 1 to {MAXIMUM_LIMIT}")
        if self.cursor is not None and self.cursor < 0:
            raise RequestRefused("cursor", "cursor must be `next` of the page before")
        for time in (self.since, self.until):
            if time is not None and time.tzinfo is None:
                raise RequestRefused("time", "since and until must say their time zone")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise RequestRefused("time", "since must be before until")

    def wanted(self) -> Wanted:
        """Return what decides whether an entry is asked for."""
        terms = [(f, value) for f in FIELDS if (value := getattr(self, f)) is not None]
        since, until = (None if t is None else microseconds(t) for t in (self.since, self.until))
        return Wanted(terms, Span(since, until), self.text)


@dataclass(frozen=True, slots=True)
class Found:
    """One entry as it was logged; `body` is the JSON that its leaf covers.

    Of a redacted entry it is what is left: index, time, kind, and `redacted`.
    """

    index: int
    body: dict[str, Any]
    leaf_hash: bytes


@dataclass(frozen=True, slots=True)
class Page(Sequence[Found]):
    """What was found, in order; `next` is the cursor of the page behind it, None at the end.

    `size` is how many entries the log had. A page that is not full and has a `next` stopped there
    because it had read MAXIMUM_READ entries.
    """

    entries: tuple[Found, ...]
    next: int | None
    size: int

    def __iter__(self) -> Iterator[Found]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, position: int) -> Found: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[Found, ...]: ...
    def __getitem__(self, position: int | slice) -> Found | tuple[Found, ...]:
        return self.entries[position]


@dataclass(frozen=True, slots=True)
class Count:
    """How many entries match; not `is_exact` if older ones than `reached` were not looked at.

    `reached` is the index of the oldest entry that was; `size` is how many entries the log had.
    """

    count: int
    is_exact: bool
    reached: int
    size: int


@dataclass(frozen=True, slots=True)
class Groups:
    """How many entries have each value of `field`, the most frequent first; "" is no value.

    `values` is how many values there are, of which `counts` may have only the first; `total`,
    which is as exact as Count says, are the entries of all of them.
    """

    field: str
    counts: tuple[tuple[str, int], ...]
    values: int
    total: Count


def find(engine: sa.Engine, query: Query, *, maximum_read: int = MAXIMUM_READ) -> Page:
    """Return a page of the entries that `query` asks for.

    Raises StoreUnavailable, and EvidenceBroken for an entry that is not what was hashed.

    It ends after `maximum_read` entries that were read and do not match.
    """
    with snapshot(engine) as taken:
        return _page(taken, query, maximum_read)


def get(engine: sa.Engine, index: int) -> Found | None:
    """Return entry `index`, or None if the log has none; raises StoreUnavailable."""
    with snapshot(engine) as taken:
        rows = taken.rows([index], None, None)
        document = Wanted((), Span()).match(rows[0]) if rows else None
    if document is None:
        return None
    return Found(index, dict(document), bytes(rows[0].leaf_hash))


def find_all(
    engine: sa.Engine, query: Query, *, maximum_read: int = MAXIMUM_READ
) -> Iterator[Found]:
    """Yield every entry that `query` asks for, page after page, whatever its limit."""
    while True:
        page = find(engine, query, maximum_read=maximum_read)
        yield from page
        if page.next is None:
            return
        query = replace(query, cursor=page.next)


def count(engine: sa.Engine, query: Query, *, maximum_read: int = MAXIMUM_READ) -> Count:
    """Return how many entries `query` asks for, whatever its limit; raises StoreUnavailable."""
    with snapshot(engine) as taken:
        tally = Tally(taken, query.wanted(), maximum_read=maximum_read)
        tally.run()
    return _counted(tally)


def group(
    engine: sa.Engine, query: Query, field: str, *, maximum_read: int = MAXIMUM_READ
) -> Groups:
    """Return how many entries that `query` asks for have each value of `field`, whatever its limit.

    At most MAXIMUM_LIMIT values. Raises RequestRefused for an unknown field, StoreUnavailable.
    """
    with snapshot(engine) as taken:
        by = one_of("group_by", field, FIELDS)
        tally = Tally(taken, query.wanted(), by, maximum_read=maximum_read)
        tally.run()
    common = sorted(((v, n) for v, n in tally.counts.items() if n), key=lambda c: (-c[1], c[0]))
    return Groups(field, tuple(common[:MAXIMUM_LIMIT]), len(common), _counted(tally))


def _counted(tally: Tally) -> Count:
    return Count(tally.counts.total(), tally.is_exact, tally.reached, tally.taken.size)


def _page(taken: Snapshot, query: Query, maximum_read: int) -> Page:
    wanted, found, missed = query.wanted(), [], 0
    for row in _rows(taken, query, wanted):
        document = wanted.match(row)
        if document is None:
            missed += 1
        else:
            found.append(Found(row.leaf_index, dict(document), bytes(row.leaf_hash)))
        if len(found) == query.limit or missed == maximum_read:
            return Page(tuple(found), row.leaf_index, taken.size)
    return Page(tuple(found), None, taken.size)


def _rows(taken: Snapshot, query: Query, wanted: Wanted) -> Iterator[StoredRow]:
    """Yield what may match, in the order asked for."""
    start, stop = 0, taken.size
    if query.cursor is not None:
        start, stop = (query.cursor + 1, stop) if query.oldest_first else (0, query.cursor)
    found = taken.candidates(
        wanted.keys(), wanted.span, is_ascending=query.oldest_first, start=start, stop=stop
    )
    for indexes, low, high in batches(
        found, min(query.limit, _MOST_ROWS), _MOST_ROWS, is_ascending=query.oldest_first
    ):
        rows = taken.rows(indexes, low, high)
        yield from rows if query.oldest_first else reversed(rows)
