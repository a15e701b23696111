"""The bootstrap: what it says, and what it refuses to guess."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from sds.bootstrap import bootstrap_config, get_trust_domain, render
from sds.bootstrap_filters import PEER_KEY
from sds.bootstrap_values import Bootstrap
from tests.sds.bootstraps import ORDERS, parse, root_certificate


def walk(value: object) -> Iterator[dict[str, Any]]:
    """Yield every mapping inside `value`."""
    if isinstance(value, dict):
        yield value
        for child in value.values():
            yield from walk(child)
    elif isinstance(value, list):
        for child in value:
            yield from walk(child)


def typed_configs(bootstrap: Bootstrap, kind: str) -> list[dict[str, Any]]:
    config = json.loads(render(bootstrap))
    return [each for each in walk(config) if str(each.get("@type", "")).endswith(kind)]


def test_inbound_demands_a_certificate_of_the_trust_domain_and_never_resumes() -> None:
    (context,) = typed_configs(parse(), "DownstreamTlsContext")
    common = context["common_tls_context"]
    pins = common["combined_validation_context"]["default_validation_context"]

    assert context["require_client_certificate"] is True
    assert context["disable_stateless_session_resumption"] is True
    assert context["disable_stateful_session_resumption"] is True
    assert common["tls_params"]["tls_minimum_protocol_version"] == "TLSv1_3"
    assert pins["match_typed_subject_alt_names"] == [
        {"san_type": "URI", "matcher": {"prefix": "spiffe://example.org/"}}
    ]


def test_outbound_accepts_exactly_one_identity() -> None:
    bootstrap = parse(outbound=[f"15001=orders.shop.svc:15006={ORDERS}"])
    context = typed_configs(bootstrap, "UpstreamTlsContext")[1]
    pins = context["common_tls_context"]["combined_validation_context"][
        "default_validation_context"
    ]

    assert pins["match_typed_subject_alt_names"] == [
        {"san_type": "URI", "matcher": {"exact": ORDERS}}
    ]
    assert context["max_session_keys"] == 0


def peers_and_bundles(context: dict[str, Any]) -> tuple[list[str], str]:
    """Return whom a TLS context accepts, and the name it asks for their roots under."""
    combined = context["common_tls_context"]["combined_validation_context"]
    pins = combined["default_validation_context"]["match_typed_subject_alt_names"]
    peers = [value for pin in pins for value in pin["matcher"].values()]
    return peers, combined["validation_context_sds_secret_config"]["name"]


def test_lets_in_the_federated_domains_that_are_named_and_no_others() -> None:
    (inbound,) = typed_configs(parse(federate=["partner.test"]), "DownstreamTlsContext")

    assert peers_and_bundles(inbound) == (
        ["spiffe://example.org/", "spiffe://partner.test/"],
        "ALL",
    )


def test_a_peer_of_another_domain_is_called_by_every_bundle_and_its_one_identity() -> None:
    theirs = "spiffe://partner.test/ns/shop/sa/payments"
    bootstrap = parse(outbound=[f"15001=o:1={ORDERS}", f"15002=p:1={theirs}"])
    _, ours, partners = typed_configs(bootstrap, "UpstreamTlsContext")

    assert peers_and_bundles(ours) == ([ORDERS], "ROOTCA")
    assert peers_and_bundles(partners) == ([theirs], "ALL")


def test_denies_until_it_is_told_who_is_revoked_and_a_policy_comes() -> None:
    bootstrap = parse(inbound_tcp=["15007=127.0.0.1:5432"])

    assert [each["rules"] for each in typed_configs(bootstrap, "rbac.v3.RBAC")] == [{}] * 6


def test_revocation_stands_before_policy_and_knows_the_peer() -> None:
    config: Any = bootstrap_config(parse(inbound_tcp=["15007=127.0.0.1:5432"]))
    http, tcp = (
        listener["filter_chains"][0]["filters"]
        for listener in config["static_resources"]["listeners"]
    )
    names = [each["name"] for each in http[1]["typed_config"]["http_filters"]]

    assert names == ["revoked", "jwt", "authz", "authz-check", "envoy.filters.http.router"]
    assert [each["name"] for each in tcp[1:3]] == ["tcp-revoked", "tcp-authz"]
    for chain in (http, tcp):
        note = chain[0]["typed_config"]["on_downstream_tls_handshake"]
        assert [each["object_key"] for each in note] == [PEER_KEY]


def test_every_connection_ends_within_the_lifetime() -> None:
    bootstrap = parse(
        connection_lifetime="1h",
        inbound_tcp=["15007=127.0.0.1:5432"],
        outbound=[f"15001=o:1={ORDERS}"],
    )
    (tcp,) = typed_configs(bootstrap, "TcpProxy")
    limits = [
        (each["max_connection_duration"], each["max_stream_duration"])
        for each in walk(bootstrap_config(bootstrap))
        if "max_connection_duration" in each
    ]
    longest = float(tcp["max_downstream_connection_duration"].removesuffix("s"))
    jitter = tcp["max_downstream_connection_duration_jitter_percentage"]["value"]

    assert 3599 < longest * (1 + jitter / 100) <= 3600
    assert limits == [(f"{longest:g}s", "3600s")] * 2


def test_the_validator_of_choice_is_said_in_the_node() -> None:
    node: Any = bootstrap_config(parse(validator="spiffe", labels=["app=web"]))["node"]

    assert node["metadata"]["validator"] == "spiffe"
    assert node["metadata"]["labels"] == {"app": "web"}


def test_the_node_names_the_filters_that_are_there() -> None:
    def filters(**changes: Any) -> Any:
        node: Any = bootstrap_config(parse(**changes))["node"]
        return node.get("metadata", {}).get("filters")

    http = ["revoked", "jwt", "authz", "authz-check"]
    tcp = ["tcp-revoked", "tcp-authz"]
    permissive = ["peer-auth-mode", "authz-plaintext", "tcp-peer-auth-mode", "tcp-authz-plaintext"]
    assert filters() == http
    assert filters(inbound_tcp=["15007=127.0.0.1:5432"]) == http + tcp
    assert sorted(filters(permissive=True, inbound_tcp=["15007=db:5432"])) == sorted(
        http + tcp + permissive
    )
    assert filters(inbound=None, app=None, outbound=[f"15001=o:1={ORDERS}"]) is None


def test_plaintext_is_taken_only_when_asked_and_asks_for_the_mode_first() -> None:
    strict: Any = bootstrap_config(parse())
    config: Any = bootstrap_config(parse(permissive=True, inbound_tcp=["15007=127.0.0.1:5432"]))

    (only,) = strict["static_resources"]["listeners"][0]["filter_chains"]
    assert only["transport_socket"]["name"] == "envoy.transport_sockets.tls"
    for listener, mode in zip(
        config["static_resources"]["listeners"],
        ["peer-auth-mode", "tcp-peer-auth-mode"],
        strict=True,
    ):
        secured, plain = listener["filter_chains"]
        assert secured["filter_chain_match"] == {"transport_protocol": "tls"}
        assert "transport_socket" in secured
        assert plain["filter_chain_match"] == {"transport_protocol": "raw_buffer"}
        assert "transport_socket" not in plain
        first = plain["filters"][0]
        http = first.get("typed_config", {}).get("http_filters")
        assert (http or [first])[0]["name"] == mode


def test_nobody_is_believed_about_the_remote_address_unless_configured() -> None:
    for options, hops in (({}, 0), ({"trusted_hops": "2"}, 2)):
        (manager,) = typed_configs(parse(**options), "HttpConnectionManager")
        assert manager["use_remote_address"]
        assert manager["skip_xff_append"]
        assert manager["xff_num_trusted_hops"] == hops


def test_decisions_are_told_to_the_server_unless_left_out() -> None:
    def logs(**changes: Any) -> list[Any]:
        bootstrap = parse(inbound_tcp=["15007=127.0.0.1:5432"], **changes)
        return typed_configs(bootstrap, "GrpcAccessLogConfig")

    assert [each["common_config"]["log_name"] for each in logs()] == ["decisions", "tcp-decisions"]
    assert not any("additional_request_headers_to_log" in each for each in logs())
    assert logs(decision_log=False) == []


def test_never_listens_without_its_secrets() -> None:
    sources = [
        each
        for each in walk(bootstrap_config(parse(outbound=[f"15001=o:1={ORDERS}"])))
        if "api_config_source" in each
    ]

    assert len(sources) == 8  # certificate and roots in and out, and four filters
    assert {each["initial_fetch_timeout"] for each in sources} == {"0s"}
    assert {each["api_config_source"]["api_type"] for each in sources} == {"DELTA_GRPC"}


SERVERS: dict[str, tuple[dict[str, Any], str, str | None, str]] = {
    "a name": ({}, "STRICT_DNS", "meshca.meshca.svc", "DNS"),
    "an address": ({"server": "10.0.0.1:8443"}, "STATIC", None, "IP_ADDRESS"),
    "an IPv6 address": ({"server": "[fd00::1]:8443"}, "STATIC", None, "IP_ADDRESS"),
    "an address that has a name": (
        {"server": "10.0.0.1:8443", "server_name": "ca.example.org"},
        "STATIC",
        "ca.example.org",
        "DNS",
    ),
}


@pytest.mark.parametrize("case", SERVERS)
def test_pins_the_name_of_the_server(case: str) -> None:
    changes, discovery, sni, san_type = SERVERS[case]
    bootstrap = parse(**changes)
    config = json.loads(render(bootstrap))
    cluster = next(c for c in config["static_resources"]["clusters"] if c["name"] == "meshca")
    context = cluster["transport_socket"]["typed_config"]
    (pin,) = context["common_tls_context"]["combined_validation_context"][
        "default_validation_context"
    ]["match_typed_subject_alt_names"]

    assert cluster["type"] == discovery
    assert context.get("sni") == sni
    assert pin == {"san_type": san_type, "matcher": {"exact": bootstrap.server_name}}


def test_labels_are_hints_in_the_node_and_nothing_else() -> None:
    labelled = json.loads(render(parse(labels=["app=web", "shop.example.org/tier=1"])))
    plain = json.loads(render(parse()))

    node, unlabelled = labelled.pop("node"), plain.pop("node")
    assert node["metadata"].pop("labels") == {"app": "web", "shop.example.org/tier": "1"}
    assert node == unlabelled
    assert labelled == plain


def test_opens_the_admin_interface_on_loopback_only_and_only_when_asked() -> None:
    assert "admin" not in bootstrap_config(parse())
    assert bootstrap_config(parse(admin="9901"))["admin"] == {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 9901}}
    }


def test_takes_the_trust_domain_from_the_roots() -> None:
    two = root_certificate("spiffe://example.org") * 2

    assert get_trust_domain(two) == "example.org"


BUNDLES = {
    "not PEM": (b"hello", "is not PEM with certificates"),
    "empty": (b"", "is not PEM with certificates"),
    "a root without an ID": (root_certificate(), "does not name one trust domain \\(found: none"),
    "two trust domains": (
        root_certificate("spiffe://a.org") + root_certificate("spiffe://b.org"),
        "found: a.org, b.org",
    ),
}


@pytest.mark.parametrize("case", BUNDLES)
def test_does_not_guess_a_trust_domain(case: str) -> None:
    bundle, message = BUNDLES[case]
    with pytest.raises(ValueError, match=message):
        get_trust_domain(bundle)
