"""The configuration in the audit log: which keys differ from the start before, and no value."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from audit.log import Log
from meshca.configuration_audit import (
    KEY_FILE,
    MAXIMUM_KEYS,
    changed_configuration,
    digest_of,
    values_of,
)
from meshca.errors import StoreUnavailable
from meshca.settings import Settings
from tests.fakes import FakeClock
from tests.meshca.configuration import GOOD, edited, loaded
from tests.stores import sqlite_engine, writer_of

AN_ENTRY = 64 * 1024


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    """A migrated database."""
    with sqlite_engine(tmp_path) as engine:
        yield engine


def started(engine: sa.Engine, settings: Settings) -> dict[str, Any]:
    """Record a start with `settings`; return the details of its entry, nothing without one."""

    async def story() -> None:
        async with writer_of(engine) as writer:
            await writer.submit(*changed_configuration(settings, engine, FakeClock().now()))

    before = Log(engine).head().size
    asyncio.run(story())
    details: list[dict[str, Any]] = [
        (each.document() or {})["details"] for each in Log(engine).entries(before)
    ]
    return details[0] if details else {}


def test_the_first_start_has_a_digest_and_nothing_to_compare_with(
    engine: sa.Engine, tmp_path: Path
) -> None:
    settings = loaded(tmp_path, GOOD)
    told = started(engine, settings)
    assert (told["digest"], told["before"]) == (digest_of(values_of(settings)), None)
    assert not {"added", "removed", "changed"} & set(told)


def test_a_start_with_the_same_configuration_is_no_change(
    engine: sa.Engine, tmp_path: Path
) -> None:
    started(engine, loaded(tmp_path, GOOD))
    assert started(engine, loaded(tmp_path, GOOD)) == {}


def test_keys_that_differ_are_named_and_their_values_are_not(
    engine: sa.Engine, tmp_path: Path
) -> None:
    first = started(engine, loaded(tmp_path, GOOD))
    text = edited("name: demo", "name: prod-eu") + "server_names: [localhost, mesh.example]\n"
    told = started(engine, loaded(tmp_path, text))
    assert told["before"] == first["digest"]
    assert told["changed"] == ["clusters.0.name"]
    assert told["added"] == ["server_names.1"]
    assert "mesh.example" not in orjson.dumps(told).decode()
    assert "prod-eu" not in orjson.dumps(told).decode()
    back = started(engine, loaded(tmp_path, GOOD))
    assert (back["changed"], back["removed"]) == (["clusters.0.name"], ["server_names.1"])


def test_each_replica_is_compared_with_itself(engine: sa.Engine, tmp_path: Path) -> None:
    one, two = (loaded(tmp_path, f"{GOOD}replica: {name}\n") for name in ("one", "two"))
    assert started(engine, one)["before"] is None
    assert started(engine, two)["before"] is None
    assert started(engine, one) == {}


def test_what_proves_something_to_the_database_is_part_of_no_digest(tmp_path: Path) -> None:
    def values(who: str, rest: str = "") -> dict[str, Any]:
        url = f"postgresql+psycopg://{who}@db/meshca{rest}"
        return values_of(loaded(tmp_path, f"{GOOD}database: {url}\n"))

    assert values("ann:secret1") == values("ann:secret2") == values("ann", "?password=secret3")
    assert values("ann:secret1") != values("bob:secret1")
    assert "secret" not in repr(values("ann:secret1"))


def test_keys_that_sound_like_secrets_say_only_whether_they_are_set(tmp_path: Path) -> None:
    def values(**more: Any) -> dict[str, Any]:
        return values_of(with_secrets(tmp_path, **more))

    assert values(api_token="a", headers=("x: y",)) == values(api_token="b", headers=("z: a",))
    assert values(api_token="a") != values()


class WithSecrets(Settings):
    """Settings with values that sound like secrets."""

    api_token: str | None = None
    headers: Any = ()


def with_secrets(tmp_path: Path, **more: Any) -> Settings:
    """Return GOOD with these."""
    return WithSecrets.model_construct(**loaded(tmp_path, GOOD).__dict__, **more)


def with_password(tmp_path: Path, password: str) -> Settings:
    """Return GOOD with a database that this password opens."""
    url = f"postgresql+psycopg://ann:{password}@db/meshca"
    return loaded(tmp_path, f"{GOOD}database: {url}\n")


def test_a_secret_that_changed_is_named_alone(engine: sa.Engine, tmp_path: Path) -> None:
    started(engine, with_password(tmp_path, "tulip"))
    assert started(engine, with_password(tmp_path, "tulip")) == {}
    told = started(engine, with_password(tmp_path, "crocus"))
    assert told["changed_secret"] == ["database"]
    assert not {"added", "removed", "changed"} & set(told)
    assert started(engine, with_password(tmp_path, "crocus")) == {}


def test_a_secret_deep_in_a_branch_that_counts_as_one_key_is_found(
    engine: sa.Engine, tmp_path: Path
) -> None:
    def many(word: str) -> Settings:
        return with_secrets(tmp_path, headers=[{"n": {"token": word}} for _ in range(500)])

    started(engine, many("a"))
    assert started(engine, many("a")) == {}
    assert started(engine, many("b"))["changed_secret"] == ["headers"]


def test_secrets_that_come_and_go_are_named(engine: sa.Engine, tmp_path: Path) -> None:
    started(engine, with_secrets(tmp_path))
    one, two = (with_secrets(tmp_path, headers=[f"x: {n}"]) for n in (1, 2))
    assert started(engine, one)["changed"] == ["headers"]
    assert started(engine, two)["changed_secret"] == ["headers"]
    assert started(engine, with_secrets(tmp_path))["changed"] == ["headers"]


def test_a_secret_cannot_be_guessed_from_its_entry(engine: sa.Engine, tmp_path: Path) -> None:
    told = started(engine, with_password(tmp_path, "tulip"))
    assert "tulip" not in orjson.dumps(told).decode()
    raw = "postgresql+psycopg://ann:tulip@db/meshca"
    guessed = sha256(f"{told['salt']}\0database\0{raw!r}".encode()).hexdigest()
    assert told["secrets"]["database"] != guessed[: len(told["secrets"]["database"])]
    key = tmp_path / "data" / "audit" / KEY_FILE
    assert (key.stat().st_mode & 0o777, len(key.read_bytes())) == (0o600, 32)
    assert key.read_bytes().hex() not in orjson.dumps(told).decode()
    key.unlink()
    again = started(engine, with_password(tmp_path, "tulip"))
    assert again["secrets"]["database"] != told["secrets"]["database"]


def test_without_the_key_of_before_the_entry_says_that_secrets_were_not_compared(
    engine: sa.Engine, tmp_path: Path
) -> None:
    first = started(engine, with_password(tmp_path, "tulip"))
    (tmp_path / "data" / "audit" / KEY_FILE).unlink()
    told = started(engine, with_password(tmp_path, "crocus"))
    assert (told["secrets_compared"], told["before"]) == (False, first["digest"])
    assert "changed_secret" not in told
    reasons = [(each.document() or {})["reason"] for each in Log(engine).entries()]
    assert reasons == ["first known", "secrets not compared"]
    assert started(engine, with_password(tmp_path, "crocus")) == {}


def test_a_key_that_is_none_is_said(engine: sa.Engine, tmp_path: Path) -> None:
    started(engine, with_password(tmp_path, "tulip"))
    (tmp_path / "data" / "audit" / KEY_FILE).write_bytes(b"")
    with pytest.raises(StoreUnavailable, match="is no key"):
        started(engine, with_password(tmp_path, "tulip"))


def test_an_entry_of_a_version_that_knew_no_secrets_is_not_compared_with(
    engine: sa.Engine, tmp_path: Path
) -> None:
    settings = with_password(tmp_path, "tulip")

    async def before() -> None:
        (entry,) = changed_configuration(settings, engine, FakeClock().now())
        left = {k: v for k, v in entry.details.items() if not k.startswith("secrets")}
        async with writer_of(engine) as writer:
            await writer.submit(replace(entry, details=left))

    asyncio.run(before())
    told = started(engine, settings)
    assert told["secrets_compared"] is False
    assert not {"changed", "changed_secret"} & set(told)


def test_a_configuration_of_very_many_keys_fits_an_entry(engine: sa.Engine, tmp_path: Path) -> None:
    clusters = "".join(
        f"  - {{name: c{n}, issuer: https://c{n}.invalid, audiences: [m], keys: {{file: k}}}}\n"
        for n in range(300)
    )
    text = GOOD.partition("clusters:")[0] + "clusters:\n" + clusters
    settings = loaded(tmp_path, text)
    told = started(engine, settings)
    assert len(told["keys"]) <= MAXIMUM_KEYS
    assert len(orjson.dumps(told)) < AN_ENTRY
    other = loaded(tmp_path, text.replace("https://c7.invalid", "https://other.invalid"))
    assert started(engine, other)["changed"] == ["clusters.7"]
