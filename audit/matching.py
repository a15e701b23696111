"""Whether an entry is one that is asked for: by its body, which alone decides.

Looking for the value's JSON in the text first spares parsing most of those that are not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import orjson

from audit.index.search import Span
from audit.index.terms import has_term, key_of
from audit.log import checked_body

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class StoredRow(Protocol):
    """A row of the table of entries."""

    @property
    def leaf_index(self) -> int: ...  # columns of audit.tree.audit_entries
    @property
    def time(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def leaf_hash(self) -> bytes: ...
    @property
    def body(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """Entries within `span` that have all `terms`, and `text` anywhere, in any case."""

    terms: Sequence[tuple[str, str]]
    span: Span
    text: str | None = None
    _needles: tuple[str, ...] = field(init=False)
    _text: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_needles", tuple(_json(value) for _, value in self.terms))
        inside = "" if self.text is None else _json(self.text)[1:-1]
        object.__setattr__(self, "_text", inside.casefold())

    def keys(self) -> list[int]:
        """Return what the index is asked for."""
        return [key_of(name, value) for name, value in self.terms]

    def match(self, row: StoredRow) -> Mapping[str, Any] | None:
        """Return the body of `row`, or what is left of it, if it is one of them; else None.

        Raises EvidenceBroken for one that is not what was logged, whether it is asked for or not:
        what was changed must not hide by that.
        """
        if not self.span.holds(row.time):
            return None
        body = row.body
        if body is None:
            return self._redacted(row)
        data = checked_body(row.leaf_index, body, row.leaf_hash)
        if any(needle not in body for needle in self._needles):
            return None
        if self._text and self._text not in body.casefold():
            return None
        document: Mapping[str, Any] = orjson.loads(data)
        if all(has_term(document, name, value) for name, value in self.terms):
            return document
        return None

    def _redacted(self, row: StoredRow) -> Mapping[str, Any] | None:
        """Return what is left of a redacted entry: it has a kind and a time, and says no more."""
        if self._text or any(term != ("kind", row.kind) for term in self.terms):
            return None
        time = (_EPOCH + timedelta(microseconds=row.time)).isoformat().replace("+00:00", "Z")
        return {"index": row.leaf_index, "time": time, "kind": row.kind, "redacted": True}


def _json(text: str) -> str:
    """Return `text` as a body has it."""
    return orjson.dumps(text.encode("utf-8", "replace").decode()).decode()
