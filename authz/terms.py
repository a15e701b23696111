"""Reading the fields of one rule as terms: parsed values, trust domains expanded, absence settled.

What a term means where a request does not have what it looks at depends on the action: what cannot
be decided never lets a request through (`authz.policy`). A principal of five segments, and a trust
domain, that is one of our own names stands for all of them, as in Istio.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from authz.attributes import IDENTITY, TOKEN, Attribute
from authz.fields import Field
from authz.forms import Value, looks_like_regex
from authz.policy import Action, Term
from authz.reader import StrictReader
from meshca.yaml_source import Path

CLUSTER_LOCAL: Final = "cluster.local"
"""The trust domain that Istio takes for its own whatever its name is."""

_SLASHES_OF_A_PRINCIPAL = 4  # trust domain, ns, namespace, sa, account
_ANY_TRUST_DOMAIN: Final = {
    Attribute.NAMESPACE: Attribute.ANY_NAMESPACE,
    Attribute.SERVICE_ACCOUNT: Attribute.ANY_SERVICE_ACCOUNT,
}
_LITERAL: Final = frozenset(Attribute) - {
    *(Attribute.PORT, Attribute.SOURCE_IP, Attribute.REMOTE_IP, Attribute.DESTINATION_IP),
}


@dataclass(frozen=True, slots=True)
class TermReader:
    """Reads the terms of one policy; `trust_domains` are our own names, the first one in use."""

    strict: StrictReader
    namespace: str
    action: Action
    trust_domains: tuple[str, ...]

    def read(
        self,
        path: Path,
        values: Any,
        name: str,
        spec: Field,
        *,
        negative: bool,
        any_trust_domain: bool = False,
    ) -> Term:
        """Return the term of field or condition `name`, noting what is wrong with its `values`.

        `any_trust_domain` says that namespaces are those of peers of any trust domain, since the
        source names theirs.
        """
        parsed: list[Any] = []
        for place, text in self.strict.texts(path, values, at_most=spec.at_most):
            try:
                value = spec.parse(text)
            except ValueError as error:
                self.strict.problem(place, str(error))
                continue
            self._warn(place, text, spec.attribute)
            parsed += self._expanded(place, value, spec.attribute)
        attribute = spec.attribute
        if any_trust_domain:
            attribute = _ANY_TRUST_DOMAIN.get(attribute, attribute)
        return self._term(name, attribute, spec, parsed, negative=negative)

    def _term(
        self, name: str, attribute: Attribute, spec: Field, parsed: list[Any], *, negative: bool
    ) -> Term:
        # A peer without an identity is none of the named ones: only a negative term can hold.
        decidable = attribute in IDENTITY and not negative
        allows = self.action is Action.ALLOW
        return Term(
            name,
            attribute,
            spec.combine(parsed),
            negative,
            if_absent=not allows and not decidable,
            key=spec.key,
            needs_value=allows and negative and attribute in IDENTITY | TOKEN,
        )

    def _expanded(self, place: Path, value: Any, attribute: Attribute) -> Iterable[Any]:
        match attribute:
            case Attribute.PRINCIPAL:
                return self._principals(place, value)
            case Attribute.TRUST_DOMAIN if value.form == "exact":
                return self._trust_domains(place, value)
            case Attribute.SERVICE_ACCOUNT:
                qualified = value.text if "/" in value.text else f"{self.namespace}/{value.text}"
                return (Value("exact", qualified),)
            case _:
                return (value,)

    def _principals(self, place: Path, value: Value) -> Iterator[Value]:
        if value.form not in ("exact", "prefix"):
            yield value
            return
        trust_domain, _, rest = value.text.partition("/")
        is_whole = value.text.count("/") == _SLASHES_OF_A_PRINCIPAL
        if is_whole and trust_domain == CLUSTER_LOCAL not in self.trust_domains:
            self._warn_of_cluster_local(place)
        elif trust_domain not in self.trust_domains:
            self._warn_of_foreign(place, trust_domain)
            is_whole = False
        if not is_whole:
            self._warn_of_aliases(place, trust_domain)
            yield value
            return
        for own in self.trust_domains:
            yield Value(value.form, f"{own}/{rest}")

    def _trust_domains(self, place: Path, value: Value) -> Iterator[Value]:
        if value.text not in self.trust_domains:
            self._warn_of_foreign(place, value.text)
            yield value
            return
        for own in self.trust_domains:
            yield Value("exact", own)

    def _warn(self, place: Path, text: str, attribute: Attribute) -> None:
        if attribute in _LITERAL and looks_like_regex(text):
            self.strict.warn(place, f"{text!r} is compared as it is: no regular expressions")
        if self.action is Action.DENY and attribute is Attribute.PATH and "{**}/" in text:
            shorter = text.replace("/{**}", "")
            self.strict.warn(place, f"denies {text}, but not {shorter}; name that as well")

    def _warn_of_foreign(self, place: Path, trust_domain: str) -> None:
        self.strict.warn(
            place,
            f"names peers of {trust_domain}, which is not our trust domain {self.trust_domains[0]}",
        )

    def _warn_of_aliases(self, place: Path, trust_domain: str) -> None:
        if trust_domain in self.trust_domains and len(self.trust_domains) > 1:
            others = ", ".join(name for name in self.trust_domains if name != trust_domain)
            self.strict.warn(
                place,
                f"names peers of {trust_domain} only, not of {others}: it has not five segments, "
                "NAME/ns/NAMESPACE/sa/ACCOUNT",
            )

    def _warn_of_cluster_local(self, place: Path) -> None:
        self.strict.warn(
            place,
            f"{CLUSTER_LOCAL} is taken for our trust domain, as in Istio; write "
            f"{self.trust_domains[0]}",
        )
