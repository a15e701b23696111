"""What is held of one kind: a pure state of objects, fed with what the reflector tells.

Rules. New and changed objects count at once. A deleted one stays for a moment (`leaving`) until
whoever asks has made sure that it was deleted for itself: an API server deletes the objects of a
kind before the kind's definition goes, and says so of each. While the kind is missing nothing
leaves; when it is back, what did not come back with it leaves after `grace`. So does, of what was
`restored` after a restart, what the first list lacks: the kind may have been gone meanwhile. While
the API server is away everything stays. `problem` says what keeps the objects from being current,
and `contact` when they last were.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from authz.kubernetes.reflector import Broken, Changed, Deleted, Event, Listed, Waits

MAXIMUM_CHARACTERS: Final = 128 * 1024 * 1024
"""All texts of one kind together."""


@dataclass(slots=True)
class Held:
    """The objects of one kind, text by key; `leaving` has the monotonic time of each one's end."""

    waits: Waits
    maximum: int = MAXIMUM_CHARACTERS
    objects: dict[str, str] = field(default_factory=dict)
    leaving: dict[str, float] = field(default_factory=dict)
    problem: str = ""
    is_missing: bool = False
    is_restored: bool = False
    contact: datetime | None = None

    def restore(self, objects: Mapping[str, str]) -> None:
        """Take `objects` as they were before a restart, until a list says how they are."""
        self.objects, self.is_restored = dict(objects), True

    def take(self, event: Event, now: datetime, seconds: float) -> bool:
        """Take note of `event`, and return whether `objects` have changed."""
        if isinstance(event, Broken):
            self._break(event)
            return False
        self.contact = now
        if isinstance(event, Listed):
            return self._replace(event.objects, seconds)
        if isinstance(event, Changed):
            self.leaving.pop(event.key, None)
            return self._put(event.key, event.value)
        if isinstance(event, Deleted):
            if event.key in self.objects:
                wait = math.inf if self.is_missing else self.waits.settle
                self.leaving[event.key] = seconds + wait
        elif not self.is_missing and self.problem != self._fullness():
            self.problem = ""
        return False

    def due(self, seconds: float) -> list[str]:
        """Return the keys whose time to leave has come."""
        return [key for key, due in self.leaving.items() if due <= seconds]

    def next_due(self) -> float:
        """Return when the next object leaves; infinity if none does."""
        return min(self.leaving.values(), default=math.inf)

    def drop(self, keys: Iterable[str]) -> None:
        """Let the objects with `keys` go."""
        for key in keys:
            self.objects.pop(key, None)
            self.leaving.pop(key, None)

    def postpone(self, seconds: float) -> None:
        """Ask later again whether what is due was deleted for itself."""
        for key in self.due(seconds):
            self.leaving[key] = seconds + max(self.waits.settle, self.waits.first_retry)

    def _break(self, event: Broken) -> None:
        self.problem = event.reason
        self.is_missing = self.is_missing or event.is_missing
        if self.is_missing:
            self.leaving = dict.fromkeys(self.leaving, math.inf)

    def _replace(self, objects: Mapping[str, str], seconds: float) -> bool:
        """Take a whole list; what is not in it begins to leave."""
        if sum(map(len, objects.values())) > self.maximum:
            self.problem = self._fullness()
            return False
        has_grace = self.is_missing or self.is_restored
        wait = self.waits.grace if has_grace else self.waits.settle
        known = {} if self.is_missing else self.leaving
        gone = self.objects.keys() - objects.keys()
        self.leaving = {key: known.get(key, seconds + wait) for key in gone}
        self.is_missing, self.is_restored, self.problem = False, False, ""
        before = self.objects
        self.objects = {**before, **objects}
        return self.objects != before

    def _put(self, key: str, text: str) -> bool:
        if self.objects.get(key) == text:
            return False
        total = sum(map(len, self.objects.values())) - len(self.objects.get(key, ""))
        if total + len(text) > self.maximum:
            self.problem = self._fullness()
            return False
        self.objects[key] = text
        return True

    def _fullness(self) -> str:
        return f"more than {self.maximum} characters; the newest objects are not taken"
