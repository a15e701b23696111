"""Policies as custom resources of a cluster: `security.istio.io/v1`, in all namespaces.

Each object becomes a text named `SOURCE/NAMESPACE/KIND/NAME`. `start` reads them once, before
anybody is served; `run` follows them. Requests run in threads; everything else on the event loop.

Rules. An API server that is away, a kind that it does not have, or a kind on its way out never
mean "no policies": what was held stays, and `status` says since when it may be out of date. What
was part of a set in force (`accepted`) is kept in the database, for a start while the API server is
away; what the first list after a restart lacks leaves after the same grace. A source that was never
read at all stops the start: what its policies deny is not known.
"""

import asyncio
import contextlib
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson
import sqlalchemy as sa

from authz.directory import Texts
from authz.kubernetes.held import Held
from authz.kubernetes.kept import KeptObjects, read_kept
from authz.kubernetes.reflector import (
    Broken,
    Event,
    Listed,
    Reflector,
    Waits,
    explain,
)
from authz.kubernetes.requests import KindMissing, Resource, VersionGone, creatable
from authz.status import SourceStatus
from meshca.api_server import FAILURES, ApiServerConnection
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import Overloaded, StoreUnavailable, Unavailable
from meshca.logs import get_logger
from meshca.metrics import Metrics

GROUP_VERSION: Final = "security.istio.io/v1"
KINDS: Final = {
    "authorizationpolicies": "AuthorizationPolicy",
    "peerauthentications": "PeerAuthentication",
    "requestauthentications": "RequestAuthentication",
}
MAXIMUM_OBJECTS: Final = 20_000
_MISSING: Final = Broken("the API server does not have this kind", is_missing=True)
_START_TRIES: Final = 30
_START_WAIT_SECONDS: Final = 1.0
_STORE_WAIT_SECONDS: Final = 5.0
_METADATA: Final = ("name", "namespace", "creationTimestamp")
_NOT_POLICY: Final = "kubectl.kubernetes.io/"

log = get_logger("authz")


