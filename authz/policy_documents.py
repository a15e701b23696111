"""Reading AuthorizationPolicy documents: what they do, whom they select, and how far they are."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from authz.annotations import read_annotations
from authz.metadata import Metadata, read_target
from authz.policy import Action, Policy
from authz.reader import StrictReader, hint
from authz.rules import RuleReader

KIND: Final = "AuthorizationPolicy"


@dataclass(frozen=True, slots=True)
class Names:
    """What documents are checked against: our own trust domains, and the CUSTOM providers.

    `providers` is None where they are not known; any name is then good.
    """

    trust_domains: tuple[str, ...]
    providers: Collection[str] | None = None


def read_policy(
    strict: StrictReader, metadata: Metadata, spec: Mapping[str, Any], names: Names
) -> Policy:
    """Return what an AuthorizationPolicy says, noting what is wrong with it."""
    action = _action(strict, spec.get("action", Action.ALLOW))
    provider = _provider(strict, spec, action, names.providers)
    target = read_target(strict, spec, metadata.namespace)
    said = read_annotations(strict, metadata.annotations, action)
    rules = RuleReader(
        strict,
        metadata.namespace,
        metadata.name,
        action,
        names.trust_domains,
        said.expires,
        provider,
    )
    return Policy(
        namespace=metadata.namespace,
        name=metadata.name,
        action=action,
        selector=target.selector,
        rules=rules.rules(spec),
        gateways=target.gateways,
        provider=provider,
        stage=said.stage,
        canary=said.canary,
        expires=said.expires,
        break_glass=said.break_glass,
        source=strict.document.source,
        line=strict.document.line_of(()),
    )


def _action(strict: StrictReader, value: Any) -> Action:
    if isinstance(value, str) and value in list(Action):
        return Action(value)
    known = list(Action)
    near = hint(str(value), known)
    strict.problem(("spec", "action"), f"{value!r} is none of {', '.join(known)}{near}")
    return Action.AUDIT


def _provider(
    strict: StrictReader,
    spec: Mapping[str, Any],
    action: Action,
    providers: Collection[str] | None,
) -> str:
    """Return the name of the provider of a CUSTOM policy."""
    if action is not Action.CUSTOM:
        if "provider" in spec:
            strict.problem(("spec", "provider"), "stands beside the action CUSTOM only")
        return ""
    if "provider" not in spec:
        strict.problem(("spec",), "CUSTOM needs whom to ask: write provider: {name: ...}")
        return ""
    path = ("spec", "provider")
    provider = strict.mapping(path, spec["provider"], ("name",))
    if provider is None:
        return ""
    name = strict.text((*path, "name"), provider.get("name"))
    if name == "":
        strict.problem((*path, "name"), "the name is empty")
    elif name is not None and providers is not None and name not in providers:
        known = f"known are {', '.join(sorted(providers))}" if providers else "none is configured"
        message = f"{name!r} is not a provider of policy.providers; {known}{hint(name, providers)}"
        strict.problem((*path, "name"), message)
    return name or ""
