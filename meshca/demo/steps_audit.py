"""What an auditor can check alone, with the log's public key and no server."""

from collections.abc import Iterator
from pathlib import Path

from meshca.demo.mesh import Mesh, identity
from meshca.demo.observation import DemoFailed, Observation, Seen, observe, wait_until

SIGNED_SECONDS = 10.0


def check_alone(mesh: Mesh) -> Iterator[Seen]:
    """A certificate's story, an export and a report: signed, and worthless once changed."""
    newest = mesh.query("svid", "list", "--identity", identity("orders"))["svids"][0]
    _await_signed(mesh, newest["serial"])
    story = mesh.query("audit", "certificate", newest["serial"])
    yield observe("orders' certificate: issued here", expected="issued", seen=story["verdict"])
    yield Observation(
        "its entry is in the log that was signed",
        "proven",
        f"entry {story['entry']['index']} of {story['entry']['checkpoint']}",
        story["entry"]["proven"] is True,
    )
    key = mesh.query("audit", "keys")["keys"][0]["key"]
    export, report = mesh.directory / "audit.jsonl", mesh.directory / "report"
    mesh.meshca("audit", "export", "-o", str(export))
    mesh.meshca("audit", "report", "--from", "1h", "-d", str(report))
    yield _holds(mesh, "an export of the log verifies offline", "verify-export", export, key)
    yield _holds(mesh, "a report of the last hour verifies offline", "verify-report", report, key)
    _change(export)
    yield Observation(
        "the export with one byte changed is refused",
        "refused",
        "accepted" if _verifies(mesh, "verify-export", export, key) else "refused",
        not _verifies(mesh, "verify-export", export, key),
    )


def _await_signed(mesh: Mesh, serial: str) -> None:
    """Wait until a checkpoint holds the entry of a certificate: a second at most."""

    def is_signed() -> bool:
        return mesh.query("audit", "certificate", serial)["entry"]["proven"] is True

    wait_until(
        is_signed,
        within_seconds=SIGNED_SECONDS,
        what="a checkpoint holds the entry",
        clock=mesh.clock,
    )


def _holds(mesh: Mesh, what: str, command: str, path: Path, key: str) -> Observation:
    is_held = _verifies(mesh, command, path, key)
    return Observation(what, "verified", "verified" if is_held else "refused", is_held)


def _verifies(mesh: Mesh, command: str, path: Path, key: str) -> bool:
    try:
        mesh.meshca("audit", command, str(path), "--key", key)
    except DemoFailed:
        return False
    return True


def _change(path: Path) -> None:
    """Flip one letter in the middle of the second line: the body of the first entry."""
    lines = path.read_bytes().split(b"\n")
    middle = len(lines[1]) // 2
    lines[1] = lines[1][:middle] + bytes([lines[1][middle] ^ 1]) + lines[1][middle + 1 :]
    path.write_bytes(b"\n".join(lines))
