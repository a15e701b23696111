"""What each route of the admin API needs, and which role may do what: one table, default deny.

A route that is not in `TABLE` stops the server at its start, so that none is ever open because
somebody forgot it. What a permission means:

    enter   learn who one is here, and get the console, which holds no data: whoever has any role
    look    whether the service works, and what is public anyway: no evidence, and not recorded
    read    evidence and policy; each answer is recorded before it goes out (kind `read`)
    check   ask for a decision; whoever may read, about anything; an application, about itself
    operate what operators do: revoke, ban, renew, step authorities and roots, change policy
    govern  whom we trust besides ourselves, the keys of the log, and what of it is kept

Nothing here changes or deletes an entry of the audit log: there is no such route.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from admin.roles import Role


class Permission(StrEnum):
    """What a route needs of whoever asks."""

    ENTER = "enter"
    LOOK = "look"
    READ = "read"
    CHECK = "check"
    OPERATE = "operate"
    GOVERN = "govern"


_P = Permission
GRANTS: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.ADMIN: frozenset(Permission),
    Role.OPERATOR: frozenset({_P.ENTER, _P.LOOK, _P.READ, _P.CHECK, _P.OPERATE}),
    Role.AUDITOR: frozenset({_P.ENTER, _P.LOOK, _P.READ, _P.CHECK}),
    Role.APPLICATION: frozenset({_P.ENTER, _P.CHECK}),
}
"""What each role may do."""
CHANGING: Final = frozenset({Permission.OPERATE, Permission.GOVERN})


@dataclass(frozen=True, slots=True)
class Rule:
    """What a route needs; of those that are `costly` nobody has more than a few at once.

    `is_telling`: it changes something, and its answer shows evidence also when nothing changed; so
    the answer is recorded as a read.
    """

    permission: Permission
    is_costly: bool = False
    is_telling: bool = False


ENTER: Final = Rule(Permission.ENTER)
LOOK: Final = Rule(Permission.LOOK)
READ: Final = Rule(Permission.READ)
COSTLY_READ: Final = Rule(Permission.READ, is_costly=True)
CHECK: Final = Rule(Permission.CHECK)
OPERATE: Final = Rule(Permission.OPERATE)
OPERATE_AND_TELL: Final = Rule(Permission.OPERATE, is_telling=True)
GOVERN: Final = Rule(Permission.GOVERN)

TABLE: Final[Mapping[str, Rule]] = {
    "GET /console": ENTER,
    "GET /console/": ENTER,
    "GET /console/{name}": ENTER,
    "GET /v1/whoami": ENTER,
    "GET /v1/status": LOOK,
    "GET /v1/bundle": LOOK,
    "GET /v1/svids": READ,
    "GET /v1/svids/{serial}": READ,
    "POST /v1/svids/renew": OPERATE,
    "GET /v1/proxies": READ,
    "GET /v1/audit/entries": READ,
    "GET /v1/audit/entries/{index}": READ,
    "GET /v1/audit/count": READ,
    "GET /v1/audit/follow": COSTLY_READ,
    "GET /v1/audit/verify": COSTLY_READ,
    "POST /v1/audit/verify": COSTLY_READ,
    "GET /v1/audit/checkpoint": LOOK,
    "GET /v1/audit/checkpoints": LOOK,
    "GET /v1/audit/proof/inclusion": LOOK,
    "GET /v1/audit/proof/consistency": LOOK,
    "GET /v1/audit/proof/entry": READ,
    "GET /v1/audit/export": COSTLY_READ,
    "GET /v1/audit/identity": READ,
    "POST /v1/audit/certificate": READ,
    "POST /v1/audit/at": COSTLY_READ,
    "POST /v1/audit/report": COSTLY_READ,
    "GET /v1/audit/keys": LOOK,
    "GET /v1/audit/anchors": LOOK,
    "POST /v1/audit/keys/rotate": GOVERN,
    "GET /v1/audit/retention": COSTLY_READ,
    "GET /v1/audit/backup": COSTLY_READ,
    "GET /v1/audit/holds": READ,
    "POST /v1/audit/holds": GOVERN,
    "POST /v1/audit/holds/{name}/release": GOVERN,
    "GET /v1/policies": READ,
    "GET /v1/policies/applied": READ,
    "GET /v1/policies/applied/{version}": READ,
    "POST /v1/policies": OPERATE,
    "POST /v1/policies/delete": OPERATE,
    "POST /v1/policies/rollback": OPERATE,
    "POST /v1/authz/check": CHECK,
    "POST /v1/authz/check/explained": READ,
    "POST /v1/authz/explain": READ,
    "POST /v1/authz/diff": COSTLY_READ,
    "POST /v1/authz/who-can": COSTLY_READ,
    "POST /v1/authz/what-can": COSTLY_READ,
    "POST /v1/authz/reach": COSTLY_READ,
    "POST /v1/authz/replay": COSTLY_READ,
    "POST /v1/authz/suggest": COSTLY_READ,
    "GET /v1/authz/findings": COSTLY_READ,
    "GET /v1/authz/stage": READ,
    "POST /v1/authz/stage": OPERATE,
    "POST /v1/authz/stage/promote": OPERATE,
    "POST /v1/authz/stage/withdraw": OPERATE,
    "GET /v1/authz/approvals": READ,
    "POST /v1/authz/approvals": OPERATE,
    "GET /v1/authz/bypasses": READ,
    "POST /v1/authz/bypasses": OPERATE,
    "POST /v1/authz/bypasses/{name}/end": OPERATE,
    "GET /v1/decisions": READ,
    "GET /v1/decisions/summary": COSTLY_READ,
    "GET /v1/authorities": READ,
    "POST /v1/authorities/prepare": OPERATE,
    "POST /v1/authorities/{authority_id}/activate": OPERATE,
    "POST /v1/authorities/{authority_id}/taint": OPERATE,
    "POST /v1/authorities/{authority_id}/revoke": OPERATE,
    "GET /v1/roots": READ,
    "POST /v1/roots/replace": OPERATE,
    "POST /v1/roots/keep": OPERATE,
    "POST /v1/roots/{root_sha256}/drop": OPERATE,
    "POST /v1/roots/{root_sha256}/waive": OPERATE,
    "GET /v1/federation": READ,
    "POST /v1/federation": GOVERN,
    "POST /v1/federation/{trust_domain}/refresh": OPERATE_AND_TELL,
    "POST /v1/federation/{trust_domain}/remove": GOVERN,
    "GET /v1/revocations": READ,
    "GET /v1/revocations/{serial}": READ,
    "POST /v1/revocations": OPERATE,
    "POST /v1/revocations/{serial}/release": OPERATE,
    "GET /v1/bans": READ,
    "POST /v1/bans": OPERATE,
    "POST /v1/bans/{ban}/lift": OPERATE,
    "GET /v1/crls": READ,
}
"""Every route; `read` wherever an answer holds evidence, also by POST."""


class UndeclaredRoute(RuntimeError):
    """A route is not in `TABLE`, or cannot be guarded: a programmer's error, and no start."""


