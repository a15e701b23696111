"""The filters of a bootstrap that let in or refuse: revocation first, then policy.

Rules, each measured against the real Envoy (docs/revocation.md):
- What a filter does is pushed; one that was sent nothing yet denies (RBAC with empty rules). That
  costs nothing: policy comes over the same connection at the same time.
- The peer's certificate is noted once, when the handshake is done, in filter state: the filters of
  the revoked read it there, and refuse everything where it was not noted.
"""

from sds.bootstrap_tls import Config, from_server, typed

HTTP_AUTHORIZATION = "authz"
TCP_AUTHORIZATION = "tcp-authz"
HTTP_REVOKED = "revoked"
TCP_REVOKED = "tcp-revoked"
PEER_KEY = "meshca.peer_certificate"
"""The filter state in which the peer's certificate is noted, for the filters of the revoked."""
PEER_PREFIX = "sha256:"
"""What the note begins with; the certificate's SHA-256 (hex) follows, or `-` without TLS."""

_HTTP_RBAC = "filters.http.rbac.v3.RBAC"
_NETWORK_RBAC = "filters.network.rbac.v3.RBAC"


def note_of_peer() -> Config:
    """Return the network filter that notes the peer's certificate; the first of its chain.

    Noted when the connection comes, for one without TLS, and again when the handshake is done.
    """
    text = {
        "text_format_source": {"inline_string": f"{PEER_PREFIX}%DOWNSTREAM_PEER_FINGERPRINT_256%"}
    }
    note = [{"object_key": PEER_KEY, "factory_key": "envoy.string", "format_string": text}]
    config = typed(
        "filters.network.set_filter_state.v3.Config",
        on_new_connection=note,
        on_downstream_tls_handshake=note,
    )
    return {"name": "envoy.filters.network.set_filter_state", "typed_config": config}


def http_revoked() -> Config:
    """Return the HTTP filter that refuses the revoked, pushed under the name `revoked`."""
    return _discovered(HTTP_REVOKED, typed(_HTTP_RBAC, rules={}))


def tcp_revoked() -> Config:
    """Return the network filter that refuses the revoked, pushed as `tcp-revoked`."""
    return _discovered(TCP_REVOKED, typed(_NETWORK_RBAC, stat_prefix="revoked_", rules={}))


def http_authorization() -> Config:
    """Return the HTTP filter whose rules the server pushes under the name `authz`."""
    return _discovered(HTTP_AUTHORIZATION, typed(_HTTP_RBAC, rules={}))


def tcp_authorization() -> Config:
    """Return the network filter whose rules the server pushes under the name `tcp-authz`."""
    return _discovered(TCP_AUTHORIZATION, typed(_NETWORK_RBAC, stat_prefix="tcp_", rules={}))


def _discovered(name: str, default: Config) -> Config:
    return {
        "name": name,
        "config_discovery": {
            "config_source": from_server(),
            "type_urls": [default["@type"]],
            "apply_default_config_without_warming": True,
            "default_config": default,
        },
    }
