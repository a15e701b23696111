"""Loading rules: what is refused in sources, operations and conditions, with place and advice."""

from typing import Any

import pytest

from authz.attributes import Attribute
from authz.policy import Term
from tests.authz.builders import document, load, policy_text, problems_of, rule, to_yaml

SOURCE_REFUSALS = {
    "unknown field": ("principal: ['*']", "principal: unknown field; did you mean principals?"),
    "network": ("ipBlocks: ['10.0.0.0/33']", "neither an IP address nor a block"),
    "empty list": ("principals: []", "an empty list says nothing"),
    "null": ("principals:", "must be a list"),
    "text for a list": ("namespaces: shop", "must be a list"),
    "empty value": ("namespaces: ['']", "the value is empty"),
    "number": ("namespaces: [1]", 'write it as text: "1"'),
    "boolean": ("namespaces: [true]", 'write it as text: "true"'),
    "star in the middle": ("principals: ['example.org/*/sa/web']", "nothing else is a wildcard"),
    "two stars": ("namespaces: ['*shop*']", "nothing else is a wildcard"),
    "scheme": ("principals: ['spiffe://example.org/ns/x']", "write it without spiffe://"),
    "trust domain alone": ("principals: ['example.org']", "which no workload carries"),
    "part of a trust domain": ("principals: ['exam*']", "write exam/*"),
    "upper case trust domain": ("principals: ['Example.org/x']", "characters other than a-z"),
    "regular expression": ("principals: ['example.org/ns/.+']", "cannot be part of a SPIFFE ID"),
    "empty segment": ("principals: ['*//sa/web']", "cannot be part of a SPIFFE ID"),
    "trailing slash": ("principals: ['*/web/']", "ends with a slash"),
    "not ASCII": ("principals: ['example.org/ns/caf\u00e9/*']", "cannot be part of a SPIFFE ID"),
    "namespace with a slash": ("namespaces: ['shop/x']", "cannot be a namespace"),
    "long namespace": (f"namespaces: ['*{'a' * 254}']", "cannot be a namespace"),
    "service account wildcard": ("serviceAccounts: ['shop/*']", "have no wildcards"),
    "service account path": ("serviceAccounts: ['a/b/c']", "is not a service account"),
    "service account, half": ("serviceAccounts: ['shop/']", "is not a service account"),
    "long service account": (f"serviceAccounts: ['shop/{'a' * 320}']", "longer than 320"),
    "many service accounts": (
        f"serviceAccounts: [{', '.join(f'a{n}' for n in range(17))}]",
        "has 17 entries; at most 16",
    ),
    "service account beside principals": (
        "{serviceAccounts: [web], notPrincipals: ['*']}",
        "notPrincipals: cannot stand beside serviceAccounts",
    ),
    "service account beside namespaces": (
        "{notServiceAccounts: [web], namespaces: [shop]}",
        "namespaces: cannot stand beside serviceAccounts",
    ),
    "trust domain with a slash": ("trustDomains: ['example.org/x']", "cannot be a trust domain"),
    "trust domain, star inside": ("trustDomains: ['a*b']", "nothing else is a wildcard"),
    "trust domain, not ASCII": ("trustDomains: ['caf\u00e9']", "cannot be a trust domain"),
    "no address": ("ipBlocks: ['10.0.0']", "neither an IP address nor a block"),
    "address wildcard": ("ipBlocks: ['10.0.*']", "neither an IP address nor a block"),
    "octal address": ("remoteIpBlocks: ['010.0.0.1']", "neither an IP address nor a block"),
    "mapped address": ("remoteIpBlocks: ['::ffff:10.0.0.1']", "write IPv4 as 10.0.0.1"),
    "address with a zone": ("ipBlocks: ['fe80::1%eth0']", "and no zone"),
    "issuer alone": ("requestPrincipals: ['issuer']", "has no subject and never matches"),
    "issuer that is an address": (
        "requestPrincipals: ['https://issuer.test']",
        "write https://issuer.test/*",
    ),
    "two stars in a token": ("requestPrincipals: ['*/*']", "nothing else is a wildcard"),
    "no subject": ("requestPrincipals: ['issuer/']", "write issuer/subject"),
    "control character": ('requestPrincipals: ["a\\n/b"]', "has control characters"),
}
OPERATION_REFUSALS = {
    "empty operation": ("{}", "an empty operation would match everything"),
    "host with a scheme": ("hosts: ['http://a']", "cannot be a host"),
    "port number": ("ports: [8080]", 'write it as text: "8080"'),
    "port too high": ("ports: ['65536']", "is not a port"),
    "named port": ("ports: ['http']", "is not a port"),
    "negative port": ("ports: ['-1']", "is not a port"),
    "port with a newline": ('ports: ["80\\n"]', "is not a port"),
    "port wildcard": ("ports: ['80*']", "is not a port"),
    "method with a space": ("methods: ['GET ']", "cannot be an HTTP method"),
    "star in a path": ("paths: ['/a/*/b']", "nothing else is a wildcard"),
    "template after the rest": ("paths: ['/a/{**}/{*}']", "must be the last operator"),
    "template and text in one segment": ("paths: ['/a/{*}b']", "a segment of a template is"),
    "brace": ("paths: ['/a/{id}']", "write %7B or %7D"),
    "relative path": ("paths: ['api']", "a path begins with /"),
    "query": ("paths: ['/a?x=1']", "the query is removed first"),
    "fragment": ("paths: ['/a#x']", "and # is refused"),
    "space in a path": ("paths: ['/a b']", "percent-encoded"),
    "path that is not ASCII": ("paths: ['/caf\u00e9']", "percent-encoded"),
    "double slash": ("paths: ['/a//b']", "proxies remove dot segments and double slashes"),
    "dot segment": ("paths: ['/a/../b']", "proxies remove dot segments"),
    "final dot segment": ("paths: ['/a/..']", "proxies remove dot segments"),
    "encoded slash": ("paths: ['/a%2Fb*']", "proxies remove dot segments"),
    "encoded letter": ("paths: ['/%61dmin']", "proxies remove dot segments"),
    "backslash": ("paths: ['/a\\b']", "proxies remove dot segments"),
    "long suffix of a path": (f"paths: ['*{'a' * 513}']", "longer than 512 characters"),
    "long template": (f"paths: ['/{'a' * 510}/{{*}}']", "longer than 512 characters"),
    "template with a star": ("paths: ['/a*/{*}']", "a segment of a template is"),
    "template with an empty segment": ("paths: ['/a//{*}']", "has an empty segment"),
    "template, not absolute": ("paths: ['a/{*}']", "a path begins with /"),
    "template with a query": ("paths: ['/{*}/a?b']", "percent-encoded"),
    "template with a dot segment": ("paths: ['/{*}/../a']", "normalise '..' away"),
    "two rests": ("paths: ['/{**}/{**}']", "must be the last operator"),
    "host that is not ASCII": ("hosts: ['b\u00fccher.example']", "write a name in ASCII"),
    "host with a path": ("hosts: ['a/b']", "cannot be a host"),
    "two stars in a host": ("hosts: ['*.shop:*']", "nothing else is a wildcard"),
}


