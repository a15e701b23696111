"""Reading a YAML document strictly: what is wrong is noted with its place, and reading goes on.

The caller reads everything and looks at the problems afterwards, so that an author gets all of
them at once. What a method returns after a problem is only good for reading on.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final

from meshca.errors import Problem
from meshca.logs import clip
from meshca.yaml_source import Document, Path

MAXIMUM_PROBLEMS: Final = 1_000
"""Listed of one document; a text of nothing but mistakes must not cost more than a good one."""

_LONGEST_MESSAGE = 400
NOTHING: Final[Mapping[str, str]] = {}


@dataclass(slots=True)
class StrictReader:
    """Reads one document and collects its `problems`, and `warnings` that refuse nothing."""

    document: Document
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def problem(self, path: Path, message: str) -> None:
        """Note that what is at `path` is wrong."""
        if self.is_full:
            return
        self.problems.append(self.document.problem(path, clip(message, _LONGEST_MESSAGE)))
        if self.is_full:
            self.problems.append(self.document.problem((), "too many mistakes to list them all"))

    def unknown(self, path: Path, message: str, text: str, known: Collection[str]) -> None:
        """Note `message`, and which of `known` was probably meant by `text`."""
        if not self.is_full:
            self.problem(path, message + hint(text, known))

    @property
    def is_full(self) -> bool:
        """Return whether no more problems are listed."""
        return len(self.problems) >= MAXIMUM_PROBLEMS

    def warn(self, path: Path, message: str) -> None:
        """Note that what is at `path` may do something else than its author thinks."""
        if len(self.warnings) < MAXIMUM_PROBLEMS:
            self.warnings.append(self.document.problem(path, clip(message, _LONGEST_MESSAGE)))

    def mapping(
        self,
        path: Path,
        value: Any,
        known: Collection[str],
        *,
        ignored: Collection[str] = (),
        advice: Mapping[str, str] = NOTHING,
    ) -> Mapping[str, Any] | None:
        """Return `value` if it is a mapping, noting every key but those `known` and `ignored`.

        `advice` is what to say of keys that are refused by name.
        """
        if not isinstance(value, dict):
            self.problem(path, "missing or empty" if value is None else "must be a mapping")
            return None
        for key in value:
            if key in advice:
                self.problem((*path, key), advice[key])
            elif key not in known and key not in ignored:
                self.unknown((*path, key), "unknown field", key, known)
        return value

    def entries(self, path: Path, value: Any, *, at_most: int | None = None) -> list[Any]:
        """Return `value` if it is a list; an empty one is a problem, as is a longer one."""
        if not isinstance(value, list):
            self.problem(path, "must be a list")
            return []
        if not value:
            self.problem(path, f"an empty list says nothing; leave {path[-1]} out or write a value")
        if at_most is not None and len(value) > at_most:
            self.problem(path, f"has {len(value)} entries; at most {at_most} are allowed")
        return value

    def texts(
        self, path: Path, value: Any, *, at_most: int | None = None
    ) -> Iterator[tuple[Path, str]]:
        """Yield each text of the list `value` with its path; what is no text is a problem."""
        for index, entry in enumerate(self.entries(path, value, at_most=at_most)):
            text = self.text((*path, index), entry)
            if text is not None:
                yield (*path, index), text

    def text(self, path: Path, value: Any) -> str | None:
        """Return `value` if it is text; a number or a boolean is told to be quoted."""
        if isinstance(value, str):
            return value
        if isinstance(value, bool):
            self.problem(path, f'write it as text: "{str(value).lower()}"')
        elif isinstance(value, int | float):
            self.problem(path, f'write it as text: "{value}"')
        else:
            self.problem(path, "must be text")
        return None


def hint(text: str, known: Collection[str]) -> str:
    """Return `; did you mean X?` with the known word nearest to `text`, or nothing."""
    folded = {word.lower(): word for word in known}
    close = get_close_matches(text[:100].lower(), folded, n=1)
    return f"; did you mean {folded[close[0]]}?" if close else ""
