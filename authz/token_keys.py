"""The keys of the token issuers that policy names, fetched and kept current.

    unknown --fetched--> known --fetched--> known, as the issuer has it now
       |                   `----failed----> known, unchanged: the last good keys
       `----failed----> unknown: every token of the issuer is refused

Fetched when policy first names the issuer, then every five minutes; after a failure again after a
second, and later and later. An issuer that no policy names any more is forgotten. A rule with keys
of its own (`jwks`) is never fetched for. Belongs to the event loop; each fetch ends by itself, so
an issuer that does not answer, or not to the end, holds up nothing else.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from authz.jwks import NOBODYS, read_key_set
from authz.policy import PolicySet
from authz.request_authentication import JwtRule
from authz.token_fetch import KeySource
from meshca.clock import Clock
from meshca.errors import KeysUnavailable
from meshca.logs import get_logger
from meshca.metrics import Metrics

REFRESH_SECONDS: Final = 300.0
FIRST_RETRY_SECONDS: Final = 1.0
MAXIMUM_SOURCES: Final = 1000
_TICK_SECONDS: Final = 0.25
AT_ONCE: Final = 64

log = get_logger("authz")

Fetch = Callable[[KeySource], Awaitable[str]]
"""Returns the key set of a source within its time; raises KeysUnavailable."""


@dataclass(frozen=True, slots=True)
class KeySets:
    """The key sets as they are known at one time; call it with a rule."""

    fetched: Mapping[KeySource, str] = field(default_factory=dict)

    def __call__(self, rule: JwtRule) -> str:
        """Return the keys of `rule`'s issuer (JSON), or a key that is nobody's."""
        if not rule.jwks:
            return self.fetched.get(KeySource.of(rule), NOBODYS)
        try:
            return read_key_set(rule.jwks).text
        except ValueError:
            return NOBODYS


@dataclass(slots=True)
class _State:
    keys: str | None = None
    due: float = 0.0
    failures: int = 0
    is_fetching: bool = False


@dataclass(slots=True)
class TokenKeys:
    """Follows `policies` and fetches with `fetch`; tells subscribers when a key has changed."""

    policies: Callable[[], PolicySet]
    fetch: Fetch
    clock: Clock
    metrics: Metrics
    _seen: PolicySet | None = None
    _current: KeySets = field(default_factory=KeySets)
    _states: dict[KeySource, _State] = field(default_factory=dict)
    _callbacks: list[Callable[[], None]] = field(default_factory=list)

    def current(self) -> KeySets:
        """Return what is known now; another object after each change."""
        return self._current

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each change from now on."""
        self._callbacks.append(callback)

    async def run(self) -> None:
        """Fetch what is due, until cancelled."""
        slots = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            while True:
                self._follow()
                for source, state in self._due():
                    group.create_task(self._refresh(source, state, slots))
                await asyncio.sleep(_TICK_SECONDS)

    def _follow(self) -> None:
        """Know the sources that policy names now, and no others."""
        current = self.policies()
        if current is self._seen:
            return
        self._seen = current
        named = dict.fromkeys(_sources(current))
        if len(named) > MAXIMUM_SOURCES:
            log.error("token_issuers_not_followed", named=len(named), followed=MAXIMUM_SOURCES)
        followed = list(named)[:MAXIMUM_SOURCES]
        self._states = {source: self._states.get(source, _State()) for source in followed}
        self._publish()

    def _due(self) -> Iterator[tuple[KeySource, _State]]:
        now = self.clock.monotonic()
        for source, state in self._states.items():
            if not state.is_fetching and state.due <= now:
                state.is_fetching = True
                yield source, state

    async def _refresh(self, source: KeySource, state: _State, slots: asyncio.Semaphore) -> None:
        try:
            async with slots:
                text = await self.fetch(source)
            found = read_key_set(text)
        except (KeysUnavailable, ValueError) as error:
            self._failed(source, state, str(error))
        else:
            if found.text != state.keys:
                log.info("token_keys_changed", issuer=source.issuer, keys=found.keys)
                for reason in found.unused:
                    log.warning("token_key_not_used", issuer=source.issuer, reason=reason)
            state.keys, state.failures = found.text, 0
            state.due = self.clock.monotonic() + REFRESH_SECONDS
            self.metrics.token_key_fetches.labels("ok").inc()
            self._publish()
        finally:
            state.is_fetching = False

    def _failed(self, source: KeySource, state: _State, reason: str) -> None:
        delay = min(FIRST_RETRY_SECONDS * 2 ** min(state.failures, 10), REFRESH_SECONDS)
        state.failures += 1
        state.due = self.clock.monotonic() + delay
        self.metrics.token_key_fetches.labels("failed").inc()
        log.warning(
            "token_keys_not_fetched",
            issuer=source.issuer,
            reason=reason,
            kept=state.keys is not None,
            hint="until keys have been fetched once, every token of the issuer is refused",
        )

    def _publish(self) -> None:
        """Let others see what is known, and tell them if that is something else than before."""
        known = {s: state.keys for s, state in self._states.items() if state.keys is not None}
        self.metrics.token_issuers_without_keys.set(len(self._states) - len(known))
        if known == self._current.fetched:
            return
        self._current = KeySets(known)
        for callback in tuple(self._callbacks):
            callback()


def _sources(policies: PolicySet) -> Iterator[KeySource]:
    """Yield where the keys are that `policies`, and a set on trial beside them, need."""
    for each in (policies, policies.overlay.candidate):
        if each is None:
            continue
        for document in each.request_authentications:
            yield from (KeySource.of(rule) for rule in document.rules if not rule.jwks)
