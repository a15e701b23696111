"""Tokens, plaintext and checks on a real Envoy with our bootstrap, as policy changes."""

import asyncio
import contextlib
import http.client
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from google.protobuf import json_format

from meshca.demo.app import EchoApp
from meshca.demo.ports import free_port
from tests.envoy import RunningEnvoy
from tests.real_parts import wait_until
from tests.sds.served import ALLOW_ALL, Peer, ServedMesh, echo_server
from tests.sds.token_issuer import TokenIssuer, request_authentication

pytestmark = pytest.mark.end_to_end
SOON = 10
ISSUER, OTHER = TokenIssuer(), TokenIssuer("https://other.test")
TOKENS = f"{ALLOW_ALL}---\n{request_authentication(ISSUER.name, OTHER.name)}"
ONLY_BOB = f"""{request_authentication(ISSUER.name)}---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: bob, namespace: shop}}
spec: {{rules: [{{from: [{{source: {{requestPrincipals: ["{ISSUER.name}/bob"]}}}}]}}]}}
"""


def modes(mode: str, ports: str = "") -> str:
    """Return ALLOW_ALL, and the mode of the orders of namespace shop."""
    return f"""{ALLOW_ALL}---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: mode, namespace: shop}}
spec: {{selector: {{matchLabels: {{app: orders}}}}, mtls: {{mode: {mode}}}{ports}}}
"""


@dataclass
class Checks(grpc.GenericRpcHandler):
    """Answers Check: no to paths in `refused`; it keeps what it was asked, and by whom.

    If it is `silent`, it never answers.
    """

    refused: tuple[str, ...] = ()
    silent: bool = False
    asked: list[tuple[str, Any]] = field(default_factory=list)

    def service(self, handler_call_details: Any) -> Any:
        """Answer Check and nothing else."""
        if not handler_call_details.method.endswith("Authorization/Check"):
            return None

        async def check(request: bytes, context: Any) -> bytes:
            asked = CheckRequest.FromString(request)
            said = dict(context.invocation_metadata()).get("authorization", "")
            self.asked.append((said, asked.attributes))
            if self.silent:
                await asyncio.Event().wait()
            is_refused = asked.attributes.request.http.path in self.refused
            answer = CheckResponse()
            answer.status.code = 7 if is_refused else 0
            return bytes(answer.SerializeToString())

        return grpc.unary_unary_rpc_method_handler(check)


@dataclass
class Orders:
    """A workload behind its Envoy: its ports of HTTP and of TCP."""

    envoy: RunningEnvoy
    port: int
    tcp_port: int
    web: Peer

    def call(
        self, path: str = "/", *, token: str = "", method: str = "GET", **headers: str
    ) -> tuple[int, Any]:
        """Send a request of web over mutual TLS; return the status and what the app was sent."""
        said = {"authorization": f"Bearer {token}"} if token else {}
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=10, context=self.web.context()
        )
        return _answer(connection, path, {**said, **headers}, method)

    def plain(self, path: str = "/") -> int:
        """Send a request without TLS; return the status."""
        return _answer(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10), path, {})[0]

    def plain_tcp(self) -> bool:
        """Return whether bytes without TLS come back."""
        with socket.create_connection(("127.0.0.1", self.tcp_port), timeout=10) as connection:
            try:
                connection.sendall(b"hello, orders")
                return connection.recv(5) == b"hello"
            except OSError:
                return False

    def rejected(self) -> int:
        """Return how many of our filters this Envoy has refused."""
        return sum(self.envoy.stats(r"^extension_config_discovery\..*(rejected|fail)$").values())


def _answer(
    connection: http.client.HTTPConnection,
    path: str,
    headers: Mapping[str, str],
    method: str = "GET",
) -> tuple[int, Any]:
    with contextlib.closing(connection):
        connection.request(method, path, headers=dict(headers))
        response = connection.getresponse()
        body = response.read()
    return response.status, json.loads(body) if response.status == 200 else body.decode()


@pytest.fixture
def checks() -> Checks:
    return Checks()


@pytest.fixture
def served(tmp_path: Path, checks: Checks) -> Iterator[ServedMesh]:
    mesh = ServedMesh(tmp_path)
    mesh.handlers.append(checks)
    with mesh:
        yield mesh


@pytest.fixture
def orders(served: ServedMesh) -> Iterator[Callable[..., Orders]]:
    """Start the Envoy of orders, with options of the bootstrap; it refuses none of our filters."""
    with EchoApp() as app, echo_server() as echo, contextlib.ExitStack() as running:
        started: list[Orders] = []

        def start(**options: Any) -> Orders:
            port, tcp_port = free_port(), free_port()
            envoy = served.envoy(
                "orders",
                inbound=f"127.0.0.1:{port}",
                app=f"127.0.0.1:{app.port}",
                inbound_tcp=[f"127.0.0.1:{tcp_port}=127.0.0.1:{echo}"],
                labels=["app=orders"],
                **options,
            )
            found = Orders(running.enter_context(envoy), port, tcp_port, served.peer("web"))
            started.append(found)
            within(lambda: served.peer("web").call(port) == 200, "the first request passes")
            return found

        yield start
        assert [each.rejected() for each in started] == [0] * len(started)


