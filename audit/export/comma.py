"""CSV (RFC 4180): a row an entry, every cell quoted. Pure.

One row is one line, so that a file that was cut off can be gone on with. Cells hold `harmless`
text: what does not print is escaped, and what a spreadsheet would take for a formula begins with
an apostrophe. So CSV is for reading; what must be proved is exported as JSON Lines.
"""

from typing import Any, Final

import orjson

from audit.entry import TEXTS
from audit.export.text import harmless, visible
from audit.log import Stored

_SHOWN: Final = ("time", *TEXTS)
COLUMNS: Final = ("index", *_SHOWN, "details", "leaf_hash", "redacted")


def header() -> bytes:
    """Return the first line: the columns' names."""
    return _line(list(COLUMNS))


def row(stored: Stored) -> bytes:
    """Return the line of one entry; of one that is redacted, what is left of it."""
    document: dict[str, Any] = stored.document() or {}
    texts = [harmless(str(document.get(name, ""))) for name in _SHOWN]
    details = visible(orjson.dumps(document.get("details", {})).decode()) if document else ""
    redacted = "" if document else "true"
    return _line([str(stored.index), *texts, details, stored.leaf_hash.hex(), redacted])


def index_of(line: bytes) -> int | None:
    """Return the index of the entry in `line`; None if it is no entry's."""
    opened, *cells = line.split(b'"', 2)
    return int(cells[0]) if not opened and len(cells) == 2 and cells[0].isdigit() else None


def _line(cells: list[str]) -> bytes:
    quoted = ",".join('"' + cell.replace('"', '""') + '"' for cell in cells)
    return quoted.encode("utf-8", "replace") + b"\r\n"
