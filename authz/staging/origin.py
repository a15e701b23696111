"""Who brought a policy: the author of the applied version that it first appeared in.

The versions of the applied set are looked through from the newest backwards, as long as they hold
the policy with the same meaning: whoever applied something else since is not who wrote it. Only
the documents that speak of it are loaded, so that this is quick also where sets are large.
"""

from typing import Final

import sqlalchemy as sa

from authz.load import load_policies
from authz.load_memory import parts
from authz.policy import Policy
from authz.reading import applied_name
from authz.sources import PolicyOptions
from authz.store import AppliedSet, get, latest
from meshca.errors import InvalidDocument

LOOKED_THROUGH: Final = 200
"""Versions of the applied set; a policy that is older has no author that counts."""


def author_of(policy: Policy, engine: sa.Engine, options: PolicyOptions) -> str | None:
    """Return who first applied `policy` as it is; None when no applied set brought it.

    Also None when that was too long ago, or cannot be told. Reads the database: off the event
    loop. Raises StoreUnavailable.
    """
    applied, author = latest(engine), None
    if applied is None or policy.source != applied_name(applied.version):
        return None
    for _ in range(LOOKED_THROUGH):
        try:
            is_there = _holds(applied, policy, options)
        except InvalidDocument:
            return None
        if not is_there:
            return author
        author = applied.author
        if applied.version == 1:
            return author
        applied = get(engine, applied.version - 1)
    return None


def _holds(applied: AppliedSet, policy: Policy, options: PolicyOptions) -> bool:
    about = [text for text, _ in parts(applied.documents) if policy.name in text]
    loaded = load_policies(
        [(f"{applied_name(applied.version)}, {n}", text) for n, text in enumerate(about)],
        trust_domain=options.trust_domain,
        root_namespace=options.root_namespace,
        default=options.default,
        aliases=options.aliases,
        providers=options.providers,
    )
    same = loaded.by_namespace.get(policy.namespace, ())
    return any(each.name == policy.name and each.digest == policy.digest for each in same)
