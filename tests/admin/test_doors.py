"""The metrics door and the public door."""

import asyncio

import httpx
from cryptography import x509
from starlette.types import ASGIApp

from admin.errors import LastResort
from admin.health import create_health_app
from admin.public import create_public_app
from ca.authority import Authorities
from meshca.metrics import Metrics
from tests.builders import TRUST_DOMAIN, make_authority
from tests.fakes import FakeClock


def authorities() -> Authorities:
    """Return an authority that signs."""
    held, authority = Authorities(TRUST_DOMAIN), make_authority()
    held.activate(authority, (authority.root,))
    return held


def get(app: ASGIApp, path: str) -> httpx.Response:
    async def story() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://meshca") as client:
            return await client.get(path)

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


def public(held: Authorities, clock: FakeClock) -> LastResort:
    return create_public_app(
        held, lambda: held.bundle, clock, lambda name: held.find(name).certificate
    )


def test_the_public_door_has_the_bundle_and_the_issuer() -> None:
    clock = FakeClock()
    held = authorities()
    app = public(held, clock)
    assert get(app, "/bundle.pem").content == held.bundle.pem()
    document = get(app, "/bundle.json")
    assert document.headers["content-type"] == "application/json"
    assert document.content == held.bundle.spiffe_json()
    authority = held.active(clock.now())
    issuer = get(app, f"/ca/{authority.authority_id}.der")
    assert issuer.headers["content-type"] == "application/pkix-cert"
    assert x509.load_der_x509_certificate(issuer.content) == authority.certificate


def test_the_public_door_has_nothing_else() -> None:
    clock = FakeClock()
    held = authorities()
    app = public(held, clock)
    for path in ("/", "/ca/00.der", "/ca/../bundle", "/v1/status", "/metrics", "/docs"):
        assert get(app, path).status_code == 404


def test_without_an_authority_the_public_door_asks_to_come_back() -> None:
    held = Authorities(TRUST_DOMAIN)
    app = public(held, FakeClock())
    assert get(app, "/bundle.pem").status_code == 503
