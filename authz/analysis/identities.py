"""Peer identities that policies can tell apart: for each kind one SPIFFE ID.

A principal is read segment by segment (trust domain first), since that is how namespaces, service
accounts and trust domains are found in it. At each segment only the forms that still can match are
told apart, so the walk is about as large as the number of kinds. Paths are walked in every length
up to the one where beginning and end no longer meet; longer ones are of the same kinds.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from authz.analysis.bounds import MAXIMUM_POINTS, TooLarge
from authz.analysis.strings import ALPHABET, Forms, Spelling, representatives
from meshca.spiffe_id import SpiffeId

_ACCOUNT_SEGMENTS = 4
_NAMESPACE_AT, _SA_AT = 2, 3


def _is_segment(text: str) -> bool:
    return _is_id(f"x/{text}") and "/" not in text


def _is_trust_domain(text: str) -> bool:
    return _is_id(f"{text}/x") and "/" not in text


def _is_id(principal: str) -> bool:
    try:
        return SpiffeId.parse(f"spiffe://{principal}").is_leaf
    except ValueError:
        return False


_TRUST_DOMAIN = Spelling(
    _is_trust_domain, ("other.example", "other", "x"), "".join(c for c in ALPHABET if c.islower())
)
_SEGMENT = Spelling(_is_segment, alphabet=ALPHABET.replace("~", ""))


@dataclass(slots=True)
class IdentityForms:
    """What is told apart of a peer; `accounts` are forms of `namespace/account`."""

    principals: Forms = field(default_factory=Forms)
    trust_domains: Forms = field(default_factory=Forms)
    namespaces: Forms = field(default_factory=Forms)
    accounts: Forms = field(default_factory=Forms)


def representative_ids(forms: IdentityForms) -> list[SpiffeId]:
    """Return a SPIFFE ID of each kind that `forms` tell apart.

    Raises TooLarge.
    """
    exact = [text for text in sorted(forms.principals.exact) if _is_id(text)]
    found = {text: SpiffeId.parse(f"spiffe://{text}") for text in exact}
    walk = _Walk(forms)
    kinds: set[tuple[str, ...]] = set()
    for length in walk.lengths():
        for segments in walk.below((), length):
            kind = walk.kind(segments)
            if kind in kinds:
                continue
            kinds.add(kind)
            if len(kinds) > MAXIMUM_POINTS:
                raise TooLarge(f"more than {MAXIMUM_POINTS} kinds of identities")
            text = "/".join(segments)
            if text not in found and _is_id(text):
                found[text] = SpiffeId.parse(f"spiffe://{text}")
    return list(found.values())


class _Walk:
    """The segments of principals: the trust domain, then `length` more."""

    def __init__(self, forms: IdentityForms) -> None:
        """Read the prefixes and suffixes of principals apart, once."""
        self.forms = forms
        self.prefixes = [text.split("/") for text in sorted(forms.principals.prefixes)]
        self.suffixes = [text.split("/") for text in sorted(forms.principals.suffixes)]
        self.by_length = sorted(forms.principals.prefixes, key=len, reverse=True)
        self.suffix_by_length = sorted(forms.principals.suffixes, key=len, reverse=True)
        self.memory: dict[tuple[frozenset[str], frozenset[str], frozenset[str], bool], list[str]]
        self.memory = {}

    def lengths(self) -> list[int]:
        """Return the lengths to walk, the usual one first."""
        front = max((len(parts) for parts in self.prefixes), default=0)
        back = max((len(parts) for parts in self.suffixes), default=0)
        longest = max(_ACCOUNT_SEGMENTS, front + back) + 1
        return sorted(range(1, longest + 1), key=lambda length: length != _ACCOUNT_SEGMENTS)

    def below(self, chosen: tuple[str, ...], length: int) -> Iterator[tuple[str, ...]]:
        """Yield every sequence of segments that goes on from `chosen`."""
        if len(chosen) == length + 1:
            yield chosen
            return
        for segment in self._choices(chosen, length):
            yield from self.below((*chosen, segment), length)

    def kind(self, segments: tuple[str, ...]) -> tuple[str, ...]:
        """Return what policies can see of a principal that none of them names exactly."""
        text = "/".join(segments)
        prefix = next((p for p in self.by_length if text.startswith(p)), "")
        suffix = next((s for s in self.suffix_by_length if text.endswith(s)), "")
        has_namespace = len(segments) > _NAMESPACE_AT and segments[1] == "ns"
        namespace = segments[_NAMESPACE_AT] if has_namespace else ""
        has_account = has_namespace and len(segments) == _ACCOUNT_SEGMENTS + 1
        account = segments[-1] if has_account and segments[_SA_AT] == "sa" else ""
        if account and not self._tells_apart(f"{namespace}/{account}"):
            account = "*"
        return segments[0], namespace, account, prefix, suffix

    def _tells_apart(self, account: str) -> bool:
        forms = self.forms.accounts
        return (
            account in forms.exact
            or account.startswith(tuple(forms.prefixes))
            or account.endswith(tuple(forms.suffixes))
        )

    def _choices(self, chosen: tuple[str, ...], length: int) -> list[str]:
        forms = Forms()
        self._add_prefixes(forms, chosen)
        self._add_suffixes(forms, chosen, length)
        self._add_named(forms, chosen, length)
        key = (
            *(frozenset(forms.exact), frozenset(forms.prefixes), frozenset(forms.suffixes)),
            not chosen,
        )
        if key not in self.memory:
            self.memory[key] = representatives(forms, _SEGMENT if chosen else _TRUST_DOMAIN)
        return self.memory[key]

    def _add_prefixes(self, forms: Forms, chosen: tuple[str, ...]) -> None:
        at = len(chosen)
        for parts in self.prefixes:
            if len(parts) > at and tuple(parts[:at]) == chosen:
                last = at == len(parts) - 1
                (forms.prefixes if last else forms.exact).add(parts[at])

    def _add_suffixes(self, forms: Forms, chosen: tuple[str, ...], length: int) -> None:
        at = len(chosen)
        for parts in self.suffixes:
            start = length + 1 - len(parts)
            if start < 0 or at < start:
                continue
            if at == start:
                forms.suffixes.add(parts[0])
                continue
            begun = chosen[start].endswith(parts[0])
            if begun and list(chosen[start + 1 :]) == parts[1 : at - start]:
                forms.exact.add(parts[at - start])

    def _add_named(self, forms: Forms, chosen: tuple[str, ...], length: int) -> None:
        """Tell apart what namespaces, service accounts and trust domains look at."""
        at = len(chosen)
        if at == 0:
            forms.add(self.forms.trust_domains)
        elif at == 1:
            forms.exact.add("ns")
        elif chosen[1] != "ns":
            return
        elif at == _NAMESPACE_AT:
            forms.add(self.forms.namespaces)
            forms.add(_namespaces_of(self.forms.accounts))
        elif length == _ACCOUNT_SEGMENTS and at == _SA_AT:
            forms.exact.add("sa")
        elif length == _ACCOUNT_SEGMENTS and chosen[_SA_AT] == "sa":
            forms.add(_names_of(self.forms.accounts, chosen[_NAMESPACE_AT]))


def _namespaces_of(accounts: Forms) -> Forms:
    """Return what forms of `namespace/account` tell apart of the namespace."""
    found = Forms({text.partition("/")[0] for text in accounts.exact})
    for text in accounts.prefixes:
        namespace, slash, _ = text.partition("/")
        (found.exact if slash else found.prefixes).add(namespace)
    found.suffixes |= {text.rpartition("/")[0] for text in accounts.suffixes if "/" in text}
    return found


def _names_of(accounts: Forms, namespace: str) -> Forms:
    """Return what they tell apart of the account, in `namespace`."""
    start = f"{namespace}/"
    within = Forms(
        {text.removeprefix(start) for text in accounts.exact if text.startswith(start)},
        {text.removeprefix(start) for text in accounts.prefixes if text.startswith(start)},
        {text for text in accounts.suffixes if "/" not in text},
    )
    for text in accounts.suffixes:
        end, slash, account = text.rpartition("/")
        if slash and namespace.endswith(end):
            within.exact.add(account)
    return within
