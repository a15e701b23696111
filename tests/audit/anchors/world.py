"""A signed log with anchors, on a real database and a clock of its own."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa

from audit.anchors.anchor import Anchor, Published
from audit.anchors.keeper import AnchorKeeper
from audit.anchors.store import AnchorState, read_anchor_states
from audit.log import Log
from audit.note import Signature
from meshca.errors import EvidenceBroken, Unavailable
from tests.audit.signed_log import ORIGIN, SignedLog, signed_log
from tests.stores import Document, documents

EVERY = timedelta(minutes=1)


@dataclass
class Shelf:
    """An anchor in memory that is away when `problem` says so."""

    name: str = "shelf"
    held: list[Published] = field(default_factory=list)
    problem: "Exception | None" = None
    asked: int = 0
    gate: "asyncio.Event | None" = None
    is_readable: bool = True

    async def newest(self) -> Published | None:
        """Return what came last."""
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.problem is not None:
            raise self.problem
        return self.held[-1] if self.held else None

    async def publish(self, published: Published) -> Sequence[Signature]:
        """Keep it."""
        self.held.append(published)
        return ()

    def go(self) -> None:
        """Be away from now on."""
        self.problem = Unavailable("shelf: gone")

    def sizes(self) -> list[int]:
        """Return the sizes that it holds."""
        return [published.checkpoint.size for published in self.held]


@dataclass
class Anchored:
    """A log whose checkpoints go to `anchors`."""

    signed: SignedLog
    anchors: Sequence[Anchor]
    keeper: AnchorKeeper = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget what is in memory."""
        signed = self.signed
        self.keeper = AnchorKeeper(
            origin=ORIGIN,
            anchors=[(anchor, EVERY) for anchor in self.anchors],
            log=Log(signed.engine),
            locks=signed.locks,
            writer=signed.writer,
            clock=signed.clock,
            metrics=signed.metrics,
            draw=random.Random(1),
        )

    async def grow(self, count: int = 1) -> None:
        """Append entries and sign."""
        await self.signed.append(count)
        self.signed.clock.advance(timedelta(seconds=1))
        assert await self.signed.signer.step()

    async def visit(self) -> None:
        """Do what is due now, to its end."""
        await self.keeper.step()
        await self.keeper.settle()
        await self.keeper.step()
        await self.keeper.settle()

    async def pass_time(self, duration: timedelta, step: timedelta = EVERY) -> None:
        """Let time pass, and what is due in it be done."""
        while duration > timedelta():
            self.signed.clock.advance(step)
            await self.visit()
            duration -= step

    def state(self, name: str = "shelf") -> AnchorState:
        """Return how an anchor stands in the database."""
        return read_anchor_states(self.signed.engine)[name]

    def told(self) -> list[Document]:
        """Return the entries about anchors."""
        return [d for d in documents(self.signed.engine) if d["kind"] == "anchor"]

    def measured(self, metric: str, anchor: str = "shelf") -> float | None:
        """Return what a metric says of an anchor."""
        name = f"meshca_audit_anchor_{metric}"
        return self.signed.metrics.registry.get_sample_value(name, {"anchor": anchor})


@asynccontextmanager
async def anchored(engine: sa.Engine, directory: Path, *anchors: Anchor) -> AsyncIterator[Anchored]:
    """Yield a log on `engine` with `anchors`."""
    async with signed_log(engine, directory) as signed:
        yield Anchored(signed, anchors)


def broken(text: str = "shelf: holds another log") -> EvidenceBroken:
    """Return what an anchor raises that holds what is not ours."""
    return EvidenceBroken(0, text)
