"""Who stands at an admin door, how that was proven, and what this one request is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from starlette.types import Scope

from admin.permissions import Guarded, Permission, permissions_of
from admin.roles import Role
from audit.entry import Json
from identity.caller import Caller

VISIT: Final = "visit"
"""The key of the visit in the ASGI scope's state."""


class Proof(StrEnum):
    """How somebody proved who they are."""

    UNIX = "unix_socket"
    SVID = "client_svid"
    OIDC = "oidc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Whoever asks, attested.

    `actor` is what the audit log calls them, and what second-person rules compare: `uid:0`,
    `oidc:ann`, `spiffe://...`. `subjects` are all names by which roles are given. `credential` is
    the id of what proved it (a token's, or a serial), `address` where from. `caller` is the
    attested workload of an SVID.
    """

    actor: str
    proof: Proof
    address: str
    subjects: frozenset[str]
    roles: frozenset[Role]
    credential: str = ""
    expires_at: datetime | None = None
    caller: Caller | None = None

    def may(self, permission: Permission) -> bool:
        """Return whether one of the roles allows it."""
        return permission in permissions_of(self.roles)

    @property
    def is_only_application(self) -> bool:
        """Return whether it may ask for decisions and do nothing else."""
        return self.roles == {Role.APPLICATION}

    def described(self) -> dict[str, Json]:
        """Return for the audit log how it was proven, and from where."""
        said: dict[str, Json] = {"proof": self.proof.value, "from": self.address}
        return {**said, **({"credential": self.credential} if self.credential else {})}


def _nothing() -> None:
    return None


@dataclass(slots=True)
class Visit:
    """One request: its id, who sent it, and, once it is known, the route that it is for.

    `parameters` returns what of the request is recorded, if it is: hashing what is long takes time.
    `is_rehearsal` says that a change is only tried; `release` gives back a place among the costly.
    """

    request_id: str
    visitor: Visitor | None = None
    route: Guarded | None = None
    parameters: Callable[[], Mapping[str, Json]] = dict
    is_rehearsal: bool = False
    release: Callable[[], None] = _nothing


def get_visit(scope: Scope) -> Visit:
    """Return the visit of a request; raises LookupError when the door did not say."""
    state: dict[str, Any] = scope.get("state", {})
    visit = state.get(VISIT)
    if not isinstance(visit, Visit):
        raise LookupError("the request did not come through the entrance")
    return visit


def get_visitor(scope: Scope) -> Visitor:
    """Return who sent the request; raises LookupError when nobody was attested."""
    visitor = get_visit(scope).visitor
    if visitor is None:
        raise LookupError("nobody was attested")
    return visitor
