"""Who has which role: subjects of the configuration, held against what a visitor has proven.

Root and the user that the server runs as are admins at the unix socket: whoever is one of them can
read the keys anyway. Nobody else has a role that the configuration does not give.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from meshca.settings_admin import ANY, AdminConfig

_BELOW: Final = "/*"


class Role(StrEnum):
    """What somebody is at the admin doors; what each may do is in `admin.permissions`."""

    ADMIN = "admin"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    APPLICATION = "application"


@dataclass(frozen=True, slots=True)
class Roles:
    """The roles of subjects (`uid:0`, `oidc-group:mesh`), and of SVIDs below a path.

    `namespaces` says, of an application, of whose workloads it may ask; `*` is all of them.
    """

    exact: Mapping[str, frozenset[Role]] = field(default_factory=dict)
    below: Mapping[str, frozenset[Role]] = field(default_factory=dict)
    namespaces: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def of(self, subjects: Iterable[str]) -> frozenset[Role]:
        """Return every role of whoever has proven to be all of `subjects`."""
        found: set[Role] = set()
        for subject in subjects:
            found |= self.exact.get(subject, frozenset())
            for path in _paths_above(subject):
                found |= self.below.get(path, frozenset())
        return frozenset(found)

    def namespaces_of(self, subjects: Iterable[str]) -> frozenset[str]:
        """Return the namespaces that an application may ask about besides its own workload."""
        found: set[str] = set()
        for subject in subjects:
            for name in (subject, *(path + _BELOW for path in _paths_above(subject))):
                found |= self.namespaces.get(name, frozenset())
        return frozenset(found)

    def uids(self) -> frozenset[int]:
        """Return the users of this machine that have any role."""
        named = (subject.partition("uid:") for subject in self.exact)
        return frozenset(int(uid) for before, kind, uid in named if kind and not before)


def may_ask_about(namespaces: frozenset[str], namespace: str) -> bool:
    """Return whether `namespace` is among `namespaces`, as `Roles.namespaces_of` returns them."""
    return ANY in namespaces or namespace in namespaces


def build_roles(config: AdminConfig, local_admins: Iterable[int]) -> Roles:
    """Return the roles of the configuration; `local_admins` are admins whatever it says."""
    exact: dict[str, set[Role]] = {f"uid:{uid}": {Role.ADMIN} for uid in local_admins}
    below: dict[str, set[Role]] = {}
    for role in Role:
        for subject in getattr(config.roles, role.value):
            is_below = subject.endswith(_BELOW) and subject.startswith("spiffe://")
            table, name = (below, subject.removesuffix(_BELOW)) if is_below else (exact, subject)
            table.setdefault(name, set()).add(role)
    return Roles(
        {subject: frozenset(roles) for subject, roles in exact.items()},
        {path: frozenset(roles) for path, roles in below.items()},
        {subject: frozenset(names) for subject, names in config.applications.items()},
    )


def _paths_above(subject: str) -> Iterable[str]:
    """Yield the IDs above a SPIFFE ID, up to its trust domain; nothing for any other subject."""
    if not subject.startswith("spiffe://"):
        return
    path = subject
    while path.count("/") > 2:  # the two of `spiffe://`
        path = path.rpartition("/")[0]
        yield path
