"""The public doors, for anybody: the trust bundle, and issuers' certificates.

Plain HTTP is right for what is signed or only helps to find a path (RFC 5280 4.2.2.1). The bundle
is neither: who takes it from there for its first trust must get it over a channel it trusts. That
is the bundle endpoint: the same document over TLS, and nothing else (SPIFFE Federation 5).
"""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import FastAPI
from starlette.responses import Response

from admin import errors
from admin import ocsp as ocsp_door
from ca.authority import Authorities, Authority
from ca.bundle import REFRESH_HINT_SECONDS, TrustBundle
from ca.crl import empty_crl
from ca.ocsp.responder import Responder
from meshca.clock import Clock
from meshca.errors import NotFound

RESIGN_EVERY: Final = timedelta(hours=1)
_ID: Final = re.compile(r"[0-9a-f]{40}")
_CACHE = {"Cache-Control": f"public, max-age={REFRESH_HINT_SECONDS}"}


@dataclass(slots=True)
class RevocationLists:
    """The CRLs of the authorities whose keys are here, signed once an hour however often asked."""

    authorities: Authorities
    clock: Clock
    _made: dict[str, tuple[datetime, bytes]] = field(default_factory=dict)
    _signing: threading.Lock = field(default_factory=threading.Lock)

    def get(self, authority_id: str) -> bytes:
        """Return the DER CRL.

        Raises NotFound for an authority that is not known here, AuthorityUnavailable before any is,
        and for one that was tainted: it signs nothing, a list neither.
        """
        now = self.clock.now()
        authority = _find(self.authorities, authority_id, now)
        self.authorities.check_signing(authority)
        with self._signing:  # one at a time: a key that is elsewhere is not asked by all at once
            made_at, made = self._made.get(authority_id, (None, b""))
            if made_at is None or not timedelta(0) <= now - made_at < RESIGN_EVERY:
                made = empty_crl(authority, now=now)
                self._made[authority_id] = now, made
            return made


def _find(authorities: Authorities, authority_id: str, now: datetime) -> Authority:
    """Return an authority that signs, or has signed, here."""
    try:
        return authorities.find(authority_id)
    except NotFound:
        authorities.active(now)
        raise


def create_public_app(
    authorities: Authorities,
    bundle: Callable[[], TrustBundle],
    clock: Clock,
    issuer_of: Callable[[str], x509.Certificate],
    ocsp: Responder | None = None,
) -> errors.LastResort:
    """Return the app of the public door; `bundle` is our bundle as it is published.

    `issuer_of` returns the certificate of any authority there ever was, by id; it may block, and
    raises NotFound. With `ocsp` the door answers OCSP requests too.
    """
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
    def issuer(authority_id: str) -> Response:
        if not _ID.fullmatch(authority_id):
            raise NotFound("no such authority")
        der = issuer_of(authority_id).public_bytes(Encoding.DER)
        return Response(der, media_type="application/pkix-cert", headers=_CACHE)

    @app.get("/crl/{authority_id}.crl")
    def crl(authority_id: str) -> Response:
        der = lists.get(authority_id)
        return Response(der, media_type="application/pkix-crl", headers=_CACHE)

    if ocsp is not None:
        app.include_router(ocsp_door.create_router(ocsp))
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
