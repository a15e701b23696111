"""One stream, from the first request to its end, through the doors and the real issuance."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest
from google.protobuf.message import Message

from meshca.errors import NotFound, Overloaded, ProofRefused
from sds.ledger import MAXIMUM_STREAMS_PER_HOLDER
from sds.resources import EXTENSION_TYPE, SECRET_TYPE
from sds.subscription import MAXIMUM_NAMES
from tests.sds.conftest import Mesh, make_policies, running
from tests.sds.proxy import PEER, Proxy, secrets

ALLOW_ALL = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: all, namespace: shop}
spec: {rules: [{}]}
"""


def play(mesh: Mesh, story: Callable[[], Awaitable[None]]) -> None:
    """Run `story` while the mesh runs."""

    async def scene() -> None:
        async with running(mesh):
            await story()

    asyncio.run(scene())


@pytest.mark.parametrize("incremental", [True, False])
def test_a_proxy_gets_its_certificate_and_the_bundle(mesh: Mesh, incremental: bool) -> None:
    async def story() -> None:
        async with Proxy(mesh.doors, incremental=incremental) as proxy:
            proxy.subscribe("ROOTCA")
            bundle = secrets(await proxy.receive())["ROOTCA"].validation_context
            assert bundle.trusted_ca.inline_bytes == mesh.authorities.bundle.pem()
            assert not bundle.match_typed_subject_alt_names
            proxy.subscribe("ROOTCA", "default")
            found: dict[str, object] = {}
            while "default" not in found:
                found |= secrets(await proxy.receive())
            tls = found["default"].tls_certificate  # type: ignore[attr-defined]
            chain = x509.load_pem_x509_certificates(tls.certificate_chain.inline_bytes)
            key = load_pem_private_key(tls.private_key.inline_bytes, None)
            assert chain[0].public_key() == key.public_key()
            san = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert san.get_values_for_type(x509.UniformResourceIdentifier) == [
                "spiffe://example.org/ns/shop/sa/web"
            ]

    play(mesh, story)


def test_streams_of_one_workload_share_one_certificate(mesh: Mesh) -> None:
    async def story() -> None:
        own = "spiffe://example.org/ns/shop/sa/web"
        async with Proxy(mesh.doors) as first, Proxy(mesh.doors) as second:
            first.subscribe("default")
            second.subscribe(own)
            one = secrets(await first.receive())["default"]
            two = secrets(await second.receive())[own]
            assert one.tls_certificate == two.tls_certificate

    play(mesh, story)


def test_another_workloads_name_gets_nothing_and_the_stream_lives(mesh: Mesh) -> None:
    foreign = "spiffe://example.org/ns/shop/sa/orders"

    async def story() -> None:
        async with Proxy(mesh.doors) as proxy:
            proxy.subscribe(foreign, "nonsense", "ROOTCA")
            assert list(secrets(await proxy.receive())) == ["ROOTCA"]
            assert await proxy.is_quiet()
            assert set(mesh.ledger.connected()[0].unanswered) == {foreign, "nonsense"}

    play(mesh, story)


def test_a_rotation_is_pushed_and_its_acknowledgement_seen(mesh: Mesh) -> None:
    async def story() -> None:
        async with Proxy(mesh.doors) as proxy:
            proxy.subscribe("default")
            first = await proxy.receive()
            proxy.acknowledge(first)
            assert await proxy.is_quiet()
            mesh.clock.advance(timedelta(minutes=50))
            second = await proxy.receive()
            assert secrets(first)["default"] != secrets(second)["default"]
            assert mesh.ledger.connected()[0].is_behind
            proxy.acknowledge(second)
            assert await proxy.is_quiet()
            assert not mesh.ledger.connected()[0].is_behind

    play(mesh, story)


def test_a_reconnect_is_sent_only_what_changed(mesh: Mesh) -> None:
    async def story() -> None:
        async with Proxy(mesh.doors) as proxy:
            proxy.subscribe("default", "ROOTCA")
            known: dict[str, str] = {}
            while len(known) < 2:
                known |= {r.name: r.version for r in (await proxy.receive()).resources}
        async with Proxy(mesh.doors) as proxy:
            proxy.subscribe("default", "ROOTCA", initial_resource_versions=known)
            assert await proxy.is_quiet()
        known["ROOTCA"] = "older"
        async with Proxy(mesh.doors) as proxy:
            proxy.subscribe("default", "ROOTCA", initial_resource_versions=known)
            assert list(secrets(await proxy.receive())) == ["ROOTCA"]
            assert await proxy.is_quiet()

    play(mesh, story)


