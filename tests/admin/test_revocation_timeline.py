"""The timeline of a revocation, put together from what each replica has written."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from admin.revocation_timeline import timeline_json
from ca.revocation.effects import Behind, Effect, Effects, EffectSeen, EffectSink, SignedList
from ca.revocation.reason import Reason
from ca.revocation.selector import Selector
from ca.revocation.store import Decision, Revocation
from tests.stores import sqlite_engine

AT = datetime(2026, 11, 1, 12, 0, 0, 250_000, tzinfo=UTC)
WHO = "spiffe://example.org/ns/shop/sa/web"
DECIDED = Decision("d", AT, "uid:0", "INC-7", Reason.keyCompromise, Selector(serial="a1"), 1)
REVOKED = Revocation(
    "a1", "d", "one", WHO, "", AT + timedelta(hours=1), Reason.keyCompromise, AT, revision=3
)


def after(milliseconds: int) -> datetime:
    return AT + timedelta(milliseconds=milliseconds)


MAIN = Effect(
    revision=3,
    replica="main",
    pushed_at=after(10),
    seen_at=after(500),
    proxies=2,
    acknowledged=2,
    requests_at=after(40),
    handshakes_at=after(90),
    lists=(SignedList("other", 9, after(1)), SignedList("one", 4, after(25))),
    is_complete=True,
)
BEHIND = replace(
    MAIN,
    replica="west",
    acknowledged=1,
    is_complete=False,
    behind=(Behind(WHO, "web-1", after(10), "list", "Failed to load CRL"),),
    behind_count=1,
)


def test_it_is_in_force_when_every_running_replica_says_so() -> None:
    told = timeline_json(REVOKED, DECIDED, [MAIN], {"main"})

    assert (told["in_force_at"], told["milliseconds"]) == ("2026-11-01T12:00:00.340000Z", 90)
    assert told["signed"] == [
        {"authority_id": "one", "number": 4, "at": "2026-11-01T12:00:00.275000Z"}
    ]
    (replica,) = told["replicas"]
    assert (replica["pushed_at"], replica["complete"]) == ("2026-11-01T12:00:00.260000Z", True)


def test_a_proxy_that_is_behind_on_any_replica_keeps_it_from_being_in_force() -> None:
    told = timeline_json(REVOKED, DECIDED, [MAIN, BEHIND], {"main", "west"})

    assert (told["in_force_at"], told["milliseconds"]) == (None, None)
    assert told["replicas"][1]["behind"] == [
        {
            "spiffe_id": WHO,
            "pod": "web-1",
            "since": "2026-11-01T12:00:00.260000Z",
            "lacks": "list",
            "nack": "Failed to load CRL",
        }
    ]


def test_a_replica_that_is_gone_is_shown_and_not_waited_for() -> None:
    told = timeline_json(REVOKED, DECIDED, [MAIN, BEHIND], {"main"})

    assert told["milliseconds"] == 90
    assert [(r["replica"], r["running"]) for r in told["replicas"]] == [
        ("main", True),
        ("west", False),
    ]


def test_a_running_replica_that_has_told_nothing_is_waited_for() -> None:
    told = timeline_json(REVOKED, DECIDED, [MAIN], {"main", "west"})

    assert told["in_force_at"] is None
    assert (told["replicas"][1]["replica"], told["replicas"][1]["pushed_at"]) == ("west", None)


def test_effects_are_kept_as_they_were_seen(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        with engine.begin() as connection:
            first = replace(BEHIND, replica="main")
            later = replace(MAIN, revision=5)
            EffectSink().write(connection, [EffectSeen(first), EffectSeen(BEHIND)])
            EffectSink().write(connection, [EffectSeen(MAIN), EffectSeen(later)])

        assert Effects(engine).of(2) == Effects(engine).of(3) == [MAIN, BEHIND]
        assert Effects(engine).of(4) == [later]
        assert Effects(engine).of(6) == []
        assert Effects(engine).newest_complete("main") == 5
        assert Effects(engine).newest_complete("west") == 0
        assert Effects(engine).newest_complete("new") == 5


def test_a_restart_takes_the_place_of_what_was_not_complete(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        with engine.begin() as connection:
            stale = [replace(BEHIND, revision=number) for number in (2, 3)]
            done = replace(MAIN, replica="west", revision=1)
            again = replace(BEHIND, revision=5)
            seen = [*map(EffectSeen, (*stale, done)), EffectSeen(again, after=1)]
            EffectSink().write(connection, seen)

        assert Effects(engine).of(2) == Effects(engine).of(3) == [again]
        assert Effects(engine).of(1) == [done]