def within(condition: Callable[[], bool], what: str) -> None:
    wait_until(condition, within_seconds=SOON, what=what)


def test_a_request_passes_with_a_valid_token_or_none_and_with_no_other(
    served: ServedMesh, orders: Callable[..., Orders]
) -> None:
    workload = orders()
    assert workload.call(token="nonsense")[0] == 200

    served.enforce(TOKENS, keys=ISSUER.keys)
    within(lambda: workload.call(token="nonsense")[0] == 401, "tokens are validated")

    status, sent = workload.call(token=ISSUER.token())
    assert status == 200
    assert "authorization" not in sent["headers"]
    assert workload.call()[0] == 200
    assert workload.call(authorization="Basic Zm9vOmJhcg==")[0] == 200
    assert workload.call(token=ISSUER.token(seconds=-30))[0] == 200  # within the clock skew
    for wrong, reason in (
        (ISSUER.token(seconds=-120), "Jwt is expired"),
        (OTHER.token(), "Jwks doesn't have key to match kid or alg from Jwt"),
        (TokenIssuer(ISSUER.name).token(), "Jwt verification fails"),
        (TokenIssuer("https://third.test").token(), "Jwt issuer is not configured"),
    ):
        assert workload.call(token=wrong) == (401, reason)
    assert workload.call(token=ISSUER.token(aud="other")) == (
        403,
        "Audiences in Jwt are not allowed",
    )


def test_new_keys_of_an_issuer_are_in_force_without_another_policy(
    served: ServedMesh, orders: Callable[..., Orders]
) -> None:
    workload, after = orders(), TokenIssuer(ISSUER.name)
    served.enforce(TOKENS, keys=ISSUER.keys)
    within(lambda: workload.call(token=after.token())[0] == 401, "tokens are validated")

    served.enforce(TOKENS, keys=after.keys)

    within(lambda: workload.call(token=after.token())[0] == 200, "the new key is known")
    assert workload.call(token=ISSUER.token())[0] == 401


def test_a_token_is_forwarded_and_told_in_headers_where_policy_says_so(
    served: ServedMesh, orders: Callable[..., Orders]
) -> None:
    workload = orders()
    more = (
        ", forwardOriginalToken: true, outputPayloadToHeader: x-payload, "
        "outputClaimToHeaders: [{header: x-user, claim: sub}], fromHeaders: [{name: x-token}]"
    )
    text = f"{ALLOW_ALL}---\n{request_authentication(ISSUER.name, more=more)}"
    served.enforce(text, keys=ISSUER.keys)
    within(lambda: workload.call(**{"x-token": "nonsense"})[0] == 401, "tokens are validated")

    token = ISSUER.token()
    status, sent = workload.call(**{"x-token": token})
    assert status == 200
    assert sent["headers"]["x-token"] == token
    assert sent["headers"]["x-user"] == "bob"
    assert "x-payload" in sent["headers"]

    status, sent = workload.call(**{"x-user": "alice", "x-payload": "forged"})
    assert status == 200
    assert not {"x-user", "x-payload"} & sent["headers"].keys()


BY_HEADERS_OF_TOKENS = """{requests}---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: by-header, namespace: shop}}
spec:
  rules:
  - when: [{{key: "request.headers[x-user]", values: [bob]}}]
  - when: [{{key: "request.headers[x-role]", values: [admin]}}]
  - when: [{{key: "request.headers[x-payload]", values: ["*"]}}]
  - to: [{{operation: {{paths: [/open]}}}}]
"""


def test_neither_policy_nor_application_sees_a_header_of_a_token_that_a_client_made(
    served: ServedMesh, orders: Callable[..., Orders]
) -> None:
    workload = orders()
    more = (
        ", outputPayloadToHeader: x-payload, outputClaimToHeaders: "
        "[{header: x-user, claim: sub}, {header: x-role, claim: role}]"
    )
    requests = request_authentication(ISSUER.name, more=more)
    served.enforce(BY_HEADERS_OF_TOKENS.format(requests=requests), keys=ISSUER.keys)
    within(lambda: workload.call(token="nonsense")[0] == 401, "tokens are validated")
    within(lambda: workload.call()[0] == 403, "policy is in force")
    preflight = {"origin": "https://a.test", "access-control-request-method": "GET"}

    for name, value in (("x-user", "bob"), ("X-Role", "admin"), ("x-payload", "e30")):
        forged = {name: value}
        assert workload.call(**forged)[0] == 403
        assert workload.call(**forged, authorization="Basic Zm9vOmJhcg==")[0] == 403
        assert workload.call(method="OPTIONS", **forged, **preflight)[0] == 403
        status, sent = workload.call("/open", **forged)
        assert (status, {name.lower()} & sent["headers"].keys()) == (200, set())

        status, sent = workload.call("/open", token=ISSUER.token(sub="alice"), **forged)
        assert (status, sent["headers"]["x-user"]) == (200, "alice")
        assert "x-role" not in sent["headers"], "the token does not say it"
        assert sent["headers"]["x-payload"] != "e30"
    assert workload.call(token=ISSUER.token())[0] == 200


