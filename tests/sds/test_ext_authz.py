"""Check: a proxy asks about its own workload, gets yes or an opaque no, and errors deny."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse

from authz.decision import Outcome
from authz.engine import compile_workload
from authz.providers import METHOD
from authz.workload import Workload
from meshca.errors import ProofRefused
from sds.admission import Peer
from sds.check_filter import check_filter
from sds.check_request import REMOTE_ADDRESS_KEY
from sds.check_response import DENIED, is_marked
from sds.grpc_server import OPTIONS, handlers
from sds.known_callers import Proof
from sds.labels import LABELS_KEY, read_labels, write_labels
from tests.sds.asked import POLICIES
from tests.sds.conftest import Mesh, make_policies
from tests.sds.deciding import ORDERS_TOKEN, WEB, check_message, deciding, proof, quoted
from tests.sds.served import ServedMesh

CLAIMS = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: orders, namespace: shop}
spec:
  rules:
  - when:
    - {key: "request.auth.claims[groups]", values: [admins]}
"""


HEADERS = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: orders, namespace: shop}
spec: {rules: [{when: [{key: "request.headers[x-team]", values: ["a,b"]}]}]}
"""


ADDRESSES = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: orders, namespace: shop}
spec: {rules: [{from: [{source: {remoteIpBlocks: [10.0.0.0/24]}}]}]}
"""


def test_the_engine_decides_about_the_askers_own_workload(mesh: Mesh) -> None:
    async def story() -> None:
        async with deciding(mesh, make_policies(POLICIES)) as doors:
            assert await doors.allows()
            assert not await doors.allows(method="POST")
            assert not await doors.allows(port=9999)
            assert not await doors.allows(principal="spiffe://example.org/ns/shop/sa/thief")
            assert not await doors.allows(principal="")
            assert not await doors.allows(http=False)
            assert doors.seen[0].destination == "spiffe://example.org/ns/shop/sa/orders"
            assert doors.seen[0].request.destination == Workload("shop", {"app": "orders"})
            assert doors.metric("meshca_authz_checks_total", verdict="allow") == 1
            assert doors.metric("meshca_authz_checks_total", verdict="deny") == 5

    asyncio.run(story())


def test_a_decision_keeps_what_the_request_was_called_and_where_it_was_made(mesh: Mesh) -> None:
    async def story() -> None:
        async with deciding(mesh, make_policies(POLICIES)) as world:
            await world.allows(headers={"x-request-id": "r-17"})
            (seen,) = world.seen
            assert seen.request_id == "r-17"
            assert (seen.place.pod, seen.place.service_account) == ("orders-1", "orders")

    asyncio.run(story())


def test_the_proxy_of_another_workload_gets_that_workloads_answer(mesh: Mesh) -> None:
    """A thief's proxy that claims to stand before orders is answered for what it is."""

    async def story() -> None:
        async with deciding(mesh, make_policies(POLICIES)) as doors:
            given = proof("shop/thief/thief-1", **{LABELS_KEY: write_labels(Workload("", {}))})
            assert not await doors.allows(given), "no policy selects it: the default denies"
            assert doors.seen[0].destination == "spiffe://example.org/ns/shop/sa/thief"
            assert doors.seen[0].decision.outcome is Outcome.DEFAULT

    asyncio.run(story())


def test_whoever_has_no_proof_gets_no_answer(mesh: Mesh) -> None:
    async def story() -> None:
        async with deciding(mesh, make_policies(POLICIES)) as doors:
            with pytest.raises(ProofRefused):
                await doors.allows(Proof({}, b"", lambda: Peer("ipv4:1.1.1.1:1")))
            with pytest.raises(ProofRefused):
                await doors.allows(proof("forged"))
            assert [entry.details["door"] for entry in mesh.refusals.entries] == ["ext_authz"] * 2

    asyncio.run(story())


def test_a_proxy_of_which_nothing_is_known_is_denied(mesh: Mesh) -> None:
    async def story() -> None:
        async with deciding(mesh, make_policies(POLICIES), connected=False) as doors:
            assert not await doors.allows()
            assert doors.metric("meshca_authz_checks_total", verdict="error") == 1

    asyncio.run(story())


