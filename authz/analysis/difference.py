"""What one policy set lets through that another does not, and the reverse: all of it.

Only destinations are looked at for which a document differs, or everything where what holds for
all differs. The answer covers verdicts; what differs besides is told in `notes`. What a bound or a
document put out of reach is in `beyond`, and only an answer without it says that nothing else
changes. Each region has a witness that the engine was asked about under both sets; where it does
not agree, that is in `defects`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import orjson

from authz.analysis.bounds import TooLarge
from authz.analysis.destinations import (
    Destination,
    Selectors,
    add_peer_authentication,
    add_policy,
    destinations,
    in_words,
    selectors_of,
)
from authz.analysis.regions import Box
from authz.analysis.sides import ANYTHING, Compared, Comparison, Within
from authz.analysis.space import Space
from authz.analysis.witness import Witness, witness_of
from authz.decision import Decision, Outcome
from authz.engine import WorkloadPolicies, compile_workload
from authz.peer_authentication import Mode, PeerAuthentication
from authz.policy import PolicySet


class _Document(Protocol):
    @property
    def namespace(self) -> str: ...
    @property
    def name(self) -> str: ...


_Named = TypeVar("_Named", bound=_Document)


@dataclass(frozen=True, slots=True)
class Part:
    """One box of a change: of requests in `space`, to each of `destinations`."""

    space: Space
    box: Box
    destinations: tuple[Destination, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """Requests whose verdict becomes `allowed`: to `destinations`, in `region`, both in words.

    `before` and `after` are what decides about the witness. `parts` are the requests themselves.
    """

    allowed: bool
    destinations: tuple[str, ...]
    region: Mapping[str, list[str]]
    witness: Witness
    before: Decision
    after: Decision
    parts: tuple[Part, ...]


@dataclass(slots=True)
class Difference:
    """The answer; `is_equal` when no verdict changes and nothing was out of reach."""

    changes: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    beyond: list[str] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)

    @property
    def is_equal(self) -> bool:
        """Return whether the sets give every request the same verdict, for all that is known."""
        return not self.changes and not self.beyond and not self.defects

    @property
    def statement(self) -> str:
        """Return the last line: what is true of all other requests."""
        if self.defects:
            return "the analysis and the engine disagree: do not rely on this answer"
        if self.beyond:
            return "nothing else changes, except perhaps in what is beyond the analysis"
        return "nothing else changes" if self.changes else "nothing changes"


def difference(
    before: PolicySet,
    after: PolicySet,
    *,
    now: float,
    within: Within = ANYTHING,
    proposed: bool = False,
) -> Difference:
    """Return how verdicts change from `before` to `after`, from the time `now` on.

    `proposed` compares what would be in force if everything on trial were.
    """
    every = selectors_of(before, after)
    comparison = Comparison(before, after, now, within, proposed)
    answer = Answer(before, after, proposed)
    try:
        for destination in destinations(every, _wanted(before, after)):
            answer.add(destination, comparison.of(destination))
    except TooLarge as error:
        answer.found.beyond.append(f"destinations: {error}")
    answer.found.beyond += _not_compared(before, after)
    return answer.finish()


@dataclass(slots=True)
class Answer:
    """Collects what was found for each destination, and says alike what is alike.

    `before` None is a set that allows nothing.
    """

    before: PolicySet | None
    after: PolicySet
    proposed: bool = False
    found: Difference = field(default_factory=Difference)
    _kinds: list[Destination] = field(default_factory=list)
    _compared: dict[int, tuple[Compared, list[Destination]]] = field(default_factory=dict)
    _notes: dict[str, list[Destination]] = field(default_factory=dict)

    def add(self, destination: Destination, compared: Compared) -> None:
        """Add what was found for `destination`."""
        self._kinds.append(destination)
        self._compared.setdefault(id(compared), (compared, []))[1].append(destination)
        if self.before is not None:
            for note in _notes_of(self.before, self.after, destination):
                self._notes.setdefault(note, []).append(destination)

    def finish(self) -> Difference:
        """Return the answer."""
        alike: dict[str, list[tuple[Part, Change]]] = {}
        for compared, kinds in self._compared.values():
            self.found.beyond += [f"{self._where(kinds)}: {text}" for text in compared.beyond]
            for part, change in self._changes(compared, kinds):
                alike.setdefault(_likeness(change), []).append((part, change))
        for group in alike.values():
            parts = tuple(part for part, _ in group)
            kinds = [kind for part in parts for kind in part.destinations]
            where = tuple(in_words(kinds, self._kinds))
            self.found.changes.append(replace(group[0][1], destinations=where, parts=parts))
        self.found.changes.sort(key=lambda change: (not change.allowed, change.destinations))
        for note, noted in self._notes.items():
            self.found.notes.append(f"{note} for {self._where(noted)}; no verdict hangs on it")
        return self.found

    def _where(self, kinds: list[Destination]) -> str:
        return ", ".join(in_words(kinds, self._kinds))

    def _changes(
        self, compared: Compared, kinds: list[Destination]
    ) -> Iterator[tuple[Part, Change]]:
        space, words = compared.space, compared.words
        if space is None or words is None:
            return
        for region in compared.regions:
            said = words.of_box(region.box)
            if region.allowed is None:
                self.found.beyond.append(f"{self._where(kinds)}: {in_line(said)}")
                continue
            part = Part(space, region.box, tuple(kinds))
            decisions = [self._checked(part, kind, region.allowed) for kind in kinds]
            witness, before, after = decisions[0]
            yield part, Change(region.allowed, (), said, witness, before, after, ())

    def _checked(
        self, part: Part, destination: Destination, allowed: bool
    ) -> tuple[Witness, Decision, Decision]:
        """Return the witness with the engine's word on it, noting where that is another."""
        witness = witness_of(part.space, part.box, destination.workload)
        after = self._decide(self.after, witness)
        before = after._replace(allowed=False, outcome=Outcome.NO_ALLOW, rule=None)
        if self.before is not None:
            before = self._decide(self.before, witness)
        if after.allowed is not allowed or before.allowed is allowed:
            verdict = f"{_verdict(before)} before, {_verdict(after)} after"
            self.found.defects.append(f"{orjson.dumps(witness.as_json()).decode()}: {verdict}")
        return witness, before, after

    def _decide(self, policies: PolicySet, witness: Witness) -> Decision:
        decision = witness.decide(policies)
        return decision.shadow if self.proposed and decision.shadow is not None else decision