@pytest.mark.parametrize(("source", "message"), SOURCE_REFUSALS.values(), ids=SOURCE_REFUSALS)
def test_refuses_a_source(source: str, message: str) -> None:
    (problem,) = problems_of(policy_text(source=source))
    assert problem.startswith("policy.yaml:11: spec.rules[0].from[0].source")
    assert message in problem


@pytest.mark.parametrize(
    ("operation", "message"), OPERATION_REFUSALS.values(), ids=OPERATION_REFUSALS
)
def test_refuses_an_operation(operation: str, message: str) -> None:
    (problem,) = problems_of(policy_text(operation=operation))
    assert "spec.rules[0].to[0].operation" in problem
    assert message in problem


CONDITION_REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "no key": ({"values": ["a"]}, "when[0].key: must be text"),
    "no values": ({"key": "source.ip"}, "compares with nothing; write values or notValues"),
    "empty values": ({"key": "source.ip", "values": []}, "values: an empty list says nothing"),
    "null values": ({"key": "source.ip", "notValues": None}, "notValues: must be a list"),
    "empty text": ({"key": "connection.sni", "values": [""]}, "the value is empty"),
    "misspelt key": (
        {"key": "source.namespaces", "values": ["a"]},
        "'source.namespaces' is not a condition; did you mean source.namespace?",
    ),
    "key in capitals": ({"key": "source.Ip", "values": ["a"]}, "did you mean source.ip?"),
    "unknown field": ({"key": "source.ip", "values": ["::1"], "value": []}, "did you mean values?"),
    "labels": ({"key": "destination.labels[app]", "values": ["a"]}, "use spec.selector"),
    "namespace": (
        {"key": "destination.namespace", "values": ["a"]},
        "put the policy into that namespace",
    ),
    "user": ({"key": "destination.user", "values": ["a"]}, "use spec.selector"),
    "experimental": (
        {"key": "experimental.envoy.filters.network.mysql_proxy[db.t]", "values": ["[a]"]},
        "what other filters say of a request is not known to policy here",
    ),
    "header without a name": ({"key": "request.headers", "values": ["a"]}, "is not a condition"),
    "header with text behind": (
        {"key": "request.headersX[b]", "values": ["a"]},
        "is not a condition; did you mean request.headers[NAME]?",
    ),
    "header not ASCII": ({"key": "request.headers[x-\u00fc]", "values": ["a"]}, "not a condition"),
    "header twice": ({"key": "request.headers[a][b]", "values": ["a"]}, "is not a condition"),
    "path as a header": ({"key": "request.headers[:path]", "values": ["/"]}, "operation.paths"),
    "host as a header": ({"key": "request.headers[Host]", "values": ["a"]}, "operation.hosts"),
    "no such header": ({"key": "request.headers[:x]", "values": ["a"]}, "is not a header that"),
    "claims without a name": ({"key": "request.auth.claims", "values": ["a"]}, "not a condition"),
    "empty claim": ({"key": "request.auth.claims[]", "values": ["a"]}, "is not a condition"),
    "header value not ASCII": (
        {"key": "request.headers[a]", "values": ["\u00fc"]},
        "characters other than printable ASCII",
    ),
    "header value with a space": (
        {"key": "request.headers[a]", "values": [" x"]},
        "remove spaces around",
    ),
    "server name with a port": ({"key": "connection.sni", "values": ["a:443"]}, "without a port"),
    "claim with a newline": (
        {"key": "request.auth.claims[a]", "values": ["a\nb"]},
        "has control characters",
    ),
    "two stars": (
        {"key": "request.auth.audiences", "values": ["*a*"]},
        "nothing else is a wildcard",
    ),
    "no block": ({"key": "destination.ip", "values": ["10.0.0.0/x"]}, "neither an IP address"),
    "no port": ({"key": "destination.port", "values": ["80-90"]}, "is not a port"),
    "trust domain with a slash": (
        {"key": "source.trustDomain", "values": ["a/b"]},
        "cannot be a trust domain",
    ),
}


