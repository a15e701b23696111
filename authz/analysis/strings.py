"""Texts that forms can tell apart: for each kind one text, made, not searched for.

Two texts are of one kind when the same forms match both. A text that no exact form names is known
by the longest prefix and the longest suffix that match it, so `prefix + filler + suffix` stands
for all of its kind when the filler prolongs neither. This is complete: every text that is valid is
of the kind of one that is returned, as long as what `is_valid` refuses does not hang on the filler.
"""

import string
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from authz.analysis.bounds import MAXIMUM_POINTS, TooLarge

_REFUSED_AT_MOST = 4
"""Fillers after which a prefix and a suffix are taken to be possible in no valid text."""

ALPHABET = "xyzqkjvwabcdefghilmnoprstu0123456789" + string.ascii_uppercase + "-_.~"


@dataclass(slots=True)
class Forms:
    """The forms that are told apart; what is `present` is every text but the empty one."""

    exact: set[str] = field(default_factory=set)
    prefixes: set[str] = field(default_factory=set)
    suffixes: set[str] = field(default_factory=set)

    def add(self, other: "Forms") -> None:
        """Tell apart what `other` does, too."""
        self.exact |= other.exact
        self.prefixes |= other.prefixes
        self.suffixes |= other.suffixes


@dataclass(frozen=True, slots=True)
class Spelling:
    """What texts of a dimension look like: which are valid, and fillers that read well."""

    is_valid: Callable[[str], bool]
    fillers: tuple[str, ...] = ("other", "x")
    alphabet: str = ALPHABET


def representatives(forms: Forms, spelling: Spelling) -> list[str]:
    """Return a text of each kind that the forms tell apart and the spelling admits.

    Raises TooLarge.
    """
    prefixes, suffixes = forms.prefixes | {""}, forms.suffixes | {""}
    if len(prefixes) * len(suffixes) + len(forms.exact) > MAXIMUM_POINTS:
        raise TooLarge(f"{len(prefixes)} prefixes with {len(suffixes)} suffixes")
    found = dict.fromkeys(text for text in sorted(forms.exact) if spelling.is_valid(text))
    after, before = _following(prefixes), _preceding(suffixes)
    for prefix in sorted(prefixes):
        for suffix in sorted(suffixes):
            text = _between(prefix, suffix, after[prefix], before[suffix], forms.exact, spelling)
            if text is not None:
                found[text] = None
    return list(found)


def _between(
    prefix: str,
    suffix: str,
    after: set[str],
    before: set[str],
    exact: set[str],
    spelling: Spelling,
) -> str | None:
    """Return a text of which `prefix` and `suffix` are the longest that match; None if none is."""
    refused = 0
    for filler in _fillers(after, before, spelling):
        text = prefix + filler + suffix
        if not spelling.is_valid(text):
            refused += 1
            if refused == _REFUSED_AT_MOST:
                return None
        elif text not in exact:
            return text
    raise TooLarge(f"exact values that begin with {prefix!r} and end with {suffix!r}")


def _fillers(after: set[str], before: set[str], spelling: Spelling) -> Iterator[str]:
    firsts = [letter for letter in spelling.alphabet if letter not in after]
    lasts = [letter for letter in spelling.alphabet if letter not in before]
    if not firsts or not lasts:
        raise TooLarge("forms that go on with every letter there is")
    for filler in spelling.fillers:
        if filler[0] not in after and filler[-1] not in before:
            yield filler
    for letter in firsts:
        if letter not in before:
            yield letter
    yield from (first + last for first in firsts for last in lasts)


def _following(prefixes: Iterable[str]) -> dict[str, set[str]]:
    """Return, for each prefix, the letters that longer ones go on with."""
    known, following = set(prefixes), defaultdict[str, set[str]](set)
    for text in known:
        for end in range(len(text)):
            if text[:end] in known:
                following[text[:end]].add(text[end])
    return following


def _preceding(suffixes: Iterable[str]) -> dict[str, set[str]]:
    known, preceding = set(suffixes), defaultdict[str, set[str]](set)
    for text in known:
        for start in range(1, len(text) + 1):
            if text[start:] in known:
                preceding[text[start:]].add(text[start - 1])
    return preceding
