"""Files are taken only once two readings of them agree, so that none is taken half written.

Files that keep changing stay as they were seen before, and are tried again at the next look: half a
file may be a set that loads, with a DENY less. That is logged and counted once, and `problems`
shows it for as long as it lasts. The first reading, at start, has none to agree with: it counts.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from authz.directory import Texts
from authz.reading import Reading
from meshca.errors import Problem
from meshca.logs import get_logger
from meshca.metrics import Metrics

log = get_logger("authz")

SETTLE_SECONDS: Final = 0.05
READINGS: Final = 20
_NAMED: Final = 10


@dataclass(slots=True)
class Settling:
    """Knows which files have not settled."""

    metrics: Metrics
    problems: tuple[Problem, ...] = ()

    async def settled(self, read: Callable[[], Awaitable[Reading]], seen: Reading) -> Reading:
        """Return what `read` returns, its files those of `seen` unless two readings agree."""
        reading = await read()
        changing: tuple[str, ...] = ()
        for _ in range(READINGS):
            if _files(reading) == _files(seen):
                break
            await asyncio.sleep(SETTLE_SECONDS)
            again = await read()
            changing = _differing(reading, again)
            reading = again
            if not changing:
                break
        else:
            self._note(changing)
            return replace(reading, texts=seen.texts, problems=seen.problems)
        self.problems = ()
        return reading

    def _note(self, changing: tuple[str, ...]) -> None:
        if not self.problems:
            self.metrics.policy_load_failures.inc()
            log.error("policy_files_keep_changing", files=changing[:_NAMED])
        message = "keeps changing while it is read: what was read before stays"
        self.problems = tuple(Problem("", message, name) for name in changing)


def _files(reading: Reading) -> tuple[Texts, tuple[Problem, ...]]:
    return reading.texts, reading.problems


def _differing(one: Reading, other: Reading) -> tuple[str, ...]:
    """Return the names of the files that two readings do not agree on."""
    texts = {name for name, _ in {*one.texts} ^ {*other.texts}}
    return tuple(sorted(texts | {each.file for each in {*one.problems} ^ {*other.problems}}))
