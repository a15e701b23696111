"""The client processes' side of `benchmarks.process.Worker`: orders in, answers out."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


def arguments() -> dict[str, Any]:
    """Return what this process was started with."""
    given: dict[str, Any] = json.loads(sys.argv[1])
    return given


def say(**answer: Any) -> None:
    """Answer whoever started this process."""
    print(json.dumps(answer), flush=True)


async def obey(answer: Answer) -> None:
    """Say that all is prepared; then answer every order until there are no more."""
    say(ready=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        say(**await answer(json.loads(line)))
