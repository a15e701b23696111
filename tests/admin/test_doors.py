"""The metrics door and the public door."""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType

import httpx
from cryptography import x509
from starlette.types import ASGIApp

from admin.errors import LastResort
from admin.health import create_health_app
from admin.public import create_public_app
from ca.authority import Authorities
from ca.revocation.list_entries import ListEntries
from ca.revocation.view import Crl
from meshca.errors import NotFound
from meshca.metrics import Metrics
from tests.builders import TRUST_DOMAIN, make_authority
from tests.fakes import FakeClock


def authorities() -> Authorities:
    """Return an authority that signs."""
    held, authority = Authorities(TRUST_DOMAIN), make_authority()
    held.activate(authority, (authority.root,))
    return held


def get(app: ASGIApp, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
    async def story() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://meshca") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(story())


def health(*problems: str, metrics: Metrics | None = None) -> ASGIApp:
    async def ready() -> list[str]:
        return list(problems)

    return create_health_app((metrics or Metrics()).registry, ready)


def test_metrics_are_prometheus_text() -> None:
    metrics = Metrics()
    metrics.issuance.labels(outcome="ok").inc()
    response = get(health(metrics=metrics), "/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert 'meshca_issuance_total{outcome="ok"} 1.0' in response.text


def test_healthz_says_only_that_the_process_runs() -> None:
    assert get(health("cannot sign"), "/healthz").text == "ok\n"


def test_readyz_says_what_is_wrong() -> None:
    response = get(health("cannot sign: expired"), "/readyz")
    assert response.status_code == 503
    assert response.json() == {"ready": False, "problems": ["cannot sign: expired"]}
    assert get(health(), "/readyz").status_code == 200


def test_the_metrics_door_has_nothing_else() -> None:
    for path in ("/", "/docs", "/openapi.json", "/v1/status"):
        assert get(health(), path).status_code == 404


def public(held: Authorities, lists: Mapping[str, Crl] = MappingProxyType({})) -> LastResort:
    def crl_of(authority_id: str) -> Crl:
        if authority_id not in lists:
            raise NotFound("no such revocation list")
        return lists[authority_id]

    return create_public_app(lambda: held.bundle, lambda name: held.find(name).certificate, crl_of)


def test_the_public_door_has_the_bundle_and_the_issuer() -> None:
    held = authorities()
    app = public(held)
    assert get(app, "/bundle.pem").content == held.bundle.pem()
    document = get(app, "/bundle.json")
    assert document.headers["content-type"] == "application/json"
    assert document.content == held.bundle.spiffe_json()
    authority = held.active(FakeClock().now())
    issuer = get(app, f"/ca/{authority.authority_id}.der")
    assert issuer.headers["content-type"] == "application/pkix-cert"
    assert x509.load_der_x509_certificate(issuer.content) == authority.certificate


def test_the_public_door_has_nothing_else() -> None:
    held = authorities()
    app = public(held)
    for path in (
        "/",
        "/ca/00.der",
        "/crl/00.crl",
        "/ca/../bundle",
        "/v1/status",
        "/metrics",
        "/docs",
    ):
        assert get(app, path).status_code == 404


def test_the_public_door_has_the_list_in_force() -> None:
    held, now = authorities(), FakeClock().now()
    authority = held.active(now)
    crl = ListEntries().sign(authority, number=7, revision=0, now=now)
    app, path = public(held, {crl.authority_id: crl}), f"/crl/{crl.authority_id}.crl"

    answer = get(app, path)

    assert answer.headers["content-type"] == "application/pkix-crl"
    assert answer.headers["cache-control"] == "public, no-cache"
    assert answer.content == crl.der
    for tag in (answer.headers["etag"], f"W/{answer.headers['etag']}", '"6", "7"'):
        again = get(app, path, {"if-none-match": tag})
        assert (again.status_code, again.content) == (304, b"")
    assert get(app, path, {"if-none-match": '"6"'}).content == crl.der


def test_without_an_authority_the_public_door_asks_to_come_back() -> None:
    held = Authorities(TRUST_DOMAIN)
    app = public(held)
    assert get(app, "/bundle.pem").status_code == 503