def test_plaintext_is_answered_as_the_mode_says_on_open_connections_too(
    served: ServedMesh, orders: Callable[..., Orders]
) -> None:
    workload = orders(permissive=True)
    within(lambda: workload.plain() == 200, "without PeerAuthentication plaintext is permitted")
    within(workload.plain_tcp, "and so it is for TCP")
    kept = http.client.HTTPConnection("127.0.0.1", workload.port, timeout=10)
    with contextlib.closing(kept):

        def call() -> int:
            kept.request("GET", "/")
            response = kept.getresponse()
            response.read()
            return response.status

        assert call() == 200
        for mode, status in (("STRICT", 403), ("DISABLE", 200), ("STRICT", 403)):
            served.enforce(modes(mode))
            wait_for(mode, call, status)
            wait_for(mode, workload.plain_tcp, status == 200)
            assert workload.plain() == status
            assert workload.call()[0] == 200
    for mode, other, status in (("STRICT", "PERMISSIVE", 200), ("PERMISSIVE", "STRICT", 403)):
        ports = f", portLevelMtls: {{{workload.port}: {{mode: {other}}}}}"
        served.enforce(modes(mode, ports))
        wait_for(f"{mode} but for one port", workload.plain, status)
        wait_for(f"{mode} on the other", workload.plain_tcp, mode == "PERMISSIVE")
    within(lambda: "not-mutual-tls" in workload.envoy.log_text(), "the log says why")


def wait_for(mode: str, ask: Callable[[], object], expected: object) -> None:
    within(lambda: ask() == expected, f"{mode} is in force: {expected}")


def test_plaintext_is_not_spoken_unless_the_bootstrap_permits_it(
    served: ServedMesh, orders: Callable[..., Orders]
) -> None:
    workload = orders()
    served.enforce(modes("DISABLE"))
    with pytest.raises((OSError, http.client.HTTPException)):
        workload.plain()
    assert not workload.plain_tcp()
    assert workload.call()[0] == 200


def test_a_server_may_speak_first_in_plaintext(
    served: ServedMesh, orders: Callable[..., Orders]
) -> None:
    workload = orders(permissive=True)
    within(workload.plain_tcp, "plaintext is permitted")
    with socket.create_connection(("127.0.0.1", workload.tcp_port), timeout=10) as connection:
        connection.sendall(b"x")  # too little to tell TLS from anything else
        assert connection.recv(1) == b"x"


def test_what_policy_cannot_say_in_a_filter_is_asked_of_check_with_the_proxys_own_token(
    served: ServedMesh, orders: Callable[..., Orders], checks: Checks
) -> None:
    workload = orders(permissive=True)
    assert checks.asked == []
    checks.refused = ("/no",)

    served.enforce(ONLY_BOB, keys=ISSUER.keys)
    within(lambda: workload.call("/no", token=ISSUER.token())[0] == 403, "Check is asked")

    assert workload.call("/yes", token=ISSUER.token())[0] == 200
    token, attributes = checks.asked[-1]
    assert token == "Bearer shop/orders/orders-1"
    assert attributes.source.principal == "spiffe://example.org/ns/shop/sa/web"
    assert attributes.source.certificate.startswith("-----BEGIN%20CERTIFICATE")
    assert attributes.destination.address.socket_address.port_value == workload.port
    assert attributes.request.http.path == "/yes"
    metadata = json_format.MessageToDict(
        attributes.metadata_context.filter_metadata["envoy.filters.http.jwt_authn"]
    )
    assert metadata["payload"]["sub"] == "bob"
    assert workload.plain("/no") == 403
    assert checks.asked[-1][1].source.principal == ""
    within(lambda: "ext_authz_denied" in workload.envoy.log_text(), "the log says who refused")

    served.enforce(ALLOW_ALL)
    within(lambda: workload.call("/no")[0] == 200, "Check is not asked any more")


def test_without_an_answer_of_check_in_time_a_request_is_refused(
    served: ServedMesh, orders: Callable[..., Orders], checks: Checks
) -> None:
    workload = orders()
    served.enforce(ONLY_BOB, keys=ISSUER.keys)
    within(lambda: workload.call(token=ISSUER.token())[0] == 200 and bool(checks.asked), "asked")

    checks.silent = True
    assert workload.call(token=ISSUER.token())[0] == 403
    within(lambda: "ext_authz_error" in workload.envoy.log_text(), "the log says why")
