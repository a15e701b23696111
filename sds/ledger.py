"""The ledger: who is connected, and which version of what each proxy has acknowledged.

It holds the open sessions and reads their state when asked, so that it costs a push nothing. It
also bounds them: streams in all, and streams of one holder.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from authz.workload import Workload
from identity.caller import Caller
from meshca.errors import Overloaded
from meshca.logs import clip
from rotation.proxies import ProxyState
from sds.session import Session

MAXIMUM_STREAMS: Final = 20_000
MAXIMUM_STREAMS_PER_HOLDER: Final = 64
_AT_ONCE: Final = 64
_SHOWN_NAMES: Final = 16

AnySession = Session[Any, Any]


@dataclass(slots=True)
class Ledger:
    """Every open session of this process, by holder."""

    maximum_streams: int = MAXIMUM_STREAMS
    maximum_streams_per_holder: int = MAXIMUM_STREAMS_PER_HOLDER
    _sessions: dict[str, set[AnySession]] = field(default_factory=lambda: defaultdict(set))
    _to_wake: list[AnySession] = field(default_factory=list)
    _count: int = 0

    def open(self, session: AnySession) -> None:
        """Take in a session; raises Overloaded when it, or its holder, would be one too many."""
        mine = self._sessions.get(session.caller.holder, ())
        if len(mine) >= self.maximum_streams_per_holder:
            raise Overloaded(f"{session.caller.spiffe_id} already has {len(mine)} streams")
        if self._count >= self.maximum_streams:
            raise Overloaded(f"{self._count} streams are open")
        self._sessions[session.caller.holder].add(session)
        self._count += 1

    def close(self, session: AnySession) -> None:
        """Let a session go."""
        mine = self._sessions.get(session.caller.holder)
        if mine is None or session not in mine:
            return
        mine.discard(session)
        self._count -= 1
        if not mine:
            del self._sessions[session.caller.holder]

    def wake_all(self) -> None:
        """Let every session look for something to send: soon, and a few at a time.

        What else the event loop has to do is not held up until thousands have been served. A change
        that comes meanwhile starts anew: who was served already is looked at again.
        """
        is_waking = bool(self._to_wake)
        self._to_wake = [s for sessions in self._sessions.values() for s in sessions]
        if self._to_wake and not is_waking:
            self._wake_some()

    def wake_pods(self, cluster: str, uids: Collection[str]) -> None:
        """Let the sessions of these pods of `cluster` look for something to send."""
        for sessions in self._sessions.values():
            for session in sessions:
                evidence = session.caller.evidence
                if evidence.pod_uid in uids and evidence.cluster == cluster:
                    session.wake()

    def _wake_some(self) -> None:
        some, self._to_wake = self._to_wake[:_AT_ONCE], self._to_wake[_AT_ONCE:]
        for session in some:
            session.wake()
        if self._to_wake:
            asyncio.get_running_loop().call_soon(self._wake_some)

    def end_expired(self, now: datetime) -> None:
        """End the sessions whose proof has expired; called every second or so."""
        for sessions in self._sessions.values():
            for session in sessions:
                if session.ends_at <= now:
                    session.end()

    def end_where(self, refuses: Callable[[Caller], bool]) -> int:
        """End the sessions of the callers that `refuses` says; return how many."""
        ended = 0
        for sessions in self._sessions.values():
            for session in sessions:
                if refuses(session.caller):
                    session.end()
                    ended += 1
        return ended

    def end_all(self) -> None:
        """End every session: the server drains."""
        for sessions in self._sessions.values():
            for session in sessions:
                session.end()

    @property
    def streams(self) -> int:
        """Return how many sessions are open."""
        return self._count

    def holders(self) -> list[str]:
        """Return who is connected, each holder once."""
        return list(self._sessions)

    def sessions_of(self, holder: str) -> Collection[AnySession]:
        """Return the open sessions of `holder`; none when it has left."""
        return self._sessions.get(holder, ())

    def find_workload(self, holder: str) -> Workload | None:
        """Return which workload `holder` is by its newest stream; None if no stream says so."""
        newest, found = None, None
        for session in self._sessions.get(holder, ()):
            if newest is None or session.connected_at >= newest:
                workload = session.find_workload()
                if workload is not None:
                    newest, found = session.connected_at, workload
        return found

    def connected(self) -> Sequence[ProxyState]:
        """Return the connected proxies, ordered by identity and pod."""
        states = [_state(sessions) for sessions in self._sessions.values() if sessions]
        return sorted(states, key=lambda state: (state.spiffe_id, state.pod, state.node_id))


def _state(sessions: set[AnySession]) -> ProxyState:
    ordered = sorted(sessions, key=lambda session: session.connected_at)
    first, last = ordered[0], ordered[-1]
    subscriptions = [s for session in ordered for s in session.subscriptions]
    unanswered = dict.fromkeys(clip(n, 128) for s in subscriptions for n in s.unanswered())
    too_many = sum(s.refused_names for s in subscriptions)
    names = list(unanswered)
    if too_many or len(names) > _SHOWN_NAMES:
        more = too_many + max(len(names) - _SHOWN_NAMES, 0)
        names = [*names[:_SHOWN_NAMES], f"(and {more} more)"]
    return ProxyState(
        spiffe_id=str(last.caller.spiffe_id),
        cluster=last.caller.evidence.cluster,
        namespace=last.caller.evidence.namespace,
        pod=last.caller.evidence.pod_name,
        node_id=next((s.node_id for s in reversed(ordered) if s.node_id), ""),
        peer=last.peer,
        connected_at=first.connected_at,
        proof_expires_at=max(session.caller.expires_at for session in ordered),
        streams=len(ordered),
        nacks=sum(s.nacks for s in subscriptions),
        unanswered=tuple(names),
        resources=tuple(state for s in subscriptions for state in s.states()),
        holder=last.caller.holder,
        workload=next((w for s in reversed(ordered) if (w := s.find_workload())), None),
    )