@pytest.mark.parametrize(
    ("condition", "message"), CONDITION_REFUSALS.values(), ids=CONDITION_REFUSALS
)
def test_refuses_a_condition(condition: dict[str, Any], message: str) -> None:
    (problem,) = _problems([{"when": [condition]}])
    assert "spec.rules[0].when[0]" in problem
    assert message in problem


def test_a_condition_on_namespaces_beside_mixed_sources_says_two_things() -> None:
    sources = [{"source": {"trustDomains": ["partner.test"]}}, {"source": {"ipBlocks": ["::1"]}}]
    when = [{"key": "source.namespace", "values": ["shop"]}]
    (problem,) = _problems([{"from": sources, "when": when}])
    assert "write it into each source instead" in problem
    assert _terms([{"from": sources[:1], "when": when}])[-1].attribute is Attribute.ANY_NAMESPACE
    assert _terms([{"from": sources[1:], "when": when}])[-1].attribute is Attribute.NAMESPACE


def test_namespaces_beside_trust_domains_are_of_any() -> None:
    source = {"namespaces": ["shop"], "trustDomains": ["partner.test"]}
    assert _attributes(source) == {"namespaces": "ANY_NAMESPACE", "trustDomains": "TRUST_DOMAIN"}
    source = {"notServiceAccounts": ["shop/web"], "trustDomains": ["*"]}
    assert _attributes(source)["notServiceAccounts"] == "ANY_SERVICE_ACCOUNT"
    source = {"namespaces": ["shop"], "notTrustDomains": ["partner.test"]}
    assert _attributes(source)["namespaces"] == "NAMESPACE"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("example.org/ns/a/sa/b", ["example.org/ns/a/sa/b", "old.example/ns/a/sa/b"]),
        ("old.example/ns/a/sa/b", ["example.org/ns/a/sa/b", "old.example/ns/a/sa/b"]),
        ("cluster.local/ns/a/sa/*", ["example.org/ns/a/sa/*", "old.example/ns/a/sa/*"]),
        ("cluster.local/ns/a/*", ["cluster.local/ns/a/*"]),
        ("example.org/ns/a", ["example.org/ns/a"]),
        ("partner.test/ns/a/sa/b", ["partner.test/ns/a/sa/b"]),
        ("*/ns/a/sa/b", ["*/ns/a/sa/b"]),
        ("*", ["*"]),
    ],
)
@pytest.mark.parametrize("name", ["principals", "notPrincipals"])
def test_a_principal_of_ours_stands_for_all_names_of_our_trust_domain(
    name: str, value: str, written: list[str]
) -> None:
    assert _terms([rule({name: [value]})], ["old.example"])[0].values.written() == written


