"""Where policies come from: directories, and the set that was applied last; together one set.

    reload   read everything -> load it whole -> swap it in
    apply    the same with a new applied set -> its durable record -> swap it in

Rules. One set at a time is in force. What does not load changes nothing: the last good set stays,
each problem is logged once and counted. At start it raises instead. Directories are watched by
reading them: what is compared is what is loaded, and only once two readings agree, so that a file
is not taken half written. A database that does not answer leaves the applied set as it was known.

Nothing is audited here: `apply` hands its record to the caller, who writes it with the audit
entry in one transaction; a change by directory is told to `on_directory_change`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from authz.change import Change, difference
from authz.directory import Texts, read_directory
from authz.load import load_policies
from authz.overlay import NO_OVERLAY, Overlay
from authz.policy import Default, PolicySet
from authz.state import PolicyState
from authz.store import AppliedSet, latest, latest_version
from meshca.clock import Clock
from meshca.errors import InvalidDocument, Problem, StoreUnavailable
from meshca.logs import get_logger
from meshca.metrics import Metrics

log = get_logger("authz")

POLL_SECONDS = 0.5
SETTLE_SECONDS = 0.05
_SETTLE_READINGS = 20
_LOGGED_WARNINGS = 50


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """What every set is loaded with, and the directories that policies are read from."""

    trust_domain: str
    root_namespace: str
    default: Default
    directories: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything that was read at one time, before any of it is understood."""

    texts: Texts
    problems: tuple[Problem, ...]
    applied: AppliedSet | None

    def all_texts(self) -> Texts:
        """Return every text: the files, then the applied set."""
        if self.applied is None:
            return self.texts
        return (*self.texts, (applied_name(self.applied.version), self.applied.documents))


@dataclass(frozen=True, slots=True)
class PreparedChange:
    """An applied set that loads with everything else: to be recorded, then committed."""

    applied: AppliedSet
    policies: PolicySet
    change: Change
    reading: Reading


def applied_name(version: int) -> str:
    """Return how problems name the applied set."""
    return f"applied set {version}"