def test_a_nack_is_shown_and_not_answered(mesh: Mesh) -> None:
    async def story() -> None:
        async with Proxy(mesh.doors) as proxy:
            proxy.subscribe("ROOTCA")
            response = await proxy.receive()
            for _ in range(1000):
                proxy.refuse(response, "Failed to load trusted CA certificates")
            assert await proxy.is_quiet()
            state = mesh.ledger.connected()[0]
            assert state.nacks == 1
            assert state.resources[0].nack == "Failed to load trusted CA certificates"
            assert state.is_behind

    play(mesh, story)


def test_a_stale_nonce_is_ignored(mesh: Mesh) -> None:
    async def story() -> None:
        async with Proxy(mesh.doors, incremental=False) as proxy:
            proxy.subscribe("ROOTCA")
            response = await proxy.receive()
            proxy.send(
                DiscoveryRequest(
                    type_url=SECRET_TYPE, response_nonce="nonsense", resource_names=["default"]
                )
            )
            assert await proxy.is_quiet()
            proxy.acknowledge(response, "ROOTCA")
            assert await proxy.is_quiet()
            assert not mesh.ledger.connected()[0].is_behind

    play(mesh, story)


@pytest.mark.parametrize("incremental", [True, False])
def test_a_wildcard_gets_what_the_caller_may_have(mesh: Mesh, incremental: bool) -> None:
    async def story() -> None:
        async with Proxy(mesh.doors, incremental=incremental) as proxy:
            proxy.subscribe()
            found: set[str] = set()
            while found != {"default", "ROOTCA"}:
                response = await proxy.receive()
                found |= set(secrets(response))
                proxy.acknowledge(response)
            assert await proxy.is_quiet()
            mesh.clock.advance(timedelta(minutes=50))
            assert "default" in secrets(await proxy.receive())

    play(mesh, story)


def test_an_unknown_type_is_ignored_and_the_stream_lives(mesh: Mesh) -> None:
    async def story() -> None:
        async with Proxy(mesh.doors, service="ads") as proxy:
            proxy.subscribe("c", type_url="type.googleapis.com/envoy.config.cluster.v3.Cluster")
            proxy.subscribe("x", type_url="")
            proxy.subscribe("ROOTCA")
            assert "ROOTCA" in secrets(await proxy.receive())

    play(mesh, story)


def test_the_secret_service_serves_no_extensions(mesh: Mesh) -> None:
    async def story() -> None:
        async with Proxy(mesh.doors) as proxy:
            proxy.subscribe("authz", type_url=EXTENSION_TYPE)
            assert await proxy.is_quiet()

    play(mesh, story)


def test_ten_thousand_names_in_one_request_are_bounded(mesh: Mesh) -> None:
    async def story() -> None:
        async with Proxy(mesh.doors) as proxy:
            proxy.subscribe("ROOTCA", *(f"name-{n}" for n in range(10_000)))
            assert list(secrets(await proxy.receive())) == ["ROOTCA"]
            shown = mesh.ledger.connected()[0].unanswered
            assert len(shown) == 17
            assert shown[-1] == f"(and {10_001 - MAXIMUM_NAMES + MAXIMUM_NAMES - 1 - 16} more)"

    play(mesh, story)


def test_the_stream_ends_with_its_proof(mesh: Mesh) -> None:
    async def story() -> None:
        mesh.tokens.lifetime = timedelta(minutes=10)
        async with Proxy(mesh.doors) as proxy:
            proxy.subscribe("ROOTCA")
            await proxy.receive()
            mesh.clock.advance(timedelta(minutes=9, seconds=49))
            mesh.ledger.end_expired(mesh.clock.now())
            assert await proxy.is_quiet()
            mesh.clock.advance(timedelta(seconds=11))
            mesh.ledger.end_expired(mesh.clock.now())
            assert await proxy.receive() is None
        assert mesh.ledger.streams == 0

    play(mesh, story)


def test_a_refused_token_opens_no_stream_and_is_recorded(mesh: Mesh) -> None:
    async def story() -> None:
        async with Proxy(mesh.doors, token="forged") as proxy:  # not a secret
            proxy.subscribe("default")
            with pytest.raises(ProofRefused):
                await proxy.receive()
        entry = mesh.refusals.entries[0]
        assert (entry.kind, entry.reason) == ("refusal", "malformed")
        assert entry.details["claimed"] == {"sub": "forged"}
        assert mesh.ledger.streams == 0

    play(mesh, story)


