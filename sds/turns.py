"""Turns at sending what is large, so that all proxies together do not take all memory.

A response is copied for each stream that it leaves on. A list of 100,000 is five megabytes, and ten
thousand proxies are told at once: so streams take turns, a few at a time, with responses of more
than `LARGE` bytes. A turn ends when the transport has taken the response, or after `PATIENCE`: a
proxy that does not read holds up nobody for long. What is small waits for nobody.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

LARGE: Final = 256 * 1024
AT_ONCE: Final = 16
PATIENCE_SECONDS: Final = 2.0


class Turns:
    """Turns of one process, `at_once` of them, each for at most `patience_seconds`."""

    def __init__(
        self, *, at_once: int = AT_ONCE, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._patience = patience_seconds

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it for the duration of the block or of the patience."""
        await self._free.acquire()
        is_over = False

        def end() -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                self._free.release()

        patience = asyncio.get_running_loop().call_later(self._patience, end)
        try:
            yield
        finally:
            patience.cancel()
            end()
