"""What differs between two policy sets, by name: for the audit record and the operator."""

from dataclasses import dataclass
from typing import Any

from authz.policy import PolicySet

MAXIMUM_NAMES = 100
"""Names of one kind that `Change.details` holds."""


@dataclass(frozen=True, slots=True)
class Change:
    """The documents that one set has and another has not, or has otherwise.

    An AuthorizationPolicy is `namespace/name`; documents of other kinds have the kind before it.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    before: str
    after: str

    def __str__(self) -> str:
        said = [f"{len(names)} {kind}" for kind, names in self._kinds() if names]
        return ", ".join(said) or "no policy changed"

    def details(self) -> dict[str, Any]:
        """Return the change as plain values: counts, and the first names of each kind."""
        return {
            "before": self.before,
            "after": self.after,
            **{
                kind: {"count": len(names), "policies": list(names[:MAXIMUM_NAMES])}
                for kind, names in self._kinds()
                if names
            },
        }

    def recorded(self, diff: str) -> dict[str, Any]:
        """Return the change as the audit log has it: every name, and the texts' difference."""
        return {
            "before": self.before,
            "after": self.after,
            **{kind: list(names) for kind, names in self._kinds()},
            "diff": diff,
        }

    def _kinds(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return (("added", self.added), ("removed", self.removed), ("changed", self.changed))


def difference(before: PolicySet, after: PolicySet) -> Change:
    """Return what has changed from `before` to `after`; both versions are in it."""
    old, new = _by_name(before), _by_name(after)
    return Change(
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        changed=tuple(name for name in new if name in old and new[name] != old[name]),
        before=before.version,
        after=after.version,
    )


def _by_name(policies: PolicySet) -> dict[str, object]:
    """Return every document by its name."""
    return {
        **{f"{each.namespace}/{each.name}": each for each in policies.policies},
        **{
            f"PeerAuthentication {each.namespace}/{each.name}": each
            for each in policies.peer_authentications
        },
        **{
            f"RequestAuthentication {each.namespace}/{each.name}": each
            for each in policies.request_authentications
        },
    }
