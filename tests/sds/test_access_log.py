"""Access logs: entries belong to the proxy that proved itself, each is decided again."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from envoy.config.core.v3.base_pb2 import RequestMethod
from envoy.data.accesslog.v3.accesslog_pb2 import (
    AccessLogType,
    HTTPAccessLogEntry,
    TCPAccessLogEntry,
)
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage

from authz.engine import compile_workload
from authz.records.decisions import Decisions
from authz.workload import Workload
from meshca.errors import ProofRefused
from sds.access_log import needs_more
from tests.sds.conftest import Mesh, make_policies
from tests.sds.deciding import ORDERS_TOKEN, WEB, Deciding, deciding, proof

RBAC = "rbac_access_denied_matched_policy"
LATER = timedelta(minutes=1)
READ = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: read, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  rules: [{to: [{operation: {methods: [GET]}}]}]
"""
BY_HEADER = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: read, namespace: shop}
spec: {rules: [{when: [{key: "request.headers[x-team]", values: [a]}]}]}
"""


def http_entry(
    *,
    method: str = "GET",
    path: str = "/items?secret=1",
    details: str = "via_upstream",
    peers: tuple[str, ...] = (WEB,),
    claims: Mapping[str, Any] | None = None,
    **common: Any,
) -> HTTPAccessLogEntry:
    """Return an entry as Envoy makes them; override one thing."""
    entry = HTTPAccessLogEntry()
    entry.request.request_method = RequestMethod.Value(method)
    entry.request.path, entry.request.authority = path, "shop.example"
    entry.response.response_code_details = details
    fill(entry.common_properties, peers, **common)
    if claims is not None:
        found = entry.common_properties.metadata.filter_metadata["envoy.filters.http.jwt_authn"]
        found.update({"payload": claims})
    return entry


def tcp_entry(*, details: str = "", cluster: str = "app") -> TCPAccessLogEntry:
    """Return the entry of a TCP connection."""
    entry = TCPAccessLogEntry()
    fill(entry.common_properties, (WEB,))
    entry.common_properties.connection_termination_details = details
    entry.common_properties.upstream_cluster = cluster
    return entry


def fill(common: Any, peers: tuple[str, ...], *, checked: bool = False, **fields: Any) -> None:
    """Fill in what entries of both kinds have."""
    common.downstream_direct_remote_address.socket_address.address = "10.0.0.7"
    common.downstream_remote_address.socket_address.address = "203.0.113.9"
    common.downstream_local_address.socket_address.address = "10.0.0.9"
    common.downstream_local_address.socket_address.port_value = 8443
    common.tls_properties.tls_sni_hostname = "orders.shop"
    local = common.tls_properties.local_certificate_properties.subject_alt_name.add()
    local.uri = "spiffe://example.org/ns/bank/sa/vault"  # never believed
    for peer in peers:
        common.tls_properties.peer_certificate_properties.subject_alt_name.add().uri = peer
    if checked:
        mark = common.metadata.filter_metadata["envoy.filters.http.ext_authz"]
        mark.update({"meshca": "checked"})
    for name, value in fields.items():
        setattr(common, name, value)


def message(*entries: Any) -> StreamAccessLogsMessage:
    """Return a message of these entries, whose node claims to be another workload."""
    result = StreamAccessLogsMessage()
    result.identifier.node.id = "vault-1"
    result.identifier.node.metadata.update({"labels": {"app": "vault"}, "namespace": "bank"})
    for entry in entries:
        logs = result.http_logs if isinstance(entry, HTTPAccessLogEntry) else result.tcp_logs
        logs.log_entry.add().CopyFrom(entry)
    return result


async def tell(doors: Deciding, *entries: Any, token: str = ORDERS_TOKEN) -> None:
    """Send `entries` over a stream of its own, HTTP first: a message is of one kind."""
    by_kind = [
        [each for each in entries if isinstance(each, kind)]
        for kind in (HTTPAccessLogEntry, TCPAccessLogEntry)
    ]
    messages = [message(*some) for some in by_kind if some]

    async def receive() -> StreamAccessLogsMessage | None:
        return messages.pop(0) if messages else None

    await doors.logs.stream(receive, proof(token))


def entries(doors: Deciding, outcome: str) -> float:
    """Return how many entries became `outcome`."""
    return doors.metric("meshca_access_log_entries_total", outcome=outcome)


def disagreements(doors: Deciding) -> float:
    """Return how often a proxy and the engine differed."""
    name = "meshca_authz_disagreements_total"
    return doors.metric(name, proxy="allowed") + doors.metric(name, proxy="denied")


def test_an_entry_is_of_the_proxy_that_sends_it_whatever_it_claims(mesh: Mesh) -> None:
    async def story() -> None:
        async with deciding(mesh, make_policies(READ)) as doors:
            await tell(doors, http_entry(), tcp_entry())
            for observed in doors.seen:
                assert observed.destination == "spiffe://example.org/ns/shop/sa/orders"
                assert observed.request.destination == Workload("shop", {"app": "orders"})

    asyncio.run(story())


def test_an_entry_becomes_the_request_that_it_was(mesh: Mesh) -> None:
    async def story() -> None:
        async with deciding(mesh, make_policies(READ)) as doors:
            entry = http_entry(claims={"sub": "ann"})
            entry.request.request_id = "r-17"
            await tell(doors, entry, tcp_entry())
            assert [o.request_id for o in doors.seen] == ["r-17", ""]
            assert {o.place.pod for o in doors.seen} == {"orders-1"}
            http, tcp = (observed.request for observed in doors.seen)
            assert http.http is not None
            assert (http.http.method, http.http.host) == ("GET", "shop.example")
            assert http.http.claims == {"sub": "ann"}
            assert (str(http.source), http.port, http.sni) == (WEB, 8443, "orders.shop")
            assert (http.source_ip, http.remote_ip) == ("10.0.0.7", "203.0.113.9")
            assert tcp.http is None
            assert [o.allowed for o in doors.seen] == [True, True]

    asyncio.run(story())


def test_labels_of_the_node_do_where_no_stream_has_said_any(mesh: Mesh) -> None:
    async def story() -> None:
        async with deciding(mesh, make_policies(READ), connected=False) as doors:
            await tell(doors, http_entry())
            assert doors.seen[0].request.destination == Workload("shop", {"app": "vault"})

    asyncio.run(story())


def test_refusals_name_their_rule(mesh: Mesh) -> None:
    named = "ns[shop]-policy[no-admin]-rule[2]"

    async def story() -> None:
        async with deciding(mesh, make_policies(READ)) as doors:
            denied = tcp_entry(details=f"{RBAC}[default-deny]", cluster="")
            await tell(doors, http_entry(details=f"{RBAC}[{named}]"), denied)
            assert [(o.allowed, o.named) for o in doors.seen] == [
                (False, named),
                (False, "default-deny"),
            ]
            await doors.recorder.flush()
            kept = Decisions(mesh.writer.engine).denials(mesh.clock.now() - LATER)
            assert {(k.outcome.policy, k.outcome.rule) for k in kept} == {
                ("shop/no-admin", 2),
                ("", None),
            }

    asyncio.run(story())


@pytest.mark.parametrize(
    "entry",
    [
        http_entry(details="path_normalization_failed"),
        http_entry(details="jwt_authn_access_denied{Jwt_is_expired}"),
        http_entry(details="http1.codec_error"),
        http_entry(details=""),
        http_entry(intermediate_log_entry=True),
        http_entry(access_log_type=AccessLogType.DownstreamPeriodic),
        tcp_entry(cluster=""),
    ],
    ids=["path", "token", "codec", "unsaid", "intermediate", "periodic", "tcp"],
)
def test_what_was_never_decided_about_is_no_decision(entry: Any, mesh: Mesh) -> None:
    async def story() -> None:
        async with deciding(mesh, make_policies(READ)) as doors:
            await tell(doors, entry)
            assert doors.seen == []
            assert entries(doors, "none") == 1

    asyncio.run(story())


def test_what_was_checked_here_is_recorded_already(mesh: Mesh) -> None:
    async def story() -> None:
        async with deciding(mesh, make_policies(READ)) as doors:
            await tell(doors, http_entry(checked=True))
            assert doors.seen == []
            assert entries(doors, "checked") == 1

    asyncio.run(story())


def test_a_proxy_that_differs_from_the_engine_is_counted_and_recorded(mesh: Mesh) -> None:
    async def story() -> None:
        async with deciding(mesh, make_policies(READ)) as doors:
            mesh.clock.advance(LATER)
            await tell(doors, http_entry(method="POST"), http_entry(details=f"{RBAC}[x]"))
            assert disagreements(doors) == 2
            await tell(doors, http_entry(), http_entry(method="POST", details=f"{RBAC}[x]"))
            assert disagreements(doors) == 2, "these agree"
            await doors.recorder.flush()
            kept = Decisions(mesh.writer.engine).denials(mesh.clock.now() - LATER)
            assert any("the proxy denied it, but by the set in force" in k.reason for k in kept)

    asyncio.run(story())


@pytest.mark.parametrize(
    "entry",
    [
        http_entry(method="POST", peers=(WEB, "spiffe://example.org/ns/shop/sa/b")),
        http_entry(details=f"{RBAC}[revoked]"),
        http_entry(details=f"{RBAC}[several-uri-sans]"),
        http_entry(details=f"{RBAC}[none]"),
        http_entry(details="ext_authz_error"),
    ],
    ids=["two names", "revoked", "several", "not yet pushed", "no answer"],
)
def test_what_policy_did_not_decide_is_not_compared(entry: Any, mesh: Mesh) -> None:
    async def story() -> None:
        async with deciding(mesh, make_policies(READ)) as doors:
            mesh.clock.advance(LATER)
            await tell(doors, entry)
            assert disagreements(doors) == 0
            assert len(doors.seen) == 1

    asyncio.run(story())


def test_around_a_change_of_policy_nothing_is_compared(mesh: Mesh) -> None:
    async def story() -> None:
        async with deciding(mesh, make_policies(READ)) as doors:
            mesh.clock.advance(LATER)
            doors.logs.policy_changed()
            mesh.clock.advance(timedelta(seconds=9))
            await tell(doors, http_entry(method="POST"))
            assert disagreements(doors) == 0
            mesh.clock.advance(timedelta(seconds=2))
            await tell(doors, http_entry(method="POST"))
            assert disagreements(doors) == 1
            late = http_entry(method="POST")
            late.common_properties.start_time.FromDatetime(mesh.clock.now() - LATER)
            await tell(doors, late)
            assert disagreements(doors) == 1, "it began before the change"

    asyncio.run(story())


def test_where_headers_decide_entries_are_partial_and_not_compared(mesh: Mesh) -> None:
    async def story() -> None:
        async with deciding(mesh, make_policies(BY_HEADER)) as doors:
            mesh.clock.advance(LATER)
            await tell(doors, http_entry())
            assert disagreements(doors) == 0
            assert doors.seen[0].is_partial

    asyncio.run(story())


BY_SERVER_NAME = BY_HEADER.replace("request.headers[x-team]", "connection.sni")


@pytest.mark.parametrize(
    ("text", "more"), [(READ, False), (BY_HEADER, True), (BY_SERVER_NAME, True)]
)
def test_it_is_known_which_workloads_need_more_than_a_log_has(text: str, more: bool) -> None:
    policies = compile_workload(make_policies(text), Workload("shop", {"app": "orders"}))
    assert needs_more(policies) is more


def test_a_stream_without_proof_is_refused_and_recorded(mesh: Mesh) -> None:
    async def story() -> None:
        async with deciding(mesh, make_policies(READ)) as doors:
            with pytest.raises(ProofRefused):
                await tell(doors, http_entry(), token="forged")
            assert doors.seen == []
            assert [e.details["door"] for e in mesh.refusals.entries] == ["access_log"]

    asyncio.run(story())


def test_a_stream_ends_with_its_proof(mesh: Mesh) -> None:
    async def story() -> None:
        async with deciding(mesh, make_policies(READ)) as doors:
            sent = iter([message(http_entry()), message(http_entry())])

            async def receive() -> StreamAccessLogsMessage | None:
                first = next(sent, None)
                if doors.seen:
                    mesh.clock.advance(timedelta(hours=2))
                return first

            with pytest.raises(ProofRefused) as refused:
                await doors.logs.stream(receive, proof())
            assert refused.value.reason == "proof_ended"
            assert len(doors.seen) == 1

    asyncio.run(story())


def test_a_draining_server_ends_the_streams(mesh: Mesh) -> None:
    async def story() -> None:
        async with deciding(mesh, make_policies(READ)) as doors:

            async def never() -> StreamAccessLogsMessage | None:
                await asyncio.Event().wait()
                raise AssertionError

            stream = asyncio.ensure_future(doors.logs.stream(never, proof()))
            while not doors.logs.streams:
                await asyncio.sleep(0)
            doors.logs.end_all()
            await asyncio.wait_for(stream, 5)
            assert doors.logs.streams == 0

    asyncio.run(story())


def test_between_a_few_entries_of_all_streams_whoever_waits_has_a_turn(mesh: Mesh) -> None:
    """Twenty proxies that told at once held up a revocation on its way by a batch at each step."""

    async def story() -> None:
        async with deciding(mesh, make_policies(READ)) as doors:
            telling = [
                asyncio.create_task(tell(doors, *(http_entry() for _ in range(40))))
                for _ in range(8)
            ]
            most, before = 0, 0
            while not all(task.done() for task in telling):
                await asyncio.sleep(0)
                most, before = max(most, len(doors.seen) - before), len(doors.seen)
            assert (len(doors.seen), most) == (320, 4)

    asyncio.run(story())
