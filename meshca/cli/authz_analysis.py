"""`meshca authz diff`, `who-can`, `what-can` and `reach`: questions about every request at once."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshca.cli.client import connect
from meshca.cli.failure import CommandFailed
from meshca.cli.options import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, UrlOption
from meshca.cli.output import emit, note, safe
from meshca.cli.policy_options import (
    AliasOption,
    DefaultOption,
    Options,
    PoliciesOption,
    RootNamespaceOption,
    TrustDomainOption,
    TrustDomainOrSourcesOption,
)

if TYPE_CHECKING:
    from authz.workload import Workload
    from meshca.spiffe_id import SpiffeId

TIMEOUT_SECONDS = 90.0
_SHOWN_VALUES = 8

PortOption = Annotated[int | None, typer.Option(help="Only this port.")]
ProtocolOption = Annotated[str | None, typer.Option(help="Only http, or only tcp.")]
MethodOption = Annotated[str | None, typer.Option(help="Only this HTTP method.")]
PathOption = Annotated[str | None, typer.Option(help="Only this HTTP path.")]
HostOption = Annotated[str | None, typer.Option(help="Only this HTTP host.")]
LabelOption = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="A label of the workload; may be repeated."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to those of `meshca authz`."""
    app.command()(diff)
    app.command("who-can")(who_can)
    app.command("what-can")(what_can)
    app.command()(reach)


