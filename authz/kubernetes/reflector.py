"""Follows one kind of a cluster: lists it, watches it from there, and tells what happens.

    list -> watch -> (ended) watch again from where it was -> (too old) list again
      `-- failed: wait, longer each time, with jitter

Runs in a thread of its own, since a watch is a request that lasts; `tell` is called in it. Nothing
is kept here but the version to go on from: what is known, and what becomes of it while the API
server is away, is the business of who is told. Objects are read as they come, so that a list never
holds more than a page of them and what `read` makes.
"""

import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from authz.kubernetes.requests import KindMissing, Resource, VersionGone, Watch, list_pages
from meshca.api_server import FAILURES, ApiServerConnection
from meshca.clock import Clock
from meshca.logs import clip, get_logger

MAXIMUM_OBJECTS: Final = 250_000
_FLEETING_SECONDS: Final = 1.0

T = TypeVar("T")
log = get_logger("authz")


@dataclass(frozen=True, slots=True)
class Waits:
    """How long things last, in seconds; the longest retry bounds how late an end is noticed.

    `silence` ends a watch that nothing comes from: an API server sends a bookmark a minute.
    `settle` is how long a deletion waits until it is believed, `grace` how long one does that
    happened while the kind was missing.
    """

    first_retry: float = 0.5
    longest_retry: float = 30.0
    watch: float = 290.0
    silence: float = 90.0
    settle: float = 1.0
    grace: float = 300.0


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """Everything that there is."""

    objects: Mapping[str, T]


@dataclass(frozen=True, slots=True)
class Changed(Generic[T]):
    """One object is new or other than it was."""

    key: str
    value: T


@dataclass(frozen=True, slots=True)
class Deleted:
    """One object is gone."""

    key: str


@dataclass(frozen=True, slots=True)
class Current:
    """The API server answers: what was told is how things are."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The API server does not answer, or (`is_missing`) does not have the kind."""

    reason: str
    is_missing: bool = False


Event = Listed[Any] | Changed[Any] | Deleted | Current | Broken


@dataclass(slots=True, eq=False, kw_only=True)
class Reflector(Generic[T]):
    """Tells `tell` of `resource`; `read` returns an object's key and value."""

    connection: ApiServerConnection
    resource: Resource
    read: Callable[[Mapping[str, Any]], tuple[str, T]]
    tell: Callable[[Event], None]
    clock: Clock
    waits: Waits = Waits()
    maximum_objects: int = MAXIMUM_OBJECTS
    draw: random.Random = field(default_factory=random.SystemRandom)
    _version: str = ""
    _failures: int = 0
    _stopped: threading.Event = field(default_factory=threading.Event)
    _watch: Watch | None = None

    def start(self) -> None:
        """Begin to follow, in a thread that `stop` ends."""
        name = f"meshca-{self.resource.path.rpartition('/')[2]}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def stop(self) -> None:
        """End soon; nothing is told afterwards."""
        self._stopped.set()
        if (watch := self._watch) is not None:
            watch.interrupt()

    def list(self) -> dict[str, T]:
        """Return everything that there is, and remember where to watch from.

        Raises KindMissing, VersionGone and one of FAILURES.
        """
        objects: dict[str, T] = {}
        version = ""
        for page in list_pages(self.connection, self.resource):
            objects.update(self.read(item) for item in page["items"] or ())  # null: none
            version = page["metadata"]["resourceVersion"]
            if len(objects) > self.maximum_objects:
                raise ValueError(f"more than {self.maximum_objects} objects")
        self._version = version
        return objects

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._follow()
            except VersionGone:
                self._version = ""
                self._failures += 1  # what is too old at once must not be asked for in a rush
            except KindMissing:
                self._fail(Broken("the API server does not have this kind", is_missing=True))
            except FAILURES as error:
                self.connection.note(error)
                self._fail(Broken(explain(error)))
            except Exception as error:  # outermost: whatever came, the next try does
                log.exception("reflector_failed", path=self.resource.path)
                self._fail(Broken(repr(error)))
            if self._failures:
                self._stopped.wait(self._pause())

    def _follow(self) -> None:
        """List if need be, and watch once."""
        if not self._version:
            objects = self.list()
            self._say(Listed(objects))
        started = self.clock.monotonic()
        seconds = self.waits.watch * (0.8 + 0.2 * self.draw.random())
        self._watch = Watch(
            self.connection,
            self.resource,
            self._version,
            seconds=max(1.0, seconds),
            silence_seconds=self.waits.silence,
        )
        self._say(Current())
        try:
            seen = self._events(self._watch)
        finally:
            self._watch.close()
            self._watch = None
        is_fleeting = not seen and self.clock.monotonic() - started < _FLEETING_SECONDS
        self._failures = self._failures + 1 if is_fleeting else 0

    def _events(self, watch: Watch) -> int:
        """Tell of each event, and return how many there were."""
        count = 0
        for event in watch:
            if self._stopped.is_set():
                break
            count, self._failures = count + 1, 0
            item = event["object"]
            if event["type"] == "BOOKMARK":
                self._say(Current())
            elif event["type"] == "DELETED":
                self._say(Deleted(self.read(item)[0]))
            else:
                self._say(Changed(*self.read(item)))
            self._version = item["metadata"]["resourceVersion"]
        return count

    def _fail(self, what: Broken) -> None:
        self._failures += 1
        if what.is_missing:
            self._version = ""  # what comes back under the name is not what was there
        self._say(what)

    def _say(self, event: Event) -> None:
        if not self._stopped.is_set():
            self.tell(event)

    def _pause(self) -> float:
        longest = min(self.waits.first_retry * 2.0 ** min(self._failures - 1, 30),
                      self.waits.longest_retry)  # fmt: skip
        return longest * (0.5 + 0.5 * self.draw.random())


def explain(error: BaseException) -> str:
    """Return what went wrong in one line, without the request."""
    status, reason = getattr(error, "status", None), getattr(error, "reason", None)
    if status:
        return clip(f"{status} {reason}")
    return clip(f"{type(error).__name__}: {reason or error}")
