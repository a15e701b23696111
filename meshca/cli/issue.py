"""The workload's side of Istio's CreateCertificate, for `meshca svid issue`."""

from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from meshca.cli.failure import CommandFailed
from meshca.cli.options import load_settings

if TYPE_CHECKING:
    import grpc

    from meshca.settings import Settings

METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
TIMEOUT_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Target:
    """The mesh listener: its address, the name in its certificate, the roots that vouch for it."""

    address: str
    server_name: str | None
    trust_bundle: bytes


def resolve(
    config: Path, server: str | None, trust_bundle: Path | None, server_name: str | None
) -> Target:
    """Return the listener that the options name; the configuration says what they leave open."""
    if server is not None and trust_bundle is not None:
        return Target(server, server_name, read(trust_bundle))
    settings = load_settings(config)
    address = server or _local(settings.listen.mesh)
    if server_name is None and _is_address(address.rpartition(":")[0].strip("[]")):
        server_name = settings.server_names[0]
    return Target(address, server_name, read(trust_bundle or _root(settings)))


def _local(address: str) -> str:
    host, _, port = address.rpartition(":")
    return {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host) + f":{port}"  # noqa: S104  # compared, not bound


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _root(settings: "Settings") -> Path:
    from ca.upstream.self_signed import DIRECTORY

    if settings.upstream.kind == "disk":
        return settings.upstream.root
    if settings.upstream.kind != "self_signed":
        raise CommandFailed(
            "no file holds the root: give --trust-bundle with what `meshca bundle show` prints"
        )
    return settings.data_dir / DIRECTORY / "root.pem"


def read(path: Path) -> bytes:
    """Return the content of `path`; raises CommandFailed naming it."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandFailed(f"cannot read {path}: {error.strerror}") from error


def create_certificate(
    target: Target, *, csr: bytes, token: bytes, lifetime: timedelta | None
) -> list[str]:
    """Return the chain, leaf first, without the trust bundle that the answer ends with.

    Raises CommandFailed with the server's public message when it refuses.
    """
    import grpc

    from sds.proto.istio_ca_pb2 import IstioCertificateRequest, IstioCertificateResponse

    seconds = int(lifetime.total_seconds()) if lifetime is not None else 0
    request = IstioCertificateRequest(csr=_text(csr, "the request"), validity_duration=seconds)
    metadata = (("authorization", f"Bearer {_text(token, 'the token')}"),)
    name = target.server_name
    options = [("grpc.ssl_target_name_override", name)] if name is not None else []
    credentials = grpc.ssl_channel_credentials(target.trust_bundle)
    with grpc.secure_channel(target.address, credentials, options) as channel:
        call = channel.unary_unary(
            METHOD,
            request_serializer=IstioCertificateRequest.SerializeToString,
            response_deserializer=IstioCertificateResponse.FromString,
        )
        try:
            answer = call(request, metadata=metadata, timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            raise _failure(target, error) from error
    return list(answer.cert_chain[:-1])


def _text(content: bytes, what: str) -> str:
    try:
        return content.decode("ascii")
    except UnicodeDecodeError as error:
        raise CommandFailed(f"{what} is not text") from error


def _failure(target: Target, error: "grpc.RpcError") -> CommandFailed:
    import grpc

    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE:
        return CommandFailed(
            f"{target.address} cannot be reached, or its certificate is not one of "
            f"{target.server_name or 'its host name'} under these roots: {details}",
            hint="is the server running? Is --trust-bundle its root? See --server-name",
        )
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return CommandFailed(
            details, hint="meshca audit query --outcome refused --limit 1, on the server"
        )
    return CommandFailed(f"{code.name}: {details}")
