"""What the server recorded, read the way an operator reads it: `meshca audit query`."""

from typing import Any

from meshca.demo.mesh import Mesh
from meshca.demo.observation import wait_until

RECORDED_SECONDS = 15.0

Entry = dict[str, Any]


def last_index(mesh: Mesh) -> int:
    """Return the index of the newest audit entry, -1 when there is none."""
    entries = mesh.query("audit", "query", "--limit", "1")["entries"]
    return int(entries[0]["index"]) if entries else -1


def entries_after(mesh: Mesh, index: int, *filters: str) -> list[Entry]:
    """Return the audit entries after `index` that match `filters`, oldest first."""
    entries: list[Entry] = []
    cursor: int | None = index
    while cursor is not None:
        page = ("--oldest-first", "--limit", "1000", "--cursor", str(cursor))
        answer = mesh.query("audit", "query", *page, *filters)
        entries += answer["entries"]
        cursor = answer["next"]
    return entries


def await_refusal(mesh: Mesh, after: int, reason: str) -> Entry:
    """Return the first refusal for `reason` after entry `after`; raises DemoFailed if none."""
    found: list[Entry] = []

    def is_recorded() -> bool:
        refusals = entries_after(mesh, after, "--kind", "refusal")
        found.extend(entry for entry in refusals if entry["reason"] == reason)
        return bool(found)

    wait_until(
        is_recorded,
        within_seconds=RECORDED_SECONDS,
        what=f"the audit log holds a refusal with the reason {reason}",
        clock=mesh.clock,
    )
    return found[0]
