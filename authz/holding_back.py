"""Which objects of clusters stay as they were last good while the rest moves on. Pure.

Whoever writes in one namespace must not hold up the policies of every other. A namespace of which
an object does not load stays whole, as it was last in force, denies and all: what changed in it
together comes into force together, or not yet. That is done only if every problem is of an object
of a cluster; what is then put together is loaded as any other set, whole or not at all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from authz.directory import Texts
from authz.reading import Reading
from meshca.errors import Problem

LastGood = Sequence[Texts | None]
"""What of each live source was last in force, as far as that is known."""


def all_last_good(reading: Reading, known: LastGood) -> Reading | None:
    """Return `reading` with what was last in force of the live sources, if it is another."""
    kept = tuple(
        texts if last is None else last for last, texts in zip(known, reading.live, strict=True)
    )
    return None if kept == reading.live else replace(reading, live=kept)


def holding_back(reading: Reading, problems: Iterable[Problem], known: LastGood) -> Reading | None:
    """Return `reading` with each namespace that has a problem as it was last in force.

    None when a problem is of something else, or what was last in force is not known.
    """
    named = {problem.file for problem in problems}
    live: list[Texts] = []
    for texts, last in zip(reading.live, known, strict=True):
        mine = {name for name, _ in texts} & named
        named -= mine
        held = {_namespace(name) for name in mine}
        if held and last is None:
            return None
        others = [each for each in texts if _namespace(each[0]) not in held]
        kept = [each for each in last or () if _namespace(each[0]) in held]
        live.append(tuple(sorted([*others, *kept])))
    return None if named else replace(reading, live=tuple(live))


def _namespace(name: str) -> str:
    """Return SOURCE/NAMESPACE of the name SOURCE/NAMESPACE/KIND/NAME of an object."""
    return name.rsplit("/", 2)[0]
