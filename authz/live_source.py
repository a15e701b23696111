"""What the loader of policies asks of a source that says by itself when it has changed."""

from collections.abc import Callable
from typing import Protocol

from authz.directory import Texts
from authz.status import SourceStatus


class LiveSource(Protocol):
    """A source that says by itself when it has changed; see `authz.kubernetes.watch`.

    `last_good` is what of it was last in force, as far as that is remembered.
    """

    last_good: Texts | None

    def start(self) -> None:
        """Read it for the first time, or what is remembered of it; blocking. Raises MeshcaError."""
        ...

    def texts(self) -> Texts:
        """Return what it holds now."""
        ...

    def accepted(self, texts: Texts) -> None:
        """Take note that `texts` of it are in force."""
        ...

    def status(self) -> SourceStatus:
        """Return how it stands."""
        ...

    async def run(self, changed: Callable[[], None]) -> None:
        """Follow it until cancelled, and call `changed` after each change."""
        ...
