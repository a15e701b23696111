"""The filters of a bootstrap that let in or refuse: revocation first, then policy.

    mutual TLS   revoked, jwt, authz, authz-check; TCP: tcp-revoked, tcp-authz
    plaintext    peer-auth-mode, jwt, authz-plaintext, authz-check; TCP: tcp-peer-auth-mode,
                 tcp-authz-plaintext

Rules, each measured against the real Envoy (docs/revocation.md, docs/authorization.md):
- What a filter does is pushed; one that was sent nothing yet denies (RBAC with empty rules). That
  costs nothing: policy comes over the same connection at the same time.
- A filter of two kinds (`jwt`, `authz-check`) is an RBAC filter without rules, which lets pass,
  for a workload that has no use for the other kind.
- The peer's certificate is noted once, when the handshake is done, in filter state: the filters of
  the revoked read it there, and refuse everything where it was not noted.
"""

from sds.bootstrap_tls import Config, from_server, typed

HTTP_AUTHORIZATION = "authz"
TCP_AUTHORIZATION = "tcp-authz"
HTTP_REVOKED = "revoked"
TCP_REVOKED = "tcp-revoked"
JWT = "jwt"
CHECK = "authz-check"
HTTP_MODE = "peer-auth-mode"
TCP_MODE = "tcp-peer-auth-mode"
HTTP_PLAINTEXT_AUTHORIZATION = "authz-plaintext"
TCP_PLAINTEXT_AUTHORIZATION = "tcp-authz-plaintext"
PEER_KEY = "meshca.peer_certificate"
"""The filter state in which the peer's certificate is noted, for the filters of the revoked."""
PEER_PREFIX = "sha256:"
"""What the note begins with; the certificate's SHA-256 (hex) follows, or `-` without TLS."""

_HTTP_RBAC = "filters.http.rbac.v3.RBAC"
_NETWORK_RBAC = "filters.network.rbac.v3.RBAC"
_JWT_AUTHENTICATION = "filters.http.jwt_authn.v3.JwtAuthentication"
_EXTERNAL_AUTHORIZATION = "filters.http.ext_authz.v3.ExtAuthz"
_HTTP_FILTERS = {
    False: (HTTP_REVOKED, JWT, HTTP_AUTHORIZATION, CHECK),
    True: (HTTP_MODE, JWT, HTTP_PLAINTEXT_AUTHORIZATION, CHECK),
}
_TCP_FILTERS = {
    False: (TCP_REVOKED, TCP_AUTHORIZATION),
    True: (TCP_MODE, TCP_PLAINTEXT_AUTHORIZATION),
}
_OTHER_KINDS = {JWT: _JWT_AUTHENTICATION, CHECK: _EXTERNAL_AUTHORIZATION}
_STAT_PREFIXES = {TCP_REVOKED: "revoked_", TCP_MODE: "mode_"}


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


def http_filters(*, plaintext: bool = False) -> list[Config]:
    """Return the HTTP filters of a chain of mutual TLS, or of `plaintext`, in their order."""
    deny_all = typed(_HTTP_RBAC, rules={})
    return [_discovered(name, deny_all) for name in _HTTP_FILTERS[plaintext]]


def tcp_filters(*, plaintext: bool = False) -> list[Config]:
    """Return the network filters of a chain of mutual TLS, or of `plaintext`, in their order."""
    return [
        _discovered(
            name, typed(_NETWORK_RBAC, stat_prefix=_STAT_PREFIXES.get(name, "tcp_"), rules={})
        )
        for name in _TCP_FILTERS[plaintext]
    ]


def names_of_filters(*, http: bool, tcp: bool, permissive: bool) -> list[str]:
    """Return the names of all filters of a bootstrap with such listeners, each once."""
    names: list[str] = []
    for plaintext in (False, True) if permissive else (False,):
        names += _HTTP_FILTERS[plaintext] if http else ()
        names += _TCP_FILTERS[plaintext] if tcp else ()
    return list(dict.fromkeys(names))


def _discovered(name: str, default: Config) -> Config:
    kinds = [default["@type"]]
    if name in _OTHER_KINDS:
        kinds.append(typed(_OTHER_KINDS[name])["@type"])
    return {
        "name": name,
        "config_discovery": {
            "config_source": from_server(),
            "type_urls": kinds,
            "apply_default_config_without_warming": True,
            "default_config": default,
        },
    }
