"""A process that stages, promotes and enforces until it is killed; run by test_kill.py."""

import asyncio
import itertools
import sys
from pathlib import Path

from authz.policy import Stage
from meshca import logs
from tests.authz.staging.world import ALICE, BOB, CLOSED, OPEN, replica
from tests.stores import sqlite_engine


async def _main(directory: Path) -> None:
    with sqlite_engine(directory) as engine:
        async with replica(engine) as one:
            changes = one.staging.changes
            if not one.policies.policies:
                await one.apply(OPEN)
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            for documents in itertools.cycle((CLOSED, OPEN)):
                if one.staging.live.staged is None:
                    await changes.stage(documents, author=ALICE, reason="next")
                await changes.promote(actor=BOB, reason="on", to=Stage.SHADOW)
                await changes.promote(actor=BOB, reason="on", namespaces=["stock"])
                await changes.promote(actor=BOB, reason="on")
                sys.stdout.write(".\n")
                sys.stdout.flush()


if __name__ == "__main__":
    logs.configure()  # to standard error
    asyncio.run(_main(Path(sys.argv[1])))
