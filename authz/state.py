"""The policy set in force: one at a time, swapped whole.

Belongs to the event loop: `replace` and the callbacks run there. A reader that took `current`
keeps a set that never changes.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from authz.policy import PolicySet
from authz.reading import applied_name
from meshca.errors import Problem
from meshca.logs import get_logger

log = get_logger("authz")

_LOGGED_WARNINGS: Final = 50
_APPLIED: Final = applied_name(0).removesuffix("0")

Callback = Callable[[], None]


@dataclass(slots=True)
class PolicyState:
    """Holds `current` and tells subscribers when it changes; `generation` counts the changes."""

    current: PolicySet
    generation: int = 0
    _callbacks: dict[object, Callback] = field(default_factory=dict)

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Call `callback` after each change from now on; return what ends that."""
        key = object()
        self._callbacks[key] = callback

        def unsubscribe() -> None:
            self._callbacks.pop(key, None)

        return unsubscribe

    def replace(self, policies: PolicySet) -> bool:
        """Put `policies` in force; return False, and tell nobody, if it means the same as now."""
        if policies.version == self.current.version:
            return False
        self.current = policies
        self.generation += 1
        log.info("policy_in_force", version=policies.version, policies=len(policies.policies))
        for callback in tuple(self._callbacks.values()):
            try:
                callback()
            except Exception:  # one subscriber's error must not keep the set from the others
                log.exception("policy_subscriber_failed")
        return True


def log_new_warnings(before: PolicySet, policies: PolicySet) -> None:
    """Log the warnings that were not there before, wherever in their source they stand now."""
    known = Counter(_warning_key(problem) for problem in before.warnings)
    new = []
    for problem in policies.warnings:
        key = _warning_key(problem)
        if known[key]:
            known[key] -= 1
        else:
            new.append(problem)
    for problem in new[:_LOGGED_WARNINGS]:
        log.warning("policy_warning", problem=str(problem))
    if (more := len(new) - _LOGGED_WARNINGS) > 0:
        log.warning("policy_warnings_left_out", count=more)


def _warning_key(problem: Problem) -> tuple[str, str, str]:
    """Return what makes a warning another one: not its line, nor the applied set's version."""
    source = _APPLIED if problem.file.startswith(_APPLIED) else problem.file
    return source, problem.path, problem.message
