"""The inventory: what is written is found, by serial and by filter, on SQLite and PostgreSQL."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ca.store import Filter, Intent, Inventory, Signed, SignedSink
from identity.caller import Evidence
from meshca.database import open_engine
from meshca.errors import NotFound
from meshca.schema import migrate
from tests.builders import EVIDENCE, NOW
from tests.stores import IntentSink, postgresql, sqlite_engine

# The inventory keeps of the evidence what it is searched by; the audit entry has the rest.
KEPT = replace(EVIDENCE, issuer="", service_account_uid="")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A PostgreSQL for the tests of this file."""
    with postgresql() as server:
        yield server.url


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """An empty, migrated database."""
    if request.param == "sqlite":
        with sqlite_engine(tmp_path) as engine:
            yield engine
        return
    engine = open_engine(request.getfixturevalue("server"))
    migrate(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM certificates")
    yield engine
    engine.dispose()


def intent(number: int = 1, **changes: Any) -> Intent:
    """Return an intent whose serial is `number`."""
    values: dict[str, Any] = {
        "serial": f"{number:x}",
        "spiffe_id": "spiffe://example.org/ns/shop/sa/orders",
        "authority_id": "aa" * 20,
        "key_sha256": "bb" * 32,
        "not_before": NOW - timedelta(seconds=60),
        "not_after": NOW + timedelta(hours=1),
        "evidence": KEPT,
    }
    return Intent(**{**values, **changes})


def store(engine: sa.Engine, *intents: Intent) -> None:
    with engine.begin() as connection:
        IntentSink().write(connection, intents)


def sign(engine: sa.Engine, *serials: str) -> None:
    with engine.begin() as connection:
        SignedSink().write(connection, [Signed(serial, serial.encode()) for serial in serials])


def found(engine: sa.Engine, **wanted: Any) -> list[str]:
    return [record.intent.serial for record in Inventory(engine).list(Filter(**wanted))]


def test_an_intent_is_read_as_it_was_written(engine: sa.Engine) -> None:
    store(engine, intent())
    record = Inventory(engine).get("1")
    assert record.intent == intent()
    assert (record.status, record.certificate) == ("intent", None)


def test_the_signature_completes_it(engine: sa.Engine) -> None:
    store(engine, intent(1), intent(2))
    sign(engine, "1")
    assert Inventory(engine).get("1").status == "issued"
    assert Inventory(engine).get("1").certificate == b"1"
    assert Inventory(engine).get("2").status == "intent"


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 130, 300])
def test_any_number_of_rows_is_written(engine: sa.Engine, number: int) -> None:
    store(engine, *(intent(n) for n in range(1, number + 1)))
    sign(engine, *(f"{n:x}" for n in range(1, number + 1)))
    records = Inventory(engine).list(Filter(), limit=1000)
    assert {r.intent.serial: r.certificate for r in records} == {
        f"{n:x}": f"{n:x}".encode() for n in range(1, number + 1)
    }
    assert {record.status for record in records} == {"issued"}


def test_a_serial_is_taken_once(engine: sa.Engine) -> None:
    store(engine, intent(1))
    with pytest.raises(sa.exc.IntegrityError):
        store(engine, intent(1, spiffe_id="spiffe://example.org/other"))


@pytest.mark.parametrize("written", ["ab12", "AB12", "00:AB:12", "000ab12", "AB:12"])
def test_a_serial_is_found_however_it_is_written(engine: sa.Engine, written: str) -> None:
    store(engine, intent(0xAB12))
    assert Inventory(engine).get(written).intent.serial == "ab12"


@pytest.mark.parametrize("serial", ["", "0", "ff", "' OR 1=1 --", "%"])
def test_an_unknown_serial_is_not_found(engine: sa.Engine, serial: str) -> None:
    store(engine, intent(1))
    with pytest.raises(NotFound, match="no certificate with serial"):
        Inventory(engine).get(serial)


@pytest.mark.parametrize(
    ("wanted", "other"),
    [
        ({"spiffe_id": "spiffe://example.org/b"}, {"spiffe_id": "spiffe://example.org/b"}),
        ({"authority_id": "cc"}, {"authority_id": "cc"}),
        ({"cluster": "b"}, {"evidence": replace(KEPT, cluster="b")}),
        ({"namespace": "b"}, {"evidence": replace(KEPT, namespace="b")}),
        ({"service_account": "b"}, {"evidence": replace(KEPT, service_account="b")}),
        ({"pod_uid": "b"}, {"evidence": replace(KEPT, pod_uid="b")}),
        ({"node": "b"}, {"evidence": replace(KEPT, node="b")}),
        ({"live_at": NOW + timedelta(hours=1)}, {"not_after": NOW + timedelta(hours=2)}),
    ],
    ids=lambda value: next(iter(value)),
)
def test_each_filter_finds_its_own(
    engine: sa.Engine, wanted: dict[str, Any], other: dict[str, Any]
) -> None:
    store(engine, intent(1), intent(2, **other))
    assert found(engine, **wanted) == ["2"]
    assert found(engine) == ["2", "1"]


def test_filters_join(engine: sa.Engine) -> None:
    store(engine, intent(1), intent(2, evidence=Evidence(method="test", cluster="b")))
    assert found(engine, cluster="b", spiffe_id="spiffe://example.org/ns/shop/sa/orders") == ["2"]
    assert found(engine, cluster="b", namespace="shop") == []


def test_pages_follow_each_other(engine: sa.Engine) -> None:
    store(engine, *(intent(n) for n in range(1, 6)))
    inventory = Inventory(engine)
    first = inventory.list(Filter(), limit=2)
    second = inventory.list(Filter(), limit=2, before_id=first[-1].id)
    assert [r.intent.serial for r in (*first, *second)] == ["5", "4", "3", "2"]
