"""kill -9 between any two steps of authorities and roots: a real process, killed, goes on."""

import os
import random
import select
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from audit.verify import verify
from ca.upstream import self_signed
from meshca.database import open_engine
from rotation.roots import IN_BUNDLE, Roots
from rotation.stages import ENDED, Stage
from rotation.standings import Standings
from tests.real_parts import ROOT
from tests.stores import documents

ROUNDS = 8
LONGEST_LIFE_SECONDS = 0.4


def killed(directory: Path, after_seconds: float) -> None:
    """Step in another process; kill it `after_seconds` after an authority first signed."""
    command = [sys.executable, "-m", "tests.rotation.step_forever", str(directory)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], 60)
        assert ready, "no authority signed within a minute"
        assert len(os.read(process.stdout.fileno(), 40)) == 40, "an authority signs after a start"
        deadline = time.monotonic() + after_seconds
        while time.monotonic() < deadline:
            if select.select([process.stdout], [], [], 0.005)[0]:
                os.read(process.stdout.fileno(), 1 << 16)
        process.kill()


def test_whatever_step_it_was_killed_after_the_next_start_goes_on(tmp_path: Path) -> None:
    chance = random.Random(20261101)  # moments to kill at
    self_signed.create(tmp_path, trust_domain="example.org", now=datetime.now(UTC))
    for _ in range(ROUNDS):
        killed(tmp_path, chance.random() * LONGEST_LIFE_SECONDS)
        engine = open_engine(f"sqlite:///{tmp_path / 'meshca.db'}")
        try:
            check(engine)
        finally:
            engine.dispose()


def check(engine: sa.Engine) -> None:
    """The tables are whole, and say what the log says."""
    rows = Standings(engine).of()
    assert Counter(r.standing.stage for r in rows)[Stage.ACTIVE] <= 1
    roots = {root.root_sha256: root for root in Roots(engine).all()}
    assert any(root.stage in IN_BUNDLE for root in roots.values())
    alive = [r for r in rows if r.standing.stage not in ENDED]
    assert all(roots[r.root_sha256].stage in IN_BUNDLE for r in alive), "no root left too early"
    verify(engine)
    logged: dict[str, str] = {}
    for entry in documents(engine):
        if entry["kind"] == "authority_change":
            logged[entry["details"]["authority"]] = entry["details"]["stage"]
    assert {r.standing.authority_id: r.standing.stage.value for r in rows} == logged
