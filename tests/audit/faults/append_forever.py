"""Run as a program: append to a log in groups and print what was committed, until killed."""

import asyncio
import os
import sys

from audit.entry import Entry
from meshca.clock import SystemClock
from meshca.database import open_engine
from meshca.schema import migrate
from tests.stores import writer_of

IN_FLIGHT = 64


async def main(url: str, name: str, count: int) -> None:
    """Append `count` entries (0: for ever); a line says that one is committed."""
    engine = open_engine(url)
    migrate(engine)
    numbers = iter(range(count or sys.maxsize))

    async def append() -> None:
        for number in numbers:
            time = SystemClock().now()
            entry = Entry(time, "ban", "done", actor=name, serial=f"{number:x}")
            await writer.submit(entry)
            # One write of less than PIPE_BUF: a line is there whole or not at all.
            os.write(1, f"{number:x}\n".encode())

    async with writer_of(engine) as writer:
        await asyncio.gather(*(append() for _ in range(IN_FLIGHT)))
    engine.dispose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
