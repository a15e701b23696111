"""The certificate that the gRPC listeners show, replaced while they serve.

gRPC asks for it before every handshake, on threads of its own. It is told "no change" unless there
is one: a configuration makes gRPC set up TLS anew, and it then frees the set-up in use without
regard for a handshake on another thread that is just taking it up (grpc/grpc#36693: a burst of
connections ends the process). So a change is given away only after a pause. gRPC holds a lock
meanwhile, so that no other handshake can begin, and those that began before have long got theirs.
"""

import time
from collections.abc import Callable
from typing import Final

import grpc

PAUSE_SECONDS: Final = 0.1
"""How long a handshake may take to get hold of the set-up it begins with: some microseconds."""

_Shown = tuple[tuple[bytes, bytes], bytes | None]


class ServerIdentity:
    """Key and chain of the listeners, and the roots by which they verify client certificates."""

    def __init__(self, roots: Callable[[], bytes]) -> None:
        self._roots = roots
        self._pair: tuple[bytes, bytes] | None = None
        self._followers: list[Callable[[bytes, bytes], None]] = []

    def replace(self, private_key_pem: bytes, chain_pem: bytes) -> None:
        """Show `chain_pem` from the next handshake on."""
        self._pair = (private_key_pem, chain_pem)
        for follower in self._followers:
            follower(private_key_pem, chain_pem)

    def follow(self, follower: Callable[[bytes, bytes], None]) -> None:
        """Hand key and chain to `follower` now, if there are any, and whenever they are replaced.

        For doors of ours that are not gRPC and show the same certificate.
        """
        self._followers.append(follower)
        if self._pair is not None:
            follower(*self._pair)

    def credentials(self, *, require_client_certificate: bool) -> grpc.ServerCredentials:
        """Return server credentials that follow `replace`; call it once there is a certificate."""
        shown = self._current(with_roots=require_client_certificate)

        def change() -> grpc.ServerCertificateConfiguration | None:
            nonlocal shown
            current = self._current(with_roots=require_client_certificate)
            if current == shown:
                return None
            time.sleep(PAUSE_SECONDS)
            shown = current
            return _configuration(current)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(shown),
            change,  # type: ignore[arg-type]  # None means no change, whatever the stubs say
            require_client_certificate,
        )

    def _current(self, *, with_roots: bool) -> _Shown:
        assert self._pair is not None  # noqa: S101  # wiring waits for the first certificate
        return self._pair, self._roots() if with_roots else None


def _configuration(shown: _Shown) -> grpc.ServerCertificateConfiguration:
    pair, roots = shown
    return grpc.ssl_server_certificate_configuration([pair], roots)
