"""The command line: one executable, one module a command group.

Rules. Data goes to standard output, everything else to standard error. Exit status: 0 done,
1 refused, not found or check failed, 2 usage. Importing this package is cheap: commands import
what they need when they run, so that `meshca --help` answers at once.
"""

import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer

from meshca import logs
from meshca.cli import (
    audit,
    authz,
    authz_emergencies,
    authz_staging,
    bans,
    bundle,
    ca,
    config,
    console,
    credentials,
    demo,
    dev,
    envoy,
    federation,
    init,
    proxies,
    revocation,
    root,
    serve,
    status,
    svid,
    whoami,
)
from meshca.cli.failure import CommandFailed
from meshca.errors import MeshcaError

app = typer.Typer(
    name="meshca",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Mesh certificate authority and zero-trust identity service.\n\n"
    "First steps: `meshca init d --trust-domain example.org`, then follow what it prints.\n\n"
    "When something is wrong: `meshca status`, `meshca proxies --behind`,\n"
    "`meshca audit query --outcome refused`.\n\n"
    "Exit status: 0 done; 1 refused, not found or check failed; 2 wrong usage.",
)
app.callback()(credentials.options)
app.command("demo")(demo.demo)
app.command("init")(init.init)
app.command("serve")(serve.serve)
app.command("status")(status.status)
app.command("whoami")(whoami.whoami)
app.command("console")(console.console)
app.command("proxies")(proxies.proxies)
revocation.register(svid.app)
bans.register(svid.app)
app.add_typer(svid.app, name="svid")
app.add_typer(ca.app, name="ca")
app.add_typer(bundle.app, name="bundle")
app.add_typer(federation.app, name="federation")
authz_staging.register(authz.app)
authz_emergencies.register(authz.app)
app.add_typer(authz.app, name="authz")
app.add_typer(audit.app, name="audit")
app.add_typer(envoy.app, name="envoy")
app.add_typer(config.app, name="config")
app.add_typer(root.app, name="root")
app.add_typer(dev.app, name="dev")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, by default with the process's arguments, and exit."""
    logs.configure()  # to standard error; structlog's own default would be among the data
    try:
        _command()(arguments)
    except CommandFailed as failure:
        _say("error", str(failure))
        if failure.hint:
            _say("hint", failure.hint)
        sys.exit(failure.exit_status)
    except MeshcaError as error:
        _say("error", str(error))
        sys.exit(1)
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`): say nothing, also not at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


@functools.cache
def _command() -> Callable[[Sequence[str] | None], Any]:
    """Return what Typer makes of all commands: half of the time of a short one, so made once."""
    return typer.main.get_command(app)


def _say(what: str, text: str) -> None:
    colour = {"error": "red", "hint": "yellow"}[what]
    typer.secho(f"{what}: ", fg=colour, bold=True, nl=False, err=True)
    typer.echo(text, err=True)
