"""Which set of policies was in force when: kept whole, so that it can be asked later.

A text is kept once, by its digest; each set that comes into force names the texts it was loaded
from, and with what options. What is laid over a set (staged changes, approvals, bypasses) is not
kept here: each step of that is in the audit log.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import sqlalchemy as sa

from authz.directory import Texts
from authz.load import load_policies
from authz.policy import PolicySet
from authz.sources import PolicyLoader, PolicyOptions
from meshca.clock import Clock
from meshca.database import GroupWriter, Sink, metadata, reading
from meshca.errors import MeshcaError
from meshca.logs import get_logger

RETRY_SECONDS: Final = 1.0

log = get_logger("authz")

policy_texts = sa.Table(
    "policy_texts",
    metadata,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("text", sa.Text, nullable=False),
)
policy_history = sa.Table(
    "policy_history",
    metadata,
    sa.Column(
        "number",
        sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    sa.Column("since", sa.BigInteger, nullable=False, index=True),  # microseconds since the epoch
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("options", sa.Text, nullable=False),
    sa.Column("members", sa.Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class InForce:
    """From `since` on the set `version` is in force; `texts` are what it was loaded from."""

    since: datetime
    version: str
    options: Mapping[str, Any]
    texts: Texts


class InForceSink:
    """Writes which set came into force; what another replica has written already is left out."""

    def write(self, connection: sa.Connection, records: Sequence[InForce]) -> None:
        """Write each of `records` whose version is not the newest one."""
        newest = sa.select(policy_history.c.version).order_by(policy_history.c.number.desc())
        for record in records:
            if connection.execute(newest.limit(1)).scalar_one_or_none() != record.version:
                _write(connection, record)


POLICY_HISTORY_SINKS: Final[Mapping[type, Sink]] = {InForce: InForceSink()}


def _write(connection: sa.Connection, record: InForce) -> None:
    digests = {hashlib.sha256(text.encode()).hexdigest(): text for _, text in record.texts}
    members = [(name, hashlib.sha256(text.encode()).hexdigest()) for name, text in record.texts]
    keep = sa.text(
        "INSERT INTO policy_texts (digest, text) VALUES (:digest, :text)"
        " ON CONFLICT (digest) DO NOTHING"
    )
    if digests:
        rows = [{"digest": digest, "text": text} for digest, text in digests.items()]
        connection.execute(keep, rows)
    connection.execute(
        sa.insert(policy_history).values(
            since=_microseconds(record.since),
            version=record.version,
            options=orjson.dumps(dict(record.options)).decode(),
            members=orjson.dumps(members).decode(),
        )
    )


@dataclass(slots=True, kw_only=True)
class PolicyHistory:
    """Writes down each set that comes into force; `run` is its loop.

    Give `heed` to whatever tells of changes.
    """

    loader: PolicyLoader
    writer: GroupWriter
    clock: Clock
    retry_seconds: float = RETRY_SECONDS
    _written: str = ""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def heed(self) -> None:
        """Look again soon: another set may be in force; on the event loop."""
        self._changed.set()

    async def run(self) -> None:
        """Write each change until cancelled; a database that is away is waited for."""
        while True:
            self._changed.clear()
            try:
                await self.note()
            except MeshcaError as error:
                log.warning("policy_history_not_written", error=str(error))
                await asyncio.sleep(self.retry_seconds)
            else:
                await self._changed.wait()

    async def note(self) -> None:
        """Write the set in force, if it is another than the last one written."""
        version = own_version(self.loader.state.current.version)
        if version == self._written:
            return
        texts = self.loader.texts_in_force()
        options = recorded_options(self.loader.options)
        await self.writer.submit(InForce(self.clock.now(), version, options, texts))
        self._written = version


def own_version(version: str) -> str:
    """Return `version` without that of what is laid over it."""
    return version.partition("+")[0]


def recorded_options(options: PolicyOptions) -> dict[str, Any]:
    """Return what else decides what a set means, as plain values."""
    return {
        "trust_domain": options.trust_domain,
        "root_namespace": options.root_namespace,
        "default": options.default,
        "aliases": list(options.aliases),
        "providers": None if options.providers is None else sorted(options.providers),
    }


def in_force_at(engine: sa.Engine, time: datetime) -> InForce | None:
    """Return the set in force at `time`, None if none is on record; raises StoreUnavailable."""
    c = policy_history.c
    query = (
        sa.select(policy_history)
        .where(c.since <= _microseconds(time))
        .order_by(c.since.desc(), c.number.desc())
        .limit(1)
    )
    with reading(engine) as connection:
        row = connection.execute(query).one_or_none()
        return None if row is None else _in_force(connection, row)


def changes_between(engine: sa.Engine, since: datetime, until: datetime) -> list[InForce]:
    """Return the sets that came into force from `since` up to `until`, without their texts."""
    c = policy_history.c
    chosen = c.since.between(_microseconds(since), _microseconds(until) - 1)
    query = sa.select(policy_history).where(chosen).order_by(c.number)
    with reading(engine) as connection:
        return [_without_texts(row) for row in connection.execute(query)]


def load_again(kept: InForce) -> PolicySet:
    """Return the set that `kept` was, as today's program reads it; raises InvalidDocument."""
    options = kept.options
    return load_policies(
        kept.texts,
        trust_domain=options["trust_domain"],
        root_namespace=options["root_namespace"],
        default=options["default"],
        aliases=options["aliases"],
        providers=options["providers"],
    )


def _in_force(connection: sa.Connection, row: sa.Row[Any]) -> InForce:
    members = [(name, digest) for name, digest in orjson.loads(row.members)]
    texts = dict(_texts(connection, sorted({digest for _, digest in members})))
    whole = tuple((name, texts[digest]) for name, digest in members)
    return InForce(_time(row.since), row.version, orjson.loads(row.options), whole)


def _without_texts(row: sa.Row[Any]) -> InForce:
    return InForce(_time(row.since), row.version, orjson.loads(row.options), ())


def _texts(connection: sa.Connection, digests: Sequence[str]) -> Iterable[tuple[str, str]]:
    c = policy_texts.c
    for start in range(0, len(digests), 500):
        query = sa.select(c.digest, c.text).where(c.digest.in_(digests[start : start + 500]))
        yield from ((row.digest, row.text) for row in connection.execute(query))


def _microseconds(time: datetime) -> int:
    return round(time.timestamp() * 1_000_000)


def _time(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)
