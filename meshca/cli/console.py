"""`meshca console`: the web console in the browser here, as whoever one is at the server."""

from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from meshca.cli.client import AdminClient, connect
from meshca.cli.failure import CommandFailed
from meshca.cli.options import DEFAULT_CONFIG, ConfigOption, UrlOption
from meshca.cli.output import note, safe

if TYPE_CHECKING:
    from collections.abc import Callable

ANYWHERE_HERE: Final = "127.0.0.1:0"
ListenOption = Annotated[
    str,
    typer.Option(metavar="ADDRESS:PORT", help="Where to listen, on this machine only; 0 is any."),
]


def console(
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    listen: ListenOption = ANYWHERE_HERE,
) -> None:
    """Open the web console for the browser here, until Ctrl-C.

    It prints an address of this machine. What the browser asks there is asked of the server as you:
    whoever has the address can do what you may.

    Example: meshca console --config d/meshca.yaml
    """
    check_loopback(listen)
    client = connect(config, url)
    who = client.get("/whoami")

    def opened(address: str) -> None:
        note(_told(client, who))
        typer.echo(address)

    _run(client, listen, opened)


def check_loopback(listen: str) -> None:
    """Raise CommandFailed unless `listen` is a port of an address that only this machine has."""
    host, _, port = listen.rpartition(":")
    try:
        is_here = ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
        is_port = port.isascii() and port.isdigit() and int(port) < 65_536
    except ValueError:
        is_here = is_port = False
    if not (is_here and is_port):
        raise CommandFailed(
            f"--listen {listen!r} is no port of a loopback address, such as 127.0.0.1:8090 or "
            "[::1]:0: whoever reached another could do what you may",
            exit_status=2,
        )


def _told(client: AdminClient, who: dict[str, Any]) -> str:
    roles = ", ".join(safe(role) for role in who["roles"])
    return (
        f"Whoever opens this address is {safe(who['actor'])} ({roles}) at {client.server}: keep it "
        "to yourself. Ctrl-C ends it."
    )


def _run(client: AdminClient, listen: str, opened: "Callable[[str], None]") -> None:
    import asyncio
    import logging
    import signal

    from meshca.cli.relay import serve
    from meshca.cli.upstream import Upstream

    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # it complains of what was broken off

    async def main() -> None:
        stopping = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        await serve(Upstream(client), listen, opened=opened, stopping=stopping)

    asyncio.run(main())
