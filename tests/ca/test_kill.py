"""kill -9 at any moment loses no issued certificate (invariant 2): a real process, killed."""

import os
import random
import select
import subprocess
import sys
import time
from pathlib import Path

from cryptography import x509

from audit.verify import verify
from ca.store import Filter, Inventory
from meshca.database import open_engine
from tests.real_parts import ROOT

ROUNDS = 6
LONGEST_LIFE_SECONDS = 0.3


def handed_out_before_the_kill(directory: Path, after_seconds: float) -> list[str]:
    """Issue in another process, kill it `after_seconds` after its first certificate."""
    command = [sys.executable, "-m", "tests.ca.issue_forever", str(directory)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], 60)
        assert ready, "nothing was issued within a minute"
        deadline = time.monotonic() + after_seconds
        read = b""
        while time.monotonic() < deadline:
            if select.select([process.stdout], [], [], 0.005)[0]:
                read += os.read(process.stdout.fileno(), 1 << 16)
        process.kill()
        read += process.stdout.read()
    return read.decode().splitlines()


def test_every_certificate_handed_out_is_on_record(tmp_path: Path) -> None:
    chance = random.Random(20261101)  # moments to kill at
    printed: dict[str, str] = {}
    for _ in range(ROUNDS):
        lines = handed_out_before_the_kill(tmp_path, chance.random() * LONGEST_LIFE_SECONDS)
        for line in lines:
            serial, der = line.split()
            printed[serial] = der
    assert len(printed) >= ROUNDS

    engine = open_engine(f"sqlite:///{tmp_path / 'meshca.db'}")
    try:
        records = {r.intent.serial: r for r in Inventory(engine).list(Filter(), limit=1_000_000)}
        assert set(printed) <= set(records)
        for serial, der in printed.items():
            certificate = x509.load_der_x509_certificate(bytes.fromhex(der))
            assert f"{certificate.serial_number:x}" == serial
            record = records[serial]
            assert record.intent.not_after == certificate.not_valid_after_utc
            assert record.certificate in (None, bytes.fromhex(der)), "marked issued, or not yet"
        assert verify(engine).size == len(records), "one audit entry a record"
    finally:
        engine.dispose()