def test_one_workload_cannot_open_a_thousand_streams(mesh: Mesh) -> None:
    async def story() -> None:
        async with contextlib.AsyncExitStack() as stack:
            proxies = [await stack.enter_async_context(Proxy(mesh.doors)) for _ in range(1000)]
            for proxy in proxies:
                proxy.subscribe("ROOTCA")
            for proxy in proxies[:MAXIMUM_STREAMS_PER_HOLDER]:
                assert await proxy.receive() is not None
            for proxy in proxies[MAXIMUM_STREAMS_PER_HOLDER:]:
                with pytest.raises(Overloaded):
                    await proxy.receive()
            assert mesh.ledger.streams == MAXIMUM_STREAMS_PER_HOLDER
            neighbour = Proxy(mesh.doors, token="shop/other/other-1")  # no secret
            async with neighbour:
                neighbour.subscribe("ROOTCA")
                assert await neighbour.receive() is not None
        assert mesh.ledger.streams == 0

    play(mesh, story)


def test_a_proxy_that_leaves_is_forgotten(mesh: Mesh) -> None:
    async def story() -> None:
        async with Proxy(mesh.doors) as proxy:
            proxy.subscribe("ROOTCA")
            await proxy.receive()
            assert mesh.ledger.streams == 1
            proxy.leave()
            assert await proxy.receive() is None
        assert mesh.ledger.streams == 0
        assert mesh.ledger.connected() == []

    play(mesh, story)


def _rbac(response: Message) -> RBAC:
    config = response.resources[0].resource  # type: ignore[attr-defined]
    from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig

    typed = TypedExtensionConfig.FromString(config.value)
    return RBAC.FromString(typed.typed_config.value)


def test_policy_reaches_the_proxy_and_changes_are_pushed(mesh: Mesh) -> None:
    async def story() -> None:
        async with Proxy(mesh.doors, service="ecds") as proxy:
            proxy.subscribe("authz", type_url=EXTENSION_TYPE)
            before = _rbac(await proxy.receive())
            mesh.policies = make_policies(ALLOW_ALL)
            mesh.ledger.wake_all()
            after = _rbac(await proxy.receive())
            assert before != after
            mesh.ledger.wake_all()
            assert await proxy.is_quiet()

    play(mesh, story)


def test_a_changed_bundle_reaches_everyone_who_watches_it(mesh: Mesh) -> None:
    async def story() -> None:
        async with Proxy(mesh.doors) as one, Proxy(mesh.doors, incremental=False) as two:
            for proxy in (one, two):
                proxy.subscribe("ROOTCA")
                await proxy.receive()
            now = mesh.clock.now()
            active = mesh.authorities.active(now)
            second_root = _another_root(mesh)
            mesh.authorities.activate(active, (active.root, second_root))
            for proxy in (one, two):
                context = secrets(await proxy.receive())["ROOTCA"].validation_context
                roots = x509.load_pem_x509_certificates(context.trusted_ca.inline_bytes)
                assert roots == [active.root, second_root]

    play(mesh, story)


def _another_root(mesh: Mesh) -> x509.Certificate:
    from ca.ca_certificate import make_root
    from ca.keys import generate_key

    return make_root(
        generate_key(),
        trust_domain="example.org",
        now=mesh.clock.now(),
        lifetime=timedelta(days=1),
    )


def test_fetch_answers_once(mesh: Mesh) -> None:
    async def story() -> None:
        request = DiscoveryRequest(resource_names=["ROOTCA"])
        metadata = {"authorization": "Bearer shop/web/web-1"}
        response = await mesh.doors.fetch("sds", request, metadata, PEER)
        assert list(secrets(response)) == ["ROOTCA"]
        assert mesh.ledger.streams == 0

    play(mesh, story)


def test_fetching_what_is_nobodys_is_not_found(mesh: Mesh) -> None:
    async def story() -> None:
        request = DiscoveryRequest(resource_names=["nonsense"])
        metadata = {"authorization": "Bearer shop/web/web-1"}
        with pytest.raises(NotFound):
            await mesh.doors.fetch("sds", request, metadata, PEER)

    play(mesh, story)


def test_labels_of_the_node_select_policies_but_never_an_identity(mesh: Mesh) -> None:
    async def story() -> None:
        async with Proxy(mesh.doors) as proxy:
            request = DeltaDiscoveryRequest(
                type_url=SECRET_TYPE, resource_names_subscribe=["default"]
            )
            request.node.id = "spiffe://example.org/ns/admin/sa/root"
            request.node.metadata.update({"labels": {"app": "web"}, "namespace": "admin"})
            proxy.send(request)
            assert "default" in secrets(await proxy.receive())
            state = mesh.ledger.connected()[0]
            assert state.spiffe_id == "spiffe://example.org/ns/shop/sa/web"
            assert state.namespace == "shop"

    play(mesh, story)
