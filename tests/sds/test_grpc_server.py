"""The gRPC front, over real TLS: statuses, limits, bytes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)

from identity.caller import Caller, Evidence
from meshca.clock import SystemClock
from meshca.errors import (
    AuthorityUnavailable,
    IdentityForbidden,
    IssuanceFault,
    MeshcaError,
    NotFound,
    Overloaded,
    ProofRefused,
    RequestRefused,
)
from meshca.spiffe_id import SpiffeId
from sds.grpc_server import OPTIONS, handlers, status_of
from sds.istio_ca import METHOD
from sds.proto.istio_ca_pb2 import IstioCertificateRequest, IstioCertificateResponse
from sds.resources import SECRET_TYPE
from sds.server_identity import ServerIdentity
from tests.fakes import FakeClock
from tests.sds.conftest import Mesh, build_mesh, running
from tests.sds.proxy import secrets

SDS = "/envoy.service.secret.v3.SecretDiscoveryService/"
TOKEN = (("authorization", "Bearer shop/web/web-1"),)
Story = Callable[[grpc.aio.Channel], Awaitable[None]]


@contextlib.asynccontextmanager
async def channel_to(mesh: Mesh, *, mutual_tls: bool = False) -> AsyncIterator[grpc.aio.Channel]:
    """Serve the mesh's doors over TLS and return a channel that trusts the mesh's root."""
    ready = asyncio.Event()
    own = Caller(
        SpiffeId("example.org", "/meshca/server"),
        Evidence("self"),
        mesh.clock.now().replace(year=9999),
    )
    holding, release = mesh.leaves.hold(own, ready.set, dns_names=("localhost",))
    await asyncio.wait_for(ready.wait(), 5)
    assert holding.credential is not None
    identity = ServerIdentity(mesh.authorities.bundle.pem)
    chain = b"".join(holding.credential.svid.chain_pem)
    identity.replace(holding.credential.private_key_pem, chain)
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers(handlers(mesh.doors, mutual_tls=mutual_tls))
    credentials = identity.credentials(require_client_certificate=mutual_tls)
    port = server.add_secure_port("localhost:0", credentials)
    await server.start()
    client = grpc.ssl_channel_credentials(mesh.authorities.bundle.pem())
    if mutual_tls:
        pair = (holding.credential.private_key_pem, chain)
        client = grpc.ssl_channel_credentials(mesh.authorities.bundle.pem(), *pair)
    try:
        async with grpc.aio.secure_channel(f"localhost:{port}", client) as channel:
            yield channel
    finally:
        mesh.ledger.end_all()
        await server.stop(1)
        release()


def play(mesh: Mesh, story: Story) -> None:
    """Run `story` against the served mesh, on the real clock's date."""

    async def scene() -> None:
        async with running(mesh), channel_to(mesh) as channel:
            await story(channel)

    asyncio.run(scene())


def delta(channel: grpc.aio.Channel, metadata: Any = TOKEN) -> Any:
    """Open a DeltaSecrets stream."""
    return channel.stream_stream(
        SDS + "DeltaSecrets",
        request_serializer=DeltaDiscoveryRequest.SerializeToString,
        response_deserializer=DeltaDiscoveryResponse.FromString,
    )(metadata=metadata)


async def status_of_call(call: Any) -> grpc.StatusCode:
    """Return the status with which a stream ends."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(call.read(), 5)
    code: grpc.StatusCode = caught.value.code()
    return code


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    """A mesh whose clock shows the real time, which TLS reads."""
    return build_mesh(tmp_path, FakeClock(at=SystemClock().now()))


def test_a_stream_over_tls_carries_secrets(mesh: Mesh) -> None:
    async def story(channel: grpc.aio.Channel) -> None:
        call = delta(channel)
        await call.write(
            DeltaDiscoveryRequest(type_url=SECRET_TYPE, resource_names_subscribe=["ROOTCA"])
        )
        assert "ROOTCA" in secrets(await asyncio.wait_for(call.read(), 5))
        await call.done_writing()

    play(mesh, story)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ((), "no_token"),
        ((("authorization", "Basic abc"),), "no_token"),
        ((("authorization", "Bearer forged"),), "malformed"),
    ],
)
def test_a_stream_without_proof_is_unauthenticated(mesh: Mesh, metadata: Any, reason: str) -> None:
    async def story(channel: grpc.aio.Channel) -> None:
        assert await status_of_call(delta(channel, metadata)) is grpc.StatusCode.UNAUTHENTICATED
        assert mesh.refusals.entries[-1].reason == reason

    play(mesh, story)


def test_the_caller_is_not_told_why(mesh: Mesh) -> None:
    async def story(channel: grpc.aio.Channel) -> None:
        call = delta(channel, (("authorization", "Bearer forged"),))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert "forged" not in (caught.value.details() or "")
        assert "malformed" not in (caught.value.details() or "")

    play(mesh, story)


def test_a_token_of_a_mebibyte_is_refused_before_it_is_read(mesh: Mesh) -> None:
    async def story(channel: grpc.aio.Channel) -> None:
        metadata = (("authorization", "Bearer " + "a" * 2**20),)
        with pytest.raises(grpc.aio.AioRpcError):
            await asyncio.wait_for(delta(channel, metadata).read(), 10)
        assert mesh.tokens.calls == 0
        call = delta(channel)
        await call.write(
            DeltaDiscoveryRequest(type_url=SECRET_TYPE, resource_names_subscribe=["ROOTCA"])
        )
        assert await asyncio.wait_for(call.read(), 5)

    play(mesh, story)


def test_fetch_is_served(mesh: Mesh) -> None:
    async def story(channel: grpc.aio.Channel) -> None:
        fetch = channel.unary_unary(
            SDS + "FetchSecrets",
            request_serializer=DiscoveryRequest.SerializeToString,
            response_deserializer=DiscoveryResponse.FromString,
        )
        response = await fetch(DiscoveryRequest(resource_names=["default"]), metadata=TOKEN)
        assert list(secrets(response)) == ["default"]

    play(mesh, story)


def certificate_request(**names: str) -> bytes:
    """Return a PEM CSR of a new P-256 key, asking for `uri` if it is given."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if "uri" in names:
        san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(names["uri"])])
        builder = builder.add_extension(san, critical=True)
    key = ec.generate_private_key(ec.SECP256R1())
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def create(channel: grpc.aio.Channel) -> Any:
    """Return the CreateCertificate call."""
    return channel.unary_unary(
        METHOD,
        request_serializer=IstioCertificateRequest.SerializeToString,
        response_deserializer=IstioCertificateResponse.FromString,
    )


