"""What witnesses have cosigned of our log, as `meshca audit verify --witness` demands it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from meshca.cli.client import AdminClient
from meshca.cli.failure import CommandFailed

if TYPE_CHECKING:
    from audit.note import VerifierKey

PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Witnessed:
    """The largest checkpoint that a witness has cosigned, and when."""

    name: str
    size: int
    time: str

    def as_json(self) -> dict[str, object]:
        """Return it as JSON."""
        return {"name": self.name, "size": self.size, "time": self.time}


def find_witnessed(client: AdminClient, witnesses: Sequence["VerifierKey"]) -> list[Witnessed]:
    """Return what each of `witnesses` has cosigned; raises CommandFailed for one that has nothing.

    That the kept checkpoints are of the log is what the server's verification has shown.
    """
    from audit.checkpoint import parse_checkpoint
    from audit.note import NoteRefused, parse_note, verify_note

    missing = {witness.name: witness for witness in witnesses}
    found: list[Witnessed] = []
    page = client.get("/audit/checkpoints", limit=PAGE) if missing else {"checkpoints": []}
    while missing and page["checkpoints"]:
        for each in page["checkpoints"]:
            note = parse_note(each["checkpoint"])
            for witness in tuple(missing.values()):
                try:
                    verified = verify_note(note, [witness])[0]
                except NoteRefused as error:
                    if error.reason == "not_signed":
                        continue
                    raise CommandFailed(f"the log is NOT intact: {error}") from error
                size = parse_checkpoint(note.text).size
                found.append(Witnessed(witness.name, size, _time(verified.time_seconds)))
                del missing[witness.name]
        if page["next"] is None:
            break
        page = client.get("/audit/checkpoints", limit=PAGE, cursor=page["next"])
    if missing:
        raise CommandFailed(f"no kept checkpoint is cosigned by {', '.join(sorted(missing))}")
    return found


def _time(seconds: int | None) -> str:
    return datetime.fromtimestamp(seconds or 0, UTC).isoformat().replace("+00:00", "Z")
