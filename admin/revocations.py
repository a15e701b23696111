"""Routes of revocation: revoke by selector, release a hold, ban, and see what is in force.

Each change is audited by what makes it (ca/revocation/operations.py), with who asked and why. What
a selector says is compared with what is on record, as text: it is never part of a query.
"""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from cryptography import x509
from fastapi import APIRouter, Path, Query, Request
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StrictBool

from admin.changes import Reason as Words
from admin.peer import get_peer
from admin.revocation_timeline import read_timeline
from admin.revocation_views import ban_json, crl_json, decision_json, hit_json, revocation_json
from admin.state import AdminState
from ca.revocation.listing import Listing, Place, Wanted
from ca.revocation.operations import BanRequest
from ca.revocation.reason import Reason, parse_reason
from ca.revocation.selector import parse_selector

MAXIMUM_SHOWN: Final = 1_000
"""Certificates that an answer names; of the others the number is told."""
MAXIMUM_LIMIT: Final = 1_000
_MAXIMUM_FIELDS: Final = 32


def _storable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it has characters that cannot be printed")
    return text


Why = Annotated[Words, AfterValidator(_storable)]
Serial = Annotated[str, Path(pattern="^[0-9a-fA-F:]{1,128}$")]
BanName = Annotated[str, Path(pattern="^[0-9a-f]{16}$")]
Said = Annotated[dict[str, str], Field(max_length=_MAXIMUM_FIELDS)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Until(_Strict):
    """When a ban ends; null: when it is lifted."""

    until: AwareDatetime | None = None


class NewRevocation(_Strict):
    """What to revoke, for which reason of RFC 5280, and why in words.

    `confirmed` is how many certificates are meant: it is needed for many. `ban` also bans whoever
    is selected.
    """

    selector: Said
    reason: str = Reason.unspecified.name
    why: Why
    dry_run: StrictBool = False
    confirmed: Annotated[int, Field(ge=0, strict=True)] | None = None
    ban: Until | None = None


class NewBan(Until):
    """Whom to ban from new certificates; what they have stays."""

    selector: Said
    why: Why


class JustWhy(_Strict):
    """Why a hold or a ban is ended."""

    why: Why


class RevocationQuery(_Strict):
    """Filters of /revocations; `cursor` is `next` of the page before."""

    spiffe_id: str | None = None
    authority_id: str | None = None
    decision: str | None = None
    reason: str | None = None
    limit: int = Field(default=100, ge=1, le=MAXIMUM_LIMIT)
    cursor: str | None = Field(default=None, pattern="^[0-9]{1,18}-[0-9a-f]{1,64}$")


class BanQuery(_Strict):
    """Filters of /bans; `all`: those that have ended, too."""

    all: bool = False


def create_router(state: AdminState) -> APIRouter:
    """Return the routes."""
    router = APIRouter()
    _add_revocations(router, state)
    _add_bans(router, state)

    @router.get("/crls")
    async def crls() -> Any:
        lists = sorted(state.lists().values(), key=lambda crl: crl.authority_id)
        counts = await asyncio.to_thread(lambda: [_entries(crl.der) for crl in lists])
        return {"crls": [crl_json(crl, n) for crl, n in zip(lists, counts, strict=True)]}

    return router


def _add_revocations(router: APIRouter, state: AdminState) -> None:
    operations = state.revocations

    @router.get("/revocations")
    async def listed(query: Annotated[RevocationQuery, Query()]) -> Any:
        return await asyncio.to_thread(_page, state, query)

    @router.post("/revocations")
    async def revoke(new: NewRevocation, request: Request) -> Any:
        return await _revoke(state, new, get_peer(request.scope).actor)

    @router.get("/revocations/{serial}")
    async def shown(serial: Serial) -> Any:
        found = await asyncio.to_thread(operations.revocations.get, serial)
        decided = await asyncio.to_thread(operations.revocations.decision, found.decision)
        timeline = await asyncio.to_thread(read_timeline, state.engine, found, decided)
        return {
            **revocation_json(found),
            "decided": decision_json(decided),
            "timeline": timeline,
        }

    @router.post("/revocations/{serial}/release")
    async def release(serial: Serial, ended: JustWhy, request: Request) -> Any:
        actor = get_peer(request.scope).actor
        await operations.release(serial, actor=actor, why=ended.why)
        return revocation_json(await asyncio.to_thread(operations.revocations.get, serial))


def _add_bans(router: APIRouter, state: AdminState) -> None:
    operations = state.revocations

    @router.get("/bans")
    async def bans(query: Annotated[BanQuery, Query()]) -> Any:
        now = state.clock.now()
        read = operations.revocations.bans
        found = await asyncio.to_thread(read, None if query.all else now)
        return {"bans": [ban_json(ban, now) for ban in found]}

    @router.post("/bans")
    async def ban(new: NewBan, request: Request) -> Any:
        made = await operations.ban(
            parse_selector(new.selector),
            BanRequest(_utc(new.until)),
            actor=get_peer(request.scope).actor,
            why=new.why,
        )
        return ban_json(made, state.clock.now())

    @router.post("/bans/{ban}/lift")
    async def lift(ban: BanName, ended: JustWhy, request: Request) -> Any:
        await operations.lift(ban, actor=get_peer(request.scope).actor, why=ended.why)
        return {"ban": ban, "lifted": True}


async def _revoke(state: AdminState, new: NewRevocation, actor: str) -> Any:
    operations = state.revocations
    selector, reason = parse_selector(new.selector), parse_reason(new.reason)
    ban = None if new.ban is None else BanRequest(_utc(new.ban.until))
    if new.dry_run:
        outcome = await operations.rehearse(selector, reason, ban=ban)
    else:
        outcome = await operations.revoke(
            selector, reason, actor=actor, why=new.why, confirmed=new.confirmed, ban=ban
        )
    count = len(outcome.hit)
    return {
        "decision": outcome.decision,
        "dry_run": new.dry_run,
        "reason": reason.name,
        "count": count,
        "must_confirm": count > operations.confirm_above,
        "hit": [hit_json(r) for r in outcome.hit[:MAXIMUM_SHOWN]],
        "ban": None if outcome.ban is None else ban_json(outcome.ban, state.clock.now()),
    }


def _page(state: AdminState, query: RevocationQuery) -> Any:
    wanted = Wanted(
        spiffe_id=query.spiffe_id,
        authority_id=query.authority_id,
        decision=query.decision,
        reason=None if query.reason is None else parse_reason(query.reason),
    )
    found = Listing(state.engine).page(
        wanted, now=state.clock.now(), limit=query.limit, after=_place(query.cursor)
    )
    last = found[-1] if len(found) == query.limit else None
    return {
        "revocations": [revocation_json(r) for r in found],
        "next": None if last is None else f"{last.revision}-{last.serial}",
    }


def _place(cursor: str | None) -> Place | None:
    if cursor is None:
        return None
    revision, _, serial = cursor.partition("-")
    return Place(int(revision), serial)


def _utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.astimezone(UTC)


def _entries(der: bytes) -> int:
    return len(x509.load_der_x509_crl(der))
