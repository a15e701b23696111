"""What went wrong, as HTTP says it: one table, one body, and nothing of our insides.

    {"error": {"code": "not_found", "message": "no such ...", "problems": [...]}}

A problem is {"file", "line", "path", "message"}; most errors have none.

What we did not foresee is 500 with a request id; the log has the same id and the traceback.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from meshca.errors import (
    Conflict,
    EvidenceBroken,
    IdentityForbidden,
    InvalidDocument,
    MeshcaError,
    NotFound,
    Overloaded,
    Problem,
    ProofRefused,
    RequestRefused,
    Unavailable,
)
from meshca.logs import get_logger

MAXIMUM_BODY_BYTES: Final = 4 * 1024 * 1024
BODY_SECONDS: Final = 30.0

_TABLE: Final[tuple[tuple[type[MeshcaError], int, str], ...]] = (
    (ProofRefused, 401, "unauthenticated"),
    (IdentityForbidden, 403, "permission_denied"),
    (RequestRefused, 400, "invalid_argument"),
    (InvalidDocument, 400, "invalid_document"),
    (NotFound, 404, "not_found"),
    (Conflict, 409, "conflict"),
    (Overloaded, 429, "overloaded"),
    (Unavailable, 503, "unavailable"),
    (EvidenceBroken, 500, "evidence_broken"),
)

log = get_logger("admin")


def error_response(
    status: int, code: str, message: str, problems: Sequence[Problem] = ()
) -> JSONResponse:
    """Return the one shape that every error has."""
    listed = [
        {"file": p.file, "line": p.line, "path": p.path, "message": p.message} for p in problems
    ]
    return JSONResponse({"error": {"code": code, "message": message, "problems": listed}}, status)


def install(app: FastAPI) -> None:
    """Let `app` answer errors raised on purpose by the table."""
    for kind, _, _ in _TABLE:
        app.add_exception_handler(kind, _on_known_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_unforeseen)
    app.add_exception_handler(404, _on_unknown_path)
    app.add_exception_handler(405, _on_unknown_path)


async def _on_known_error(request: Request, error: Exception) -> JSONResponse:
    status, code = next((s, c) for kind, s, c in _TABLE if isinstance(error, kind))
    assert isinstance(error, MeshcaError)  # noqa: S101  # the table holds nothing else
    if isinstance(error, InvalidDocument):
        message = f"the document does not load: {len(error.problems)} problem(s)"
        return error_response(status, code, message, error.problems)
    log.info("admin_error", code=code, error=str(error), path=request.url.path)
    return error_response(status, code, error.public_message)


async def _on_invalid_request(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for it
    problems = [
        Problem(".".join(str(part) for part in e["loc"][1:]), _said(e)) for e in error.errors()
    ]
    return error_response(400, "invalid_argument", "the request is not valid", problems)


def _said(error: dict[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return "unknown"
    return str(error["msg"]).removeprefix("Value error, ")


async def _on_http_exception(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for it
    return error_response(error.status_code, "error", str(error.detail))


async def _on_unknown_path(request: Request, error: Exception) -> JSONResponse:
    status = getattr(error, "status_code", 404)
    return error_response(status, "not_found", f"no {request.method} {request.url.path[:200]} here")


async def _on_unforeseen(request: Request, error: Exception) -> JSONResponse:
    visit = request.scope.get("state", {}).get("visit")
    request_id = getattr(visit, "request_id", None) or secrets.token_hex(8)
    log.error("request_failed", request_id=request_id, path=request.url.path, exc_info=error)
    text = f"internal error; the server's log has it as {request_id}"
    return error_response(500, "internal", text)


@dataclass(frozen=True, slots=True)
class LastResort:
    """ASGI, outermost: what was logged and answered ends here, not in the HTTP server's log."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        try:
            await self.app(scope, receive, send)
        except Exception as error:  # noqa: BLE001  # the outermost loop; `_on_unforeseen` has answered
            log.warning("request_ended_by_error", error=type(error).__name__)


def _any_body(_scope: Scope) -> int:
    return MAXIMUM_BODY_BYTES


@dataclass(frozen=True, slots=True)
class LimitedBody:
    """ASGI: answers 413 to a body over the limit, declared or not, and 408 to one that dribbles."""

    app: ASGIApp
    limit_of: Callable[[Scope], int] = _any_body
    seconds: float = BODY_SECONDS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the whole body, at most the limit and in time, and pass the request on."""
        if scope["type"] != "http":
            return
        limit = self.limit_of(scope)
        try:
            async with asyncio.timeout(self.seconds):
                body = await _read(receive, limit)
        except TimeoutError:
            refusal = error_response(408, "timeout", f"no body within {self.seconds:.0f} s")
            await refusal(scope, receive, send)
            return
        if body is None:
            return
        if len(body) > limit:
            text = f"the request is larger than {limit} bytes"
            await error_response(413, "too_large", text)(scope, receive, send)
            return
        await self.app(scope, _replay(body, receive), send)


async def _read(receive: Receive, limit: int) -> bytes | None:
    """Return the body, or as much of it as shows that it is too large; None if nobody waits."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > limit or not message.get("more_body", False):
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replayed() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
