"""Between the dispatch of a request and its route: what it needs, and what its body says.

    1  the route is in the table and the visitor may, else 403, and the body is not looked at
    2  of a costly route the visitor has a turn, else 429
    3  the body is one JSON value in UTF-8, parsed once, here, within bounds, else 400
    4  what of it is recorded if the answer is a read (`admin.read_parameters`)

Parsing holds the event loop, which proxies wait on, and what takes time is values, not text: so
there is a bound on everything in a body that is not within a string. The route sees the same value
that is recorded: nothing reads the bytes again.
"""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Scope

from admin.entrance import Access
from admin.errors import MAXIMUM_BODY_BYTES
from admin.permissions import GRANTS, Endpoint, Guarded
from admin.read_parameters import parameters_of
from admin.visitor import Visit, Visitor, get_visit, get_visitor
from meshca.errors import IdentityForbidden, Overloaded, RequestRefused

DRY: Final = "dry_run"
COSTLY_AT_ONCE: Final = 4
"""Costly reads of one subject under way; one more is answered 429."""
MAXIMUM_APPLICATION_BYTES: Final = 256 * 1024
"""The body of whoever may only ask for decisions."""
MAXIMUM_STRUCTURE_BYTES: Final = 128 * 1024
"""What of a body is not within strings."""


class RoleMissing(IdentityForbidden):
    """Attested, but none of the roles allows it; the message speaks of the visitor's own roles."""

    @property
    def public_message(self) -> str:  # type: ignore[override]  # tells no more than `whoami` does
        """Return the message itself."""
        return str(self)


class ParsedRequest(Request):
    """A request whose body is parsed; an empty body is None."""

    value: Any = None

    async def json(self) -> Any:
        """Return the body's value."""
        return self.value


Guard = Callable[[ParsedRequest], Awaitable[None]]


class GuardedRoute(APIRoute):
    """A route that asks the guard of its app (`app.state.guard`) before it parses anything."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, behind the guard."""
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            parsed = ParsedRequest(request.scope, request.receive)
            guard: Guard = request.app.state.guard
            await guard(parsed)
            return await handle(parsed)

        return guarded


def permit(access: Access, routes: Mapping[Endpoint, Guarded]) -> Guard:
    """Return the guard of every route: it refuses whoever may not, and names the read.

    It runs after the request was dispatched, so what it looks up is the route that will answer.
    """

    async def check(request: ParsedRequest) -> None:
        visit, visitor = get_visit(request.scope), get_visitor(request.scope)
        route = routes.get(request.scope["endpoint"])
        if route is None or not visitor.may(route.rule.permission):
            error = _role_missing(visitor, route)
            access.refuse(error, visit, visitor.address, visitor)
            raise error
        if route.rule.is_costly:
            _take_turn(access, visit, visitor)
        request.value = parsed(await request.body())
        visit.parameters = partial(parameters_of, request, route.parameters, request.value)
        visit.is_rehearsal = DRY in route.parameters and _says(request.value, DRY)
        visit.route = route

    return check


def _says(value: Any, name: str) -> bool:
    return isinstance(value, dict) and value.get(name) is True


def body_limit(scope: Scope) -> int:
    """Return how many bytes the body of whoever asks may have."""
    is_small = get_visitor(scope).is_only_application
    return MAXIMUM_APPLICATION_BYTES if is_small else MAXIMUM_BODY_BYTES


def parsed(body: bytes) -> Any:
    """Return the value of `body`, None of an empty one; raises RequestRefused."""
    if not body:
        return None
    if _structure(body) > MAXIMUM_STRUCTURE_BYTES:
        text = f"the body has more than {MAXIMUM_STRUCTURE_BYTES} bytes outside of its strings"
        raise RequestRefused("too_complex", text)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestRefused("no_json", f"the body is no JSON in UTF-8: {error}") from error


def _structure(body: bytes) -> int:
    """Return how many bytes of `body` are not within its strings, or a number over the bound."""
    if len(body) <= MAXIMUM_STRUCTURE_BYTES:
        return len(body)
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")  # every other quote begins or ends one
    quotes = plain.count(b'"')
    if quotes > MAXIMUM_STRUCTURE_BYTES:
        return quotes
    return quotes + sum(len(part) for part in plain.split(b'"')[::2])


def _role_missing(visitor: Visitor, route: Guarded | None) -> RoleMissing:
    permission = None if route is None else route.rule.permission
    may = [role.value for role, granted in GRANTS.items() if permission in granted]
    name = "this" if route is None else route.name
    return RoleMissing(
        "role_missing",
        f"{visitor.actor} is {', '.join(sorted(visitor.roles))} here; {name} needs "
        f"{' or '.join(may) or 'more'}",
    )


def _take_turn(access: Access, visit: Visit, visitor: Visitor) -> None:
    if access.costly[visitor.actor] >= COSTLY_AT_ONCE:
        raise Overloaded(f"{visitor.actor} has {COSTLY_AT_ONCE} costly reads under way")
    access.costly[visitor.actor] += 1

    def release() -> None:
        access.costly[visitor.actor] -= 1
        if access.costly[visitor.actor] <= 0:
            del access.costly[visitor.actor]

    visit.release = release
