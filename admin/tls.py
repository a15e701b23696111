"""TLS for HTTP doors whose certificate is replaced while they serve.

What is shown changes only when key and chain belong together, tried on a context of its own first.
Protocol versions and ciphers are those of Mozilla's intermediate profile (Federation 5). A key is
handed to OpenSSL through memory that has no name in any file system.
"""

import asyncio
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ca.keys import read_secret_file
from meshca.errors import AuthorityUnavailable, CannotListen
from meshca.logs import get_logger

LOOK_SECONDS: Final = 30.0
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
_MAXIMUM_BYTES: Final = 64 * 1024

Refused = Callable[[str], None]

log = get_logger("admin")


class ServerTls:
    """A server's TLS context; it has no certificate until the first `replace`."""

    def __init__(self) -> None:
        self.context = _new_context()

    def ask_for_certificates(self, on_refused: Refused) -> None:
        """Let clients show a certificate; the handshake fails for one that no root stands behind.

        `on_refused` is told why. No session is resumed: each handshake shows the chain anew.
        """
        self.context.verify_mode = ssl.CERT_OPTIONAL
        self.context.options |= ssl.OP_NO_TICKET
        self.context.num_tickets = 0
        self.context.sslobject_class = _telling(on_refused)
        self.context.verify_flags &= ~ssl.VERIFY_X509_PARTIAL_CHAIN  # a chain ends at a root

    def trust(self, roots_pem: bytes) -> None:
        """Take these roots, too, for the handshake.

        A root that is trusted no longer stays until a restart: whoever the certificate speaks for
        is decided after the handshake, by the roots of then.
        """
        self.context.load_verify_locations(cadata=roots_pem.decode("ascii"))

    def know(self, intermediates_pem: bytes) -> None:
        """Complete chains with these, which are not trusted: each has to lead to a root.

        Browsers show a certificate without them when the server does not name its roots, which
        Python's TLS cannot do. As roots, they stay until a restart: one more each time that the
        authority is renewed.
        """
        self.context.load_verify_locations(cadata=intermediates_pem.decode("ascii"))

    def replace(self, private_key_pem: bytes, chain_pem: bytes) -> None:
        """Show `chain_pem` from the next handshake on; raises ValueError when the key is another's.

        Handshakes and replacements both happen on the event loop: none sees half of a change.
        """
        try:
            _load(_new_context(), private_key_pem, chain_pem)
            _load(self.context, private_key_pem, chain_pem)
        except ssl.SSLError as error:
            raise ValueError(f"not a chain and its key: {error.reason}") from error


class CertificateFiles:
    """The certificate and key that an operator gives: shown, and read again when they change."""

    def __init__(self, certificate: Path, key: Path, tls: ServerTls) -> None:
        self._certificate = certificate
        self._key = key
        self._tls = tls
        self._shown: tuple[bytes, bytes] | None = None

    def load(self) -> None:
        """Show what the files hold; raises CannotListen, naming the file."""
        try:
            self._look()
        except (AuthorityUnavailable, OSError, ValueError) as error:
            raise CannotListen(f"bundle_endpoint: {self._certificate}: {error}") from error

    async def run(self) -> None:
        """Show what the files hold whenever that has changed, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                self._look()
            except (AuthorityUnavailable, OSError, ValueError) as error:
                log.error("certificate_not_replaced", file=str(self._certificate), error=str(error))

    def _look(self) -> None:
        read = read_secret_file(self._key), _read(self._certificate)
        if read != self._shown:
            self._tls.replace(*read)
            self._shown = read
            log.info("certificate_shown", file=str(self._certificate))


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAXIMUM_BYTES)


def _telling(on_refused: Refused) -> type[ssl.SSLObject]:
    """Return a class of connections that tell `on_refused` whose certificate does not verify."""

    class Telling(ssl.SSLObject):
        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except ssl.SSLCertVerificationError as error:
                on_refused(error.verify_message)
                raise

    return Telling


def _new_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.verify_mode = ssl.CERT_NONE  # F-18, F-30: clients do not authenticate
    return context


def _load(context: ssl.SSLContext, private_key_pem: bytes, chain_pem: bytes) -> None:
    descriptor = os.memfd_create("meshca-tls")
    with os.fdopen(descriptor, "wb") as file:
        file.write(chain_pem + b"\n" + private_key_pem)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
