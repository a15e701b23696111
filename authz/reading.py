"""What was read at one time from every source, before any of it is understood."""

from dataclasses import dataclass

from authz.directory import Texts
from authz.store import AppliedSet
from meshca.errors import Problem


@dataclass(frozen=True, slots=True)
class Reading:
    """The texts of directories and of each live source, what could not be read, what is applied."""

    texts: Texts
    problems: tuple[Problem, ...]
    applied: AppliedSet | None
    live: tuple[Texts, ...] = ()

    def all_texts(self) -> Texts:
        """Return every text: the files, the live sources, then the applied set."""
        named = [*self.texts, *(text for texts in self.live for text in texts)]
        if self.applied is not None:
            named.append((applied_name(self.applied.version), self.applied.documents))
        return tuple(named)

    def external_texts(self) -> Texts:
        """Return the texts that nobody brings in through a door of ours."""
        return (*self.texts, *(text for texts in self.live for text in texts))


def applied_name(version: int) -> str:
    """Return how problems name the applied set."""
    return f"applied set {version}"
