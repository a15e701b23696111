"""A loader of policies over one directory and one database, for its tests."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from authz.sources import PolicyLoader, PreparedChange, SourceChange
from authz.store import AppliedSet, AppliedSetSink
from meshca.database import GroupWriter, Sink
from meshca.metrics import Metrics
from tests.authz.builders import document, names, to_yaml

WEB = to_yaml(document("web"))


API = to_yaml(document("api"))


@dataclass
class Place:
    """A loader over one directory and one database, and what it told."""

    directory: Path
    loader: PolicyLoader
    metrics: Metrics
    changes: list[SourceChange] = field(default_factory=list)

    @property
    def in_force(self) -> list[str]:
        """Return the names of the policies in force."""
        return names(self.loader.state.current.policies)

    def write(self, name: str, text: str) -> None:
        """Replace one policy file as a careful editor does."""
        draft = self.directory / f".{name}"
        draft.write_text(text)
        draft.replace(self.directory / name)

    def failures(self) -> float:
        """Return how many sets did not load."""
        value = self.metrics.registry.get_sample_value("meshca_policy_load_failures_total")
        assert value is not None
        return value


def run(place: Place, story: Callable[[GroupWriter], Awaitable[None]]) -> None:
    """Run `story` with a writer for the place's database."""

    async def whole() -> None:
        sinks: dict[type, Sink] = {AppliedSet: AppliedSetSink()}
        loader = place.loader
        async with GroupWriter(loader.engine, sinks, loader.clock, place.metrics) as writer:
            await story(writer)

    asyncio.run(whole())


async def apply(place: Place, writer: GroupWriter, text: str) -> PreparedChange:
    async def record(prepared: PreparedChange) -> None:
        await writer.submit(prepared.applied)

    return await place.loader.apply(text, author="uid:0", reason="test", record=record)
