"""The metrics door: /metrics, /healthz (the process runs) and /readyz (it can sign).

It answers anybody who reaches it, so it says nothing that identifies a workload.
"""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, PlainTextResponse, Response

from admin import errors

Ready = Callable[[], Awaitable[list[str]]]
"""Returns what keeps the service from doing its work now; nothing when it is ready."""


def create_health_app(registry: CollectorRegistry, ready: Ready) -> errors.LastResort:
    """Return the app; `ready` is asked at each /readyz."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    errors.install(app)

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/healthz")
    async def healthz() -> Response:
        return PlainTextResponse("ok\n")

    @app.get("/readyz")
    async def readyz() -> Response:
        problems = await ready()
        body = {"ready": not problems, "problems": problems}
        return JSONResponse(body, 503 if problems else 200)

    return errors.LastResort(app)