def test_labels_that_the_filter_repeats_are_enough_on_any_replica(mesh: Mesh) -> None:
    written = write_labels(Workload("shop", {"app": "orders"}))

    async def story() -> None:
        async with deciding(mesh, make_policies(POLICIES), connected=False) as doors:
            assert await doors.allows(proof(**{LABELS_KEY: written}))
            assert not await doors.allows(proof(**{LABELS_KEY: "no labels"}))

    asyncio.run(story())


def test_the_filter_that_asks_repeats_its_workload() -> None:
    policies = compile_workload(make_policies(POLICIES), Workload("shop", {"app": "orders"}))
    pairs = check_filter(policies.workload, is_needed=True).grpc_service.initial_metadata
    assert read_labels({pair.key: pair.value for pair in pairs}[LABELS_KEY]) == {"app": "orders"}


@pytest.mark.parametrize(
    "text",
    ["", "e30", "!!!!", "W10=", "eyJhIjoxfQ==", "A" * 20_000, write_labels(Workload(""))[:2]],
)
def test_what_is_no_labels_is_not_taken_for_some(text: str) -> None:
    assert read_labels(text) is None


def test_labels_are_remembered_when_the_stream_is_gone(mesh: Mesh) -> None:
    async def story() -> None:
        async with deciding(mesh, make_policies(POLICIES)) as doors:
            assert await doors.allows()
            mesh.ledger.end_all()
            while mesh.ledger.streams:
                await asyncio.sleep(0)
            assert await doors.allows()

    asyncio.run(story())


def test_claims_are_those_that_the_proxy_has_validated(mesh: Mesh) -> None:
    async def story() -> None:
        async with deciding(mesh, make_policies(CLAIMS)) as doors:
            assert await doors.allows(claims={"groups": ["users", "admins"]})
            assert await doors.allows(claims={"groups": "admins"})
            assert not await doors.allows(claims={"groups": ["users"]})
            assert not await doors.allows(claims={"groups": {"admins": True}})
            assert not await doors.allows(headers={"authorization": "Bearer admins"})

    asyncio.run(story())


def test_headers_are_seen_as_the_filter_sends_them(mesh: Mesh) -> None:
    async def story() -> None:
        async with deciding(mesh, make_policies(HEADERS)) as doors:
            assert await doors.allows(headers={"x-team": "a,b"})
            assert not await doors.allows(headers={"x-team": "a"})
            assert not await doors.allows()

    asyncio.run(story())


def test_behind_a_forwarder_the_remote_address_is_known_if_the_proxy_says_it(mesh: Mesh) -> None:
    async def story() -> None:
        async with deciding(mesh, make_policies(ADDRESSES)) as doors:
            assert await doors.allows()
            assert not await doors.allows(source_ip="10.9.9.9")
            assert not await doors.allows(headers={"x-forwarded-for": "10.0.0.7"})
            said = proof(**{REMOTE_ADDRESS_KEY: "10.0.0.7"})
            forwarded = {"x-forwarded-for": "10.0.0.7, 10.9.9.9"}
            assert await doors.allows(said, headers=forwarded, source_ip="10.9.9.9")

    asyncio.run(story())


def test_a_peer_must_be_exactly_one_identity(tmp_path: Any, mesh: Mesh) -> None:
    other = "spiffe://example.org/ns/shop/sa/other"
    peers = ServedMesh(tmp_path)
    one, two, none = (peers.peer("web", *uris) for uris in ((WEB,), (WEB, other), ("https://x",)))

    async def story() -> None:
        async with deciding(mesh, make_policies(POLICIES)) as doors:
            assert await doors.allows(certificate=quoted(one.certificate))
            denied = [
                await doors.allows(certificate=quoted(two.certificate)),
                await doors.allows(certificate=quoted(none.certificate)),
                await doors.allows(certificate=quoted(one.certificate), principal=other),
                await doors.allows(certificate=quoted(one.certificate), principal=""),
                await doors.allows(certificate="not%20a%20certificate"),
                await doors.allows(principal="CN=web"),
                await doors.allows(principal=f"{WEB},{other}"),
                await doors.allows(principal="spiffe://example.org"),
            ]
            assert denied == [False] * 8
            assert doors.metric("meshca_authz_checks_total", verdict="error") == 8
            assert doors.metric("meshca_decisions_unrecorded_total", reason="error") == 8
            assert len(doors.seen) == 1

    asyncio.run(story())


