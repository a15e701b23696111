"""The admin doors: one FastAPI app, on the unix socket and, if configured, over TLS.

The API is below /v1, the web console that asks it below /console.

Who asks is proven (`admin.proofs`), what they may is in one table (`admin.permissions`), reads are
recorded (`admin.entrance`), bodies are bounded, parameters are strict, errors have one shape
(`admin.errors`). What the routes answer with is documented in docs/cli.md.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from admin import (
    analysis,
    analysis_records,
    audit_anchors,
    audit_export,
    audit_keys,
    audit_proofs,
    audit_queries,
    audit_questions,
    audit_retention,
    authorities,
    changes,
    console,
    decisions,
    errors,
    federation,
    policies,
    reads,
    revocations,
    staging,
    whoami,
)
from admin.entrance import Entrance
from admin.guard import GuardedRoute, body_limit, permit
from admin.permissions import guarded
from admin.state import AdminState
from meshca.logs import get_logger

PREFIX: Final = "/v1"

log = get_logger("admin")


def create_app(state: AdminState) -> ASGIApp:
    """Return the app; serve it with `serve_unix` or `serve_admin_tls`, which say who asks.

    Raises UndeclaredRoute when a route is not in the table of permissions.
    """
    routers = create_routers(state)
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.state.guard = permit(state.access, guarded(routers))
    app.router.route_class = GuardedRoute
    errors.install(app)
    app.add_exception_handler(SQLAlchemyError, _on_database_error)
    for prefix, route in ((prefix, route) for prefix, router in routers for route in router.routes):
        assert isinstance(route, APIRoute)  # noqa: S101  # `guarded` takes nothing else
        path, methods = prefix + route.path, list(route.methods or ())
        app.add_api_route(path, route.endpoint, methods=methods)
    return errors.LastResort(Entrance(errors.LimitedBody(app, body_limit), state.access))


def create_routers(state: AdminState) -> Sequence[tuple[str, APIRouter]]:
    """Return every route there is, with the prefix of its path.

    Each is named in `admin.permissions.TABLE`.
    """
    return (*((PREFIX, router) for router in _api(state)), ("", console.create_router()))


def _api(state: AdminState) -> Iterable[APIRouter]:
    return (
        whoami.create_router(),
        reads.create_router(state),
        changes.create_router(state),
        policies.create_router(state),
        decisions.create_router(state),
        analysis.create_router(state),
        analysis_records.create_router(state),
        authorities.create_router(state),
        federation.create_router(state),
        revocations.create_router(state),
        staging.create_router(state),
        audit_export.create_router(state),
        audit_anchors.create_router(state),
        audit_keys.create_router(state),
        audit_proofs.create_router(state),
        audit_queries.create_router(state),
        audit_questions.create_router(state),
        audit_retention.create_router(state),
    )


async def _on_database_error(_request: Request, error: Exception) -> Response:
    log.error("admin_database_error", error=type(error).__name__, cause=str(error.__cause__))
    return errors.error_response(503, "unavailable", "the database does not answer; retry")
