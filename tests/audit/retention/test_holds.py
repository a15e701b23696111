"""Legal holds: what they keep, and that two persons let it go."""

import asyncio
from datetime import timedelta
from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from audit.retention.expiry import preview
from audit.retention.hold_operations import hold_json
from audit.retention.holds import Hold, HoldChange, Scope, Step, read_holds
from audit.retention.redaction import Candidate, Redact
from audit.verify import verify
from meshca.errors import Conflict, NotFound, RequestRefused
from tests.audit.retention.world import (
    NOW,
    OLD,
    RULES,
    append,
    blank,
    entry,
    holds_of,
    redact,
    rows,
    writer,
)
from tests.fakes import FakeClock

HOUR = timedelta(hours=1)
ORDERS = "spiffe://example.org/ns/shop/sa/orders"


def place(engine: sa.Engine, **scope: Any) -> Hold:
    async def story() -> Hold:
        clock = FakeClock()
        async with writer(engine, clock) as running:
            return await holds_of(engine, running, clock).place(
                Scope(**scope), actor="uid:1", reason="case 7", reference="2026-7"
            )

    return asyncio.run(story())


def release(engine: sa.Engine, name: str, actor: str, after: timedelta = HOUR) -> Hold:
    async def story() -> Hold:
        clock = FakeClock()
        clock.advance(after)
        async with writer(engine, clock) as running:
            holds = holds_of(engine, running, clock)
            return await holds.release(name, actor=actor, reason="settled")

    return asyncio.run(story())


SCOPES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("everything", {"everything": True}, {}),
    ("kind", {"kinds": frozenset({"read"})}, {}),
    ("since", {"since": OLD}, {}),
    ("until", {"until": OLD + HOUR}, {}),
    ("identity", {"spiffe_id": ORDERS}, {"spiffe_id": ORDERS}),
    ("identity as actor", {"spiffe_id": ORDERS}, {"actor": ORDERS}),
    ("identity in details", {"spiffe_id": ORDERS}, {"details": {"peers": [ORDERS]}}),
    ("namespace", {"namespace": "shop"}, {}),
    ("namespace of an identity", {"namespace": "shop"}, {"namespace": "", "spiffe_id": ORDERS}),
    ("namespace called", {"namespace": "x"}, {"namespace": "", "destination": "x/orders"}),
    ("cluster", {"cluster": "eu"}, {"cluster": "eu"}),
    ("serial", {"serial": "0a1b"}, {"serial": "0a1b"}),
    ("serial among others", {"serial": "0a1b"}, {"details": {"serials": ["ff", "0a1b"]}}),
]


@pytest.mark.parametrize(("name", "scope", "held"), SCOPES, ids=[s[0] for s in SCOPES])
def test_a_hold_keeps_what_it_speaks_of(
    engine: sa.Engine, name: str, scope: dict[str, Any], held: dict[str, Any]
) -> None:
    append(engine, entry(1, **held))
    place(engine, **scope)
    assert preview(engine, RULES, NOW).held == {"read": 1}
    asyncio.run(redact(engine, FakeClock()))
    assert blank(engine) == []


OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("kind", {"kinds": frozenset({"ban"})}),
    ("since", {"since": OLD + HOUR}),
    ("until", {"until": OLD}),
    ("identity", {"spiffe_id": ORDERS}),
    ("namespace", {"namespace": "sho"}),
    ("cluster", {"cluster": "eu"}),
    ("serial", {"serial": "0a1b"}),
    ("only one of two conditions", {"namespace": "shop", "cluster": "eu"}),
]


@pytest.mark.parametrize(("name", "scope"), OTHERS, ids=[s[0] for s in OTHERS])
def test_a_hold_of_something_else_keeps_nothing(
    engine: sa.Engine, name: str, scope: dict[str, Any]
) -> None:
    append(engine, entry(1))
    place(engine, **scope)
    asyncio.run(redact(engine, FakeClock()))
    assert blank(engine) == [0]


