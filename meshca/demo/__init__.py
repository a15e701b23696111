"""`meshca demo`: the whole story on one machine, with real Envoys.

A server, three workloads with an Envoy each, and step by step: what should be seen, and what was.
Every process is real and speaks over the doors it has in production; the cluster is a stand-in
that signs tokens of Kubernetes' shape. Nothing is left behind: one temporary directory, removed at
the end unless `keep`, and processes that end with the demo.
"""

import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import httpx
from rich.console import Console

from meshca.clock import SystemClock
from meshca.demo import policies
from meshca.demo.mesh import STAGES, Mesh
from meshca.demo.observation import DemoFailed, Progress, Seen
from meshca.demo.screen import Screen
from meshca.demo.steps_audit import check_alone
from meshca.demo.steps_change import apply_policies, change_policy, rotate, show_trail
from meshca.demo.steps_identity import call, prove, refuse
from meshca.demo.steps_revocation import revoke

_WIDTH_OF_LOGS = 160


@dataclass(frozen=True, slots=True)
class Step:
    """One chapter: what it shows, and the function that looks."""

    title: str
    look: Callable[[Mesh], Iterator[Seen]]


def start(mesh: Mesh) -> Iterator[Seen]:
    """Start everything, then let frontend call orders and nobody else anything."""
    for number, what in enumerate(mesh.start()):
        yield Progress(what, number, STAGES)
    apply_policies(mesh, policies.ORDERS_ONLY, "demo: frontend may call orders")


STEPS = (
    Step("A mesh starts: a CA, a server, three workloads with an Envoy each", start),
    Step("Each proxy proves itself with its token and gets an SVID over SDS", prove),
    Step("frontend calls orders over mutual TLS", call),
    Step("The same call without an identity, and with tokens that are not good", refuse),
    Step("Certificates rotate under continuous traffic", rotate),
    Step("A policy change reaches the proxies", change_policy),
    Step("A stolen certificate is revoked, and its workload banned", revoke),
    Step("The audit trail of what just happened", show_trail),
    Step("What an auditor checks alone, with a public key", check_alone),
)


def run(*, keep: bool, steps: Sequence[Step] = STEPS) -> int:
    """Tell the story; return 0 only if every observation held.

    With `keep` the mesh goes on until Ctrl-C or SIGTERM.
    """
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        return _run(steps, keep=keep)
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(steps: Sequence[Step], *, keep: bool) -> int:
    screen = Screen(_console())
    directory = Path(tempfile.mkdtemp(prefix="meshca-demo-"))
    try:
        with Mesh(directory=directory, clock=SystemClock()) as mesh:
            _tell(mesh, screen, steps)
            screen.conclusion()
            if keep and mesh.workloads:
                _keep(mesh, screen.console)
    except KeyboardInterrupt:
        screen.console.print("\nstopped")
        return 0 if keep and not screen.failed else 1
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
    return 1 if screen.failed else 0


def _console() -> Console:
    """Return the console; without a terminal, wide enough that lines stay whole."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH_OF_LOGS, highlight=False)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _tell(mesh: Mesh, screen: Screen, steps: Sequence[Step]) -> None:
    for number, step in enumerate(steps, 1):
        screen.title(number, step.title, step.look.__doc__ or "")
        try:
            screen.show(step.look(mesh))
            mesh.processes.check()
        except (DemoFailed, httpx.HTTPError, OSError) as error:
            screen.failure(str(error))
            return


def _keep(mesh: Mesh, console: Console) -> None:
    console.print(f"\nIt goes on running until Ctrl-C; its files are in {mesh.directory}")
    for name, port in mesh.frontend.outbound.items():
        console.print(f"  frontend calls {name}:  curl http://127.0.0.1:{port}/items")
    for workload in mesh.workloads.values():
        console.print(f"  Envoy of {workload.name}: {workload.admin.url}")
    config = f"--config {mesh.config}"
    console.print("Try:")
    for command in (
        f"meshca status {config}",
        f"meshca proxies {config}",
        f"meshca svid list --live {config}",
        f"meshca audit query --outcome refused {config}",
        f"meshca dev token --namespace shop --service-account orders {config}",
    ):
        console.print(f"  {command}", soft_wrap=True)
    sys.stdout.flush()
    signal.pause()
