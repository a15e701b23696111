"""Questions to the audit log."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from audit.query import Query, find
from meshca.errors import RequestRefused
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
        entry(4, serial="", kind="policy_change", actor="uid:0", spiffe_id=""),
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
    ("everything, newest first", Query(), [3, 2, 1, 0]),
    ("oldest first", Query(oldest_first=True), [0, 1, 2, 3]),
    ("since is inclusive", Query(since=TIME + timedelta(seconds=3)), [3, 2]),
    ("until is exclusive", Query(until=TIME + timedelta(seconds=3)), [1, 0]),
    ("identity", Query(spiffe_id=ORDERS), [0]),
    ("serial as openssl prints it", Query(serial="00:AB:12"), [0]),
    ("kind", Query(kind="policy_change"), [3]),
    ("outcome", Query(outcome="refused"), [1]),
    ("cluster", Query(cluster="us"), [2, 1]),
    ("namespace", Query(namespace="bank"), [2]),
    ("pod", Query(pod="orders-1"), [0]),
    ("two filters are both applied", Query(cluster="us", kind="issuance"), [2]),
    ("limit", Query(limit=2), [3, 2]),
    ("the next page", Query(limit=2, cursor=2), [1, 0]),
    ("the next page, oldest first", Query(limit=2, cursor=1, oldest_first=True), [2, 3]),
    ("nothing", Query(namespace="none"), []),
]


@pytest.mark.parametrize(("name", "query", "expected"), CASES, ids=[c[0] for c in CASES])
def test_finds(engine: sa.Engine, name: str, query: Query, expected: list[int]) -> None:
    assert indexes(engine, query) == expected


def test_an_unknown_kind_is_an_error_that_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(RequestRefused, match="issuance, refusal") as caught:
        Query(kind="isuance")
    assert caught.value.reason == "unknown_kind"


def test_an_unknown_outcome_is_an_error_that_names_the_known() -> None:
    with pytest.raises(RequestRefused, match="done, refused, failed") as caught:
        Query(outcome="ok")
    assert caught.value.reason == "unknown_outcome"


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_limit_out_of_bounds_is_an_error(limit: int) -> None:
    with pytest.raises(RequestRefused, match="1 to 1000") as caught:
        Query(limit=limit)
    assert caught.value.reason == "limit"
