"""Questions to the audit log."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from audit.query import Count, Query, count, find, find_all, group
from meshca.errors import RequestRefused, StoreUnavailable
from tests.audit.test_log import TIME, entry
from tests.stores import sqlite_engine, writer_of

ORDERS = "spiffe://example.org/ns/shop/sa/orders"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sa.Engine]:
    entries = [
        entry(1, serial="ab12", cluster="eu", namespace="shop", pod="orders-1"),
        entry(2, serial="", kind="refusal", outcome="refused", cluster="us", spiffe_id=""),
        entry(
            3, serial="cd34", cluster="us", namespace="bank", pod="pay-1", spiffe_id="spiffe://x/y"
        ),
        entry(
            4,
            serial="",
            kind="policy_change",
            actor="uid:0",
            spiffe_id="",
            reason='because of "that"',
            details={"before": "Straße", "path": "/v1\\x"},
        ),
        entry(
            5,
            serial="",
            kind="decision",
            spiffe_id="",
            service_account="orders",
            node="node-1",
            destination="shop/orders",
            policy="shop/readers",
            request_id="r-1",
            fingerprint="ab" * 32,
            details={"serials": ["ab12", "ef56"]},
        ),
    ]

    async def story(engine: sa.Engine) -> None:
        async with writer_of(engine) as writer:
            await writer.submit(*entries)

    with sqlite_engine(tmp_path_factory.mktemp("query")) as engine:
        asyncio.run(story(engine))
        yield engine


def indexes(engine: sa.Engine, query: Query) -> list[int]:
    return [found.index for found in find(engine, query)]


CASES = [
    ("everything, newest first", Query(), [4, 3, 2, 1, 0]),
    ("oldest first", Query(oldest_first=True), [0, 1, 2, 3, 4]),
    ("since is inclusive", Query(since=TIME + timedelta(seconds=3)), [4, 3, 2]),
    ("until is exclusive", Query(until=TIME + timedelta(seconds=3)), [1, 0]),
    ("identity", Query(spiffe_id=ORDERS), [0]),
    ("actor", Query(actor="uid:0"), [3]),
    ("serial as openssl prints it", Query(serial="00:AB:12"), [4, 0]),
    ("serial with 0x, of several", Query(serial="0xEF56"), [4]),
    ("fingerprint as openssl prints it", Query(fingerprint=":".join(["AB"] * 32)), [4]),
    ("kind", Query(kind="policy_change"), [3]),
    ("outcome", Query(outcome="refused"), [1]),
    ("cluster", Query(cluster="us"), [2, 1]),
    ("namespace", Query(namespace="bank"), [2]),
    ("service account", Query(service_account="orders"), [4]),
    ("pod", Query(pod="orders-1"), [0]),
    ("node", Query(node="node-1"), [4]),
    ("destination", Query(destination="shop/orders"), [4]),
    ("policy", Query(policy="shop/readers"), [4]),
    ("request id", Query(request_id="r-1"), [4]),
    ("reason", Query(reason='because of "that"'), [3]),
    ("text with quotes, in any case", Query(text='OF "That"'), [3]),
    ("text with a backslash", Query(text="v1\\X"), [3]),
    ("text of other alphabets", Query(text="STRASSE"), [3]),
    ("text and a filter", Query(text="ab12", kind="issuance"), [0]),
    ("two filters are both applied", Query(cluster="us", kind="issuance"), [2]),
    ("part of a value is not the value", Query(namespace="ban"), []),
    ("a value of another field is none of this one", Query(namespace="us"), []),
    ("limit", Query(limit=2), [4, 3]),
    ("the next page", Query(limit=2, cursor=2), [1, 0]),
    ("the next page, oldest first", Query(limit=2, cursor=1, oldest_first=True), [2, 3]),
    ("nothing", Query(namespace="none"), []),
    ("what no text can be", Query(namespace="\ud800"), []),
]


@pytest.mark.parametrize(("name", "query", "expected"), CASES, ids=[c[0] for c in CASES])
def test_finds(engine: sa.Engine, name: str, query: Query, expected: list[int]) -> None:
    assert indexes(engine, query) == expected


@pytest.mark.parametrize(("name", "query", "expected"), CASES, ids=[c[0] for c in CASES])
def test_counts_what_it_finds(
    engine: sa.Engine, name: str, query: Query, expected: list[int]
) -> None:
    everything = replace(query, limit=1_000, cursor=None)
    counted = count(engine, query)
    assert counted == Count(len(find(engine, everything)), True, counted.reached, 5)


def test_a_page_says_where_the_next_begins_and_how_long_the_log_was(engine: sa.Engine) -> None:
    page = find(engine, Query(limit=2))
    assert (len(page), page.next, page.size) == (2, 3, 5)
    rest = find(engine, Query(limit=3, cursor=page.next))
    assert ([found.index for found in rest], rest.next) == ([2, 1, 0], 0)
    assert find(engine, Query(cursor=0)).next is None


def test_every_page_is_followed(engine: sa.Engine) -> None:
    assert [found.index for found in find_all(engine, Query(limit=2))] == [4, 3, 2, 1, 0]


def test_a_search_that_reads_much_says_how_far_it_came_and_goes_on_from_there(
    engine: sa.Engine,
) -> None:
    page = find(engine, Query(text="orders-1"), maximum_read=3)
    assert (len(page), page.next) == (0, 2)
    page = find(engine, Query(text="orders-1", cursor=page.next), maximum_read=3)
    assert ([found.index for found in page], page.next) == ([0], None)


def test_groups_are_counted_and_the_most_frequent_is_first(engine: sa.Engine) -> None:
    groups = group(engine, Query(), "cluster")
    assert groups.counts == (("", 2), ("us", 2), ("eu", 1))
    assert (groups.values, groups.total.count, groups.total.is_exact) == (3, 5, True)
    assert group(engine, Query(cluster="us"), "kind").counts == (("issuance", 1), ("refusal", 1))


def test_an_unknown_field_to_group_by_is_an_error_that_names_the_known(engine: sa.Engine) -> None:
    with pytest.raises(RequestRefused, match=r"unknown group_by 'color'; known: kind, outcome"):
        group(engine, Query(), "color")


def test_a_database_that_is_away_is_said_so(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE audit_segments")
        with pytest.raises(StoreUnavailable, match="does not answer"):
            find(engine, Query())
