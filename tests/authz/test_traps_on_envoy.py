"""Past bypasses of policy in this and other meshes, one by one, on a real Envoy and the engine."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from authz.compile import DEFAULT_DENY, NOT_MUTUAL_TLS
from authz.engine import compile_workload, decide
from authz.request import Http, Request
from meshca.spiffe_id import SpiffeId
from tests.authz.builders import ORDERS, document, rule
from tests.authz.proxy import Answer, Case, Client, Message, Ports, Proxy, running_proxy
from tests.authz.world import ALIAS, load_world

pytestmark = pytest.mark.end_to_end

WEB = "example.org/ns/shop/sa/web"
PORTS = Ports.free()


def when(key: str, *values: str, name: str = "values") -> dict[str, Any]:
    """Return a rule with one condition."""
    return {"when": [{"key": key, name: list(values)}]}


def denying(*rules: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a set that allows everything but `rules`."""
    return [document("all", rules=[{}]), document("no", action="DENY", rules=list(rules))]


def strict(*ports: int) -> dict[str, Any]:
    """Return a PeerAuthentication that is PERMISSIVE but for `ports`."""
    levels = {str(port): {"mode": "STRICT"} for port in ports}
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "modes", "namespace": "shop"},
        "spec": {
            "selector": {"matchLabels": {"app": "orders"}},
            "mtls": {"mode": "PERMISSIVE"},
            "portLevelMtls": levels,
        },
    }


shadowed = document("trial", action="DENY", rules=[rule(None, {"methods": ["PUT"]})])
shadowed["metadata"]["annotations"] = {"istio.io/dry-run": "true"}

SETS = {
    "account": [document(rules=[rule({"serviceAccounts": ["shop/web.x"]})])],
    "namespace": [document(rules=[rule({"namespaces": ["*p.x"]})])],
    "domain": [document(rules=[rule({"trustDomains": ["*.net"]})])],
    "alias": [document(rules=[rule({"principals": [WEB]})])],
    "foreign": [document(rules=[rule({"namespaces": ["shop"], "trustDomains": ["partner.net"]})])],
    "host": denying(rule(None, {"hosts": ["admin.test"]})),
    "host with port": denying(rule(None, {"hosts": ["admin.test:*"]})),
    "path": denying(rule(None, {"paths": ["/admin"]})),
    "below": denying(rule(None, {"paths": ["/admin/*"]})),
    "template": denying(rule(None, {"paths": ["/v1/{*}/keys"]})),
    "role": denying(when("request.headers[x-role]", "admin")),
    "not role": denying(when("request.headers[x-role]", "user", name="notValues")),
    "any role": denying(when("request.headers[x-role]", "*")),
    "ends in min": denying(when("request.headers[x-role]", "*min")),
    "nobody named": [document(rules=[rule({"notPrincipals": ["example.org/ns/a/sa/b"]})])],
    "nobody": [document()],
    "remote": [document(rules=[rule({"remoteIpBlocks": ["10.0.0.0/8"]})])],
    "not remote": [document(rules=[rule({"notRemoteIpBlocks": ["10.0.0.0/8"]})])],
    "six": [document(rules=[rule({"remoteIpBlocks": ["::/0"]})])],
    "sni": denying(when("connection.sni", "a.http.test")),
    "sni wanted": [document(rules=[when("connection.sni", "a.http.test")])],
    "strict": [document(rules=[{}]), strict(PORTS.plaintext)],
    "strict elsewhere": [document(rules=[{}]), strict(PORTS.first)],
    "shadow": [document("all", rules=[{}]), shadowed],
}
NUMBERS = {name: number for number, name in enumerate(SETS)}
POLICIES = [load_world(documents, "deny") for documents in SETS.values()]


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    cases = [Case(compile_workload(policies, ORDERS)) for policies in POLICIES]
    with running_proxy(tmp_path_factory.mktemp("envoy"), PORTS, cases) as proxy:
        yield proxy


def ask(
    proxy: Proxy,
    case: str,
    *lines: tuple[str, str],
    principal: str | None = WEB,
    path: str = "/",
    host: str = "shop.test",
    sni: str | None = None,
) -> Answer:
    """Return the proxy's answer."""
    uris = () if principal is None else (f"spiffe://{principal}",)
    client = Client(uris, PORTS.first if uris else PORTS.plaintext, sni=sni)
    return proxy.send(NUMBERS[case], client, Message("GET", path, host, lines))


