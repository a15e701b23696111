"""Intermediates that live two minutes: taken over again and again under traffic on real Envoys.

Beside the traffic, every live leaf in the inventory is held against its authority every second or
two: one that outlives its authority, or whose authority has ended, has no live chain.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Self

from benchmarks.envoys import NONE, pairs
from benchmarks.figure import Context, Row, Target
from meshca.cli.client import AdminClient, connect
from meshca.clock import SystemClock
from tests.end_to_end.server import RunningServer

TITLE = "Intermediates taken over, two real Envoys"
LEAF: Final = "20s"
INTERMEDIATE: Final = "2m"
_LONGEST_TURN: Final = 90
"""Seconds after which the next one must sign: two thirds of a life, and the time to look."""
_EVERY_SECONDS: Final = 1.0
_MOST_LEAVES: Final = 1000


def run(context: Context) -> Iterator[Row]:
    """Measure ten minutes, or two."""
    seconds = context.scale(600, 120)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="meshca-bench-")))
        lived = RunningServer(directory, svid=LEAF, intermediate=INTERMEDIATE)
        server = stack.enter_context(lived)
        under_traffic = stack.enter_context(pairs(server, 1))
        advance = stack.enter_context(context.progress("seconds", seconds))
        with Chains(connect(server.config, None)) as chains, under_traffic:
            for second in range(seconds):
                time.sleep(1)
                advance(second + 1)
    yield from under_traffic.rows(f"{seconds} s")
    note = f"of {chains.leaves:,} leaves, looked at {chains.looks:,} times; {chains.example}"
    what = "leaves without a live chain"
    yield Row(what, len(chains.broken), "", target=NONE, note=note.rstrip("; "))
    target = Target(seconds // _LONGEST_TURN)
    note = f"certificates live {LEAF}, intermediates {INTERMEDIATE}"
    yield Row("intermediates taken over", len(chains.signers) - 1, "", target=target, note=note)


class Chains:
    """Looks, while its `with` block runs, for leaves whose authority does not carry them."""

    def __init__(self, admin: AdminClient) -> None:
        self._admin = admin
        self._seen: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.broken: set[str] = set()
        self.signers: set[str] = set()
        self.example = ""
        self.looks = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def leaves(self) -> int:
        """Return how many leaves were looked at."""
        return len(self._seen)

    def _watch(self) -> None:
        while not self._stop.wait(_EVERY_SECONDS):
            self._look()
            self.looks += 1

    def _look(self) -> None:
        leaves = self._admin.get("/svids", live="true", limit=_MOST_LEAVES)["svids"]
        answer = self._admin.get("/authorities")
        self.signers.add(answer["signing"])
        authorities = {a["authority_id"]: a for a in answer["authorities"]}
        now = SystemClock().now()  # after both answers: an authority ends after its last leaf
        for leaf in leaves:
            self._seen.add(leaf["serial"])
            why = _fault(leaf, authorities[leaf["authority_id"]], now)
            if why:
                self.broken.add(leaf["serial"])
                self.example = f"{leaf['serial']}: {why}"


def _fault(leaf: dict[str, Any], authority: dict[str, Any], now: datetime) -> str:
    """Return why `leaf` has no live chain though it is alive; empty when it has, or has ended."""
    leaf_ends, ends = (datetime.fromisoformat(each["not_after"]) for each in (leaf, authority))
    if leaf_ends <= now:
        return ""
    if authority["stage"] not in ("active", "retiring"):
        return f"its authority is {authority['stage']}"
    return "it outlives its authority" if leaf_ends > ends else ""
