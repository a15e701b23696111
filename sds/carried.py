"""Which revocations the versions of resources carry: what an acknowledgement proves.

Noted when a resource is made, from the view that it is made of. The same bytes have the same
version, so one that is made again for a later view carries that one's revocations, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ca.revocation.view import RevocationView

MAXIMUM_VERSIONS: Final = 1024
"""The oldest is forgotten first; whoever has acknowledged nothing later counts as behind."""


@dataclass(frozen=True, slots=True)
class Carried:
    """What a version says: everything up to `revision`, and of each list up to which revision.

    A context without lists has none; a filter has none either, and denies up to `revision`.
    """

    revision: int
    lists: Mapping[str, int] = field(default_factory=dict)

    def lists_all(self, wanted: Mapping[str, int]) -> bool:
        """Return whether the lists refuse what was revoked up to `wanted`, by authority.

        An authority without a list beside others is refused as a whole.
        """
        return bool(self.lists) and all(
            self.lists.get(name, revision) >= revision for name, revision in wanted.items()
        )


@dataclass(slots=True)
class CarriedVersions:
    """What each version that was made lately carries."""

    _by_version: dict[str, Carried] = field(default_factory=dict)

    def note(self, version: str, view: RevocationView, *, has_lists: bool) -> None:
        """Note that `version` was made of `view`, with or without its lists."""
        lists = {crl.authority_id: crl.revision for crl in view.lists} if has_lists else {}
        self._by_version.pop(version, None)
        self._by_version[version] = Carried(view.revision, lists)
        if len(self._by_version) > MAXIMUM_VERSIONS:
            del self._by_version[next(iter(self._by_version))]

    def find(self, version: str) -> Carried | None:
        """Return what `version` carries; None when it is not known here."""
        return self._by_version.get(version)