def engine(case: str, *lines: tuple[str, str], **asked: Any) -> bool:
    """Return the engine's answer to a request of `WEB`, with `asked` of it replaced."""
    headers: dict[str, str] = {}
    for name, value in lines:
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    http = Http("GET", asked.pop("path", "/"), asked.pop("host", "shop.test"), headers)
    source = SpiffeId.parse(f"spiffe://{WEB}")
    request = replace(Request(source, ORDERS, PORTS.first, http), **asked)
    return decide(POLICIES[NUMBERS[case]], request).allowed


@pytest.mark.parametrize(
    ("case", "allowed", "denied"),
    [
        ("account", "example.org/ns/shop/sa/web.x", "example.org/ns/shop/sa/webax"),
        ("account", "example.org/ns/shop/sa/web.x", "example.org/ns/shop/sa/web.x/y"),
        ("account", f"{ALIAS}/ns/shop/sa/web.x", "partner.net/ns/shop/sa/web.x"),
        ("namespace", "example.org/ns/shop.x/sa/a", "example.org/ns/shopax/sa/a"),
        ("namespace", "example.org/ns/p.x", "exampleaorg/ns/p.x/sa/a"),
        ("namespace", "example.org/ns/shop.x/sa/a", "example.org/ns/a/sa/shop.x"),
        ("domain", "partner.net/ns/shop/sa/a", "example.org/ns/x.net/sa/a"),
        ("domain", "partner.net/ns/shop/sa/a", "partneranet/ns/shop/sa/a"),
        ("alias", f"{ALIAS}/ns/shop/sa/web", "oldaexample/ns/shop/sa/web"),
        ("foreign", "partner.net/ns/shop/sa/a", "example.org/ns/shop/sa/a"),
        ("foreign", "partner.net/ns/shop", "partner.net.evil/ns/shop/sa/a"),
    ],
)
def test_no_name_is_read_as_a_pattern(proxy: Proxy, case: str, allowed: str, denied: str) -> None:
    for principal, expected in ((allowed, True), (denied, False)):
        source = SpiffeId.parse(f"spiffe://{principal}")
        assert ask(proxy, case, principal=principal).allowed is expected
        assert engine(case, source=source) is expected


@pytest.mark.parametrize(
    ("case", "host", "allowed"),
    [
        ("host", "ADMIN.test", False),
        ("host", "admin.test.", False),
        ("host", "admin.test:8443", True),
        ("host", "adminxtest", True),
        ("host with port", "admin.test:8443", False),
        ("host with port", "Admin.test.:8443", False),
        ("host with port", "admin.test", True),
    ],
)
def test_a_host_is_compared_without_case_and_final_dot_and_with_its_port(
    proxy: Proxy, case: str, host: str, allowed: bool
) -> None:
    assert ask(proxy, case, host=host).allowed is allowed
    assert engine(case, host=host) is allowed


@pytest.mark.parametrize(
    ("case", "path", "allowed"),
    [
        ("below", "//admin//x", False),
        ("below", "/a/../admin/x", False),
        ("below", "/admin/./x", False),
        ("below", "/\\admin\\x", False),
        ("below", "/%61dmin/x", False),
        ("below", "/admin/*", False),
        ("below", "/admin", True),
        ("path", "/admin?/x", False),
        ("path", "/admin;x", True),
        ("template", "/v1/*/keys", False),
        ("template", "/v1/a.b/keys?x=/y", False),
        ("template", "/v1/a/b/keys", True),
        ("template", "/v1/a?/keys", True),
    ],
)
def test_paths_are_compared_after_normalisation_and_without_the_query(
    proxy: Proxy, case: str, path: str, allowed: bool
) -> None:
    assert ask(proxy, case, path=path).allowed is allowed


@pytest.mark.parametrize(
    ("path", "status"),
    [("/a%2Fadmin", 307), ("/a%5Cadmin", 307), ("/admin#x", 400), ("/admin%00", 400)],
)
def test_paths_that_others_may_read_differently_never_reach_policy(
    proxy: Proxy, path: str, status: int
) -> None:
    assert ask(proxy, "path", path=path).status == status


def test_a_path_that_is_no_ascii_is_refused(proxy: Proxy) -> None:
    assert ask(proxy, "path", path="/\xff").status == 400


