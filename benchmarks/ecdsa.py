"""The floor itself: P-256 by `openssl speed` and by cryptography, one after the other."""

from collections.abc import Iterator

from benchmarks.figure import Context, Row
from benchmarks.floor import openssl_speed

TITLE = "ECDSA P-256, the floor of everything below"


def run(context: Context) -> Iterator[Row]:
    """Measure what a signature and a verification cost; `openssl speed` is the yardstick."""
    yardstick = openssl_speed()
    ours = context.floor()
    if yardstick is None:
        yield Row("cryptography sign", ours.sign_us, "µs CPU", note="no openssl program")
        yield Row("cryptography verify", ours.verify_us, "µs CPU", note="no openssl program")
        return
    yield Row("openssl speed sign", yardstick.sign_us, "µs CPU")
    yield Row("openssl speed verify", yardstick.verify_us, "µs CPU")
    for what, mine, theirs in (
        ("sign", ours.sign_us, yardstick.sign_us),
        ("verify", ours.verify_us, yardstick.verify_us),
    ):
        ratio = f"{mine / theirs:.2f} × openssl"
        yield Row(f"cryptography {what}", mine, "µs CPU", ratio=ratio, note="with its own OpenSSL")
