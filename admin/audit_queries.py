"""Routes that search the audit log: pages of entries, one entry, counts, and following it.

A filter that is not known is an error that names those that are. `follow` is one answer that ends
with the server, with whoever asked, or with their proof: JSON Lines, each an entry as `entries`
shows it, or `{"heartbeat": TIME, "size": ENTRIES, "next": CURSOR}` when nothing came for a while;
the last line is `{"end": REASON, "next": CURSOR}`. Whoever goes on with that cursor misses nothing.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self, TypeVar, get_type_hints

import orjson
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator
from starlette.responses import StreamingResponse

from admin import views
from admin.state import AdminState
from audit import query as audit
from audit.counting import MAXIMUM_READ
from audit.query import MAXIMUM_LIMIT, Count, Groups, Page
from ca.store import Filter
from meshca.errors import NotFound, Unavailable

POLL_SECONDS: Final = 0.5
HEARTBEAT_SECONDS: Final = 10.0
_LARGEST: Final = 2**63 - 1
_Index = Annotated[int, Field(ge=0, le=_LARGEST)]
_Limit = Annotated[int, Field(ge=1, le=MAXIMUM_LIMIT)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        if unknown := sorted(set(given) - set(cls.model_fields)):
            known = ", ".join(dict.fromkeys((*_FILTERS, *cls.model_fields)))
            raise ValueError(f"unknown filter {unknown[0][:64]!r}; known: {known}")
        return given

    def asked(self) -> audit.Query:
        """Return the filters; raises RequestRefused for what cannot be."""
        return audit.Query(**self.model_dump(exclude={"order", "group_by"}))


_FILTERS: Final = get_type_hints(audit.Filters)
_Own = TypeVar("_Own", bound=_Asked)


def _with_filters(own: type[_Own]) -> type[_Own]:
    """Return `own` with a field for each filter of the log, of the type that it has there."""
    fields: dict[str, Any] = {name: (type_, None) for name, type_ in _FILTERS.items()}
    return create_model(own.__name__, __base__=own, __doc__=own.__doc__, **fields)


@_with_filters
class EntryQuery(_Asked):
    """Filters of /audit/entries; `cursor` is `next` of the page before."""

    until: datetime | None = None
    order: Literal["newest", "oldest"] = "newest"
    limit: _Limit = 100
    cursor: _Index | None = None


@_with_filters
class CountQuery(_Asked):
    """Filters of /audit/count; `group_by` is a field, of whose values the first `limit` come."""

    until: datetime | None = None
    group_by: str | None = None
    limit: _Limit = 100


@_with_filters
class FollowQuery(_Asked):
    """Filters of /audit/follow; it begins behind entry `cursor`, with `since`, or now."""

    cursor: _Index | None = None


def create_router(state: AdminState) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.get("/audit/entries")
    def entries(query: Annotated[EntryQuery, Query()]) -> Any:
        asked = replace(_of_leaf(state, query.asked()), oldest_first=query.order == "oldest")
        return _page_json(audit.find(state.engine, asked))

    @router.get("/audit/entries/{index}")
    def entry(index: int) -> Any:
        found = audit.get(state.engine, index) if 0 <= index <= _LARGEST else None
        if found is None:
            raise NotFound(f"the log has no entry {index}")
        return views.entry_json(found)

    @router.get("/audit/count")
    def count(query: Annotated[CountQuery, Query()]) -> Any:
        asked = _of_leaf(state, query.asked())
        if query.group_by is None:
            return _count_json(audit.count(state.engine, asked), None, query.limit)
        groups = audit.group(state.engine, asked, query.group_by)
        return _count_json(groups.total, groups, query.limit)

    @router.get("/audit/follow")
    async def follow(query: Annotated[FollowQuery, Query()]) -> StreamingResponse:
        asked = await asyncio.to_thread(_of_leaf, state, query.asked())
        following = await Following.begin(state, asked)
        return StreamingResponse(following.lines(), media_type="application/jsonl")

    return router


def _of_leaf(state: AdminState, asked: audit.Query) -> audit.Query:
    """Return `asked` with the serial of the certificate that the inventory has by a fingerprint.

    The entry of an issuance was there before the signature, and cannot have the fingerprint.
    """
    if asked.fingerprint is None:
        return asked
    found = state.inventory.list(Filter(fingerprint=asked.fingerprint), limit=1)
    if not found or asked.serial not in (None, found[0].intent.serial):
        return asked
    return replace(asked, fingerprint=None, serial=found[0].intent.serial)


def _page_json(page: Page) -> views.Json:
    return {
        "entries": [views.entry_json(found) for found in page],
        "next": page.next,
        "size": page.size,
    }


def _count_json(count: Count, groups: Groups | None, limit: int) -> views.Json:
    shown = () if groups is None else groups.counts[:limit]
    return {
        "count": count.count,
        "exact": count.is_exact,
        "reached": count.reached,
        "size": count.size,
        "group_by": None if groups is None else groups.field,
        "values": None if groups is None else groups.values,
        "groups": [{"value": value, "count": number} for value, number in shown],
    }


@dataclass(slots=True)
class Following:
    """Entries as they come; `query` begins behind what was told last."""

    state: AdminState
    query: audit.Query
    size: int
    heartbeat_seconds: float = HEARTBEAT_SECONDS
    maximum_read: int = MAXIMUM_READ
    _searched: int = 0
    _has_more: bool = False

    @classmethod
    async def begin(cls, state: AdminState, query: audit.Query) -> Self:
        """Return one that begins where `query` says, or with the next entry."""
        query = replace(query, oldest_first=True, limit=MAXIMUM_LIMIT)
        size = (await asyncio.to_thread(state.log.head)).size
        if query.cursor is None and query.since is None:
            return cls(state, _behind(query, size), size, _searched=size)
        return cls(state, query, size)

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield lines until the server stops."""
        clock = asyncio.get_running_loop().time
        yield self._heartbeat()
        told = clock()
        while not self.state.stopping.is_set():
            found = await self._look()
            for each in found:
                yield orjson.dumps(views.entry_json(each)) + b"\n"
            if found:
                told = clock()
            elif clock() - told >= self.heartbeat_seconds:
                yield self._heartbeat()
                told = clock()
            if not found and not self._has_more:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await self.state.stopping.wait()
        end = {"end": "the server is stopping", "next": self.query.cursor}
        yield orjson.dumps(end) + b"\n"

    async def _look(self) -> Sequence[audit.Found]:
        """Return what came since the last look; nothing while the database is away."""
        try:
            self.size = (await asyncio.to_thread(self.state.log.head)).size
            if self.size == self._searched:
                return ()
            page = await asyncio.to_thread(
                audit.find, self.state.engine, self.query, maximum_read=self.maximum_read
            )
        except Unavailable:
            self._has_more = False  # look again in a while
            return ()
        self._has_more = page.next is not None
        if page.next is None:
            self._searched = page.size
            self.query = _behind(self.query, page.size)
        else:
            self.query = replace(self.query, cursor=page.next)
        return page

    def _heartbeat(self) -> bytes:
        now = views.time_text(self.state.clock.now())
        told = {"heartbeat": now, "size": self.size, "next": self.query.cursor}
        return orjson.dumps(told) + b"\n"


def _behind(query: audit.Query, size: int) -> audit.Query:
    """Return `query` for what follows the first `size` entries."""
    return replace(query, cursor=size - 1 if size else None)