@pytest.mark.parametrize(
    ("case", "lines", "allowed"),
    [
        ("role", ["admin"], False),
        ("role", ["user", "admin"], True),
        ("role", ["user,admin"], True),
        ("role", ["admin\xff"], True),
        ("role", [], True),
        ("ends in min", ["user", "admin"], False),
        ("ends in min", ["user,admin"], False),
        ("ends in min", ["\xff admin"], False),
        ("not role", ["user"], True),
        ("not role", ["user", "user"], False),
        ("not role", ["\xff"], False),
        ("not role", [], False),
        ("any role", ["\xff"], False),
        ("any role", ["", ""], False),
        ("any role", [""], True),
        ("any role", [], True),
    ],
)
def test_the_lines_of_a_header_are_one_value_joined_by_commas(
    proxy: Proxy, case: str, lines: list[str], allowed: bool
) -> None:
    sent = [("x-role", line) for line in lines]
    assert ask(proxy, case, *sent).allowed is allowed
    assert engine(case, *sent) is allowed


@pytest.mark.parametrize(
    ("case", "remote", "allowed"),
    [
        ("remote", "10.1.2.3", True),
        ("remote", "::ffff:10.1.2.3", True),
        ("remote", "11.1.2.3", False),
        ("not remote", "::ffff:10.1.2.3", False),
        ("not remote", "2001:db8::1", True),
        ("six", "2001:db8::1", True),
        ("six", "::ffff:10.1.2.3", False),
        ("six", "10.1.2.3", False),
    ],
)
def test_an_address_is_the_same_when_mapped_into_ipv6(
    proxy: Proxy, case: str, remote: str, allowed: bool
) -> None:
    assert ask(proxy, case, ("x-forwarded-for", remote)).allowed is allowed
    assert engine(case, remote_ip=remote) is allowed


def test_a_server_name_that_was_not_sent_opens_nothing(proxy: Proxy) -> None:
    for sni, named in (("a.http.test", True), ("A.HTTP.test", True), ("other.test", False)):
        assert ask(proxy, "sni", sni=sni).allowed is not named
        assert ask(proxy, "sni wanted", sni=sni).allowed is named
    for case in ("sni", "sni wanted"):
        assert not ask(proxy, case).allowed
        assert not ask(proxy, case, principal=None).allowed
        assert not engine(case)


def test_plaintext_satisfies_no_negative_identity_and_an_allow_without_rules_allows_nothing(
    proxy: Proxy,
) -> None:
    assert ask(proxy, "nobody named").allowed
    assert ask(proxy, "nobody named", principal=None).decided_by == DEFAULT_DENY
    assert ask(proxy, "nobody").decided_by == DEFAULT_DENY


def test_plaintext_is_refused_on_a_strict_port_alone(proxy: Proxy) -> None:
    assert ask(proxy, "strict", principal=None).decided_by == NOT_MUTUAL_TLS
    assert ask(proxy, "strict").allowed
    assert ask(proxy, "strict elsewhere", principal=None).allowed


def test_what_is_on_trial_counts_by_rule_and_decides_nothing(proxy: Proxy) -> None:
    client = Client((f"spiffe://{WEB}",), PORTS.first)
    answer = proxy.send(NUMBERS["shadow"], client, Message("PUT"))
    assert (answer.allowed, answer.shadow) == (True, False)
    assert proxy.send(NUMBERS["shadow"], client, Message("GET")).shadow is True

    counted = proxy.counters("shadow_.policy.ns[shop]-policy[trial]-rule[0]")
    assert counted == {
        "http.inbound.rbac.authz_shadow_.policy.ns[shop]-policy[trial]-rule[0].shadow_denied": 1
    }
    refused = proxy.counters("rbac.authz_.policy.default-deny")
    assert set(refused) <= {"http.inbound.rbac.authz_.policy.default-deny.denied"}
    assert proxy.counters("rbac.authz_.policy.ns[shop]-policy[all]-rule[0].allowed")


def test_connections_are_counted_by_shadow_too(proxy: Proxy) -> None:
    sni = f"a.case-{NUMBERS['shadow']}.test"
    assert proxy.connect(Client((f"spiffe://{WEB}",), PORTS.first, sni=sni))
    assert proxy.counters("authz_.rbac.authz_shadow_.shadow_denied") == {
        "authz_.rbac.authz_shadow_.shadow_denied": 1
    }