@dataclass(slots=True, kw_only=True)
class PolicyLoader:
    """Keeps `state` at what the directories and the applied set say.

    `start` once, then `run`. `on_directory_change` is called on the event loop after a change
    that came from a directory. `problems` are those of what was read last and is not in force.
    `overlay` is laid over whatever set is loaded; change it with `set_overlay` only.
    """

    state: PolicyState
    options: PolicyOptions
    engine: sa.Engine
    clock: Clock
    metrics: Metrics
    on_directory_change: Callable[[Change], None] | None = None
    poll_seconds: float = POLL_SECONDS
    overlay: Overlay[PolicySet] = NO_OVERLAY
    problems: tuple[Problem, ...] = field(default=(), init=False)
    _seen: Reading | None = None
    _in_force: Texts = ()
    _refused: bool = False
    _applied: AppliedSet | None = None
    _store_answers: bool = True
    _changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def start(self) -> None:
        """Load the first set; before the event loop serves anybody.

        Raises InvalidDocument with every problem, and StoreUnavailable.
        """
        self._applied = latest(self.engine)
        reading = self._read()
        self._install(reading, self._load(reading))

    def set_overlay(self, overlay: Overlay[PolicySet]) -> bool:
        """Lay `overlay` over the set in force, and over each one after it; on the event loop.

        Return whether that changes what is in force. Before `start` it waits for the first set.
        """
        self.overlay = overlay
        return self.state.replace(self.state.current.under(overlay))

    def load_with(self, documents: str) -> PolicySet:
        """Return what would be in force if `documents` were the applied set, without an overlay.

        Nothing changes. Raises InvalidDocument with every problem.
        """
        known = 0 if self._applied is None else self._applied.version
        applied = AppliedSet(known + 1, self.clock.now(), "", "", documents)
        policies = self._load(Reading(self._in_force, (), applied))
        name = applied_name(applied.version)
        if not any(policy.source == name for policy in policies.policies):
            raise InvalidDocument([Problem("", "holds no policy; nothing was changed", name)])
        return policies

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(self.poll_seconds)
            try:
                await self.reload()
            except Exception:  # the watch must outlive whatever one reading runs into
                self.metrics.policy_load_failures.inc()
                log.exception("policy_watch_failed")

    async def reload(self) -> bool:
        """Read everything and put it in force if it changed; return whether what was read loads.

        What does not load is logged and counted when it is first seen, not again.
        """
        async with self._changing:
            reading = await self._settled()
            if reading == self._seen:
                return not self._refused
            self._seen, self._refused = reading, True
            try:
                policies = await asyncio.to_thread(self._load, reading)
            except InvalidDocument as error:
                self.metrics.policy_load_failures.inc()
                self.problems = tuple(error.problems)
                for problem in error.problems:
                    log.error("policy_refused", problem=str(problem))
                return False
            from_directory = reading.texts != self._in_force
            change = self._install(reading, policies)
            if change is not None and from_directory and self.on_directory_change is not None:
                self.on_directory_change(change)
            return True

    async def apply(
        self,
        text: str,
        *,
        author: str,
        reason: str,
        record: Callable[[PreparedChange], Awaitable[None]],
    ) -> PreparedChange:
        """Replace the applied set by the policies in `text`; one call at a time.

        They are loaded together with the directories' policies in force, so a directory that does
        not load now is no obstacle. `record` makes the change durable (its `applied` and the audit
        entry in one transaction) before it is in force. Raises InvalidDocument with every problem,
        and what `record` raises; then nothing has changed.
        """
        async with self._changing:
            prepared = await asyncio.to_thread(self._prepare, text, author, reason)
            await record(prepared)
            self._applied = prepared.applied
            self._install(prepared.reading, prepared.policies)
            return prepared

    def _prepare(self, text: str, author: str, reason: str) -> PreparedChange:
        before = self._newest_applied()
        version = 1 if before is None else before.version + 1
        applied = AppliedSet(version, self.clock.now(), author, reason, text)
        reading = Reading(self._in_force, (), applied)
        policies = self._load(reading).under(self.overlay)
        name = applied_name(version)
        if not any(policy.source == name for policy in policies.policies):
            raise InvalidDocument([Problem("", "holds no policy; nothing was applied", name)])
        change = difference(self.state.current, policies)
        return PreparedChange(applied, policies, change, reading)

    def _install(self, reading: Reading, policies: PolicySet) -> Change | None:
        """Put `policies` in force; return what changed, or None when they mean the same."""
        self._seen, self._in_force, self._refused = reading, reading.texts, False
        self.problems = ()
        policies = policies.under(self.overlay)
        change = difference(self.state.current, policies)
        if not self.state.replace(policies):
            return None
        _log_warnings(policies)
        return change

    async def _settled(self) -> Reading:
        """Return a reading that is what was seen before, or that two readings agree on."""
        reading = await asyncio.to_thread(self._read)
        for _ in range(_SETTLE_READINGS):
            if reading == self._seen:
                break
            await asyncio.sleep(SETTLE_SECONDS)
            again = await asyncio.to_thread(self._read)
            if again == reading:
                break
            reading = again
        return reading

    def _read(self) -> Reading:
        texts: list[tuple[str, str]] = []
        problems: list[Problem] = []
        for directory in self.options.directories:
            try:
                texts += read_directory(directory)
            except InvalidDocument as error:
                problems += error.problems
        return Reading(tuple(texts), tuple(problems), self._newest_applied())

    def _newest_applied(self) -> AppliedSet | None:
        known = 0 if self._applied is None else self._applied.version
        try:
            if latest_version(self.engine) != known:
                self._applied = latest(self.engine)
        except StoreUnavailable as error:
            if self._store_answers:
                log.warning("applied_policies_unknown", error=str(error), kept_version=known)
            self._store_answers = False
        else:
            self._store_answers = True
        return self._applied

    def _load(self, reading: Reading) -> PolicySet:
        if reading.problems:
            raise InvalidDocument(reading.problems)
        return load_policies(
            reading.all_texts(),
            trust_domain=self.options.trust_domain,
            root_namespace=self.options.root_namespace,
            default=self.options.default,
        )


def _log_warnings(policies: PolicySet) -> None:
    for problem in policies.warnings[:_LOGGED_WARNINGS]:
        log.warning("policy_warning", problem=str(problem))
    if (more := len(policies.warnings) - _LOGGED_WARNINGS) > 0:
        log.warning("policy_warnings_left_out", count=more)