@pytest.mark.parametrize(
    ("scope", "reason"),
    [
        ({}, "scope"),
        ({"everything": True, "namespace": "shop"}, "scope"),
        ({"since": NOW, "until": NOW}, "scope"),
        ({"kinds": frozenset({"reads"})}, "unknown_kind"),
    ],
)
def test_refuses_a_scope_that_is_none(scope: dict[str, Any], reason: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        Scope(**scope)
    assert caught.value.reason == reason


def test_a_hold_that_comes_while_redaction_is_under_way_is_not_too_late(
    engine: sa.Engine,
) -> None:
    append(engine, entry(1), entry(2, namespace="bank"))
    found = tuple(Candidate(r.leaf_index, r.time, r.kind) for r in rows(engine))
    place(engine, namespace="bank")

    async def story() -> None:
        async with writer(engine, FakeClock()) as running:
            await running.submit(Redact(NOW, found, RULES.cutoffs(NOW), RULES.as_text()))

    asyncio.run(story())
    assert blank(engine) == [0]
    verify(engine)


def test_two_persons_release_a_hold_and_then_it_holds_no_more(engine: sa.Engine) -> None:
    append(engine, entry(1))
    name = place(engine, everything=True).name
    asked = release(engine, name, "uid:1")
    assert hold_json(asked, NOW + HOUR)["state"] == "release_asked"
    asyncio.run(redact(engine, FakeClock()))
    assert blank(engine) == [], "one person's word lets nothing go"
    assert release(engine, name, "uid:2", 2 * HOUR).released is not None
    assert read_holds(engine) == []
    asyncio.run(redact(engine, FakeClock()))
    assert blank(engine) == [0]


def test_who_asked_cannot_release_and_the_attempt_is_on_record(engine: sa.Engine) -> None:
    name = place(engine, everything=True).name
    release(engine, name, "uid:1")
    with pytest.raises(RequestRefused) as caught:
        release(engine, name, "uid:1", 2 * HOUR)
    assert caught.value.reason == "same_person"
    bodies = [orjson.loads(row.body) for row in rows(engine)]
    assert [(b["outcome"], b["details"]["step"]) for b in bodies] == [
        ("done", "placed"),
        ("done", "release_asked"),
        ("refused", "release"),
    ]
    assert bodies[0]["details"]["scope"] == {"everything": True}
    assert bodies[0]["details"]["reference"] == "2026-7"
    assert {b["kind"] for b in bodies} == {"legal_hold"}


def test_a_request_lapses_after_a_day(engine: sa.Engine) -> None:
    name = place(engine, everything=True).name
    release(engine, name, "uid:1")
    again = release(engine, name, "uid:2", timedelta(hours=26))
    assert again.released is None, "the first request is too old: this is another one"
    assert release(engine, name, "uid:1", timedelta(hours=27)).released is not None


def test_of_two_at_the_same_moment_one_releases(engine: sa.Engine) -> None:
    hold = place(engine, everything=True)

    async def story() -> list[object]:
        async with writer(engine, FakeClock()) as running:
            step = Step(NOW, "uid:2", "settled")
            asked = Hold(name=hold.name, scope=hold.scope, placed=hold.placed, asked=step)
            tries = (running.submit(HoldChange(asked, hold)) for _ in range(2))
            return list(await asyncio.gather(*tries, return_exceptions=True))

    outcomes = asyncio.run(story())
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "NoneType"]


def test_a_hold_that_is_released_or_unknown_cannot_be_released(engine: sa.Engine) -> None:
    name = place(engine, everything=True).name
    release(engine, name, "uid:1")
    release(engine, name, "uid:2")
    with pytest.raises(Conflict, match="released already"):
        release(engine, name, "uid:3")
    with pytest.raises(NotFound, match="no hold hold-00000000"):
        release(engine, "hold-00000000", "uid:3")
