"""Where policies come from: directories, clusters, and the set applied last; together one set.

    reload   read everything -> load it whole -> swap it in
    apply    the same with a new applied set -> its durable record -> swap it in

Rules. One set at a time is in force. What does not load changes nothing: the last good set stays,
each problem is logged once and counted. Two things do not wait, if they load with the rest: other
namespaces of a cluster (`authz.holding_back`), and a new applied set, on every replica. At start it
raises instead, unless the live sources have a last good state that loads. Directories are watched
by reading them: what is compared is what is loaded, and only once two readings agree
(`authz.settling`). A database that does not answer leaves the applied set as it was known.

Nothing is audited here: `apply` hands its record to the caller, who writes it with the audit
entry in one transaction; a change that came from outside is told to `on_source_change`.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import sqlalchemy as sa

from authz.applied import AppliedSource, Draft, check_not_empty, replacing
from authz.change import Change, difference
from authz.directory import Texts, read_directories
from authz.holding_back import LastGood, MovedOn, all_last_good, move_on
from authz.live_source import LiveSource
from authz.load import load_policies
from authz.load_memory import LoadMemory
from authz.overlay import NO_OVERLAY, Overlay
from authz.policy import Default, PolicySet
from authz.reading import Reading
from authz.settling import Settling
from authz.state import PolicyState, log_new_warnings
from authz.status import SourceStatus
from authz.store import AppliedSet
from authz.text_diff import text_diff
from meshca.clock import Clock
from meshca.errors import InvalidDocument, Problem
from meshca.logs import get_logger
from meshca.metrics import Metrics

log = get_logger("authz")

POLL_SECONDS = 0.5
_NOTHING = Reading((), (), None)


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """What every set is loaded with, and the directories that policies are read from.

    `providers` are the names that CUSTOM policies may ask; None checks none.
    """

    trust_domain: str
    root_namespace: str
    default: Default
    directories: tuple[Path, ...] = ()
    aliases: tuple[str, ...] = ()
    providers: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class PreparedChange:
    """An applied set that loads with everything else: to be recorded, then committed.

    `diff` is the difference of the texts, of bounded size.
    """

    applied: AppliedSet
    policies: PolicySet
    change: Change
    reading: Reading
    diff: str


@dataclass(frozen=True, slots=True)
class SourceChange:
    """A change that came from outside: through `origin`, a directory or a cluster."""

    change: Change
    origin: str
    diff: str


Record = Callable[[PreparedChange], Awaitable[None]]


@dataclass(slots=True, kw_only=True)
class PolicyLoader:
    """Keeps `state` at what the sources and the applied set say.

    `start` once, then `run`. `on_source_change` is called on the event loop after a change that
    came from outside. `problems` are those of what was read last and is not in force. `overlay` is
    laid over whatever set is loaded; change it with `set_overlay` only.
    """

    state: PolicyState
    options: PolicyOptions
    engine: sa.Engine
    clock: Clock
    metrics: Metrics
    live: Sequence[LiveSource] = ()
    on_source_change: Callable[[SourceChange], None] | None = None
    poll_seconds: float = POLL_SECONDS
    overlay: Overlay[PolicySet] = NO_OVERLAY
    problems: tuple[Problem, ...] = field(default=(), init=False)
    _seen: Reading | None = None
    _in_force: Reading = _NOTHING
    _refused: bool = False
    _memory: LoadMemory = field(default_factory=LoadMemory)
    _applied: AppliedSource = field(init=False)
    _settling: Settling = field(init=False)
    _changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._applied = AppliedSource(self.engine)
        self._settling = Settling(self.metrics)

    def start(self) -> None:
        """Load the first set; before the event loop serves anybody.

        Raises InvalidDocument with every problem, and what a source raises.
        """
        self._applied.load()
        for source in self.live:
            source.start()
        reading = self._read(self._live_texts())
        try:
            self._install(reading, self._load(reading))
        except InvalidDocument as error:
            moved = self._move_on(reading, error.problems)
            if moved is None:
                kept = all_last_good(reading, self._known_good())
                if kept is None:
                    raise
                moved = MovedOn(kept, self._load(kept), tuple(error.problems))
            self._install(moved.reading, moved.policies)
            self._seen = reading
            self._refuse(moved.problems)

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for source in self.live:
                tasks.create_task(source.run(self.heed))
            tasks.create_task(self._watch())

    def heed(self) -> None:
        """Read everything again soon: something has changed; on the event loop."""
        self._wake.set()

    @property
    def applied_version(self) -> int:
        """Return the version of the applied set in force; 0 without any."""
        applied = self._in_force.applied
        return 0 if applied is None else applied.version

    def texts_in_force(self) -> Texts:
        """Return the texts that the set in force was loaded from, by name."""
        return self._in_force.all_texts()

    def sources(self) -> list[SourceStatus]:
        """Return how each source stands: directories, clusters, the applied set."""
        directories = [self._directory_status(directory) for directory in self.options.directories]
        applied = SourceStatus("applied", "applied", int(self._applied.version > 0))
        return [*directories, *(source.status() for source in self.live), applied]

    def _directory_status(self, directory: Path) -> SourceStatus:
        seen = _NOTHING if self._seen is None else self._seen
        inside = str(directory / "x").removesuffix("x")
        objects = sum(name.startswith(inside) for name, _ in self._in_force.texts)
        problems = [
            p
            for p in (*seen.problems, *self._settling.problems)
            if p.file == str(directory) or p.file.startswith(inside)
        ]
        return SourceStatus(str(directory), "directory", objects, None, tuple(map(str, problems)))

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
        applied = AppliedSet(self._applied.version + 1, self.clock.now(), "", "", documents)
        policies = self._load(replace(self._in_force, applied=applied))
        check_not_empty(policies, applied, "nothing was changed")
        return policies

    async def reload(self) -> bool:
        """Read everything and put it in force if it changed; return whether what was read loads.

        What does not load is logged and counted when it is first seen, not again; of it a new
        applied set is still put in force, if it loads with the other sources as they are.
        """
        async with self._changing:
            await self._applied.look()
            reading = await self._settling.settled(self._read_now, self._seen or _NOTHING)
            if reading == self._seen:
                return not self._refused
            self._seen = reading
            try:
                policies = await asyncio.to_thread(self._load, reading)
            except InvalidDocument as error:
                told, problems = self.problems, tuple(error.problems)
                moved = await asyncio.to_thread(self._move_on, reading, problems)
                if moved is None:
                    await self._install_applied(reading)
                else:
                    await self._move_to(moved.reading, moved.policies)
                self._seen = reading
                self._refuse(problems if moved is None else moved.problems, told)
                return False
            await self._move_to(reading, policies)
            return True

    async def apply(
        self,
        text: str,
        *,
        author: str,
        reason: str,
        record: Record,
        expect_version: int | None = None,
        may_be_empty: bool = False,
    ) -> PreparedChange:
        """Replace the applied set by the policies in `text`; see `change_applied`."""
        draft = Draft(replacing(text), author, reason, expect_version, may_be_empty)
        return await self.change_applied(draft, record)

    async def change_applied(self, draft: Draft, record: Record) -> PreparedChange:
        """Make the next applied set; one call at a time.

        It is loaded together with what else is in force, so a source that does not load now is no
        obstacle. `record` makes the change durable (its `applied` and the audit entry in one
        transaction) before it is in force. Raises InvalidDocument with every problem, Conflict,
        NotFound, and what `record` raises; then nothing has changed.
        """
        async with self._changing:
            prepared = await asyncio.to_thread(self._prepare, draft)
            await record(prepared)
            self._applied.take(prepared.applied)
            self._install(prepared.reading, prepared.policies)
            return prepared

    async def preview(self, draft: Draft) -> PreparedChange:
        """Return what `change_applied` would do; nothing is recorded. Raises as it does."""
        async with self._changing:
            return await asyncio.to_thread(self._prepare, draft)

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.poll_seconds):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self.reload()
            except Exception:  # the watch must outlive whatever one reading runs into
                self.metrics.policy_load_failures.inc()
                log.exception("policy_watch_failed")

    def _prepare(self, draft: Draft) -> PreparedChange:
        before = self._applied.newest()
        applied = draft.make(before, self.clock)
        reading = replace(self._in_force, applied=applied)
        policies = self._load(reading).under(self.overlay)
        if not draft.may_be_empty:
            check_not_empty(policies, applied, "nothing was applied; say so if that is meant")
        change = difference(self.state.current, policies)
        old = () if before is None else (("", before.documents),)
        diff = text_diff(old, (("", applied.documents),))
        return PreparedChange(applied, policies, change, reading, diff)

    def _install(self, reading: Reading, policies: PolicySet) -> bool:
        """Put `policies` in force; return whether they mean something else than before."""
        self._seen, self._in_force, self._refused = reading, replace(reading, problems=()), False
        self.problems = ()
        for source, texts in zip(self.live, reading.live, strict=True):
            source.accepted(texts)
        policies = policies.under(self.overlay)
        before = self.state.current
        if not self.state.replace(policies):
            return False
        log_new_warnings(before, policies)
        return True

    async def _move_to(self, reading: Reading, policies: PolicySet) -> None:
        before, old = self._in_force, self.state.current
        if self._install(reading, policies):
            change = difference(old, self.state.current)
            await self._tell(change, before, reading)

    def _move_on(self, refused: Reading, problems: Sequence[Problem]) -> MovedOn | None:
        """Return what of `refused` loads without the namespaces that are to blame, if so."""
        root = self.options.root_namespace
        return move_on(refused, problems, self._known_good(), root, self._load)

    def _known_good(self) -> LastGood:
        return [source.last_good for source in self.live]

    async def _install_applied(self, refused: Reading) -> None:
        """Put the applied set of `refused` in force, if it loads with what is of other sources."""
        if refused.applied == self._in_force.applied:
            return
        reading = replace(self._in_force, applied=refused.applied)
        with contextlib.suppress(InvalidDocument):  # as refused, with the rest
            self._install(reading, await asyncio.to_thread(self._load, reading))

    def _refuse(self, problems: tuple[Problem, ...], told: Sequence[Problem] = ()) -> None:
        self._refused, self.problems = True, problems
        self.metrics.policy_load_failures.inc()
        for problem in set(problems) - set(told):
            log.error("policy_refused", problem=str(problem))

    async def _tell(self, change: Change, before: Reading, after: Reading) -> None:
        """Tell of a change that came from outside; one of the applied set has its own record."""
        origins = []
        if after.texts != before.texts:
            origins.append("directory")
        if after.live != before.live:
            origins.append("kubernetes")
        if origins and self.on_source_change is not None:
            texts = before.external_texts(), after.external_texts()
            diff = await asyncio.to_thread(text_diff, *texts)
            self.on_source_change(SourceChange(change, ", ".join(origins), diff))

    async def _read_now(self) -> Reading:
        return await asyncio.to_thread(self._read, self._live_texts())

    def _live_texts(self) -> tuple[Texts, ...]:
        return tuple(source.texts() for source in self.live)

    def _read(self, live: tuple[Texts, ...]) -> Reading:
        texts, problems = read_directories(self.options.directories)
        return Reading(texts, problems, self._applied.known, live)

    def _load(self, reading: Reading) -> PolicySet:
        if reading.problems:
            raise InvalidDocument(reading.problems)
        return load_policies(
            reading.all_texts(),
            trust_domain=self.options.trust_domain,
            root_namespace=self.options.root_namespace,
            default=self.options.default,
            aliases=self.options.aliases,
            providers=self.options.providers,
            memory=self._memory,
        )
