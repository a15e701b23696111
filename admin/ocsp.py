"""The OCSP responder's door: POST /ocsp, and GET /ocsp/{base64} (RFC 6960 A.1, RFC 5019 5 and 6).

Only what looks like a request reaches the responder: the right type, 4 KiB at most. Whatever it
answers is 200, failures too: they are OCSP's. Answers that are the same for everybody say how long
HTTP caches may keep them: a minute, not to their nextUpdate, for a revocation shall be heard of.
"""

import base64
import binascii
from datetime import datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache
from hashlib import sha256
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from admin.errors import error_response
from ca.ocsp.request import MAXIMUM_BYTES
from ca.ocsp.responder import Answer, Responder

REQUEST_TYPE: Final = "application/ocsp-request"
RESPONSE_TYPE: Final = "application/ocsp-response"
MAXIMUM_AGE: Final = timedelta(minutes=1)
_MAXIMUM_BASE64: Final = MAXIMUM_BYTES * 4 // 3 + 4
_NOT_KEPT: Final = {"Cache-Control": "no-store"}


def create_router(responder: Responder) -> APIRouter:
    """Return the routes; they are plain ones, for FastAPI's cost more than the answers."""
    router = APIRouter()

    async def post(request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip() != REQUEST_TYPE:
            return error_response(415, "unsupported_type", f"this takes {REQUEST_TYPE}")
        body = await _bounded_body(request)
        if body is None:
            return error_response(413, "too_large", f"larger than {MAXIMUM_BYTES} bytes")
        return _response(responder, await responder.answer(body))

    async def get(request: Request) -> Response:
        text = request.path_params["request"]
        if len(text) > _MAXIMUM_BASE64:
            return error_response(414, "too_large", f"larger than {MAXIMUM_BYTES} bytes")
        try:
            asked = base64.b64decode(text.encode("ascii"), validate=True)
        except (binascii.Error, UnicodeEncodeError):
            asked = b""  # malformed, as OCSP says it
        return _response(responder, await responder.answer(asked))

    router.add_route("/ocsp", post, methods=["POST"])
    router.add_route("/ocsp/{request:path}", get, methods=["GET"])
    return router


async def _bounded_body(request: Request) -> bytes | None:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAXIMUM_BYTES:
            return None
    return body


def _response(responder: Responder, answer: Answer) -> Response:
    headers = _NOT_KEPT
    if answer.signed_at is not None and answer.next_update is not None:
        left = answer.next_update - responder.clock.now()
        age = max(0, int(min(left, MAXIMUM_AGE).total_seconds()))
        kept = f"max-age={age}, public, no-transform, must-revalidate"
        headers = {
            "Cache-Control": kept,
            **_validators(answer.der, answer.signed_at, answer.next_update),
        }
    return Response(answer.der, media_type=RESPONSE_TYPE, headers=headers)


@lru_cache(maxsize=1024)
def _validators(der: bytes, signed_at: datetime, next_update: datetime) -> dict[str, str]:
    """Return what of an answer's headers does not change while it is given (RFC 5019 6.2)."""
    return {
        "Last-Modified": format_datetime(signed_at, usegmt=True),
        "Expires": format_datetime(next_update, usegmt=True),
        "ETag": f'"{sha256(der).hexdigest()[:40]}"',
    }