def test_istios_call_answers_leaf_intermediates_and_last_the_whole_bundle(mesh: Mesh) -> None:
    async def story(channel: grpc.aio.Channel) -> None:
        request = IstioCertificateRequest(
            csr=certificate_request().decode(), validity_duration=86400
        )
        request.metadata.update({"CertSigner": ""})
        response = await create(channel)(request, metadata=TOKEN)
        *chain, roots = response.cert_chain
        assert len(chain) == 2
        assert all(pem.count("BEGIN CERTIFICATE") == 1 and pem.endswith("\n") for pem in chain)
        assert roots.encode() == mesh.authorities.bundle.pem()
        leaf, issuer = (x509.load_pem_x509_certificate(pem.encode()) for pem in chain)
        leaf.verify_directly_issued_by(issuer)

    play(mesh, story)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (IstioCertificateRequest(csr="nonsense"), grpc.StatusCode.INVALID_ARGUMENT),
        (IstioCertificateRequest(), grpc.StatusCode.INVALID_ARGUMENT),
        (
            IstioCertificateRequest(csr=certificate_request().decode(), validity_duration=-1),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            IstioCertificateRequest(
                csr=certificate_request(uri="spiffe://example.org/ns/admin/sa/root").decode()
            ),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
    ],
    ids=["malformed", "empty", "negative lifetime", "foreign identity"],
)
def test_istios_call_refuses_bad_requests(
    mesh: Mesh, request_: IstioCertificateRequest, code: grpc.StatusCode
) -> None:
    async def story(channel: grpc.aio.Channel) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await create(channel)(request_, metadata=TOKEN)
        assert caught.value.code() is code
        assert mesh.refusals.entries[-1].spiffe_id == "spiffe://example.org/ns/shop/sa/web"

    play(mesh, story)


def test_nobody_speaks_for_another(mesh: Mesh) -> None:
    async def story(channel: grpc.aio.Channel) -> None:
        request = IstioCertificateRequest(csr=certificate_request().decode())
        request.metadata.update({"ImpersonatedIdentity": "spiffe://example.org/ns/a/sa/b"})
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await create(channel)(request, metadata=TOKEN)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED  # as istiod answers
        assert mesh.refusals.entries[-1].reason == "impersonation"

    play(mesh, story)


def test_a_live_svid_is_proof_on_the_mutual_tls_door(mesh: Mesh) -> None:
    async def scene() -> None:
        async with running(mesh), channel_to(mesh, mutual_tls=True) as channel:
            call = delta(channel, ())
            await call.write(
                DeltaDiscoveryRequest(type_url=SECRET_TYPE, resource_names_subscribe=["default"])
            )
            secret = secrets(await asyncio.wait_for(call.read(), 5))["default"]
            chain = secret.tls_certificate.certificate_chain.inline_bytes
            leaf = x509.load_pem_x509_certificates(chain)[0]
            san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            uris = san.get_values_for_type(x509.UniformResourceIdentifier)
            assert uris == ["spiffe://example.org/meshca/server"]

    asyncio.run(scene())


def test_a_second_server_cannot_share_the_port_in_silence(mesh: Mesh) -> None:
    async def story() -> None:
        first, second = grpc.aio.server(options=OPTIONS), grpc.aio.server(options=OPTIONS)
        port = first.add_insecure_port("127.0.0.1:0")
        with pytest.raises(RuntimeError):
            second.add_insecure_port(f"127.0.0.1:{port}")

    asyncio.run(story())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ProofRefused("x", "x"), grpc.StatusCode.UNAUTHENTICATED),
        (IdentityForbidden("x", "x"), grpc.StatusCode.PERMISSION_DENIED),
        (RequestRefused("x", "x"), grpc.StatusCode.INVALID_ARGUMENT),
        (AuthorityUnavailable("x"), grpc.StatusCode.UNAVAILABLE),
        (Overloaded("x"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (NotFound("x"), grpc.StatusCode.NOT_FOUND),
        (IssuanceFault("x"), grpc.StatusCode.INTERNAL),
    ],
)
def test_each_error_has_its_status(error: MeshcaError, code: grpc.StatusCode) -> None:
    assert status_of(error) is code
