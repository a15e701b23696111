"""Whatever is asked of an indexed log, the answer is that of reading every entry."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import chain
from typing import Any

import pytest
import sqlalchemy as sa

from audit.entry import Entry
from audit.index.building import LARGE, MAXIMUM_VALUE, SMALL
from audit.index.search import snapshot
from audit.index.tables import mark_for_rebuild
from audit.index.terms import key_of
from audit.log import Log
from audit.query import Query, count, find, group
from tests.audit.index.world import START, append, entries, index, segments

FIELDS = (
    *("kind", "outcome", "actor", "spiffe_id", "serial", "cluster", "namespace"),
    *("service_account", "pod", "node", "destination", "policy", "request_id", "reason"),
)
Body = dict[str, Any]


@pytest.fixture
def indexed(both_engines: sa.Engine) -> sa.Engine:
    """Two segments, and what is in none."""
    append(both_engines, entries(0, 2 * SMALL + 300))
    index(both_engines)
    return both_engines


def ask(choose: random.Random, bodies: list[Body]) -> tuple[dict[str, Any], Callable[[Body], bool]]:
    """Return filters, and whether a body is what they ask for."""
    example = choose.choice(bodies)
    names = choose.sample(FIELDS, choose.choice((0, 1, 1, 2, 3)))
    terms = {name: example[name] for name in names if example[name]}
    span: dict[str, Any] = {}
    at = sorted(choose.randrange(-10, len(bodies) + 10) for _ in range(2))
    if choose.random() < 0.5:
        span["since"] = START + timedelta(seconds=at[0])
    if choose.random() < 0.5:
        span["until"] = START + timedelta(seconds=at[1] + 1)
    low, high = (span[k].isoformat() if k in span else None for k in ("since", "until"))

    def is_asked_for(body: Body) -> bool:
        time = body["time"].replace("Z", "+00:00")
        return (
            all(body[name] == value for name, value in terms.items())
            and (low is None or time >= low)
            and (high is None or time < high)
        )

    return {**terms, **span}, is_asked_for


def compare(engine: sa.Engine, times: int) -> None:
    bodies = [stored.document() or {} for stored in Log(engine).entries()]
    choose = random.Random(5)
    for _ in range(times):
        filters, is_asked_for = ask(choose, bodies)
        is_ascending = choose.random() < 0.5
        expected = [body["index"] for body in bodies if is_asked_for(body)]
        counted = count(engine, Query(**filters))
        assert (counted.count, counted.is_exact) == (len(expected), True), filters
        field = choose.choice(FIELDS)
        values = Counter(bodies[number][field] for number in expected)
        grouped = group(engine, Query(**filters), field)
        assert grouped.values == len(values), (filters, field)
        assert all(values[value] == found for value, found in grouped.counts)
        ordered = expected if is_ascending else expected[::-1]
        assert pages(engine, filters, is_ascending=is_ascending) == ordered[:2_000], filters


def pages(engine: sa.Engine, filters: dict[str, Any], *, is_ascending: bool) -> list[int]:
    """Return at most 2,000 of what is found, page by page."""
    found: list[int] = []
    cursor: int | None = None
    while len(found) < 2_000:
        query = Query(**filters, oldest_first=is_ascending, limit=400, cursor=cursor)
        page = find(engine, query)
        found += [each.index for each in page]
        if (cursor := page.next) is None:
            break
    return found


def test_answers_are_those_of_reading_everything(indexed: sa.Engine) -> None:
    compare(indexed, 60)


def test_answers_from_a_large_segment_are_those_of_reading_everything(long_log: sa.Engine) -> None:
    append(long_log, entries(LARGE - 1, LARGE + 1_500))
    index(long_log)
    compare(long_log, 12)


def test_groups_over_many_segments_are_those_of_reading_everything(
    both_engines: sa.Engine,
) -> None:
    """What newer segments name is looked for in older ones, and is not all there is in them."""
    rare = Entry(START, "read", "done", actor="auditor", namespace="gone")
    speaks = replace(rare, namespace="", details={"serials": ["aa"]})  # of it, and has none
    append(both_engines, chain([speaks, rare], entries(2, SMALL)))
    for number in range(1, 7):
        own = replace(speaks, serial="aa" if number > 4 else "")
        append(both_engines, chain(entries(number * SMALL, (number + 1) * SMALL - 1), [own]))
    index(both_engines)
    bodies = [stored.document() or {} for stored in Log(both_engines).entries()]
    asked_for: tuple[dict[str, Any], ...] = ({}, {"actor": "auditor"}, {"kind": "read"})
    for filters in asked_for:
        asked = [b for b in bodies if filters.items() <= b.items()]
        for field in FIELDS:
            expected = Counter(body[field] for body in asked)
            grouped = group(both_engines, Query(**filters), field)
            assert (grouped.values, grouped.total.count) == (len(expected), len(asked)), field
            assert all(expected[value] == count for value, count in grouped.counts), field


LONG = "x" * (MAXIMUM_VALUE + 1)
"""A value for which a segment does not name those of its field."""


@pytest.mark.parametrize("maximum_read", [1, 700, 1_400])
def test_a_count_that_stops_counts_what_is_newer_and_nothing_else(
    both_engines: sa.Engine, maximum_read: int
) -> None:
    for number in range(4):
        start = number * SMALL
        append(both_engines, entries(start, start + SMALL - 1))
        append(both_engines, iter([Entry(START, "refusal", "done", reason=LONG)]))
    append(both_engines, entries(4 * SMALL, 4 * SMALL + 300))
    index(both_engines)
    with (
        both_engines.connect().execution_options(meshca_writes=True) as connection,
        connection.begin(),
    ):  # of these segments the index is not sure; of the others it is
        mark_for_rebuild(connection, 0, 1)
        mark_for_rebuild(connection, 2 * SMALL, 1)
    asked: dict[str, Any] = {"outcome": "done"}
    stopped = [compare_stopped(both_engines, asked, field, maximum_read) for field in FIELDS]
    assert any(stopped)


def test_a_count_that_stops_when_many_values_have_come_loses_none(both_engines: sa.Engine) -> None:
    """What is tried in a segment that names nothing is not what is known once it was read."""
    plain = Entry(START, "refusal", "done", reason="expired")
    append(both_engines, (plain for _ in range(2 * SMALL)))
    for number in range(2):
        first = replace(plain, reason=LONG)
        others = (replace(plain, reason=f"reason {n % 50}") for n in range(SMALL // 2))
        rest = (plain for _ in range(SMALL // 2 - 1))
        append(
            both_engines, chain([first], others, rest) if number else chain(rest, others, [first])
        )
    append(both_engines, (plain for _ in range(4 * SMALL)))
    index(both_engines)
    for maximum_read in (1, 300, 600):
        assert compare_stopped(both_engines, {}, "reason", maximum_read)


def compare_stopped(
    engine: sa.Engine, filters: dict[str, Any], field: str, maximum_read: int
) -> bool:
    """Compare a count with reading what it says that it has looked at; return if it stopped."""
    bodies = [stored.document() or {} for stored in Log(engine).entries()]
    grouped = group(engine, Query(**filters), field, maximum_read=maximum_read)
    total = grouped.total
    asked = [b for b in bodies[total.reached :] if filters.items() <= b.items()]
    expected = Counter(body[field] for body in asked)
    assert (total.count, grouped.values) == (len(asked), len(expected)), field
    assert all(expected[value] == count for value, count in grouped.counts), field
    assert total.is_exact == (total.reached == 0)
    return not total.is_exact


def test_times_of_a_clock_that_went_back_are_found_where_they_are(indexed: sa.Engine) -> None:
    # Entry 1000 says the time of entry 910.
    at = START + timedelta(seconds=910)
    query = Query(since=at, until=at + timedelta(seconds=1))
    assert [found.index for found in find(indexed, query)] == [1_000, 910]
    assert count(indexed, query).count == 2


def test_a_search_sees_one_state_though_segments_are_replaced_meanwhile(indexed: sa.Engine) -> None:
    with snapshot(indexed) as taken:
        with (
            indexed.connect().execution_options(meshca_writes=True) as connection,
            connection.begin(),
        ):
            mark_for_rebuild(connection, 0, SMALL)
        index(indexed)
        assert [s.first for s in segments(indexed)] == [s.first for s in taken.segments]
        assert [s.id for s in segments(indexed)] != [s.id for s in taken.segments]
        keys, span = [key_of("serial", "3")], Query().wanted().span
        found = list(taken.candidates(keys, span, is_ascending=True, stop=taken.size))
        assert [(each.first, each.sure) for each in found[:1]] == [(0, 1 << 2)]
