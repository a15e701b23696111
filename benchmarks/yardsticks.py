"""What the machine does just now: P-256 by `openssl speed` and by cryptography, and plain Python.

Shared machines change speed by the minute, and not everything on them alike: compare runs by these
rows first.
"""

from collections.abc import Iterator

from benchmarks.figure import Context, Row
from benchmarks.floor import cpu_us, openssl_speed

TITLE = "Yardsticks"


def run(context: Context) -> Iterator[Row]:
    """Measure a signature, a verification, and a thousand entries put into a dictionary."""
    yardstick = openssl_speed()
    ours = context.floor()
    if yardstick is not None:
        yield Row("openssl speed ecdsap256, sign", yardstick.sign_us, "µs CPU")
        yield Row("openssl speed ecdsap256, verify", yardstick.verify_us, "µs CPU")
    for what, mine, theirs in (
        ("sign", ours.sign_us, yardstick and yardstick.sign_us),
        ("verify", ours.verify_us, yardstick and yardstick.verify_us),
    ):
        ratio = f"{mine / theirs:.2f} × openssl" if theirs else "no openssl program"
        note = "SHA-256 of 500 bytes included; its own OpenSSL"
        yield Row(f"cryptography P-256 {what}", mine, "µs CPU", ratio=ratio, note=note)
    plain = cpu_us(_entries, seconds=0.3)
    yield Row("Python, a thousand entries into a dictionary", plain, "µs CPU")


def _entries() -> int:
    entries: dict[str, int] = {}
    for number in range(1000):
        entries[str(number)] = number
    return len(entries)
