"""The witness's door: POST /add-checkpoint, and GET /witness.vkey with the key that cosigns.

Plain HTTP is right: requests are signed by logs, answers by the witness, both are public. A body
is bounded in size, and in the time that it may take.
"""

import asyncio
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from admin.errors import error_response
from audit.witness.request import MAXIMUM_REQUEST_BYTES
from audit.witness.witness import TEXT, Witness

BODY_SECONDS: Final = 10.0
_NOT_KEPT: Final = {"Cache-Control": "no-store"}


def create_router(witness: Witness) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    async def add_checkpoint(request: Request) -> Response:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _bounded_body(request)
        except TimeoutError:
            return error_response(408, "too_slow", f"not sent within {BODY_SECONDS:g} s")
        if body is None:
            return error_response(413, "too_large", f"larger than {MAXIMUM_REQUEST_BYTES} bytes")
        answer = await witness.add_checkpoint(body)
        headers = {"Content-Type": answer.kind, **_NOT_KEPT}  # as it is: no charset is added
        return Response(answer.body, answer.status, headers=headers)

    async def key(_request: Request) -> Response:
        return Response(f"{witness.key.verifier}\n", media_type=TEXT)

    router.add_route("/add-checkpoint", add_checkpoint, methods=["POST"])
    router.add_route("/witness.vkey", key, methods=["GET"])
    return router


async def _bounded_body(request: Request) -> bytes | None:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAXIMUM_REQUEST_BYTES:
            return None
    return body
