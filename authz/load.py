"""Loading policy: texts in, one checked set out, or every mistake at once.

Rules. Strict and whole: an unknown field, an empty list, a null, a value that cannot be read, a
field this version does not support, two policies of one name: each is a problem with file, line
and field, and one problem refuses the whole set. What loads means what Istio means by it, except
where docs/authorization.md says how it differs. After loading nothing is checked again.

This file reads no files and remembers nothing; `authz.sources` does.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from authz.attributes import IDENTITY
from authz.fields import FROM, TO, Field, Part, Value, to_strings
from authz.findings import find_warnings
from authz.policy import Action, Conjunction, Default, Policy, PolicySet, Rule, Term
from authz.reader import NOT_SUPPORTED, StrictReader, hint
from meshca.errors import InvalidDocument, Problem
from meshca.yaml_source import Document, Path, load_documents

API_VERSIONS = ("security.istio.io/v1", "security.istio.io/v1beta1")
KIND = "AuthorizationPolicy"
MAXIMUM_RULES = 512
MAXIMUM_ALTERNATIVES = 512

_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_LONGEST_NAME = 253
_LABEL_NAME = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
# What an API server adds to a document that was read back from it; none of it is policy.
_METADATA_IGNORED = (
    *("labels", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"),
    *("ownerReferences", "finalizers", "selfLink", "deletionTimestamp"),
    "deletionGracePeriodSeconds",
)


def load_policies(
    texts: Iterable[tuple[str, str]],
    *,
    trust_domain: str,
    root_namespace: str,
    default: Default,
) -> PolicySet:
    """Return the set of all policies in `texts`, pairs of a source's name and its YAML.

    Raises InvalidDocument with every problem of every source.
    """
    problems: list[Problem] = []
    policies: list[Policy] = []
    for source, text in texts:
        try:
            documents = load_documents(text, source)
        except InvalidDocument as error:
            problems += error.problems
            continue
        for document in documents:
            reader = _PolicyReader(StrictReader(document))
            policy = reader.policy()
            problems += sorted(reader.strict.problems, key=lambda problem: problem.line)
            policies += [policy] if policy is not None else []
    problems += _duplicates(policies)
    if problems:
        raise InvalidDocument(problems)
    return PolicySet.of(
        policies,
        trust_domain=trust_domain,
        root_namespace=root_namespace,
        default=default,
        warnings=tuple(find_warnings(policies, trust_domain)),
    )


def _duplicates(policies: list[Policy]) -> list[Problem]:
    first: dict[tuple[str, str], Policy] = {}
    problems: list[Problem] = []
    for policy in policies:
        other = first.setdefault((policy.namespace, policy.name), policy)
        if other is not policy:
            where = f"{other.source}:{other.line}"
            message = f"{policy.namespace}/{policy.name} is already defined in {where}"
            problems.append(Problem("metadata.name", message, policy.source, policy.line))
    return problems


@dataclass(frozen=True, slots=True)
class _PolicyReader:
    """Reads one document as an AuthorizationPolicy."""

    strict: StrictReader

    @property
    def _document(self) -> Document:
        return self.strict.document

    def policy(self) -> Policy | None:
        """Return the policy, or None when the document is none that could be checked further.

        What it returns is only good when `strict` has no problems.
        """
        known = ("apiVersion", "kind", "metadata", "spec")
        top = self.strict.mapping((), self._document.value, known, ignored=("status",))
        if top is None or not self._is_policy(top):
            return None
        namespace, name = self._metadata(top.get("metadata"))
        spec = self._spec(top)
        if spec is None:
            return None
        action = self._action(spec.get("action", Action.ALLOW))
        selector = self._selector(spec)
        rules = self._rules(spec, namespace, name, action)
        line = self._document.line_of(())
        return Policy(
            namespace,
            name,
            action,
            selector,
            rules,
            source=self._document.source,
            line=line,
        )

    def _is_policy(self, top: Mapping[str, Any]) -> bool:
        if top.get("apiVersion") not in API_VERSIONS:
            self.strict.problem(("apiVersion",), f"must be {' or '.join(API_VERSIONS)}")
            return False
        if top.get("kind") != KIND:
            near = hint(str(top.get("kind")), (KIND,))
            self.strict.problem(("kind",), f"must be {KIND}; nothing else is supported{near}")
            return False
        return True

    def _metadata(self, value: Any) -> tuple[str, str]:
        path: Path = ("metadata",)
        known = ("name", "namespace", "annotations")
        metadata = self.strict.mapping(path, value, known, ignored=_METADATA_IGNORED)
        if metadata is None:
            return "", ""
        self._annotations((*path, "annotations"), metadata.get("annotations"))
        return self._name(metadata, "namespace", _NAMESPACE), self._name(metadata, "name", _NAME)

    def _annotations(self, path: Path, value: Any) -> None:
        if not isinstance(value, dict | None):
            self.strict.problem(path, "must be a mapping")
            return
        for key, text in (value or {}).items():
            dry_run = key == "istio.io/dry-run" and text != "false"
            if dry_run or key.startswith("meshca.io/"):
                self.strict.problem((*path, key), NOT_SUPPORTED)

    def _name(self, metadata: Mapping[str, Any], key: str, form: re.Pattern[str]) -> str:
        path: Path = ("metadata", key)
        value = metadata.get(key)
        if value is None:
            self.strict.problem(path, f"missing: write the {key}; it is never guessed")
            return ""
        if not isinstance(value, str) or len(value) > _LONGEST_NAME or not form.fullmatch(value):
            self.strict.problem(path, f"{value!r} is not the {key} of a Kubernetes object")
            return ""
        return value

    def _spec(self, top: Mapping[str, Any]) -> Mapping[str, Any] | None:
        if "spec" not in top:
            advice = "write `spec: {}` for a policy that allows nothing"
            self.strict.problem((), f"spec is missing; {advice}")
            return None
        known, unsupported = (
            ("action", "selector", "rules"),
            ("targetRef", "targetRefs", "provider"),
        )
        return self.strict.mapping(("spec",), top["spec"], known, unsupported=unsupported)

    def _action(self, value: Any) -> Action:
        if value in (Action.ALLOW, Action.DENY):
            return Action(value)
        path: Path = ("spec", "action")
        if value in ("AUDIT", "CUSTOM"):
            self.strict.problem(path, f"{value} is {NOT_SUPPORTED}; use ALLOW or DENY")
        else:
            near = hint(str(value), (Action.ALLOW, Action.DENY))
            self.strict.problem(path, f"{value!r} is not an action: use ALLOW or DENY{near}")
        return Action.ALLOW

    def _selector(self, spec: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
        path: Path = ("spec", "selector")
        if "selector" not in spec:
            return frozenset()
        selector = self.strict.mapping(path, spec["selector"], ("matchLabels",))
        labels = None if selector is None else selector.get("matchLabels")
        if not isinstance(labels, dict) or not labels:
            advice = "leave selector out to select every workload of the namespace"
            self.strict.problem(path, f"has no labels in matchLabels; {advice}")
            return frozenset()
        pairs = [(key, self._label((*path, "matchLabels", key), labels[key])) for key in labels]
        return frozenset(pairs)

    def _label(self, path: Path, value: Any) -> str:
        if not _LABEL_NAME.fullmatch(str(path[-1])):
            self.strict.problem(path, f"{path[-1]!r} is not the name of a label")
        text = self.strict.text(path, value)
        if text is None or _LABEL_VALUE.fullmatch(text):
            return text or ""
        self.strict.problem(path, f"{text!r} is not the value of a label; there are no wildcards")
        return ""

    def _rules(
        self, spec: Mapping[str, Any], namespace: str, policy: str, action: Action
    ) -> tuple[Rule, ...]:
        path: Path = ("spec", "rules")
        if "rules" not in spec:
            if action is Action.DENY:
                advice = "write a rule, or `rules: [{}]` to deny everything"
                self.strict.problem(("spec",), f"DENY without rules denies nothing; {advice}")
            return ()
        rules: list[Rule] = []
        entries = self.strict.entries(path, spec["rules"], at_most=MAXIMUM_RULES)
        for index, value in enumerate(entries):
            rule = self.strict.mapping((*path, index), value, ("from", "to"), unsupported=["when"])
            sources = self._alternatives((*path, index), rule or {}, FROM, action)
            operations = self._alternatives((*path, index), rule or {}, TO, action)
            rules.append(
                Rule.of(
                    namespace,
                    policy,
                    index,
                    action=action,
                    sources=sources,
                    operations=operations,
                )
            )
        return tuple(rules)

    def _alternatives(
        self, path: Path, rule: Mapping[str, Any], part: Part, action: Action
    ) -> tuple[Conjunction, ...]:
        """Return the conjunctions of `part`, one for each of its sources or operations."""
        if part.key not in rule:
            return ()
        path = (*path, part.key)
        conjunctions: list[Conjunction] = []
        entries = self.strict.entries(path, rule[part.key], at_most=MAXIMUM_ALTERNATIVES)
        for index, entry in enumerate(entries):
            wrapper = self.strict.mapping((*path, index), entry, (part.inner,))
            if wrapper is not None:
                inner = (*path, index, part.inner)
                conjunctions.append(self._conjunction(inner, wrapper, part, action))
        return tuple(conjunctions)

    def _conjunction(
        self, path: Path, wrapper: Mapping[str, Any], part: Part, action: Action
    ) -> Conjunction:
        value = wrapper.get(part.inner)
        fields = self.strict.mapping(path, value, part.fields, unsupported=part.to_come)
        if fields is None:
            return ()
        if not fields:
            self.strict.problem(path, f"an empty {part.inner} would match everything; leave it out")
        known = [name for name in part.fields if name in fields]
        return tuple(
            self._term((*path, name), fields[name], name, part.fields[name], action)
            for name in known
        )

    def _term(self, path: Path, values: Any, name: str, spec: Field, action: Action) -> Term:
        parsed: list[Value] = []
        for index, value in enumerate(self.strict.entries(path, values)):
            text = self.strict.text((*path, index), value)
            if text is None:
                continue
            try:
                parsed.append(spec.parse(text))
            except ValueError as error:
                self.strict.problem((*path, index), str(error))
        # A peer without an identity is none of the named ones: only a negative term can hold.
        decidable = spec.attribute in IDENTITY and not spec.negative
        if_absent = action is Action.DENY and not decidable
        return Term(
            name,
            spec.attribute,
            to_strings(parsed),
            spec.negative,
            if_absent,
            needs_value=spec.attribute in IDENTITY and action is not Action.DENY,
        )
