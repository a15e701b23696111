"""Who brought a policy: the author of the applied version in which its unbroken run began.

The versions of the applied set are looked through from the newest backwards, as long as they hold
the policy with the same meaning: whoever applied something else since is not who wrote it, and
once a version did not hold it, it is brought anew. Only the documents that speak of it are loaded,
so that this is quick also where sets are large.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from authz.load import load_policies
from authz.load_memory import parts
from authz.reading import applied_name
from authz.sources import PolicyOptions
from authz.store import AppliedSet, get, latest_version
from meshca.errors import InvalidDocument

LOOKED_THROUGH: Final = 200
"""Versions of the applied set; a policy that is older has no author that counts."""

NOT_APPLIED: Final = 0
UNTOLD: Final = -1
"""In place of the version in which a run began: it is older, or a version does not load now."""

Named = tuple[str, str]
"""A policy as `namespace/name`, and the digest of what it means."""


@dataclass(slots=True, kw_only=True)
class AppliedRuns:
    """Tells in which applied version the run of a policy began; the same on every replica.

    Reads the database, off the event loop; versions never change, so each is looked at once.
    """

    engine: sa.Engine
    options: PolicyOptions
    _held: dict[tuple[Named, int], bool | None] = field(default_factory=dict)

    def began(self, policies: Iterable[Named]) -> dict[str, int]:
        """Return where the run of each policy began, by digest; others are forgotten.

        NOT_APPLIED where the newest applied set does not hold it. Raises StoreUnavailable.
        """
        asked = set(policies)
        self._held = {key: held for key, held in self._held.items() if key[0] in asked}
        if not asked:
            return {}
        newest = latest_version(self.engine)
        return {named[1]: self._began(named, newest) for named in asked}

    def _began(self, named: Named, newest: int) -> int:
        oldest = max(1, newest - LOOKED_THROUGH + 1)
        for version in range(newest, oldest - 1, -1):
            if (named, version) not in self._held:
                self._held[named, version] = self._look(named, version)
            held = self._held[named, version]
            if held is None:
                return UNTOLD
            if not held:
                return NOT_APPLIED if version == newest else version + 1
        if newest == 0:
            return NOT_APPLIED
        return oldest if oldest == 1 else UNTOLD

    def _look(self, named: Named, version: int) -> bool | None:
        try:
            return _holds(get(self.engine, version), named, self.options)
        except InvalidDocument:
            return None


def author_of(began: int, engine: sa.Engine) -> str | None:
    """Return who applied the version in which a run began; None without one that can be told.

    Reads the database: off the event loop. Raises StoreUnavailable.
    """
    return None if began in (NOT_APPLIED, UNTOLD) else get(engine, began).author


def _holds(applied: AppliedSet, named: Named, options: PolicyOptions) -> bool:
    full_name, digest = named
    namespace, _, name = full_name.partition("/")
    about = [text for text, _ in parts(applied.documents) if name in text]
    loaded = load_policies(
        [(f"{applied_name(applied.version)}, {n}", text) for n, text in enumerate(about)],
        trust_domain=options.trust_domain,
        root_namespace=options.root_namespace,
        default=options.default,
        aliases=options.aliases,
        providers=options.providers,
    )
    same = loaded.by_namespace.get(namespace, ())
    return any(each.name == name and each.digest == digest for each in same)
