"""What the command line proves itself with at a server over the network.

They are options of `meshca` itself, before the command, because commands have files of their own;
or the environment: `MESHCA_TOKEN_FILE`, `MESHCA_CERT`, `MESHCA_KEY`, `MESHCA_CA`. A token is never
an argument: other users of the machine could read it there.
"""

import ssl
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from meshca.cli.failure import CommandFailed

MAXIMUM_TOKEN_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Credentials:
    """Files to prove oneself with: a token, or a certificate with its key; and the server's CA."""

    token_file: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    ca: Path | None = None

    def headers(self) -> dict[str, str]:
        """Return what to send along; raises CommandFailed for a token that cannot be read."""
        if self.token_file is None:
            return {}
        with _readable(self.token_file).open("rb") as file:
            token = file.read(MAXIMUM_TOKEN_BYTES + 1).strip()
        if not token or len(token) > MAXIMUM_TOKEN_BYTES or not token.isascii():
            raise CommandFailed(f"{self.token_file} does not hold one token")
        return {"authorization": f"Bearer {token.decode('ascii')}"}

    def context(self) -> ssl.SSLContext:
        """Return what verifies the server, and proves us; raises CommandFailed for bad files."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the name and the chain
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            if self.ca is None:
                context.load_default_certs(ssl.Purpose.SERVER_AUTH)
            else:
                context.load_verify_locations(cafile=_readable(self.ca))
            if self.cert is not None:
                key = None if self.key is None else _readable(self.key)
                context.load_cert_chain(_readable(self.cert), key)
        except ssl.SSLError as error:
            raise CommandFailed(f"no certificate, or not its key: {error.reason}") from error
        return context


_given: ContextVar[Credentials] = ContextVar("credentials", default=Credentials())  # noqa: B039  # frozen


def given() -> Credentials:
    """Return what the command line or the environment names."""
    return _given.get()


def options(
    token_file: Annotated[
        Path | None,
        typer.Option(envvar="MESHCA_TOKEN_FILE", help="OIDC token, for --url https://..."),
    ] = None,
    cert: Annotated[
        Path | None,
        typer.Option(envvar="MESHCA_CERT", help="Certificate (SVID) with its chain, likewise."),
    ] = None,
    key: Annotated[Path | None, typer.Option(envvar="MESHCA_KEY", help="Its key.")] = None,
    ca: Annotated[
        Path | None,
        typer.Option(envvar="MESHCA_CA", help="Roots that verify the server; else the system's."),
    ] = None,
) -> None:
    """Remember how to prove oneself to a server over the network."""
    if key is not None and cert is None:
        raise CommandFailed("--key needs --cert", exit_status=2)
    _given.set(Credentials(token_file, cert, key, ca))


def _readable(path: Path) -> Path:
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise CommandFailed(f"cannot read {path}: {error.strerror}") from error
