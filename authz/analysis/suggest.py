"""Least-privilege policies from what was allowed: one for each destination workload, to review.

A policy allows each peer what it was seen to do: ports, methods and paths, with templates where
many identifiers were seen (`authz.analysis.generalise`). TCP is allowed by port, in rules of its
own, and only on ports that saw no HTTP: it would allow every request there, too.

Rules. Nothing is applied. Each policy is decided against the records that it is made of: what was
allowed and would not be (`left_out`), and what was denied and would be allowed (`also_allows`), is
named. Peers without an identity, and what a record does not keep whole, cannot be written into a
policy: they are left out by name.

Traffic that was not seen is not in the policies: what happens once a month is missing after a week.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from authz.analysis.counterfactual import allow_document
from authz.analysis.generalise import generalise
from authz.analysis.replay import CUT, Replayed, replayed_under
from authz.forms import parse_method
from authz.load import load_policies
from authz.paths import parse_path
from authz.policy import PolicySet
from authz.records.decisions import Distinct
from authz.rules import MAXIMUM_RULES
from authz.workload import Workload
from meshca.errors import InvalidDocument

_OF_ONE_POD: Final = frozenset(
    {
        "pod-template-hash",
        "controller-revision-hash",
        "pod-template-generation",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
        "batch.kubernetes.io/job-completion-index",
        "controller-uid",
        "batch.kubernetes.io/controller-uid",
    }
)
_NAMES: Final = ("app", "app.kubernetes.io/name", "k8s-app")
_LONGEST_NAME: Final = 200
_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One policy, or what could not be made one (an empty `document`).

    `requests` of `distinct` kinds were seen between `first` and `last`.
    """

    namespace: str
    name: str
    document: str
    requests: int
    distinct: int
    first: datetime
    last: datetime
    left_out: tuple[str, ...]
    also_allows: tuple[str, ...]

    @property
    def text(self) -> str:
        """Return the document with what a reviewer has to know above it."""
        seen = f"{self.requests} requests of {self.distinct} kinds"
        lines = [
            f"# Suggested from {seen}, {_time(self.first)} to {_time(self.last)}; not applied.",
            "# What was not seen in that time is not allowed.",
            *(f"# Left out: {_one_line(each)}" for each in self.left_out),
            *(f"# Also allows, and was denied: {_one_line(each)}" for each in self.also_allows),
        ]
        return "\n".join(lines) + "\n" + self.document

    def as_json(self) -> dict[str, Any]:
        """Return it as the command line prints it."""
        return {
            "namespace": self.namespace,
            "name": self.name,
            "document": self.text,
            "requests": self.requests,
            "distinct": self.distinct,
            "left_out": list(self.left_out),
            "also_allows": list(self.also_allows),
        }


def suggest(
    decisions: Iterable[Distinct], *, trust_domain: str, root_namespace: str, now: datetime
) -> list[Suggestion]:
    """Return one policy for each workload that was allowed something."""
    groups: dict[Workload, list[Distinct]] = defaultdict(list)
    for decision in decisions:
        groups[_selected(decision)].append(decision)
    suggestions = []
    for workload in sorted(groups, key=lambda each: (each.namespace, sorted(each.labels))):
        document, rules = _document(workload, groups[workload])
        if rules == 0:
            continue
        try:
            policies = load_policies(
                [("suggested", document)],
                trust_domain=trust_domain,
                root_namespace=root_namespace,
                default="deny",
            )
        except InvalidDocument:  # a namespace or label that no document can name
            document = ""
            policies = PolicySet.empty(trust_domain=trust_domain, root_namespace=root_namespace)
        suggestions.append(_checked(workload, document, groups[workload], policies, now))
    return suggestions


def _selected(decision: Distinct) -> Workload:
    """Return the destination with the labels that a selector should name."""
    labels = decision.labels
    for name in _NAMES:
        if name in labels:
            return Workload(decision.namespace, {name: labels[name]})
    stable = {key: value for key, value in labels.items() if key not in _OF_ONE_POD}
    return Workload(decision.namespace, stable)


