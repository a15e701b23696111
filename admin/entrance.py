"""The way in to every admin route: attest, record, and let the answer out only once it may.

    1  a request id: the caller's `x-request-id` if it is one, else ours; the answer names it
    2  what a browser sends for a page of another site is refused (`admin.cross_site`), 403
    3  who it is (`admin.proofs`); nobody is 401, somebody without a role 403; both are recorded
    4  the first request of a remote visitor is recorded as a `login`, before anything else happens
    5  what the route needs (`admin.guard`, which runs where the request was dispatched), else 403
    6  evidence goes out once the read is recorded; if it cannot be, the answer is 503 instead
    7  an answer that goes on and on (a followed log) ends with the proof of whoever asked

Refusals are recorded at a bounded rate (`audit.refusals`): whoever is refused can come again.
"""

import re
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from admin.console import PAGES
from admin.cross_site import CrossSite, check_same_site
from admin.errors import error_response
from admin.logins import Logins
from admin.peer import tls_peer
from admin.permissions import CHANGING, Guarded, Permission
from admin.proofs import Proofs
from admin.serve import MAXIMUM_HEAD_BYTES
from admin.visitor import VISIT, Proof, Visit, Visitor
from audit.entry import Entry, Json, current_request
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import IdentityForbidden, Overloaded, Refused, Unavailable
from meshca.logs import clip, get_logger

DOOR = "admin"
_TELLING: Final = frozenset({404, 409})
"""Refusals of a change that say what there is, such as how many certificates it would hit."""
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_WHAT_TO_DO: Final = (
    "show an OIDC token as `authorization: Bearer ...` or a client certificate (SVID) of this "
    "trust domain; the reason is in the server's audit log"
)

log = get_logger("admin")


class Recorder(Protocol):
    """Whoever records refusals, within bounds."""

    def record(self, entry: Entry) -> None:
        """Record `entry` without waiting."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who gets in, and what is recorded of it."""

    proofs: Proofs
    refusals: Recorder
    logins: Logins
    writer: GroupWriter
    clock: Clock
    costly: Counter[str] = field(default_factory=Counter)

    def refuse(self, error: Refused, visit: Visit, where: str, visitor: Visitor | None) -> None:
        """Record a refusal, with its reason and what was claimed, within bounds."""
        said: dict[str, Json] = {"from": where} if visitor is None else visitor.described()
        claimed: dict[str, Json] = {key: clip(text, 256) for key, text in error.claimed.items()}
        details = {"door": DOOR, "message": clip(str(error)), "claimed": claimed, **said}
        actor = "" if visitor is None else visitor.actor
        self.refusals.record(
            Entry(
                time=self.clock.now(),
                kind="refusal",
                outcome="refused",
                actor=actor,
                reason=error.reason,
                request_id=visit.request_id,
                details=details,
            )
        )
        log.warning("admin_refused", reason=error.reason, actor=actor, where=where)

    async def record_read(self, visit: Visit, route: Guarded, status: int) -> None:
        """Record that evidence is about to go out; raises StoreUnavailable or Overloaded."""
        visitor = visit.visitor
        details: dict[str, Json] = {
            "route": route.name,
            "parameters": dict(visit.parameters()),
            "status": status,
            **(visitor.described() if visitor else {}),
        }
        await self.writer.submit(
            Entry(
                time=self.clock.now(),
                kind="read",
                outcome=_outcome(status),
                actor=visitor.actor if visitor else "",
                request_id=visit.request_id,
                details=details,
            )
        )


