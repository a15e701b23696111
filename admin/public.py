"""The public doors, for anybody: the trust bundle, issuers' certificates, and revocation lists.

Plain HTTP is right for what is signed or only helps to find a path (RFC 5280 4.2.2.1). The bundle
is neither: who takes it from there for its first trust must get it over a channel it trusts. That
is the bundle endpoint: the same document over TLS, and nothing else (SPIFFE Federation 5).

Revocation lists are those in force, on every replica; nothing is signed because somebody asks.
"""

import re
from collections.abc import Callable
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from admin import errors
from admin import ocsp as ocsp_door
from admin import witness as witness_door
from audit.witness.witness import Witness
from ca.bundle import REFRESH_HINT_SECONDS, TrustBundle
from ca.ocsp.responder import Responder
from ca.revocation.view import Crl
from meshca.errors import NotFound

_ID: Final = re.compile(r"[0-9a-f]{40}")
_CACHE = {"Cache-Control": f"public, max-age={REFRESH_HINT_SECONDS}"}


def create_public_app(
    bundle: Callable[[], TrustBundle],
    issuer_of: Callable[[str], x509.Certificate],
    crl_of: Callable[[str], Crl],
    ocsp: Responder | None = None,
    upper: Callable[[], bytes | None] = lambda: None,
    witness: Witness | None = None,
) -> errors.LastResort:
    """Return the app of the public door; `bundle` is our bundle as it is published.

    `issuer_of` returns the certificate of any authority there ever was, by id; it may block.
    `crl_of` returns the revocation list of one that has a list in force, and must not block. Both
    raise NotFound. With `ocsp` the door answers OCSP requests too. `upper` returns the PEM of the
    lists of every CA above the issuers, or None while one of them is missing. With `witness` it
    cosigns checkpoints of other logs, too.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    errors.install(app)

    @app.get("/bundle.pem")
    async def bundle_pem() -> Response:
        pem = bundle().pem()
        return Response(pem, media_type="application/x-pem-file", headers=_CACHE)

    @app.get("/bundle.json")
    async def bundle_json() -> Response:
        return _document(bundle())

    @app.get("/ca/{authority_id}.der")
    def issuer(authority_id: str) -> Response:
        if not _ID.fullmatch(authority_id):
            raise NotFound("no such authority")
        der = issuer_of(authority_id).public_bytes(Encoding.DER)
        return Response(der, media_type="application/pkix-cert", headers=_CACHE)

    @app.get("/crl/{authority_id}.crl")
    async def crl(authority_id: str, request: Request) -> Response:
        return _list(crl_of(authority_id), request.headers.get("if-none-match", ""))

    @app.get("/crl/above.pem")
    async def above() -> Response:
        pem = upper()
        if pem is None:
            raise NotFound("not every CA above has a revocation list that is current")
        headers = {"Cache-Control": "public, no-cache"}
        return Response(pem, media_type="application/x-pem-file", headers=headers)

    if ocsp is not None:
        app.include_router(ocsp_door.create_router(ocsp))
    if witness is not None:
        app.include_router(witness_door.create_router(witness))
    return errors.LastResort(app)


def create_bundle_app(bundle: Callable[[], TrustBundle]) -> errors.LastResort:
    """Return the app of the bundle endpoint: the document at `/` and at `/bundle.json`."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    errors.install(app)

    @app.get("/")
    @app.get("/bundle.json")
    async def document() -> Response:
        return _document(bundle())

    return errors.LastResort(app)


def _list(crl: Crl, held: str) -> Response:
    """Return `crl`, or nothing to whoever has it already; `held` is an If-None-Match."""
    etag = f'"{crl.number}"'
    headers = {"Cache-Control": "public, no-cache", "ETag": etag}  # to be asked for each time
    if etag in [tag.strip().removeprefix("W/") for tag in held.split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(crl.der, media_type="application/pkix-crl", headers=headers)


def _document(bundle: TrustBundle) -> Response:
    return Response(bundle.spiffe_json(), media_type="application/json", headers=_CACHE)
