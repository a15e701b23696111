"""Run by test_kill.py as a program: step short-lived authorities and change roots, until killed."""

import asyncio
import os
import random
import sys
from datetime import timedelta
from pathlib import Path

from ca.authority import Authorities
from ca.issuance import Issuance
from ca.profile import Profile
from ca.upstream import self_signed
from meshca.clock import SystemClock
from meshca.errors import Conflict
from meshca.metrics import Metrics
from rotation.intermediates import Intermediates
from rotation.leaves import Leaves
from rotation.operations import AuthorityOperations
from tests.rotation.authorities import development_upstream, make_intermediates
from tests.stores import sqlite_engine, writer_of

TRUST_DOMAIN = "example.org"
LIFETIME = timedelta(seconds=4)
WHO = {"actor": "uid:0", "reason": "a test"}


async def main(directory: Path) -> None:
    """Step for ever; a line on standard output says which authority signs now."""
    clock, metrics = SystemClock(), Metrics()
    with sqlite_engine(directory) as engine:
        async with writer_of(engine, metrics=metrics) as writer:
            authorities = Authorities(TRUST_DOMAIN)
            profile = Profile(
                TRUST_DOMAIN, timedelta(seconds=2), timedelta(seconds=2), timedelta(seconds=1)
            )
            issuance = Issuance(
                authorities=authorities,
                profile=profile,
                writer=writer,
                clock=clock,
                metrics=metrics,
            )
            intermediates = make_intermediates(
                development_upstream(directory, TRUST_DOMAIN, LIFETIME),
                engine=engine,
                authorities=authorities,
                leaves=Leaves(
                    issuance=issuance, authorities=authorities, clock=clock, metrics=metrics
                ),
                writer=writer,
                clock=clock,
                metrics=metrics,
            )
            await intermediates.load()
            await step(directory, intermediates)


async def step(directory: Path, intermediates: Intermediates) -> None:
    """Take steps by hand, at random, beside those that are due."""
    operations, chance = AuthorityOperations(intermediates), random.Random()
    while True:
        os.write(1, f"{intermediates.signing()}\n".encode())
        await intermediates.tick()
        try:
            match chance.randrange(6):
                case 0:
                    await operations.prepare(**WHO)
                case 1:
                    await operations.taint(intermediates.signing(), **WHO)
                case 2:
                    now = intermediates.clock.now()
                    self_signed.add_root(directory, trust_domain=TRUST_DOMAIN, now=now)
                    await operations.replace_root(**WHO)
        except Conflict:
            pass  # only one root yet
        await asyncio.sleep(0)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
