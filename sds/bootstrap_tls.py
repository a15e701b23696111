"""The parts of a bootstrap about TLS: who we are, whom we believe, and the way to the mesh CA.

Rules, each measured against the real Envoy:
- Secrets come from one SDS source each, not from ADS: a static cluster with ADS secrets crashes
  Envoy 1.40 at start (envoyproxy/envoy#15517).
- `initial_fetch_timeout: 0s`: a listener is not bound before it has its secrets. Fail closed.
- Who may be on the other side is pinned here and never pushed: pushed SAN matchers would be OR-ed
  with these, and an empty pushed context would turn mutual TLS off were there no static pin.
- Who talks to other trust domains asks for `ALL`, which has an answer even before they are
  federated: a name without one would keep the whole proxy from starting.
- No session resumption in either direction: a resumed session is not verified again.
"""

from meshca.spiffe_id import SpiffeId
from sds.bootstrap_values import Bootstrap, is_ip_address

Config = dict[str, object]

SERVER_CLUSTER = "meshca"
CERTIFICATE = "default"
OWN_BUNDLE = "ROOTCA"
EVERY_BUNDLE = "ALL"
TOKEN_SECRET = "sa-token"  # noqa: S105  # the name of a secret, not one
BUNDLE_SECRET = "trust-bundle"  # noqa: S105  # the name of a secret, not one

_TYPE = "type.googleapis.com/envoy.extensions."
SECRET_TYPE = _TYPE + "transport_sockets.tls.v3.Secret"
_TLS_1_3: Config = {
    "tls_minimum_protocol_version": "TLSv1_3",
    "tls_maximum_protocol_version": "TLSv1_3",
}


def typed(kind: str, **fields: object) -> Config:
    """Return a typed config of `envoy.extensions.` + `kind`."""
    return {"@type": _TYPE + kind, **fields}


def from_server() -> Config:
    """Return the config source that is the mesh CA itself, over incremental xDS."""
    backoff = {"base_interval": "0.2s", "max_interval": "5s"}
    service = {
        "envoy_grpc": {
            "cluster_name": SERVER_CLUSTER,
            "retry_policy": {"retry_back_off": backoff},
        }
    }
    return {
        "resource_api_version": "V3",
        "initial_fetch_timeout": "0s",
        "api_config_source": {
            "api_type": "DELTA_GRPC",
            "transport_api_version": "V3",
            "set_node_on_first_message_only": True,
            "grpc_services": [service],
        },
    }


def downstream_tls(bootstrap: Bootstrap) -> Config:
    """Return the inbound side: present our SVID, demand one of a trust domain that may call."""
    callers: list[Config] = [
        {"prefix": f"spiffe://{name}/"} for name in (bootstrap.trust_domain, *bootstrap.federated)
    ]
    bundles = EVERY_BUNDLE if bootstrap.federated else OWN_BUNDLE
    context = typed(
        "transport_sockets.tls.v3.DownstreamTlsContext",
        require_client_certificate=True,
        disable_stateless_session_resumption=True,
        disable_stateful_session_resumption=True,
        common_tls_context=_svid_context(callers, bundles),
    )
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def upstream_tls(bootstrap: Bootstrap, peer: SpiffeId) -> Config:
    """Return the outbound side: present our SVID, accept only the identity `peer`."""
    is_ours = peer.trust_domain == bootstrap.trust_domain
    context = typed(
        "transport_sockets.tls.v3.UpstreamTlsContext",
        max_session_keys=0,
        common_tls_context=_svid_context(
            [{"exact": str(peer)}], OWN_BUNDLE if is_ours else EVERY_BUNDLE
        ),
    )
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _svid_context(peers: list[Config], bundles: str) -> Config:
    matchers = [{"san_type": "URI", "matcher": peer} for peer in peers]
    pin = {"match_typed_subject_alt_names": matchers}
    return {
        "tls_params": _TLS_1_3,
        "tls_certificate_sds_secret_configs": [{"name": CERTIFICATE, "sds_config": from_server()}],
        "combined_validation_context": {
            "default_validation_context": pin,
            "validation_context_sds_secret_config": {
                "name": bundles,
                "sds_config": from_server(),
            },
        },
    }


def server_tls(bootstrap: Bootstrap) -> Config:
    """Return the way to the mesh CA: its name pinned, its roots re-read when they change."""
    name = bootstrap.server_name
    san_type = "IP_ADDRESS" if is_ip_address(name) else "DNS"
    pin = {"match_typed_subject_alt_names": [{"san_type": san_type, "matcher": {"exact": name}}]}
    source = _from_file(str(bootstrap.bundle_secret_path), str(bootstrap.trust_bundle.parent))
    context = typed(
        "transport_sockets.tls.v3.UpstreamTlsContext",
        max_session_keys=0,
        common_tls_context={
            "tls_params": _TLS_1_3,
            "combined_validation_context": {
                "default_validation_context": pin,
                "validation_context_sds_secret_config": {
                    "name": BUNDLE_SECRET,
                    "sds_config": source,
                },
            },
        },
    )
    if san_type == "DNS":
        context["sni"] = name
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def token_injector(bootstrap: Bootstrap) -> Config:
    """Return the filter that sends the token, as it is in its file now, with every stream."""
    source = _from_file(str(bootstrap.token_secret_path), str(bootstrap.token_file.parent))
    credential = typed(
        "http.injected_credentials.generic.v3.Generic",
        header="authorization",
        header_value_prefix="Bearer ",
        credential={"name": TOKEN_SECRET, "sds_config": source},
    )
    injector = typed(
        "filters.http.credential_injector.v3.CredentialInjector",
        overwrite=True,
        credential={
            "name": "envoy.http.injected_credentials.generic",
            "typed_config": credential,
        },
    )
    return {"name": "envoy.filters.http.credential_injector", "typed_config": injector}


def _from_file(path: str, watched: str) -> Config:
    return {
        "resource_api_version": "V3",
        "path_config_source": {"path": path, "watched_directory": {"path": watched}},
    }