def in_line(region: Mapping[str, list[str]]) -> str:
    """Return a region in one line."""
    said = (f"{name} {', '.join(values)}" for name, values in region.items())
    return "; ".join(said) or "every request"


def _likeness(change: Change) -> str:
    rules = [(d.outcome, None if d.rule is None else d.rule.name)
             for d in (change.before, change.after)]  # fmt: skip
    return repr((change.allowed, in_line(change.region), rules))


def _verdict(decision: Decision) -> str:
    return "allowed" if decision.allowed else "denied"


def _wanted(before: PolicySet, after: PolicySet) -> Selectors:
    """Return what selects the destinations for which something differs."""
    wanted = Selectors(frozenset((before.root_namespace, after.root_namespace)))
    if _holds_for_all(before) != _holds_for_all(after):
        wanted.add(after.root_namespace)
        return wanted
    for policy in _differing(before.policies, after.policies):
        add_policy(wanted, policy)
    for document in _differing(before.peer_authentications, after.peer_authentications):
        add_peer_authentication(wanted, document)
    return wanted


def _holds_for_all(policies: PolicySet) -> tuple[Any, ...]:
    return (
        *(policies.default, policies.trust_domain, policies.aliases, policies.root_namespace),
        policies.overlay,
    )


def _differing(before: Iterable[_Named], after: Iterable[_Named]) -> Iterator[_Named]:
    """Yield the documents of either that are not in both, however they were written."""
    old = {(each.namespace, each.name): each for each in before}
    new = {(each.namespace, each.name): each for each in after}
    for name in sorted(old.keys() | new.keys()):
        one, other = old.get(name), new.get(name)
        if one != other or _created(one) != _created(other):
            yield from (each for each in (one, other) if each is not None)


def _created(document: object) -> str:
    return document.created if isinstance(document, PeerAuthentication) else ""


def _not_compared(before: PolicySet, after: PolicySet) -> Iterator[str]:
    one, other = before.request_authentications, after.request_authentications
    for document in dict.fromkeys(_differing(one, other)):
        yield (
            f"RequestAuthentication {document.namespace}/{document.name} differs: "
            "which tokens are valid is not compared"
        )


def _notes_of(before: PolicySet, after: PolicySet, destination: Destination) -> Iterator[str]:
    """Yield what differs for `destination` besides verdicts."""
    one = compile_workload(before, destination.workload)
    other = compile_workload(after, destination.workload)
    if one.enforced.audit.rules != other.enforced.audit.rules:
        yield "AUDIT rules differ"
    if _plaintext(one) != _plaintext(other):
        yield "whether mutual TLS is offered (DISABLE) differs"
    if _on_trial(one) != _on_trial(other):
        yield "what is on trial differs"


def _plaintext(compiled: WorkloadPolicies) -> tuple[bool, frozenset[int]]:
    modes = compiled.enforced.modes
    ports = frozenset(port for port, mode in modes.ports.items() if mode is Mode.DISABLE)
    return modes.default is Mode.DISABLE, ports


def _on_trial(compiled: WorkloadPolicies) -> list[str] | None:
    if compiled.shadow is None:
        return None
    return [policy.digest for policy in compiled.shadow.policies]
