"""`envoy.service.accesslog.v3.AccessLogService`: proxies tell what they have decided.

Each entry is decided again by the engine, off any request's way: that names the rule, what is on
trial, AUDIT matches and the near miss, and shows where a proxy and the engine disagree.

Rules. Entries belong to the workload of the proxy that proved itself when the stream was opened,
whatever they say; the stream ends with that proof, a ban or a revocation. A proxy that sends more
than `ENTRIES_PER_SECOND` over all of its streams, or all together more than
`ALL_ENTRIES_PER_SECOND`, loses what is over; it is counted and told as a gap. Nothing is compared
that may differ without anything being wrong: requests from around a change of policy, those of
which a fact is not in the log (headers, answers of providers), and refusals that are no policy's.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage

from authz.attributes import Attribute
from authz.compile import SEVERAL_URI_SANS
from authz.engine import MAXIMUM_COMPILED, Layer, WorkloadPolicies, compile_workload, decide
from authz.policy import PolicySet, Term
from authz.records.bucket import Bucket
from authz.records.observed import ACCESS_LOG, Observed, Place
from authz.records.recorder import DecisionRecorder
from authz.workload import Workload
from identity.caller import Caller
from meshca.clock import Clock
from meshca.errors import ProofRefused
from meshca.logs import get_logger
from meshca.metrics import Metrics
from sds.access_log_entry import Told, read_http, read_tcp
from sds.access_log_rates import HolderRates
from sds.known_callers import KnownCallers, Proof, place_of
from sds.node_hints import read_hints
from sds.revoked import PEER_NOT_NOTED, REVOKED
from sds.session import Receive
from sds.workloads import Workloads

SERVICE: Final = "envoy.service.accesslog.v3.AccessLogService"
METHOD: Final = "StreamAccessLogs"
DOOR: Final = "access_log"
ENTRIES_PER_SECOND: Final = 1_000.0
ALL_ENTRIES_PER_SECOND: Final = 5_000.0
BURST_SECONDS: Final = 5.0
SETTLES_WITHIN: Final = timedelta(seconds=10)
"""For how long after a change of policy a proxy may still decide by the set before."""

_AT_ONCE: Final = 4
"""About a millisecond's worth."""
_NO_POLICY: Final = frozenset(
    {REVOKED, PEER_NOT_NOTED, SEVERAL_URI_SANS, "none", "ext_authz_error", "ext_authz_denied"}
)
"""What refuses without being a policy that the engine knows; `none` is a filter not yet pushed."""
_NOT_IN_LOGS: Final = frozenset({Attribute.HEADER, Attribute.SNI})
"""Headers are not sent; a server name is, but filters see it behind a TLS inspector only."""

log = get_logger("sds")


