"""The admin door: one FastAPI app under /v1, for processes of root and of the server's own user.

Who asks is the kernel's word (`admin.peer`), bodies are bounded, parameters are strict, errors
have one shape (`admin.errors`). What the routes answer with is documented in docs/cli.md.
"""

from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from admin import (
    analysis,
    analysis_records,
    authorities,
    changes,
    decisions,
    errors,
    federation,
    policies,
    reads,
    revocations,
    staging,
)
from admin.peer import OnlyAdmitted
from admin.state import AdminState
from meshca.logs import get_logger

log = get_logger("admin")


def create_app(state: AdminState) -> ASGIApp:
    """Return the app; serve it with `admin.serve.serve_unix`, which says who asks."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    errors.install(app)
    app.add_exception_handler(SQLAlchemyError, _on_database_error)
    app.include_router(reads.create_router(state), prefix="/v1")
    app.include_router(changes.create_router(state), prefix="/v1")
    app.include_router(policies.create_router(state), prefix="/v1")
    app.include_router(decisions.create_router(state), prefix="/v1")
    app.include_router(analysis.create_router(state), prefix="/v1")
    app.include_router(analysis_records.create_router(state), prefix="/v1")
    app.include_router(authorities.create_router(state), prefix="/v1")
    app.include_router(federation.create_router(state), prefix="/v1")
    app.include_router(revocations.create_router(state), prefix="/v1")
    app.include_router(staging.create_router(state), prefix="/v1")
    return errors.LastResort(OnlyAdmitted(errors.LimitedBody(app), state.admitted_uids))


async def _on_database_error(_request: Request, error: Exception) -> Response:
    log.error("admin_database_error", error=type(error).__name__, cause=str(error.__cause__))
    return errors.error_response(503, "unavailable", "the database does not answer; retry")
