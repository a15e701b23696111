"""What the numbers were measured on; a number without it means nothing."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

import grpc
from cryptography.hazmat.backends.openssl import backend

from meshca.clock import SystemClock


def describe() -> dict[str, str]:
    """Return the machine, the programs and the date, by name."""
    return {
        "date": SystemClock().now().strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{_memory_gib():.0f} GiB",
        "Python": platform.python_version(),
        "cryptography's OpenSSL": backend.openssl_version_text(),
        "openssl program": _openssl(),
        "gRPC": grpc.__version__,
        "load before": f"{os.getloadavg()[0]:.1f}",
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _openssl() -> str:
    program = shutil.which("openssl")
    if program is None:
        return "none"
    return subprocess.run([program, "version"], capture_output=True, text=True).stdout.strip()
