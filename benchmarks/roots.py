"""A whole root replaced: for thousands of simulated proxies, and for real Envoys under traffic.

The upstream gets a second root, and the replacement is asked for at the admin door. From then on
the server goes on by itself, looking every five seconds whether it may; what it says of its phases
is read several times a second. Draining takes as long as the last certificate under the old root
lives: the lifetime of certificates, which is in the note.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.development import TRUST_DOMAIN, temporary
from benchmarks.envoys import pairs
from benchmarks.figure import Context, Row
from benchmarks.fleet import Fleet, connected
from ca.upstream.self_signed import add_root
from meshca.cli.client import AdminClient, connect
from meshca.clock import SystemClock
from tests.end_to_end.server import RunningServer

TITLE = "A root replaced"
FLEET_LIFETIME: Final = "1m"
ENVOY_LIFETIME: Final = "20s"
_PHASES: Final = {
    "propagate": "announced, and every proxy has acknowledged it",
    "switch": "an authority under it signs",
    "reissue": "every leaf replaced",
    "drain": "nothing alive chains to the old root",
    "remove": "the old root is out of the bundle",
}
_POLL_SECONDS: Final = 0.1
_LONGEST_SECONDS: Final = 300.0
_REASON: Final = {"reason": "benchmark"}


def run(context: Context) -> Iterator[Row]:
    """Measure two thousand simulated proxies, and twenty real Envoys."""
    proxies, couples = context.scale(2000, 200), context.scale(10, 2)
    with (
        temporary(svid=FLEET_LIFETIME) as development,
        context.progress(f"{proxies:,} proxies", 1),
        connected(development, proxies) as fleet,
    ):
        yield from _fleet(fleet)
    with context.progress(f"{2 * couples} Envoys", 1):
        yield from _envoys(couples)


def _fleet(fleet: Fleet) -> Iterator[Row]:
    cpu = fleet.served.cpu_seconds
    started = fleet.leave()
    ended = _replace(fleet.admin, fleet.development.directory)
    moved = fleet.moved_at() - started
    spent = fleet.served.cpu_seconds - cpu
    what, before = f"{fleet.proxies:,} proxies", started
    for phase, meaning in _PHASES.items():
        note = f"certificates live {FLEET_LIFETIME}" if phase == "drain" else ""
        yield Row(
            f"{what}: {phase}", ended[phase] - before, "s", note=f"{meaning}; {note}".rstrip("; ")
        )
        before = ended[phase]
    note = f"the last has a certificate under it after {moved:.1f} s; server CPU {spent:.1f} s"
    yield Row(f"{what}: in all", ended["remove"] - started, "s", note=note)


def _envoys(couples: int) -> Iterator[Row]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="meshca-bench-")))
        server = stack.enter_context(RunningServer(directory, svid=ENVOY_LIFETIME))
        under_traffic = stack.enter_context(pairs(server, couples))
        with under_traffic:
            started = time.monotonic()
            ended = _replace(connect(server.config, None), server.config.parent)
            time.sleep(2)  # traffic on the new root alone
    what = f"{2 * couples} Envoys under traffic"
    yield from under_traffic.rows(what)
    note = f"certificates live {ENVOY_LIFETIME}"
    yield Row(f"{what}: in all", ended["remove"] - started, "s", note=note)


def _replace(admin: AdminClient, directory: Path) -> dict[str, float]:
    """Replace the root; return when each phase had ended."""
    add_root(directory, trust_domain=TRUST_DOMAIN, now=SystemClock().now())
    admin.post("/roots/replace", _REASON)
    ended: dict[str, float] = {}
    deadline = time.monotonic() + _LONGEST_SECONDS
    while "remove" not in ended:
        _note_ended(admin.get("/roots"), ended)
        if time.monotonic() > deadline:
            raise RuntimeError(f"the root is not replaced after {_LONGEST_SECONDS:.0f} s: {ended}")
        time.sleep(_POLL_SECONDS)
    return ended


def _note_ended(answer: dict[str, Any], ended: dict[str, float]) -> None:
    """Note the phases that have ended, each only after the one before."""
    now = time.monotonic()
    left = {phase["name"]: phase["remaining"] for phase in answer["phases"]}
    for phase in _PHASES:
        if answer["under_way"] and left[phase] > 0:
            return
        ended.setdefault(phase, now)