@dataclass(slots=True, eq=False, kw_only=True)
class KubernetesPolicies:
    """One cluster's policies, as the source `name`."""

    name: str
    connection: ApiServerConnection
    engine: sa.Engine
    writer: GroupWriter
    clock: Clock
    metrics: Metrics
    waits: Waits = field(default_factory=Waits)
    start_tries: int = _START_TRIES
    last_good: Texts | None = field(default=None, init=False)
    _held: dict[str, Held] = field(init=False)
    _texts: Texts | None = None
    _stored: dict[str, str] | None = None
    _wanted: dict[str, str] | None = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _to_keep: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._held = {plural: Held(self.waits) for plural in KINDS}

    def start(self) -> None:
        """Read everything once, or else what was kept; blocking.

        Raises Unavailable when neither is to be had, and StoreUnavailable.
        """
        kept = self._stored = read_kept(self.engine, self.name)
        self.last_good = None if kept is None else self._as_texts(kept)
        for plural, held in self._held.items():
            if kept is not None:
                kind = KINDS[plural]
                held.restore({k: v for k, v in kept.items() if k.split("/")[1] == kind})
        self._list_all()
        tries = self.start_tries
        while kept is None and self._problems():
            if not tries:
                raise Unavailable(
                    f"the policies of source {self.name} ({self.connection}) were never read, and "
                    f"cannot be now: {'; '.join(self._problems())}. "
                    "Are the definitions in deploy/kubernetes/crds applied?"
                )
            tries -= 1
            threading.Event().wait(_START_WAIT_SECONDS)
            self._list_all()

    def texts(self) -> Texts:
        """Return every object as a text, in the order of names; a list that never changes."""
        if self._texts is None:
            objects = {k: v for held in self._held.values() for k, v in held.objects.items()}
            self._texts = self._as_texts(objects)
        return self._texts

    def status(self) -> SourceStatus:
        """Return how the source stands."""
        problems = self._problems()
        return SourceStatus(
            name=self.name,
            kind="kubernetes",
            objects=len(self.texts()),
            stale_since=self._stale_since() if problems else None,
            problems=problems,
        )

    def accepted(self, texts: Texts) -> None:
        """Remember `texts`, which are in force now, as the last good ones."""
        self.last_good = texts
        self._wanted = {name.removeprefix(f"{self.name}/"): text for name, text in texts}
        self._to_keep.set()

    async def run(self, changed: Callable[[], None]) -> None:
        """Follow the cluster until cancelled; call `changed` after each change of `texts`."""
        loop = asyncio.get_running_loop()

        def teller(plural: str) -> Callable[[Event], None]:
            def tell(event: Event) -> None:
                with contextlib.suppress(RuntimeError):  # the loop is gone: nobody listens
                    loop.call_soon_threadsafe(self._take, plural, event, changed)

            return tell

        reflectors = [self._reflector(plural, teller(plural)) for plural in KINDS]
        for reflector in reflectors:
            reflector.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._see_off(changed))
                tasks.create_task(self._keep())
        finally:
            for reflector in reflectors:
                reflector.stop()

    def _reflector(self, plural: str, tell: Callable[[Event], None]) -> Reflector[str]:
        return Reflector(
            connection=self.connection,
            resource=Resource(f"/apis/{GROUP_VERSION}/{plural}"),
            read=lambda item: read_object(item, KINDS[plural]),
            tell=tell,
            clock=self.clock,
            waits=self.waits,
            maximum_objects=MAXIMUM_OBJECTS,
        )

    def _list_all(self) -> None:
        """List every kind; what cannot be listed stays as it is, with its problem."""
        for plural, held in self._held.items():
            event = self._listed(plural)
            if isinstance(event, Listed) and not held.is_restored:
                held.objects = {}  # it has just been asked whether the kind is there
            self._note(plural, event)

    def _listed(self, plural: str) -> Event:
        try:
            objects = self._reflector(plural, lambda _: None).list()
            if plural in creatable(self.connection, GROUP_VERSION):
                return Listed(objects)
        except KindMissing:
            pass
        except (VersionGone, *FAILURES) as error:
            self.connection.note(error)
            return Broken(explain(error))
        return _MISSING

    def _take(self, plural: str, event: Event, changed: Callable[[], None]) -> None:
        has_changed = self._note(plural, event)
        self._wake.set()
        if has_changed:
            changed()

    def _note(self, plural: str, event: Event) -> bool:
        """Hand `event` over, and tell of problems that come and go."""
        held = self._held[plural]
        before = held.problem
        has_changed = held.take(event, self.clock.now(), self.clock.monotonic())
        if has_changed:
            self._texts = None
        if held.problem != before:
            self._tell_problem(plural, held)
        self._measure()
        return has_changed

    def _tell_problem(self, plural: str, held: Held) -> None:
        if not held.problem:
            log.info("policy_source_current", source=self.name, resource=plural)
            return
        since = self._stale_since()
        log.error(
            "policy_source_stale",
            source=self.name,
            resource=plural,
            problem=held.problem,
            since=None if since is None else since.isoformat(),
            kept_objects=len(held.objects),
            hint="what was read before stays in force"
            + ("; kubectl apply -f deploy/kubernetes/crds" if held.is_missing else ""),
        )

    def _measure(self) -> None:
        is_stale = any(held.problem for held in self._held.values())
        self.metrics.policy_source_stale.labels(self.name).set(is_stale)
        since = self._stale_since() if is_stale else self.clock.now()
        seconds = 0.0 if since is None else since.timestamp()
        self.metrics.policy_source_current.labels(self.name).set(seconds)

    def _problems(self) -> tuple[str, ...]:
        return tuple(f"{p}: {h.problem}" for p, h in self._held.items() if h.problem)

    def _stale_since(self) -> datetime | None:
        """Return when the first of the kinds with a problem was last current; None: never."""
        contacts = [held.contact for held in self._held.values() if held.problem]
        known = [contact for contact in contacts if contact is not None]
        return min(known) if known and len(known) == len(contacts) else None

    async def _see_off(self, changed: Callable[[], None]) -> None:
        """Let go what was deleted, once it is sure that its kind is there still."""
        while True:
            self._wake.clear()
            wait = min(held.next_due() for held in self._held.values()) - self.clock.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if math.isinf(wait) else max(wait, 0.0)):
                    await self._wake.wait()
            if any(held.due(self.clock.monotonic()) for held in self._held.values()):
                await self._drop_due(changed)

    async def _drop_due(self, changed: Callable[[], None]) -> None:
        now = self.clock.monotonic()
        try:
            present = await asyncio.to_thread(creatable, self.connection, GROUP_VERSION)
        except FAILURES as error:
            self.connection.note(error)
            for held in self._held.values():
                held.postpone(now)
            return
        for plural, held in self._held.items():
            due = held.due(now)
            if due and plural in present:
                held.drop(due)
                self._texts = None
                changed()
            elif due:
                self._note(plural, _MISSING)

    async def _keep(self) -> None:
        """Write the last good objects down whenever they change."""
        while True:
            await self._to_keep.wait()
            self._to_keep.clear()
            wanted, stored = self._wanted or {}, self._stored
            known = stored or {}
            put = {name: text for name, text in wanted.items() if known.get(name) != text}
            gone = frozenset(known.keys() - wanted.keys())
            if stored is not None and not put and not gone:
                continue
            try:
                time = self.clock.now().isoformat()
                await self.writer.submit(KeptObjects(self.name, put, gone, time))
                self._stored = wanted
            except (StoreUnavailable, Overloaded) as error:
                log.warning("policy_objects_not_kept", source=self.name, error=str(error))
                self._to_keep.set()
                await asyncio.sleep(_STORE_WAIT_SECONDS)

    def _as_texts(self, objects: Mapping[str, str]) -> Texts:
        return tuple((f"{self.name}/{key}", objects[key]) for key in sorted(objects))


def read_object(item: Mapping[str, Any], kind: str) -> tuple[str, str]:
    """Return the key `NAMESPACE/KIND/NAME` of an object, and the part of it that is policy.

    What the API server and tools add (status, managed fields, the last applied text) is left out,
    so that a text changes only when the policy may.
    """
    metadata: Mapping[str, Any] = item["metadata"]
    annotations = {
        key: value
        for key, value in (metadata.get("annotations") or {}).items()
        if not key.startswith(_NOT_POLICY)
    }
    kept = {key: metadata[key] for key in _METADATA if key in metadata}
    document = {
        "apiVersion": GROUP_VERSION,
        "kind": kind,
        "metadata": {**kept, **({"annotations": annotations} if annotations else {})},
        **({"spec": item["spec"]} if "spec" in item else {}),
    }
    key = f"{metadata['namespace']}/{kind}/{metadata['name']}"
    return key, orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()
