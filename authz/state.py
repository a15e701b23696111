"""The policy set in force: one at a time, swapped whole.

Belongs to the event loop: `replace` and the callbacks run there. A reader that took `current`
keeps a set that never changes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from authz.policy import PolicySet
from meshca.logs import get_logger

log = get_logger("authz")

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
