"""The public door, for anybody, over plain HTTP: the trust bundle and issuers' certificates.

Plain HTTP is right for what is signed or only helps to find a path (RFC 5280 4.2.2.1). The bundle
is neither: who takes it from here for its first trust must get it over a channel it trusts.
"""

from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import FastAPI
from starlette.responses import Response

from admin import errors
from ca.authority import Authorities
from ca.bundle import REFRESH_HINT_SECONDS
from meshca.clock import Clock
from meshca.errors import NotFound

_CACHE = {"Cache-Control": f"public, max-age={REFRESH_HINT_SECONDS}"}


def create_public_app(authorities: Authorities, clock: Clock) -> errors.LastResort:
    """Return the app."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    errors.install(app)

    @app.get("/bundle.pem")
    async def bundle_pem() -> Response:
        pem = authorities.bundle.pem()
        return Response(pem, media_type="application/x-pem-file", headers=_CACHE)

    @app.get("/bundle.json")
    async def bundle_json() -> Response:
        document = authorities.bundle.spiffe_json()
        return Response(document, media_type="application/json", headers=_CACHE)

    @app.get("/ca/{authority_id}.der")
    async def issuer(authority_id: str) -> Response:
        authority = authorities.active(clock.now())
        if authority_id != authority.authority_id:
            raise NotFound("no such authority")
        der = authority.certificate.public_bytes(Encoding.DER)
        return Response(der, media_type="application/pkix-cert", headers=_CACHE)

    return errors.LastResort(app)