@dataclass(slots=True, kw_only=True)
class AccessLogs:
    """Takes access logs; `end_all` ends the streams when the server drains."""

    callers: KnownCallers
    workloads: Workloads
    policies: Callable[[], PolicySet]
    recorder: DecisionRecorder
    clock: Clock
    metrics: Metrics
    entries_per_second: float = ENTRIES_PER_SECOND
    all_entries_per_second: float = ALL_ENTRIES_PER_SECOND
    _all: Bucket = field(init=False)
    _changed_at: datetime = field(init=False)
    _holders: HolderRates = field(init=False)
    _turn: asyncio.Lock = field(init=False, default_factory=asyncio.Lock)
    _ends: set["asyncio.Event"] = field(init=False, default_factory=set)
    _partial: dict[Workload, bool] = field(init=False, default_factory=dict)
    _partial_of: str = field(init=False, default="")

    def __post_init__(self) -> None:
        own, everybody = self.entries_per_second, self.all_entries_per_second
        self._holders = HolderRates(self.clock, own, own * BURST_SECONDS)
        self._all = Bucket(self.clock, everybody, everybody * BURST_SECONDS)
        self._changed_at = self.clock.now()

    def policy_changed(self) -> None:
        """Take note that another set is in force from now on."""
        self._changed_at = self.clock.now()

    @property
    def streams(self) -> int:
        """Return how many streams are open."""
        return len(self._ends)

    def end_all(self) -> None:
        """End every stream: the server drains."""
        for end in self._ends:
            end.set()

    async def stream(self, receive: Receive[StreamAccessLogsMessage], proof: Proof) -> None:
        """Take the entries of one stream until it ends.

        Raises Refused or Unavailable if the caller cannot be attested, or is not welcome any more.
        """
        caller = await self.callers.admit(DOOR, proof)
        own = self._holders.take_in(caller.holder)
        end = asyncio.Event()
        self._ends.add(end)
        try:
            await self._read(receive, proof, caller, own, end)
        finally:
            self._ends.discard(end)
            self._holders.let_go(caller.holder)

    async def _read(
        self,
        receive: Receive[StreamAccessLogsMessage],
        proof: Proof,
        caller: Caller,
        own: Bucket,
        end: asyncio.Event,
    ) -> None:
        said: Workload | None = None
        while message := await _before(end, receive, self._remaining(caller)):
            if not self.callers.still_passes(caller):
                raise ProofRefused("proof_ended", "the proof that opened the stream is not good")
            if said is None and message.HasField("identifier"):
                labels = read_hints(message.identifier.node).labels
                said = Workload(caller.evidence.namespace, labels)
            found = self.workloads.find(caller, proof.metadata)
            workload = found or said or Workload(caller.evidence.namespace)
            await self._take(message, caller, workload, own)

    def _remaining(self, caller: Caller) -> float:
        return max((caller.expires_at - self.clock.now()).total_seconds(), 0.0)

    async def _take(self, message: Any, caller: Caller, workload: Workload, own: Bucket) -> None:
        """Take the entries of a message, a few in each round of the event loop.

        Proxies send what they have gathered in a second, many at about the same time. So it is a
        few of all together: what somebody waits for (a check, a revocation on its way) goes first.
        """
        destination, place = str(caller.spiffe_id), place_of(caller)
        for read, entries in (
            (read_http, message.http_logs.log_entry),
            (read_tcp, message.tcp_logs.log_entry),
        ):
            for start in range(0, len(entries), _AT_ONCE):
                async with self._turn:
                    await asyncio.sleep(0)
                    for entry in entries[start : start + _AT_ONCE]:
                        outcome = "flood"
                        if own.take() and self._all.take():
                            told = read(entry, workload, self.clock.now())
                            outcome = self._record(told, destination, place)
                        else:
                            self.recorder.lose("flood")
                        self.metrics.access_log_entries.labels(outcome).inc()

    def _record(self, told: Told | None, destination: str, place: Place) -> str:
        """Record what an entry told; return what became of it."""
        if told is None:
            return "none"
        if told.is_checked:
            return "checked"
        policies = self.policies()
        decision = decide(policies, told.request)
        is_partial = told.is_partial or self._is_partial(policies, told.request.destination)
        disagrees = (
            decision.allowed is not told.allowed
            and not is_partial
            and told.named not in _NO_POLICY
            and told.at >= self._changed_at + SETTLES_WITHIN
        )
        if disagrees:
            self._complain(told, destination)
        self.recorder.record(
            Observed(
                request=told.request,
                allowed=told.allowed,
                decision=decision,
                at=told.at,
                door=ACCESS_LOG,
                destination=destination,
                named=told.named,
                is_partial=is_partial,
                disagrees=disagrees,
                request_id=told.request_id,
                place=place,
            )
        )
        return "recorded"

    def _complain(self, told: Told, destination: str) -> None:
        did = "allowed" if told.allowed else "denied"
        self.metrics.authz_disagreements.labels(did).inc()
        log.error(
            "proxy_disagrees",
            proxy=destination,
            did=did,
            named=told.named,
            source=str(told.request.source or ""),
            hint="the record has the request: meshca authz decisions",
        )

    def _is_partial(self, policies: PolicySet, workload: Workload) -> bool:
        """Return whether a decision about `workload` may need what a log does not hold."""
        if policies.version != self._partial_of or len(self._partial) >= MAXIMUM_COMPILED:
            self._partial_of, self._partial = policies.version, {}
        if workload not in self._partial:
            self._partial[workload] = needs_more(compile_workload(policies, workload))
        return self._partial[workload]


def needs_more(policies: WorkloadPolicies) -> bool:
    """Return whether something decides by what access logs do not hold.

    That is headers, answers of providers, and the very second at which something ends.
    """
    if policies.bypasses:
        return True
    layers = [each for each in (policies.enforced, policies.shadow) if each is not None]
    return any(_layer_needs_more(layer) for layer in layers)


def _layer_needs_more(layer: Layer) -> bool:
    if layer.custom.rules:
        return True
    return any(
        rule.expires is not None or _looks_beyond(rule.all_terms())
        for index in (layer.deny, layer.allow, layer.audit)
        for rule in index.rules
    )


def _looks_beyond(terms: Iterable[Term]) -> bool:
    return any(term.attribute in _NOT_IN_LOGS for term in terms)


async def _before(end: asyncio.Event, receive: Receive[Any], seconds: float) -> Any:
    """Return the next message; nothing when the stream is over, or has to end."""
    reading = asyncio.ensure_future(receive())
    ending = asyncio.ensure_future(end.wait())
    try:
        done, _ = await asyncio.wait(
            {reading, ending}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )
        return reading.result() if reading in done else None
    finally:
        for task in (reading, ending):
            task.cancel()
        await asyncio.gather(ending, reading, return_exceptions=True)
