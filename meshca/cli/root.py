"""`meshca root`: ceremonies with an offline root, and the request that one of them signs."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshca.cli.failure import CommandFailed
from meshca.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    Output,
    OutputOption,
    load_settings,
)
from meshca.cli.output import emit, note, print_fields
from meshca.spiffe_id import parse_trust_domain

if TYPE_CHECKING:
    from ca.ceremony.report import Report

app = typer.Typer(
    no_args_is_help=True, help="An offline root: ceremonies, and requests for intermediates."
)


class KeyType(StrEnum):
    """Kinds of keys that an intermediate may have."""

    p256 = "p256"
    p384 = "p384"
    rsa2048 = "rsa2048"
    rsa3072 = "rsa3072"
    rsa4096 = "rsa4096"


PassphraseFd = Annotated[
    int | None,
    typer.Option(
        "--passphrase-fd",
        metavar="N",
        min=0,
        help="Read the key's passphrase from this open file descriptor. [default: ask for it]",
    ),
]


def _trust_domain(text: str) -> str:
    try:
        return parse_trust_domain(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


@app.command()
def ceremony(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.yaml", help="The reviewed plan.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and lint everything; sign and write nothing.")
    ] = False,
    passphrase_fd: PassphraseFd = None,
    output: OutputOption = Output.table,
) -> None:
    """Make a root, sign requests as intermediates, or sign a revocation list: what PLAN.yaml says.

    Needs no server and no network. Every problem of the plan is reported at once, with line and
    key. What is signed is linted before and after; nothing is overwritten. The report, for the
    ceremony's record, ends with what the witnesses check.

    Example: meshca root ceremony root.yaml --dry-run
    """
    from ca.ceremony import hold
    from ca.ceremony.plan import RootPlan, load_plan
    from meshca.cli.passphrase import read_passphrase
    from meshca.clock import SystemClock
    from meshca.errors import InvalidDocument

    clock = SystemClock()
    try:
        loaded = load_plan(plan)
        if dry_run:
            report = hold.rehearse(loaded, now=clock.now())
        else:
            is_new = isinstance(loaded.plan, RootPlan)
            passphrase = read_passphrase(passphrase_fd, "the root's key", is_new=is_new)
            report = hold.hold(loaded, passphrase=passphrase, now=clock.now())
    except InvalidDocument as error:
        raise CommandFailed(f"{plan} cannot be carried out:\n{error}") from error
    emit(output, _json(report), lambda: _print(report))


def _json(report: "Report") -> dict[str, Any]:
    return {
        "ceremony": report.ceremony,
        "rehearsal": report.is_rehearsal,
        "held_at": report.held_at.isoformat(),
        "plan": {"path": str(report.plan), "sha256": report.plan_sha256},
        "results": [
            {"what": r.what, "path": str(r.path), "sha256": r.sha256, "facts": dict(r.facts)}
            for r in report.results
        ],
        "warnings": list(report.warnings),
        "checklist": list(report.checklist),
    }


def _print(report: "Report") -> None:
    held = f"{report.ceremony}{' (rehearsal: nothing was written)' if report.is_rehearsal else ''}"
    print_fields(
        [
            ("ceremony", held),
            ("held at", report.held_at.isoformat(timespec="seconds")),
            ("plan", report.plan),
            ("plan sha256", report.plan_sha256),
        ]
    )
    for result in report.results:
        typer.echo(f"\n{result.what}")
        facts = ((name.replace("_", " "), value) for name, value in result.facts.items())
        print_fields([("file", result.path), ("file sha256", result.sha256), *facts])
    for warning in report.warnings:
        note(f"\nwarning: {warning}")
    if report.checklist:
        typer.echo("\nwitnesses check")
        for line in report.checklist:
            typer.echo(f"[ ] {line}")


@app.command()
def request(
    trust_domain: Annotated[
        str,
        typer.Option("--trust-domain", parser=_trust_domain, metavar="TD", help="e.g. example.org"),
    ],
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="The private key to write.")],
    csr: Annotated[Path, typer.Option("--csr", metavar="FILE", help="The request to write, PEM.")],
    key_type: Annotated[KeyType, typer.Option(help="What key to make.")] = KeyType.p256,
    passphrase_fd: PassphraseFd = None,
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="Write the key in the clear, mode 0600.")
    ] = False,
    output: OutputOption = Output.table,
) -> None:
    """Make a key for an intermediate, and the request that a root ceremony signs.

    Run it where meshca runs: the key stays there, only the request travels. Prints the SHA-256 of
    the public key: whoever plans the ceremony must hear it from you, not take it from the request.

    Example: meshca root request --trust-domain example.org --key i.key --csr i.csr
    """
    from cryptography.hazmat.primitives.serialization import Encoding

    from ca.csr import certificate_request
    from ca.keys import (
        PrivateKeySigner,
        check_public_key,
        generate_key_of,
        private_key_pem,
        public_key_sha256,
    )
    from ca.new_files import write_new
    from meshca.cli.passphrase import read_passphrase

    secret = None
    if not no_passphrase:
        secret = read_passphrase(passphrase_fd, "the intermediate's key", is_new=True)
    private = generate_key_of(key_type.value)
    public = check_public_key(private.public_key())
    made = certificate_request(PrivateKeySigner(private), public, trust_domain=trust_domain)
    write_new(
        [
            (key, private_key_pem(private, secret), 0o600),
            (csr, made.public_bytes(Encoding.PEM), 0o644),
        ]
    )
    facts = {"key": str(key), "csr": str(csr), "public_key_sha256": public_key_sha256(public)}
    _print_request(output, facts)


@app.command("token-request")
def token_request(
    csr: Annotated[Path, typer.Option("--csr", metavar="FILE", help="The request to write, PEM.")],
    config: ConfigOption = DEFAULT_CONFIG,
    generate: Annotated[
        bool, typer.Option("--generate", help="Make the key on the token first; a new label.")
    ] = False,
    key_type: Annotated[KeyType, typer.Option(help="What key to make.")] = KeyType.p256,
    output: OutputOption = Output.table,
) -> None:
    """Write the request for a key on a token: the one that upstream.pkcs11 of --config names.

    As `meshca root request`, for a key that no file holds. The trust domain is the configuration's.

    Example: meshca root token-request --config meshca.yaml --generate --csr i.csr
    """
    from cryptography.hazmat.primitives.serialization import Encoding

    from ca.csr import certificate_request
    from ca.keys import public_key_sha256
    from ca.new_files import write_new
    from ca.pkcs11 import generate_on_token, open_signer, token_key

    settings = load_settings(config)
    chosen = getattr(settings.upstream, "pkcs11", None)
    if chosen is None:
        raise CommandFailed(f"upstream.pkcs11 of {config} names no key on a token")
    location = token_key(chosen)
    if generate:
        generate_on_token(location, key_type.value)
    signer = open_signer(location)
    made = certificate_request(signer, signer.public_key, trust_domain=settings.trust_domain)
    signer.close()
    write_new([(csr, made.public_bytes(Encoding.PEM), 0o644)])
    digest = public_key_sha256(signer.public_key)
    facts = {"key": str(location), "csr": str(csr), "public_key_sha256": digest}
    _print_request(output, facts)


def _print_request(output: Output, facts: dict[str, str]) -> None:
    emit(output, facts, lambda: print_fields((n.replace("_", " "), v) for n, v in facts.items()))