def test_a_trust_domain_of_ours_stands_for_all() -> None:
    for value in ("example.org", "old.example"):
        terms = _terms([rule({"trustDomains": [value]})], ["old.example"])
        assert terms[0].values.written() == ["example.org", "old.example"]


@pytest.mark.parametrize(
    ("values", "written"),
    [
        (["Orders.SHOP."], ["orders.shop"]),
        (["Orders.shop.:80"], ["orders.shop:80"]),
        (["orders.shop.:*"], ["orders.shop:*"]),
        (["orders.shop.*"], ["orders.shop.*"]),
        (["*.SHOP"], ["*.shop"]),
        (["[::1]:80"], ["[::1]:80"]),
    ],
)
def test_hosts_are_read_as_they_are_compared(values: list[str], written: list[str]) -> None:
    assert _terms([rule(None, {"hosts": values})])[0].values.written() == written


def test_what_is_unknown_fails_in_allow_and_holds_elsewhere() -> None:
    spec = [rule({"namespaces": ["a"], "notNamespaces": ["b"], "notRequestPrincipals": ["*"]})]
    told = {term.field: (term.if_absent, term.needs_value) for term in _terms(spec, action="ALLOW")}
    assert told == {
        "namespaces": (False, False),
        "notNamespaces": (False, True),
        "notRequestPrincipals": (False, True),
    }
    for action in ("DENY", "AUDIT"):
        absent = {term.field: term.if_absent for term in _terms(spec, action=action)}
        assert absent == {
            "namespaces": False,
            "notNamespaces": True,
            "notRequestPrincipals": True,
        }
        assert not any(term.needs_value for term in _terms(spec, action=action))


def _problems(rules: list[dict[str, Any]]) -> list[str]:
    return problems_of(to_yaml(document("web", rules=rules)))


def _terms(
    rules: list[dict[str, Any]], aliases: list[str] | None = None, action: str = "ALLOW"
) -> list[Term]:
    loaded = load(document("web", action=action, rules=rules), aliases=aliases or ())
    return list(loaded.policies[0].rules[0].all_terms())


def _attributes(source: dict[str, list[str]]) -> dict[str, str]:
    return {term.field: term.attribute.name for term in _terms([rule(source)])}
