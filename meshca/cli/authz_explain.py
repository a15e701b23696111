"""`meshca authz explain`: the effective policy of a workload, in plain words."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshca.cli.client import connect
from meshca.cli.options import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, UrlOption
from meshca.cli.output import emit, print_fields, print_table, safe
from meshca.cli.policy_options import (
    AliasOption,
    DefaultOption,
    Options,
    PoliciesOption,
    RootNamespaceOption,
    TrustDomainOption,
)

if TYPE_CHECKING:
    from authz.policy import PolicySet


def register(app: typer.Typer) -> None:
    """Add the command to those of `meshca authz`."""
    app.command()(explain)


def explain(
    workload: Annotated[
        str, typer.Argument(metavar="NS/WORKLOAD", help="WORKLOAD becomes label app.")
    ],
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A label of the workload; may be repeated."),
    ] = None,
    policies: PoliciesOption = None,
    default: DefaultOption = "deny",
    root_namespace: RootNamespaceOption = "meshca",
    trust_domain: TrustDomainOption = None,
    trust_domain_alias: AliasOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Say what decides about requests to a workload: in the order of the decision, and why.

    Which policies are attached and in which state, mutual TLS by port, what is on trial, what is
    assumed of a request, and where that is not what Istio would do.

    Example: meshca authz explain shop/orders --label version=v1
    """
    from meshca.cli import authz_check

    destination = authz_check.request(
        source=None, destination=workload, labels=label or [], port=None, http={}
    )["destination"]
    asked = {key: destination[key] for key in ("namespace", "labels")}
    if policies is None:
        answer = connect(config, url).post("/authz/explain", asked)
    else:
        aliases = tuple(trust_domain_alias or ())
        options = Options(default, root_namespace, trust_domain, aliases)
        answer = _offline(authz_check.load_directory(policies, options), asked)
    emit(output, answer, lambda: _print(answer))


def _offline(policies: "PolicySet", asked: dict[str, Any]) -> dict[str, Any]:
    from authz.analysis.explain import explain as explained
    from authz.workload import Workload
    from meshca.clock import SystemClock

    workload = Workload(asked["namespace"], asked["labels"])
    return explained(policies, workload, now=SystemClock().now().timestamp()).as_json()


def _print(answer: dict[str, Any]) -> None:
    labels = ",".join(f"{key}={value}" for key, value in answer["labels"].items())
    tls = answer["mutual_tls"]
    ports = ", ".join(f"{port}: {mode}" for port, mode in tls["ports"].items())
    print_fields(
        [
            ("workload", f"{answer['namespace']} {labels}"),
            ("mutual TLS", f"{tls['mode']}: {tls['means']}"),
            ("  by port", ports),
        ]
    )
    if answer["policies"]:
        typer.echo("")
        columns = ("policy", "action", "state", "attached because")
        print_table(
            columns, ([each[c.replace(" ", "_")] for c in columns] for each in answer["policies"])
        )
    for title, key in _SECTIONS:
        for place, sentence in enumerate(answer[key]):
            if place == 0:
                typer.echo(f"\n{title}:")
            typer.echo(f"  {place + 1}. {safe(sentence)}")


_SECTIONS = (
    ("Decided, the first that holds", "steps"),
    ("With what is on trial in force", "on_trial"),
    ("Assumed", "assumed"),
    ("Unlike Istio", "unlike_istio"),
)