@dataclass(frozen=True, slots=True)
class Entrance:
    """ASGI: attests, and lets answers out."""

    app: ASGIApp
    access: Access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            return
        visit = Visit(_request_id(scope))
        scope["state"] = {**scope.get("state", {}), VISIT: visit}
        answer = _Answer(self.access, visit, send)
        current_request.set(visit.request_id)  # the task is this request's alone
        try:
            refusal = await self._refusal(scope, visit)
            app = self.app if refusal is None else refusal
            await app(scope, receive, answer.send)
        finally:
            visit.release()

    async def _refusal(self, scope: Scope, visit: Visit) -> ASGIApp | None:
        """Attest the visitor; return what to answer instead of the app, if anything."""
        access, visitor = self.access, None
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAXIMUM_HEAD_BYTES:
            return error_response(431, "too_large", "the request's headers are too large")
        opens_page = scope["method"] == "GET" and scope["path"] in PAGES
        try:
            check_same_site(scope["headers"], scope.get("scheme", ""), opens_page=opens_page)
            visitor = await access.proofs.attest(scope)
            if not visitor.roles:
                raise IdentityForbidden("no_role", f"{visitor.actor} has no role here")
            if visitor.proof is not Proof.UNIX:
                await access.logins.greet(visitor, tls_peer(scope), visit.request_id)
        except LookupError:
            return error_response(401, "unauthenticated", "the connection says nothing of you")
        except Refused as error:
            access.refuse(error, visit, _where(scope), visitor)
            return _refused(error, visitor)
        except (Unavailable, Overloaded) as error:
            log.warning("admin_unavailable", error=str(error))
            return error_response(503, "unavailable", "nobody can be let in now; retry")
        visit.visitor = visitor
        return None


@dataclass(slots=True)
class _Answer:
    """An answer on its way out; evidence waits until the read is recorded."""

    access: Access
    visit: Visit
    out: Callable[[Message], Awaitable[None]]
    is_withheld: bool = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.visit.request_id
            headers["cache-control"] = "no-store"
            await self._record(message["status"])
        elif message.get("more_body", False) and not self._still_holds():
            await self.out({"type": "http.response.body", "body": b"", "more_body": False})
            raise OSError("the proof of whoever asked has ended")
        if not self.is_withheld:
            await self.out(message)
        elif message.get("more_body", False):
            raise OSError("the answer is withheld: it could not be recorded")

    def _still_holds(self) -> bool:
        visitor = self.visit.visitor
        if visitor is None or self.is_withheld:
            return True
        try:
            self.access.proofs.check(visitor)
        except Refused as error:
            log.warning("answer_ended", actor=visitor.actor, reason=error.reason)
            return False
        return True

    async def _record(self, status: int) -> None:
        route = self.visit.route
        if route is None or not self._is_evidence(route, status):
            return
        try:
            await self.access.record_read(self.visit, route, status)
        except (Unavailable, Overloaded) as error:
            self.is_withheld = True
            log.error("read_not_recorded", route=route.name, error=str(error))
            text = "the read cannot be recorded now, so nothing is shown; retry"
            response = error_response(503, "unavailable", text)
            response.headers["x-request-id"] = self.visit.request_id
            await response({"type": "http"}, _no_body, self.out)

    def _is_evidence(self, route: Guarded, status: int) -> bool:
        """Return whether the answer shows evidence or policy.

        A rehearsal of a change does, too, and a refusal of one that says what there is; a decision
        for an application does not.
        """
        permission = route.rule.permission
        if permission is Permission.CHECK:
            return self.visit.visitor is None or not self.visit.visitor.is_only_application
        if permission in CHANGING:
            is_told = self.visit.is_rehearsal or route.rule.is_telling
            return is_told or status in _TELLING
        return permission is Permission.READ


async def _no_body() -> Message:
    return {"type": "http.disconnect"}


def _outcome(status: int) -> str:
    if status < 400:
        return "done"
    return "refused" if status < 500 else "failed"


def _refused(error: Refused, visitor: Visitor | None) -> ASGIApp:
    """Return the answer to another site's page, and whoever proved nothing or has no role."""
    if isinstance(error, CrossSite):
        return error_response(403, error.reason, error.public_message)
    if visitor is None:
        response = error_response(401, "unauthenticated", f"authentication failed: {_WHAT_TO_DO}")
        response.headers["www-authenticate"] = "Bearer"
        return response
    if visitor.proof is Proof.UNIX:
        text = "only root, the user that the server runs as, and users with a role may use this"
    else:
        text = f"{visitor.actor} has no role here: an administrator gives one in admin.roles"
    return error_response(403, "permission_denied", text)


def _where(scope: Scope) -> str:
    client = scope.get("client")
    return f"{client[0]}:{client[1]}" if client and client[1] is not None else "unix"


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text = value.decode("latin-1")
            if _REQUEST_ID.fullmatch(text):
                return str(text)
    return secrets.token_hex(8)
