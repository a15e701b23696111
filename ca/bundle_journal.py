"""The number of our trust bundle: it grows with every change, over restarts and replicas.

A bundle's `spiffe_sequence` must grow with each change of content and never fall (SPIFFE Trust
Domain and Bundle 4.1.1): whoever federates with us refuses a lower one, and would go on trusting
what we have dropped. So each content is numbered once, in the database, before anybody is told
that number; the clock only ever helps to begin high enough.

Proxies do not wait for the number: they are pushed what `Authorities` holds. Not here either: which
roots there are (rotation), and who publishes them (admin/public.py, ca/publication).
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from typing import Final

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.authority import Authorities
from ca.bundle import TrustBundle
from meshca.clock import Clock
from meshca.database import GroupWriter, metadata
from meshca.errors import AuthorityUnavailable, MeshcaError, StoreUnavailable
from meshca.logs import get_logger

RETRY_SECONDS: Final = 5.0
ATTEMPTS: Final = 5
_LOCK: Final = 0x6D657368_62646C  # "meshbdl": any constant, the same in every process

bundle_versions = sa.Table(
    "bundle_versions",
    metadata,
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("time", sa.BigInteger, nullable=False),
)
log = get_logger("bundle")


@dataclass(frozen=True, slots=True)
class NewBundle:
    """A content of our bundle that wants a number, `at_least` that; `digest` is of its roots."""

    at_least: int
    digest: str
    time: datetime


class NewBundleSink:
    """Numbers contents, one at a time over all replicas; the newest content keeps its number."""

    def write(self, connection: sa.Connection, records: Sequence[NewBundle]) -> None:
        """Insert one row for each record whose content is not the newest already."""
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        sequence, digest = _latest(connection)
        for record in records:
            if record.digest == digest:
                continue
            sequence, digest = max(sequence + 1, record.at_least), record.digest
            row = {"sequence": sequence, "digest": digest, "time": int(record.time.timestamp())}
            connection.execute(sa.insert(bundle_versions), row)


def latest_version(engine: sa.Engine) -> tuple[int, str]:
    """Return the highest number given and the digest that has it; 0 and nothing before any.

    Raises StoreUnavailable.
    """
    try:
        with engine.connect() as connection:
            return _latest(connection)
    except sa.exc.SQLAlchemyError as error:
        raise StoreUnavailable(f"the bundle's number cannot be read: {error}") from error


def _latest(connection: sa.Connection) -> tuple[int, str]:
    query = sa.select(bundle_versions).order_by(bundle_versions.c.sequence.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return (0, "") if row is None else (int(row.sequence), str(row.digest))


def digest_of(roots: Sequence[x509.Certificate]) -> str:
    """Return the digest of a set of roots, whatever their order."""
    parts = sorted(sha256(root.public_bytes(Encoding.DER)).digest() for root in roots)
    return sha256(b"".join(parts)).hexdigest()


@dataclass(slots=True, kw_only=True)
class BundleJournal:
    """Our trust bundle under its durable number; `record` numbers it, `run` keeps doing so."""

    authorities: Authorities
    engine: sa.Engine
    writer: GroupWriter
    clock: Clock
    _numbered: TrustBundle | None = None
    _source: TrustBundle | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _subscribers: list[Callable[[], None]] = field(default_factory=list)

    def current(self) -> TrustBundle:
        """Return the bundle as published; raises AuthorityUnavailable before there is one."""
        if self._numbered is None:
            raise AuthorityUnavailable("the trust bundle has no number yet")
        return self._numbered

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each new number, on the event loop."""
        self._subscribers.append(callback)

    def wake(self) -> None:
        """Look at the bundle soon: it may have changed."""
        self._changed.set()

    async def record(self) -> None:
        """Number the bundle as it is now; raises StoreUnavailable."""
        bundle = self.authorities.bundle
        if bundle is self._source:
            return
        sequence = await self._number(bundle)
        self._source, self._numbered = bundle, replace(bundle, sequence=sequence)
        for callback in tuple(self._subscribers):
            callback()

    async def _number(self, bundle: TrustBundle) -> int:
        """Return the number of the content of `bundle`, given now if it is new."""
        digest = digest_of(bundle.roots)
        sequence, known = await asyncio.to_thread(latest_version, self.engine)
        if digest == known:
            return sequence
        for _ in range(ATTEMPTS):
            await self.writer.submit(NewBundle(bundle.sequence, digest, self.clock.now()))
            sequence, known = await asyncio.to_thread(latest_version, self.engine)
            if digest == known:  # else another replica has published another one in between
                log.info("bundle_changed", sequence=sequence, roots=len(bundle.roots))
                return sequence
        raise StoreUnavailable("another replica publishes another bundle again and again")

    async def run(self) -> None:
        """Number every change until cancelled."""
        while True:
            self._changed.clear()
            try:
                await self.record()
            except MeshcaError as error:
                log.error("bundle_not_numbered", error=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_SECONDS):
                    await self._changed.wait()
