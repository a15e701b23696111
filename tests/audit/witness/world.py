"""A witness on a real database, and the log that it watches."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.note import COSIGNATURE, SigningKey
from audit.refusals import RefusalRecorder
from audit.witness.memory import WitnessMemory
from audit.witness.request import write_request
from audit.witness.store import Seen, read_seen
from audit.witness.witness import Answer, Witness
from meshca.metrics import Metrics
from tests.audit.anchors.notes import ORIGIN, SmallLog
from tests.fakes import FakeClock
from tests.stores import Document, documents, writer_of

WITNESS_KEY = SigningKey(
    "witness.test/meshca/witness", Ed25519PrivateKey.from_private_bytes(b"w" * 32), COSIGNATURE
)


@dataclass
class Watched:
    """The witness, and what a log asks of it."""

    engine: sa.Engine
    witness: Witness
    clock: FakeClock
    metrics: Metrics

    async def ask(
        self,
        old: int,
        size: int,
        log: "SmallLog | None" = None,
        *,
        proof: "list[bytes] | None" = None,
        seconds: int = 2,
    ) -> Answer:
        """Ask for a cosignature a little later, with the proof that `log` gives."""
        log = log or SmallLog()
        self.clock.advance(timedelta(seconds=seconds))
        given = log.consistency_proof(min(old, size), size) if proof is None else proof
        return await self.witness.add_checkpoint(write_request(old, given, log.at(size).note))

    def seen(self) -> Seen:
        """Return what was cosigned last."""
        return read_seen(self.engine, ORIGIN)

    async def recorded(self) -> list[Document]:
        """Return the entries about it, those that nobody waited for included."""
        await self.witness.writer.submit()
        return [d for d in documents(self.engine) if d["kind"] == "witness"]

    def counted(self, outcome: str) -> float:
        """Return how often it ended so."""
        name = "meshca_audit_witness_checkpoints_total"
        return self.metrics.registry.get_sample_value(name, {"outcome": outcome}) or 0.0


@asynccontextmanager
async def watched(
    engine: sa.Engine,
    *logs: SmallLog,
    clock: "FakeClock | None" = None,
    machine: "Path | None" = None,
) -> AsyncIterator[Watched]:
    """Yield a witness of `logs`, by default of the one that `SmallLog()` is.

    `machine` is the directory in which it remembers; by default it is a machine of its own.
    """
    clock, metrics = clock or FakeClock(), Metrics()
    with TemporaryDirectory() as own:
        async with writer_of(engine, clock=clock, metrics=metrics) as writer:
            witness = Witness(
                key=WITNESS_KEY,
                logs={log.origin: [log.key.verifier] for log in logs or (SmallLog(),)},
                engine=engine,
                memory=WitnessMemory((machine or Path(own)) / "witnessed.json"),
                writer=writer,
                refusals=RefusalRecorder(writer, clock, metrics, entries_per_second=0.2, burst=20),
                clock=clock,
                metrics=metrics,
            )
            yield Watched(engine, witness, clock, metrics)
