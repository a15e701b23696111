"""The floor: what ECDSA P-256 itself costs here, by cryptography and by `openssl speed`."""

import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

_ALGORITHM = ec.ECDSA(hashes.SHA256())
_MESSAGE = b"a certificate's worth of bytes".ljust(500)


@dataclass(frozen=True, slots=True)
class Floor:
    """CPU microseconds of one P-256 signature and one verification, hash of 500 bytes included."""

    sign_us: float
    verify_us: float

    @property
    def issue_us(self) -> float:
        """Return the least that certifying a CSR can cost: verify it, sign the certificate."""
        return self.sign_us + self.verify_us


def in_floors(ratio: float) -> str:
    """Say that something costs `ratio` times the floor."""
    return f"{ratio:.1f} × (sign + verify)"


def measure_floor(*, seconds: float) -> Floor:
    """Return the floor by cryptography, in this process, now."""
    key = ec.generate_private_key(ec.SECP256R1())
    public, signature = key.public_key(), key.sign(_MESSAGE, _ALGORITHM)
    return Floor(
        cpu_us(lambda: key.sign(_MESSAGE, _ALGORITHM), seconds=seconds),
        cpu_us(lambda: public.verify(signature, _MESSAGE, _ALGORITHM), seconds=seconds),
    )


def mean_floor(before: Floor, after: Floor) -> Floor:
    """Return the mean of the floors measured around something."""
    return Floor(
        (before.sign_us + after.sign_us) / 2,
        (before.verify_us + after.verify_us) / 2,
    )


def cpu_us(operation: Callable[[], object], *, seconds: float, batches: int = 5) -> float:
    """Return the CPU microseconds of `operation`: the median of `batches` batches."""
    operation()
    count, spent = 1, 0.0
    while spent < seconds / batches / 2:
        count *= 2
        spent = _batch(operation, count)
    return sorted(_batch(operation, count) / count for _ in range(batches))[batches // 2] * 1e6


def _batch(operation: Callable[[], object], count: int) -> float:
    started = time.process_time()
    for _ in range(count):
        operation()
    return time.process_time() - started


def openssl_speed() -> Floor | None:
    """Return what `openssl speed -seconds 1 ecdsap256` says; None when there is no openssl."""
    program = shutil.which("openssl")
    if program is None:
        return None
    command = [program, "speed", "-seconds", "1", "ecdsap256"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return _by_rate(done.stdout)


def _by_rate(output: str) -> Floor | None:
    """Read the rates, which have more digits than the times beside them."""
    line = next((line for line in output.splitlines() if "nistp256" in line), "")
    numbers = re.findall(r"[\d.]+", line.partition("nistp256")[2])
    if len(numbers) != 4:
        return None
    return Floor(1e6 / float(numbers[2]), 1e6 / float(numbers[3]))
