"""A workload's key is believed stolen: its certificate is revoked, it is banned, and comes back."""

from collections.abc import Iterator

from meshca.demo.mesh import Mesh, identity
from meshca.demo.observation import Observation, Seen, observe, wait_until
from meshca.demo.steps_identity import get

CUT_OFF_SECONDS = 1.0
BACK_SECONDS = 60.0
_WHY = "demo: its key is believed stolen"


def revoke(mesh: Mesh) -> Iterator[Seen]:
    """What is revoked is refused within a second, on open connections too."""
    yield observe("frontend calls orders", expected=200, seen=get(mesh, "orders").status_code)
    stolen = identity("frontend")
    decided = mesh.query(
        *("svid", "revoke", "--spiffe-id", stolen, "--ban"),
        *("--reason", "keyCompromise", "--why", _WHY, "--yes-revoke-" + _number(mesh, stolen)),
    )
    seconds = _await(mesh, is_served=False)
    yield Observation(
        "its key is believed stolen, and revoked: orders refuses it",
        expected=f"refused within {CUT_OFF_SECONDS:g} s of the command",
        seen=f"{get(mesh, 'orders').status_code}, {seconds:.2f} s after it was done",
        held=seconds <= CUT_OFF_SECONDS,
    )
    yield observe("it is banned, and has no other certificate", expected="0", seen=_good(mesh))
    mesh.meshca("svid", "unban", decided["ban"]["ban"], "--why", "demo: the key was changed")
    seconds = _await(mesh, is_served=True)
    yield Observation(
        "the ban is lifted: it gets a new certificate, and calls orders",
        expected="200",
        seen=f"{get(mesh, 'orders').status_code}, {seconds:.1f} s after it was done",
        held=get(mesh, "orders").status_code == 200,
    )


def _live(mesh: Mesh) -> list[bool]:
    """Return, for each live certificate of frontend, whether it is revoked."""
    found = mesh.query("svid", "list", "--identity", identity("frontend"), "--live")["svids"]
    return [bool(svid["revoked"]) for svid in found]


def _good(mesh: Mesh) -> str:
    return str(_live(mesh).count(False))


def _number(mesh: Mesh, spiffe_id: str) -> str:
    """Return how many certificates would be hit: what must be confirmed when they are many."""
    chosen = ("--spiffe-id", spiffe_id, "--reason", "keyCompromise", "--why", _WHY)
    return str(mesh.query("svid", "revoke", *chosen, "--dry-run")["count"])


def _await(mesh: Mesh, *, is_served: bool) -> float:
    """Call orders until it answers 200, or does not any more; return the seconds."""
    return wait_until(
        lambda: (get(mesh, "orders").status_code == 200) == is_served,
        within_seconds=BACK_SECONDS,
        what=f"frontend's calls to orders are {'answered' if is_served else 'refused'}",
        clock=mesh.clock,
    )
