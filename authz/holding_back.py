"""Which objects of clusters stay as they were last good while the rest moves on. Pure.

Whoever writes in one namespace must not hold up the policies of every other. A namespace of which
an object does not load stays whole, as it was last in force, denies and all: what changed in it
together comes into force together, or not yet.

Where documents do not agree, the newcomer is to blame: an object that is not as it was last in
force, and of several those of other namespaces than the root one. What was in force never gives
way, nor does a directory or the applied set to an object that is new. A problem that no namespace
is to blame for holds up everything. What is then put together is loaded as any other set, whole or
not at all; if it does not load, more is held back, a few times.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from authz.directory import Texts
from authz.policy import PolicySet
from authz.reading import Reading
from meshca.errors import InvalidDocument, Problem

ROUNDS: Final = 8
"""How often more is held back, at most."""

LastGood = Sequence[Texts | None]
"""What of each live source was last in force, as far as that is known."""


@dataclass(frozen=True, slots=True)
class MovedOn:
    """What loads of a reading that does not; `problems` name what is wrong and what is held."""

    reading: Reading
    policies: PolicySet
    problems: tuple[Problem, ...]


def all_last_good(reading: Reading, known: LastGood) -> Reading | None:
    """Return `reading` with what was last in force of the live sources, if it is another."""
    kept = tuple(
        texts if last is None else last for last, texts in zip(known, reading.live, strict=True)
    )
    return None if kept == reading.live else replace(reading, live=kept)


def move_on(
    refused: Reading,
    problems: Sequence[Problem],
    known: LastGood,
    root_namespace: str,
    load: Callable[[Reading], PolicySet],
) -> MovedOn | None:
    """Return what of `refused`, which has `problems`, loads with namespaces held back, if so."""
    reading = refused
    told = list(problems)
    for _ in range(ROUNDS):
        held = holding_back(reading, problems, known, root_namespace)
        if held is None:
            return None
        reading = held
        try:
            policies = load(reading)
        except InvalidDocument as error:
            problems = error.problems
            told += problems
        else:
            found = (*told, *_held(refused, reading))
            return MovedOn(reading, policies, tuple(dict.fromkeys(found)))
    return None


def holding_back(
    reading: Reading, problems: Iterable[Problem], known: LastGood, root_namespace: str
) -> Reading | None:
    """Return `reading` with each namespace that is to blame as it was last in force.

    None when none is to blame for one of `problems`, when what was last in force is not known, and
    when all of it is as it was already.
    """
    held = _to_blame(reading, problems, known, root_namespace)
    live: list[Texts] = []
    for texts, last in zip(reading.live, known, strict=True):
        others = [each for each in texts if _namespace(each[0]) not in held]
        if last is None and len(others) < len(texts):
            return None
        kept = [each for each in last or () if _namespace(each[0]) in held]
        live.append(tuple(sorted([*others, *kept])))
    changed = replace(reading, live=tuple(live))
    return None if changed == reading else changed


def _to_blame(
    reading: Reading, problems: Iterable[Problem], known: LastGood, root_namespace: str
) -> set[str]:
    """Return the namespaces to hold back; none when a problem is of something else.

    Whoever alone can be meant comes first: that may settle what is wrong with the others.
    """
    certain: set[str] = set()
    doubtful: list[set[str]] = []
    objects = {each for texts in reading.live for each in texts}
    live = {name for name, _ in objects}
    new = {name for name, _ in objects - {each for last in known for each in last or ()}}
    for problem in problems:
        parties = {problem.file, *problem.others}
        candidates = new if len(parties) > 1 else live
        namespaces = {_namespace(name) for name in parties & candidates}
        if not namespaces:
            return set()
        if len(namespaces) == 1:
            certain |= namespaces
        else:
            doubtful.append(namespaces)
    held = set(certain)
    for namespaces in doubtful:
        if not namespaces & certain:
            held |= {each for each in namespaces if not _is(each, root_namespace)} or namespaces
    return held


def _held(refused: Reading, reading: Reading) -> list[Problem]:
    """Return a problem for each namespace that is another in `reading`: it is held back."""
    pairs = zip(refused.live, reading.live, strict=True)
    names = {_namespace(name) for one, other in pairs for name, _ in {*one} ^ {*other}}
    message = "this namespace stays as it was last in force, until it loads with the rest"
    return [Problem("", message, name) for name in sorted(names)]


def _namespace(name: str) -> str:
    """Return SOURCE/NAMESPACE of the name SOURCE/NAMESPACE/KIND/NAME of an object."""
    return name.rsplit("/", 2)[0]


def _is(name: str, namespace: str) -> bool:
    """Return whether SOURCE/NAMESPACE is of `namespace`."""
    return name.rsplit("/", 1)[-1] == namespace