@pytest.mark.parametrize("message", [b"\xff\xff\xff", b"", b"\x0a\x05hello"])
def test_what_is_no_request_is_denied(message: bytes, mesh: Mesh) -> None:
    async def story() -> None:
        async with deciding(mesh, make_policies(POLICIES)) as doors:
            assert await doors.checks.check(message, proof()) == DENIED

    asyncio.run(story())


def test_checks_go_on_while_the_database_is_away(mesh: Mesh) -> None:
    async def story() -> None:
        async with deciding(mesh, make_policies(POLICIES)) as doors:
            with mesh.writer.engine.begin() as connection:
                connection.exec_driver_sql("DROP TABLE decision_records")
            assert await doors.allows()
            assert not await doors.allows(method="POST")
            await doors.recorder.flush()
            mesh.clock.advance(timedelta(seconds=61))
            await doors.recorder.flush()
            assert doors.metric("meshca_decisions_unrecorded_total", reason="database") == 1
            assert await doors.allows()

    asyncio.run(story())


def test_an_answer_marks_the_request_as_recorded(mesh: Mesh) -> None:
    async def story() -> None:
        async with deciding(mesh, make_policies(POLICIES)) as doors:
            for method in ("GET", "POST"):
                answer = await doors.ask(check_message(method=method))
                entry = CheckRequest().attributes.metadata_context
                entry.filter_metadata["envoy.filters.http.ext_authz"].CopyFrom(
                    answer.dynamic_metadata
                )
                assert is_marked(entry)
            assert not is_marked(CheckRequest().attributes.metadata_context)

    asyncio.run(story())


def test_the_answer_does_not_say_why(mesh: Mesh) -> None:
    async def story() -> None:
        async with deciding(mesh, make_policies(POLICIES)) as doors:
            answer = await doors.ask(check_message(method="POST"))
            assert (answer.status.code, answer.status.message) == (7, "")
            assert answer.denied_response.status.code == 403
            assert b"orders" not in answer.SerializeToString()

    asyncio.run(story())


def test_check_is_served_beside_the_other_services(mesh: Mesh) -> None:
    async def story() -> None:
        async with deciding(mesh, make_policies(POLICIES)) as doors:
            served = replace(mesh.doors, checks=doors.checks, access_logs=doors.logs)
            server = grpc.aio.server(options=OPTIONS)
            server.add_generic_rpc_handlers(handlers(served, mutual_tls=False))
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                call: Any = channel.unary_unary(METHOD)
                message = check_message().SerializeToString()
                metadata = (("authorization", f"Bearer {ORDERS_TOKEN}"),)
                answer = CheckResponse.FromString(await call(message, metadata=metadata))
                assert answer.status.code == 0
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await call(message)
                assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
            await server.stop(0)

    asyncio.run(story())


@pytest.mark.parametrize("said", ["-", "10.0.0.7:443", "unix", ""])
def test_a_remote_address_that_is_none_is_not_known(said: str, mesh: Mesh) -> None:
    closed = ADDRESSES.replace("remoteIpBlocks: [10.0.0.0/24]", "notRemoteIpBlocks: [10.0.0.0/8]")

    async def story() -> None:
        async with deciding(mesh, make_policies(closed)) as doors:
            assert await doors.allows(proof(**{REMOTE_ADDRESS_KEY: "192.0.2.1"}))
            assert not await doors.allows(proof(**{REMOTE_ADDRESS_KEY: said}))

    asyncio.run(story())


def test_labels_longer_than_any_label_are_not_remembered(mesh: Mesh) -> None:
    async def story() -> None:
        long = {"app": "orders", "note": "x" * 64}
        async with deciding(mesh, make_policies(POLICIES), connected=False) as doors:
            assert await doors.allows(proof(**{LABELS_KEY: encoded({"app": "orders"})}))
            assert not await doors.allows(proof(**{LABELS_KEY: encoded(long)}))

    asyncio.run(story())


def encoded(labels: dict[str, str]) -> str:
    """Return labels as the filter would repeat them."""
    return write_labels(Workload("shop", labels))
