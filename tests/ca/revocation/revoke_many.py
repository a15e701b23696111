"""Run by test_faults.py as a program: revoke everything of one node, until killed."""

import asyncio
import sys
from pathlib import Path

from ca.revocation.operations import BanRequest
from ca.revocation.reason import Reason
from ca.revocation.selector import Selector
from tests.ca.revocation.world import WHO, revoking
from tests.stores import sqlite_engine


async def main(directory: Path, confirmed: int) -> None:
    """Revoke and ban; the test kills this process long before it is done."""
    with sqlite_engine(directory) as engine:
        async with revoking(engine) as world:
            await world.operations.revoke(
                Selector(node="node-1"),
                Reason.keyCompromise,
                confirmed=confirmed,
                ban=BanRequest(),
                **WHO,
            )


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
