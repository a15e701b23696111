"""What somebody without an identity can try, and what a stranger can see of a proxy."""

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc
import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse

SECRET_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105  # a type's name
_FETCH = "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets"
_TIMEOUT_SECONDS = 5.0
_VERDICT_SECONDS = 2.0
ACCEPTED = "accepted"


@dataclass(frozen=True, slots=True)
class Shown:
    """A TLS server's certificate, by serial, and its verdict on us: `ACCEPTED` or an alert."""

    serial: str
    verdict: str


def call_without_certificate(port: int, roots: Path) -> Shown:
    """Connect to 127.0.0.1:`port` over TLS as a client that has no certificate."""
    context = ssl.create_default_context(cafile=str(roots))
    context.check_hostname = False  # a SPIFFE ID is not a host name; the roots are still verified
    with (
        socket.create_connection(("127.0.0.1", port), _TIMEOUT_SECONDS) as plain,
        context.wrap_socket(plain) as connection,
    ):
        certificate = x509.load_der_x509_certificate(connection.getpeercert(True) or b"")
        serial = f"{certificate.serial_number:x}"
        return Shown(serial, _verdict(connection))


def _verdict(connection: ssl.SSLSocket) -> str:
    """Return what the server says before it is asked anything.

    In TLS 1.3 it judges the client after the client thinks it is done. Nothing is sent: data that
    meets a closed socket would be answered with a reset, which overtakes the alert.
    """
    connection.settimeout(_VERDICT_SECONDS)
    try:
        return connection.recv(200).decode(errors="replace") or "closed"
    except TimeoutError:
        return ACCEPTED
    except ssl.SSLError as error:
        return (error.reason or str(error)).lower()
    except ConnectionError as error:
        return type(error).__name__


def fetch_secret(port: int, roots: Path, server_name: str, token: str | None) -> str:
    """Ask the server for the secret `default`; return the gRPC status it answers with."""
    credentials = grpc.ssl_channel_credentials(roots.read_bytes())
    options = [("grpc.ssl_target_name_override", server_name)]
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    request = DiscoveryRequest(type_url=SECRET_TYPE, resource_names=["default"])
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        fetch = channel.unary_unary(
            _FETCH,
            request_serializer=DiscoveryRequest.SerializeToString,
            response_deserializer=DiscoveryResponse.FromString,
        )
        try:
            fetch(request, metadata=metadata, timeout=_TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


def forge(token: str) -> str:
    """Return `token` with the same header and claims, signed by a key that nobody knows."""
    header = jwt.get_unverified_header(token)
    claims = jwt.decode(token, options={"verify_signature": False})
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = (
        rsa.generate_private_key(65537, 2048)
        if header["alg"].startswith("RS")
        else ec.generate_private_key(ec.SECP256R1())
    )
    return jwt.encode(claims, key, algorithm=header["alg"], headers={"kid": header["kid"]})
