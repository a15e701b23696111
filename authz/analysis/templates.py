"""Paths that templates and string forms can tell apart: for each kind one path.

Templates cannot be taken apart as plain forms can (`strings`), so all forms become one automaton
that reads a path letter by letter; every state that can be reached says which forms match there,
and the letters that led to it are the representative. Letters that no form names behave alike.
"""

import string
from collections import deque
from collections.abc import Iterable, Iterator

from authz.analysis.bounds import MAXIMUM_STATES, TooLarge
from authz.analysis.strings import Forms

_VISIBLE = frozenset(chr(code) for code in range(0x21, 0x7F)) - {"?", "#"}
_SEGMENT = _VISIBLE - {"/"}
_ORDINARY = "x" + string.ascii_letters + string.digits + "-_.~"

Step = tuple[frozenset[str], bool]
"""The letters that one step of a form takes, and whether any number of them (from none)."""


def representative_paths(forms: Forms, templates: Iterable[str]) -> list[str]:
    """Return a path of each kind that `forms` and `templates` tell apart.

    Raises TooLarge.
    """
    patterns = [*_patterns(forms), *(list(_template(text)) for text in sorted(templates))]
    automaton = _Automaton(patterns)
    start = automaton.after(automaton.start, "/")
    reached: dict[int, tuple[int, str] | None] = {start: None}
    kinds: dict[int, int] = {}
    waiting = deque([start])
    while waiting:
        state = waiting.popleft()
        kinds.setdefault(state & automaton.final, state)
        for letter in automaton.letters:
            following = automaton.after(state, letter)
            if following not in reached:
                reached[following] = (state, letter)
                waiting.append(following)
        if len(reached) > MAXIMUM_STATES:
            raise TooLarge(f"more than {MAXIMUM_STATES} states of path templates")
    return ["/" + "".join(_letters(reached, state)) for state in kinds.values()]


def _letters(reached: dict[int, tuple[int, str] | None], state: int) -> list[str]:
    letters: list[str] = []
    while (step := reached[state]) is not None:
        state, letter = step
        letters.append(letter)
    return letters[::-1]


def _patterns(forms: Forms) -> Iterator[list[Step]]:
    anything = (_VISIBLE, True)
    yield from (list(_literal(text)) for text in sorted(forms.exact))
    yield from ([*_literal(text), anything] for text in sorted(forms.prefixes))
    yield from ([anything, *_literal(text)] for text in sorted(forms.suffixes))


def _literal(text: str) -> Iterator[Step]:
    return ((frozenset(letter), False) for letter in text)


def _template(text: str) -> Iterator[Step]:
    """Yield the steps of a path template, as `authz.paths.parse_template` reads it."""
    for index, segment in enumerate(text.split("/")):
        if index:
            yield frozenset("/"), False
        if segment == "{*}":
            yield _SEGMENT, False
            yield _SEGMENT, True
        elif segment == "{**}":
            yield _VISIBLE, True
        else:
            yield from _literal(segment)


class _Automaton:
    """All patterns at once: a state is the set of places reached in them, as bits."""

    def __init__(self, patterns: list[list[Step]]) -> None:
        """Lay the places of the patterns out side by side."""
        named = self._literals(patterns) | {"/"}
        other = next((letter for letter in _ORDINARY if letter not in named), "!")
        self.letters = [other, *sorted(named)]
        self.start = self.final = self._skip = 0
        self._step = dict.fromkeys(self.letters, 0)
        self._loop = dict.fromkeys(self.letters, 0)
        place = 0
        for pattern in patterns:
            self.start |= 1 << place
            for letters, many in pattern:
                into = self._loop if many else self._step
                for letter in self.letters:
                    if letter in letters:
                        into[letter] |= 1 << place
                self._skip |= (1 << place) if many else 0
                place += 1
            self.final |= 1 << place
            place += 1
        self.start = self._closed(self.start)

    @staticmethod
    def _literals(patterns: list[list[Step]]) -> set[str]:
        steps = (letters for pattern in patterns for letters, _ in pattern if len(letters) == 1)
        return {letter for letters in steps for letter in letters}

    def _closed(self, state: int) -> int:
        return state | ((state & self._skip) << 1)

    def after(self, state: int, letter: str) -> int:
        """Return the state after `letter`."""
        moved = ((state & self._step[letter]) << 1) | (state & self._loop[letter])
        return self._closed(moved)
