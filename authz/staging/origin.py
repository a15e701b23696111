"""Who brought a policy: the author of the applied version that it first appeared in.

The versions of the applied set are looked through from the newest backwards, as long as they hold
the policy with the same meaning: whoever applied something else since is not who wrote it.
"""

from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from authz.policy import Policy, PolicySet
from authz.store import get, latest
from meshca.errors import InvalidDocument

LOOKED_THROUGH: Final = 200
"""Versions of the applied set; a policy that is older has no author that counts."""

LoadWith = Callable[[str], PolicySet]


def author_of(policy: Policy, engine: sa.Engine, load_with: LoadWith) -> str | None:
    """Return who first applied `policy` as it is; None when it is no applied set's.

    Also None when that was too long ago, or a version between does not load any more. Reads the
    database and loads policies: off the event loop. Raises StoreUnavailable.
    """
    applied, author = latest(engine), None
    for _ in range(LOOKED_THROUGH):
        if applied is None:
            return author
        try:
            is_there = _holds(policy, load_with(applied.documents))
        except InvalidDocument:
            return None
        if not is_there:
            return author
        author = applied.author
        applied = get(engine, applied.version - 1) if applied.version > 1 else None
    return None


def _holds(policy: Policy, policies: PolicySet) -> bool:
    return any(
        each.full_name == policy.full_name
        and each.digest == policy.digest
        and each.source.startswith("applied set ")
        for each in policies.by_namespace.get(policy.namespace, ())
    )