def diff(
    before: Annotated[
        str, typer.Argument(metavar="A", help="A file or directory; or current, staged, applied:N.")
    ],
    after: Annotated[str, typer.Argument(metavar="B", help="The same.")],
    proposed: Annotated[
        bool, typer.Option("--proposed", help="As if everything on trial were in force.")
    ] = False,
    default: DefaultOption = "deny",
    root_namespace: RootNamespaceOption = "meshca",
    trust_domain: TrustDomainOption = None,
    trust_domain_alias: AliasOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Say exactly which requests B lets through that A does not, and the reverse.

    Not a difference of texts: sets that decide alike are equal however they are written. Each
    line has a witness, a request of the region in the shape of `meshca authz check`. Exit 0 when
    no verdict changes, 1 when one does or may. Files alone need no server.

    Example: meshca authz diff policies/ new-policies/ --trust-domain example.org
    """
    from meshca.cli import authz_operands as operands

    if operands.is_of_server(before) or operands.is_of_server(after):
        asked = {
            "before": operands.for_server(before),
            "after": operands.for_server(after),
            "proposed": proposed,
        }
        answer = connect(config, url).post("/authz/diff", asked, timeout=TIMEOUT_SECONDS)
    else:
        from authz.analysis.difference import difference
        from authz.analysis.report import difference_json

        options = Options(default, root_namespace, trust_domain, tuple(trust_domain_alias or ()))
        one, other = (operands.load_operand(each, options) for each in (before, after))
        found = difference(one, other, now=_now(), proposed=proposed)
        answer = difference_json(found, before=one.version, after=other.version)
    emit(output, answer, lambda: _print_difference(answer))
    if not answer["equal"]:
        raise typer.Exit(1)


def who_can(
    workload: Annotated[
        str, typer.Argument(metavar="NS/WORKLOAD", help="WORKLOAD becomes label app.")
    ],
    label: LabelOption = None,
    port: PortOption = None,
    protocol: ProtocolOption = None,
    method: MethodOption = None,
    path: PathOption = None,
    host: HostOption = None,
    policies: PoliciesOption = None,
    default: DefaultOption = "deny",
    root_namespace: RootNamespaceOption = "meshca",
    trust_domain: TrustDomainOption = None,
    trust_domain_alias: AliasOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Say which requests reach a workload: from whom, to which port, method and path; all of them.

    Example: meshca authz who-can shop/orders --method DELETE
    """
    asked = _narrowed(port=port, protocol=protocol, method=method, path=path, host=host)
    destination = _destination(workload, label)
    if policies is None:
        body = {**asked, "destination": destination}
        answer = connect(config, url).post("/authz/who-can", body, timeout=TIMEOUT_SECONDS)
    else:
        from authz.analysis.access import who_can as allowed
        from authz.analysis.report import access_json
        from authz.analysis.sides import Within
        from meshca.cli.authz_check import load_directory

        options = Options(default, root_namespace, trust_domain, tuple(trust_domain_alias or ()))
        loaded = load_directory(policies, options)
        found = allowed(loaded, _workload(destination), now=_now(), within=Within(**asked))
        answer = access_json(found, version=loaded.version)
    emit(output, answer, lambda: print_access(answer))
    _fail_on_defects(answer)


def what_can(
    source: Annotated[str, typer.Argument(metavar="SPIFFE_ID", help="Who calls.")],
    port: PortOption = None,
    protocol: ProtocolOption = None,
    method: MethodOption = None,
    path: PathOption = None,
    host: HostOption = None,
    policies: PoliciesOption = None,
    default: DefaultOption = "deny",
    root_namespace: RootNamespaceOption = "meshca",
    trust_domain: TrustDomainOrSourcesOption = None,
    trust_domain_alias: AliasOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Say which requests an identity may make, to every kind of workload that policies tell apart.

    Example: meshca authz what-can spiffe://example.org/ns/shop/sa/frontend
    """
    asked = _narrowed(port=port, protocol=protocol, method=method, path=path, host=host)
    name = str(_identity(source))
    if policies is None:
        body = {**asked, "source": name}
        answer = connect(config, url).post("/authz/what-can", body, timeout=TIMEOUT_SECONDS)
    else:
        from authz.analysis.access import what_can as allowed
        from authz.analysis.report import access_json
        from authz.analysis.sides import Within
        from meshca.cli.authz_check import load_directory

        options = Options(default, root_namespace, trust_domain, tuple(trust_domain_alias or ()))
        loaded = load_directory(policies, options.or_trust_domain_of(name))
        principal = name.removeprefix("spiffe://")
        found = allowed(loaded, principal, now=_now(), within=Within(**asked))
        answer = access_json(found, version=loaded.version)
    emit(output, answer, lambda: print_access(answer))
    _fail_on_defects(answer)


def reach(
    source: Annotated[str, typer.Argument(metavar="SPIFFE_ID", help="Who calls first.")],
    workload: Annotated[
        str, typer.Argument(metavar="NS/WORKLOAD", help="WORKLOAD becomes label app.")
    ],
    label: LabelOption = None,
    identities: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="YAML: a list of {namespace, labels, spiffe_id}. [default: connected proxies]",
        ),
    ] = None,
    hops: Annotated[int, typer.Option(min=1, max=8, help="At most as many calls.")] = 8,
    policies: PoliciesOption = None,
    default: DefaultOption = "deny",
    root_namespace: RootNamespaceOption = "meshca",
    trust_domain: TrustDomainOrSourcesOption = None,
    trust_domain_alias: AliasOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Say how an identity could reach a workload through others, the shortest way first.

    Each workload on the way is taken to call on with its own identity. Exit 0 when there is a
    way, 1 when there is none.

    Example: meshca authz reach spiffe://example.org/ns/edge/sa/gateway shop/payments
    """
    name, destination = _identity(source), _destination(workload, label)
    if policies is None:
        services = None if identities is None else _read_identities(identities)
        body = {"source": str(name), "destination": destination, "services": services, "hops": hops}
        answer = connect(config, url).post("/authz/reach", body, timeout=TIMEOUT_SECONDS)
    else:
        from authz.analysis.reach import Service
        from authz.analysis.reach import reach as paths
        from authz.analysis.report import reach_json
        from meshca.cli.authz_check import load_directory

        if identities is None:
            raise CommandFailed("--policies needs --identities FILE", exit_status=2)
        options = Options(default, root_namespace, trust_domain, tuple(trust_domain_alias or ()))
        loaded = load_directory(policies, options.or_trust_domain_of(str(name)))
        listed = _read_identities(identities)
        through = [Service(_workload(each), _identity(each["spiffe_id"])) for each in listed]
        found = paths(loaded, name, _workload(destination), through, now=_now(), hops=hops)
        answer = reach_json(found, version=loaded.version)
    emit(output, answer, lambda: _print_paths(answer))
    _fail_on_defects(answer)
    if not answer["paths"]:
        raise typer.Exit(1)


def _now() -> float:
    from meshca.clock import SystemClock

    return SystemClock().now().timestamp()


def _narrowed(**said: Any) -> dict[str, Any]:
    if said["protocol"] not in (None, "http", "tcp"):
        raise CommandFailed("--protocol is http or tcp", exit_status=2)
    return {name: value for name, value in said.items() if value is not None}


def _destination(workload: str, labels: list[str] | None) -> dict[str, Any]:
    from meshca.cli.authz_check import request

    asked = request(source=None, destination=workload, labels=labels or [], port=None, http={})
    return {name: asked["destination"][name] for name in ("namespace", "labels")}


def _workload(said: dict[str, Any]) -> "Workload":
    from authz.workload import Workload

    return Workload(said["namespace"], said.get("labels"))


def _identity(text: str) -> "SpiffeId":
    from meshca.spiffe_id import SpiffeId

    try:
        parsed = SpiffeId.parse(text if text.startswith("spiffe://") else f"spiffe://{text}")
    except ValueError as error:
        raise CommandFailed(f"{text!r} is not a SPIFFE ID: {error}", exit_status=2) from error
    if not parsed.is_leaf:
        raise CommandFailed(f"{text!r} is a trust domain, which nobody carries", exit_status=2)
    return parsed


def _read_identities(path: Path) -> list[dict[str, Any]]:
    import yaml

    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CommandFailed(f"cannot read {path}: {error}") from error
    if not isinstance(said, list) or not all(_is_service(each) for each in said):
        raise CommandFailed(f"{path} is not a list of {{namespace, labels, spiffe_id}}")
    return said


def _is_service(each: Any) -> bool:
    if not isinstance(each, dict) or not each.keys() <= {"namespace", "labels", "spiffe_id"}:
        return False
    labels = each.get("labels", {})
    texts = [each.get("namespace"), each.get("spiffe_id")]
    if not isinstance(labels, dict):
        return False
    return all(isinstance(text, str) and text for text in (*texts, *labels, *labels.values()))


def _print_difference(answer: dict[str, Any]) -> None:
    for change in answer["changes"]:
        typer.echo(f"{change['change']}: {_where(change)}")
        typer.echo(f"  before: {safe(_decided(change['before']))}")
        typer.echo(f"  after: {safe(_decided(change['after']))}")
        _print_witness(change)
    for text in answer["notes"]:
        note(f"note: {safe(text)}")
    _print_end(answer)


def print_access(answer: dict[str, Any]) -> None:
    for each in answer["allowed"]:
        typer.echo(f"allowed: {_where(each)}")
        typer.echo(f"  by: {safe(_decided(each))}")
        _print_witness(each)
    _print_end(answer)


def _print_paths(answer: dict[str, Any]) -> None:
    for number, path in enumerate(answer["paths"]):
        typer.echo(f"{number + 1}. {len(path)} call{'s' if len(path) > 1 else ''}")
        for hop in path:
            labels = ",".join(f"{k}={v}" for k, v in hop["destination"]["labels"].items())
            to = f"{hop['destination']['namespace']}/{labels or '*'}"
            typer.echo(safe(f"  {hop['source']} -> {to}, {hop['allowed_by']}"))
            _print_witness(hop)
    _print_end({**answer, "statement": "" if answer["paths"] else "there is no way"})


def _where(said: dict[str, Any]) -> str:
    region = "; ".join(f"{name} {_clipped(values)}" for name, values in said["region"].items())
    return safe(f"to {_clipped(said['destinations'])}: {region or 'every request'}")


def _clipped(values: list[str]) -> str:
    more = len(values) - _SHOWN_VALUES
    shown = ", ".join(values[:_SHOWN_VALUES])
    return f"{shown} and {more} more (all with --output json)" if more > 0 else shown


def _decided(decision: dict[str, Any]) -> str:
    return f"{decision['verdict']}: {decision['reason']}"


def _print_witness(said: dict[str, Any]) -> None:
    typer.echo(f"  witness: {safe(json.dumps(said['witness'], ensure_ascii=False))}")


def _print_end(answer: dict[str, Any]) -> None:
    for text in answer["beyond"]:
        typer.echo(f"beyond the analysis: {safe(text)}")
    for text in answer["defects"]:
        typer.echo(f"defect: the engine disagrees: {safe(text)}")
    if answer["statement"]:
        typer.echo(safe(answer["statement"]))


def _fail_on_defects(answer: dict[str, Any]) -> None:
    if answer["defects"]:
        raise typer.Exit(1)