@dataclass(frozen=True, slots=True)
class Guarded:
    """A route as it is guarded: its name in the table, its rule, the parameters it knows."""

    name: str
    rule: Rule
    parameters: frozenset[str]


Endpoint = Callable[..., Any]


def guarded(
    routers: Iterable[tuple[str, APIRouter]], table: Mapping[str, Rule] = TABLE
) -> Mapping[Endpoint, Guarded]:
    """Return how each route is guarded, by its endpoint; raises UndeclaredRoute.

    `routers` come with the prefix of their paths.
    """
    found: dict[Endpoint, Guarded] = {}
    for prefix, router in routers:
        for route in router.routes:
            if not isinstance(route, APIRoute) or len(route.methods or ()) != 1:
                raise UndeclaredRoute(f"{route!r} is no route of one method that can be guarded")
            name = f"{''.join(route.methods or ())} {prefix}{route.path}"
            if name not in table:
                raise UndeclaredRoute(f"{name} needs a permission: name it in admin/permissions.py")
            if route.endpoint in found:
                raise UndeclaredRoute(f"{name} shares its endpoint with {found[route.endpoint]}")
            found[route.endpoint] = Guarded(name, table[name], _parameters(route, name))
    return found


def permissions_of(roles: Iterable[Role]) -> frozenset[Permission]:
    """Return everything that somebody with `roles` may do."""
    return frozenset().union(*(GRANTS[role] for role in roles))


def _parameters(route: APIRoute, name: str) -> frozenset[str]:
    """Return the names that a route declares, as they are sent: of its query, body and path."""
    dependant = route.dependant
    names = {field.alias for field in dependant.path_params}
    for field in dependant.query_params:
        names |= _fields(field.field_info) or {field.alias}
    for field in dependant.body_params:
        if not (declared := _fields(field.field_info)):
            raise UndeclaredRoute(f"{name} has a body of which nothing says what to record")
        names |= declared
    return frozenset(names)


def _fields(info: FieldInfo) -> set[str]:
    """Return the names of the fields of a model, or the properties of what has a schema only."""
    if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
        return {each.alias or name for name, each in info.annotation.model_fields.items()}
    schema = info.json_schema_extra
    return set(schema.get("properties", ())) if isinstance(schema, dict) else set()  # type: ignore[arg-type]  # a mapping, or it is no schema