def _checked(
    workload: Workload,
    document: str,
    decisions: list[Distinct],
    policies: PolicySet,
    now: datetime,
) -> Suggestion:
    replayed = list(replayed_under(decisions, policies, now=now))
    allowed = [each.decision for each in replayed if each.decision.allowed]
    left_out = [_said(r) for r in replayed if r.decision.allowed and r.allowed is not True]
    also = [_said(r) for r in replayed if not r.decision.allowed and r.allowed is not False]
    return Suggestion(
        namespace=workload.namespace,
        name=_name(workload),
        document=document,
        requests=sum(each.count for each in allowed),
        distinct=len(allowed),
        first=min(each.first for each in allowed),
        last=max(each.last for each in allowed),
        left_out=_few(left_out),
        also_allows=_few(also),
    )


def _few(said: list[str]) -> tuple[str, ...]:
    shown = tuple(dict.fromkeys(said))
    more = len(shown) - _SHOWN
    return shown if more <= 0 else (*shown[:_SHOWN], f"{more} more")


def _said(replayed: Replayed) -> str:
    operation = replayed.decision.operation
    words = [operation.source or "(no identity)", operation.method or operation.protocol]
    words += [] if operation.path is None else [operation.path]
    words += [] if operation.port is None else [f"port {operation.port}"]
    return " ".join(words)


_Operation = tuple[int | None, str | None, str | None]
"""Port, method and path; the last two are None on TCP."""


def _document(workload: Workload, decisions: list[Distinct]) -> tuple[str, int]:
    """Return the policy, and how many rules it has."""
    usable = [each for each in decisions if each.allowed and _can_be_written(each)]
    general = generalise(each.path for each in usable if each.path is not None)
    ports_of_http = {each.port for each in usable if each.path is not None}
    by_peer: dict[tuple[str, bool], set[_Operation]] = defaultdict(set)
    for each in usable:
        peer = each.source.removeprefix("spiffe://")
        if each.path is not None:
            by_peer[peer, True].add((each.port, each.method, general[each.path]))
        elif each.port not in ports_of_http:
            by_peer[peer, False].add((each.port, None, None))
    peers: dict[frozenset[_Operation], list[str]] = defaultdict(list)
    for peer, is_http in sorted(by_peer):
        peers[frozenset(by_peer[peer, is_http])].append(peer)
    rules = [
        {
            "from": [{"source": {"principals": names}}],
            "to": [{"operation": operation} for operation in _operations(seen)],
        }
        for seen, names in list(peers.items())[:MAXIMUM_RULES]
    ]
    return allow_document(workload, _name(workload), rules), len(rules)


def _can_be_written(decision: Distinct) -> bool:
    path = decision.path
    if not decision.source or not decision.is_whole:
        return False
    if path is None:
        return decision.protocol == "tcp" and decision.port is not None
    method = decision.method
    if method is None or path.endswith(CUT) or "*" in path + method or "{" in path:
        return False
    try:
        parse_path(path)
        parse_method(method)
    except ValueError:
        return False
    return True


def _operations(seen: Iterable[_Operation]) -> list[dict[str, list[str]]]:
    """Return the operations of a rule: paths that are used alike stand together."""
    methods: dict[tuple[int | None, str | None], set[str]] = defaultdict(set)
    for port, method, path in seen:
        methods[port, path] |= {method} if method is not None else set()
    alike: dict[tuple[int, tuple[str, ...]], set[str]] = defaultdict(set)
    for (port, path), used in methods.items():
        alike[-1 if port is None else port, tuple(sorted(used))] |= {path} if path else set()
    return [_operation(*key, alike[key]) for key in sorted(alike)]


def _operation(port: int, methods: tuple[str, ...], paths: set[str]) -> dict[str, list[str]]:
    operation = {"ports": [str(port)]} if port >= 0 else {}
    if methods:
        operation |= {"methods": list(methods), "paths": sorted(paths)}
    return operation


def _name(workload: Workload) -> str:
    values = [value for _, value in sorted(workload.labels)]
    words = "-".join(values).lower() or "everything"
    kept = "".join(c if c.isascii() and (c.isalnum() or c == "-") else "-" for c in words)
    return f"suggested-{kept.strip('-')[:_LONGEST_NAME].strip('-') or 'workload'}"


def _time(time: datetime) -> str:
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")


def _one_line(text: str) -> str:
    """Return `text` as it may stand in a comment: what was recorded is a caller's word."""
    return json.dumps(text, ensure_ascii=True)
