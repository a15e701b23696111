"""What differs between two policy sets, by name: for the audit record and the operator."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from authz.peer_authentication import PeerAuthentication
from authz.policy import Policy, PolicySet, digest_of
from authz.request_authentication import RequestAuthentication

MAXIMUM_NAMES: Final = 100
"""Names of one kind that `Change.details` holds."""
MAXIMUM_RECORDED: Final = 300
MAXIMUM_NAME_CHARACTERS: Final = 10_000
"""Names, and characters of them, that an audit entry holds; it always has their counts."""
MAXIMUM_DIFF_BYTES: Final = 24 * 1024
"""How much of the texts' difference an audit entry holds."""

_LEFT_OUT: Final = "\n[the rest of the difference is left out]\n"


@dataclass(frozen=True, slots=True)
class Change:
    """The documents that one set has and another has not, or has otherwise.

    An AuthorizationPolicy is `namespace/name`; documents of other kinds have the kind before it.
    `old` and `new` have the digest of each document that differs, by its name.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    before: str
    after: str
    old: Mapping[str, str] = field(default_factory=dict, repr=False)
    new: Mapping[str, str] = field(default_factory=dict, repr=False)

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

    @property
    def only(self) -> str:
        """Return the name of the one document that differs; empty if there are others."""
        names = (*self.added, *self.removed, *self.changed)
        return names[0] if len(names) == 1 else ""

    def recorded(self, diff: str) -> dict[str, Any]:
        """Return the change as the audit log has it: names, digests, and the texts' difference.

        What is too much for one entry is cut; `counts` are of everything.
        """
        named = self._fitting()
        return {
            "before": self.before,
            "after": self.after,
            "counts": {kind: len(names) for kind, names in self._kinds()},
            **named,
            "digests": {
                kind: [[self.old.get(name), self.new.get(name)] for name in names]
                for kind, names in named.items()
                if names
            },
            "diff": _fitting_diff(diff),
        }

    def _fitting(self) -> dict[str, list[str]]:
        room, characters = MAXIMUM_RECORDED, MAXIMUM_NAME_CHARACTERS
        named: dict[str, list[str]] = {}
        for kind, names in self._kinds():
            named[kind] = []
            for name in names:
                room, characters = room - 1, characters - len(name)
                if room < 0 or characters < 0:
                    break
                named[kind].append(name)
        return named

    def _kinds(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return (("added", self.added), ("removed", self.removed), ("changed", self.changed))


def difference(before: PolicySet, after: PolicySet) -> Change:
    """Return what has changed from `before` to `after`; both versions are in it."""
    old, new = _by_name(before), _by_name(after)
    added = tuple(name for name in new if name not in old)
    removed = tuple(name for name in old if name not in new)
    changed = tuple(name for name in new if name in old and new[name] != old[name])
    return Change(
        added=added,
        removed=removed,
        changed=changed,
        before=before.version,
        after=after.version,
        old={name: digest_of(old[name]) for name in (*removed, *changed)},
        new={name: digest_of(new[name]) for name in (*added, *changed)},
    )


def _fitting_diff(diff: str) -> str:
    """Return what of `diff` takes no more than its share of an entry, as JSON has it."""
    if len(orjson.dumps(diff)) <= MAXIMUM_DIFF_BYTES:
        return diff
    shortest, longest = 0, min(len(diff), MAXIMUM_DIFF_BYTES)
    while shortest < longest:
        middle = (shortest + longest + 1) // 2
        if len(orjson.dumps(diff[:middle])) <= MAXIMUM_DIFF_BYTES:
            shortest = middle
        else:
            longest = middle - 1
    return diff[:shortest] + _LEFT_OUT


def _by_name(
    policies: PolicySet,
) -> dict[str, Policy | PeerAuthentication | RequestAuthentication]:
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
