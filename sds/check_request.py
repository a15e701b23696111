"""An ext_authz CheckRequest as a request of ours.

source          `source.principal`, the first URI SAN of the peer's certificate; where that is sent
                along it must have exactly this one
source.ip       `source.address`: who made the connection to the proxy
remote.ip       what the proxy makes of `x-forwarded-for`: the server's filter repeats it beside the
                message; without that the same as source.ip, or not known behind a forwarder
destination     the asking proxy's own workload, whatever the message says
its ip, port    `destination.address`: the listener that was reached
connection.sni  `tls_session.sni`
HTTP            `request.http`, without which it is TCP; a header's lines come joined by commas
claims          what `jwt_authn` left in metadata: those of a token that it has validated
time            our clock, never the proxy's
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

from cryptography import x509

from authz.jwt_filter import METADATA_NAMESPACE, PAYLOAD
from authz.request import Http, Request
from authz.values import parse_address
from authz.workload import Workload
from meshca.errors import RequestRefused
from meshca.spiffe_id import SpiffeId

REMOTE_ADDRESS_KEY: Final = "x-meshca-remote-address"
"""The metadata of a call in which the filter repeats the downstream's remote address."""
_FORWARDED: Final = "x-forwarded-for"
_REQUEST_ID: Final = "x-request-id"
_HIGHEST_PORT: Final = 65_535
_DEEPEST: Final = 8
_LONGEST_CERTIFICATE: Final = 64 * 1024


def to_request(
    attributes: Any, workload: Workload, time: float, remote_address: str | None = None
) -> Request:
    """Return the request that `attributes` (AttributeContext) describes, to `workload`.

    `remote_address` is what the call's metadata says under `REMOTE_ADDRESS_KEY`. Raises
    RequestRefused, reason `malformed_check`, for a peer that is not exactly one SPIFFE ID.
    """
    source_ip = _address(attributes.source)
    http = _http(attributes) if attributes.request.HasField("http") else None
    headers = (http.headers or {}) if http is not None else {}
    return Request(
        source=_peer(attributes.source),
        destination=workload,
        port=known_port(attributes.destination.address.socket_address.port_value),
        http=http,
        source_ip=source_ip,
        remote_ip=_remote(remote_address, source_ip, is_forwarded=_FORWARDED in headers),
        destination_ip=_address(attributes.destination),
        sni=attributes.tls_session.sni or None,
        time=time,
    )


def request_id_of(attributes: Any) -> str:
    """Return what `x-request-id` calls the request; empty without it."""
    found: str = attributes.request.http.headers.get(_REQUEST_ID, "")
    return found


def _remote(said: str | None, source_ip: str | None, *, is_forwarded: bool) -> str | None:
    if said is not None:
        return known_address(said)
    return None if is_forwarded else source_ip


def _address(peer: Any) -> str | None:
    return known_address(peer.address.socket_address.address)


def known_address(text: str | None) -> str | None:
    """Return `text` if it is an IP address; anything else is not known."""
    return text if text and parse_address(text) is not None else None


def known_port(port: int) -> int | None:
    """Return a port as policy takes it; 0 and what is none is not known."""
    return port if 0 < port <= _HIGHEST_PORT else None


def _http(attributes: Any) -> Http:
    http = attributes.request.http
    headers = http.headers  # as a dict of its own, by what is half of the time of dict(...)
    return Http(
        method=http.method or None,
        path=http.path or None,
        host=http.host or None,
        headers={name: headers[name] for name in headers},
        claims=_claims(attributes.metadata_context),
    )


def _claims(context: Any) -> Mapping[str, Any] | None:
    found = context.filter_metadata
    if METADATA_NAMESPACE not in found:
        return None
    return claims_of(found[METADATA_NAMESPACE])


def claims_of(metadata: Any) -> Mapping[str, Any] | None:
    """Return the claims in what jwt_authn left (a Struct); None if it left none."""
    if PAYLOAD not in metadata.fields:
        return None
    payload = _plain(metadata.fields[PAYLOAD], _DEEPEST)
    return payload if isinstance(payload, dict) else None


def _plain(value: Any, depth: int) -> Any:
    """Return a protobuf Value as text, number, list or dict; what is deeper is left out."""
    kind = value.WhichOneof("kind")
    match kind:
        case "struct_value" if depth:
            return {k: _plain(v, depth - 1) for k, v in value.struct_value.fields.items()}
        case "list_value" if depth:
            return [_plain(v, depth - 1) for v in value.list_value.values]
        case "string_value" | "number_value" | "bool_value":
            return getattr(value, kind)
    return None


def _peer(peer: Any) -> SpiffeId | None:
    principal, certificate = peer.principal, peer.certificate
    if not principal:
        if certificate:
            raise _refuse("the peer's certificate has no name")
        return None
    if certificate and _only_uri(certificate) != principal:
        raise _refuse("the peer's certificate is not of exactly this one SPIFFE ID")
    return parse_peer(principal)


@lru_cache(maxsize=16_384)
def parse_peer(principal: str) -> SpiffeId:
    """Return the identity of a peer; raises RequestRefused if it is no workload's SPIFFE ID."""
    try:
        identity = SpiffeId.parse(principal)
    except ValueError as error:
        raise _refuse("the peer's principal is no SPIFFE ID") from error
    if not identity.is_leaf:
        raise _refuse("the peer's principal is a trust domain")
    return identity


@lru_cache(maxsize=4096)
def _only_uri(quoted: str) -> str:
    """Return the one URI SAN of a URL-encoded PEM certificate; nothing if there is not one."""
    if len(quoted) > _LONGEST_CERTIFICATE:
        return ""
    try:
        certificate = x509.load_pem_x509_certificate(unquote(quoted).encode())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, x509.ExtensionNotFound):
        return ""
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    return uris[0] if len(uris) == 1 else ""


def _refuse(message: str) -> RequestRefused:
    return RequestRefused("malformed_check", message)
