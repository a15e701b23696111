"""kill -9 between any two steps: what is on record is in force at the next start, whole."""

import asyncio
import os
import random
import select
import subprocess
import sys
import time
from pathlib import Path

from audit.verify import verify
from authz.policy import Stage
from authz.staging.events import Step, read_events
from authz.staging.standing import standing_of
from authz.store import latest_version
from tests.authz.staging.world import BOB, Replica, replica
from tests.real_parts import ROOT
from tests.stores import sqlite_engine

ROUNDS = 4
LONGEST_LIFE_SECONDS = 0.4


def killed(directory: Path, after_seconds: float) -> None:
    """Take steps in another process; kill it `after_seconds` after it was ready."""
    command = [sys.executable, "-m", "tests.authz.staging.step_forever", str(directory)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], 60)
        assert ready, "no start within a minute"
        assert os.read(process.stdout.fileno(), 6) == b"ready\n"
        deadline = time.monotonic() + after_seconds
        while time.monotonic() < deadline:
            if select.select([process.stdout], [], [], 0.005)[0]:
                os.read(process.stdout.fileno(), 1 << 16)
        process.kill()


def test_whatever_step_it_was_killed_after_the_next_start_goes_on(tmp_path: Path) -> None:
    chance = random.Random(20261121)  # moments to kill at
    for _ in range(ROUNDS):
        killed(tmp_path, chance.random() * LONGEST_LIFE_SECONDS)
        asyncio.run(check(tmp_path))


async def check(directory: Path) -> None:
    """Rows, applied sets, the log and what is in force say the same; and the next step is free."""
    with sqlite_engine(directory) as engine:
        events = read_events(engine)
        enforced = [event for event in events if event.step is Step.ENFORCED]
        assert latest_version(engine) == 1 + len(enforced)
        assert verify(engine).size == len(events), "one entry a step"
        async with replica(engine) as one:
            staged = standing_of(events).candidate
            overlay = one.policies.overlay
            assert overlay.canary == (frozenset() if staged is None else staged.namespaces)
            is_on_trial = staged is not None and staged.stage is not Stage.DRAFT
            assert (overlay.candidate is not None) is is_on_trial
            await go_on(one)


async def go_on(one: Replica) -> None:
    if one.staging.live.staged is not None:
        await one.staging.changes.withdraw(actor=BOB, reason="check")
        assert one.staging.live.staged is None
