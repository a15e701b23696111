"""Taint: an authority is believed stolen, and every leaf under it is replaced and pushed.

The simulated proxies hold two streams each, as Envoy does. The time runs from the call of the admin
door to the last proxy that has been sent a certificate of the new authority.
"""

from collections.abc import Iterator
from statistics import median

from benchmarks.development import temporary
from benchmarks.figure import Context, Row, Target
from benchmarks.fleet import Fleet, connected

TITLE = "A tainted authority, every leaf under it replaced"
TARGET = Target(10.0, is_minimum=False)
_ROUNDS = 3


def run(context: Context) -> Iterator[Row]:
    """Measure two thousand live leaves, a few times over."""
    count = context.scale(2000, 200)
    with (
        temporary() as development,
        context.progress(f"{count:,} leaves", _ROUNDS) as advance,
        connected(development, count) as fleet,
    ):
        before, seconds = fleet.served.cpu_seconds, []
        for number in range(1, _ROUNDS + 1):
            seconds.append(_taint(fleet))
            advance(number)
        spent = (fleet.served.cpu_seconds - before) / _ROUNDS
    middle = median(seconds)
    note = (
        f"worst of {_ROUNDS}: {max(seconds):.2f} s; {count / middle:,.0f} leaves/s; "
        f"server CPU {spent / count * 1e3:.2f} ms each"
    )
    what = f"{count:,} live leaves: the last proxy has its new one"
    yield Row(what, middle, "s", target=TARGET, note=note)


def _taint(fleet: Fleet) -> float:
    signing = fleet.admin.get("/authorities")["signing"]
    started = fleet.leave()
    fleet.admin.post(f"/authorities/{signing}/taint", {"reason": "benchmark"})
    return fleet.moved_at() - started
