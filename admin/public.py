"""The public doors, for anybody: the trust bundle, and issuers' certificates.

Plain HTTP is right for what is signed or only helps to find a path (RFC 5280 4.2.2.1). The bundle
is neither: who takes it from there for its first trust must get it over a channel it trusts. That
is the bundle endpoint: the same document over TLS, and nothing else (SPIFFE Federation 5).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import FastAPI
from starlette.responses import Response

from admin import errors
from ca.authority import Authorities
from ca.bundle import REFRESH_HINT_SECONDS, TrustBundle
from ca.crl import empty_crl
from meshca.clock import Clock
from meshca.errors import NotFound

RESIGN_EVERY: Final = timedelta(hours=1)
_CACHE = {"Cache-Control": f"public, max-age={REFRESH_HINT_SECONDS}"}


@dataclass(slots=True)
class RevocationLists:
    """The active authority's CRL, signed once an hour however often it is asked for."""

    authorities: Authorities
    clock: Clock
    _authority_id: str = ""
    _made_at: datetime | None = None
    _der: bytes = b""

    def get(self, authority_id: str) -> bytes:
        """Return the DER CRL; raises NotFound for an authority that does not sign now."""
        now = self.clock.now()
        authority = self.authorities.active(now)
        if authority_id != authority.authority_id:
            raise NotFound("no such authority")
        fresh = self._made_at is not None and timedelta(0) <= now - self._made_at < RESIGN_EVERY
        if self._authority_id != authority_id or not fresh:
            self._der = empty_crl(authority, now=now)
            self._authority_id, self._made_at = authority_id, now
        return self._der


def create_public_app(
    authorities: Authorities, bundle: Callable[[], TrustBundle], clock: Clock
) -> errors.LastResort:
    """Return the app of the public door; `bundle` is our bundle as it is published."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    lists = RevocationLists(authorities, clock)
    errors.install(app)

    @app.get("/bundle.pem")
    async def bundle_pem() -> Response:
        pem = bundle().pem()
        return Response(pem, media_type="application/x-pem-file", headers=_CACHE)

    @app.get("/bundle.json")
    async def bundle_json() -> Response:
        return _document(bundle())

    @app.get("/ca/{authority_id}.der")
    async def issuer(authority_id: str) -> Response:
        authority = authorities.active(clock.now())
        if authority_id != authority.authority_id:
            raise NotFound("no such authority")
        der = authority.certificate.public_bytes(Encoding.DER)
        return Response(der, media_type="application/pkix-cert", headers=_CACHE)

    @app.get("/crl/{authority_id}.crl")
    def crl(authority_id: str) -> Response:
        der = lists.get(authority_id)
        return Response(der, media_type="application/pkix-crl", headers=_CACHE)

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


def _document(bundle: TrustBundle) -> Response:
    return Response(bundle.spiffe_json(), media_type="application/json", headers=_CACHE)
