"""The audit entries of decisions: denials and what is told in full, counts by the minute, gaps.

    decision        one decision that is recorded in full: a denial, one that what is on trial would
                    have reversed, an AUDIT match, one on which a proxy and the engine disagree
    decision_count  how often one caller did what to one destination in one minute, by policy
    gap             decisions that were not recorded, or are not in the log but in the records only

Where it happened (`cluster`, `namespace`, `service_account`, `pod`, `node`) is the proxy that
decided; who called is `spiffe_id`. Where an application asked, nobody attested the source that it
named: the application is the actor, and `claimed_source` a detail. Times are when we heard of it:
what a proxy says of its own clock is a detail. No query, header, claim or token is in a record, so
none is here.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final

import orjson

from audit.entry import Entry, Json
from authz.records.operation import Operation, parse_labels
from authz.records.tables import FullRecord, Gap, MinuteCount, Outcome

ENTRIES_A_MINUTE: Final = 2_000
"""Entries of counts that one minute gets."""
SHARE: Final = 0.25
"""How many of them one caller may take, and one destination."""
OPERATIONS_AN_ENTRY: Final = 20

_OUTCOMES: Final = {True: "done", False: "refused"}


@dataclass(slots=True)
class DecisionEntries:
    """Makes entries of records, in the thread of the recorder; remembers what a minute has got."""

    entries_a_minute: int = ENTRIES_A_MINUTE
    _minute: int = -1
    _taken: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __call__(
        self, records: Sequence[FullRecord] | Sequence[MinuteCount] | Sequence[Gap], now: datetime
    ) -> list[Entry]:
        """Return the entries of `records`, which are of one type."""
        counts = [each for each in records if isinstance(each, MinuteCount)]
        return [
            *(_full(each, now) for each in records if isinstance(each, FullRecord)),
            *self._counted(counts, now),
            *(_gap(each) for each in records if isinstance(each, Gap)),
        ]

    def _counted(self, counts: Sequence[MinuteCount], now: datetime) -> Iterator[Entry]:
        left: list[MinuteCount] = []
        for _, together in groupby(counts, key=_group):
            group = list(together)
            for start in range(0, len(group), OPERATIONS_AN_ENTRY):
                some = group[start : start + OPERATIONS_AN_ENTRY]
                if self._take(some[0]):
                    yield _count(some)
                else:
                    left += some
        if left:
            yield _not_in_the_log(left, now)

    def _take(self, first: MinuteCount) -> bool:
        if first.minute != self._minute:
            self._minute = first.minute
            self._taken.clear()
        everything = ("all", "")
        source, destination = _actor(first.operation), first.operation.destination
        shared = ("source", source), ("destination", destination)
        most = max(1, int(self.entries_a_minute * SHARE))
        if self._taken[everything] >= self.entries_a_minute:
            return False
        if any(self._taken[who] >= most for who in shared):
            return False
        self._taken.update((everything, *shared))
        return True


def _group(counted: MinuteCount) -> tuple[Any, ...]:
    operation, outcome = counted.operation, counted.outcome
    where = operation.destination, operation.namespace, operation.labels
    who = operation.asked_by, operation.source
    return counted.minute, *who, *where, outcome.allowed, outcome.policy


def _actor(operation: Operation) -> str:
    return operation.asked_by or operation.source


def _attested(operation: Operation) -> str:
    return "" if operation.asked_by else operation.source


def _claimed(operation: Operation) -> dict[str, Json]:
    return {"claimed_source": operation.source} if operation.asked_by else {}


def _full(record: FullRecord, now: datetime) -> Entry:
    operation, place = record.operation, record.place
    told = orjson.loads(record.details)
    told.pop("request_id", None)  # it is a field
    return Entry(
        time=now,
        kind="decision",
        outcome=_OUTCOMES[record.outcome.allowed],
        actor=_actor(operation),
        spiffe_id=_attested(operation),
        cluster=place.cluster,
        namespace=operation.namespace,
        service_account=place.service_account,
        pod=place.pod,
        node=place.node,
        destination=operation.destination,
        policy=record.outcome.policy,
        request_id=record.request_id,
        reason=record.reason,
        details={
            "at": record.at.isoformat(),
            "door": record.door,
            "rule": record.outcome.rule,
            **_claimed(operation),
            "labels": dict(parse_labels(operation.labels)),
            **_what(operation),
            "sni": record.sni,
            "source_ip": record.source_ip,
            "remote_ip": record.remote_ip,
            **told,
            **({"shadow_verdict": record.shadow} if record.shadow else {}),
        },
    )


def _count(together: Sequence[MinuteCount]) -> Entry:
    operation, outcome = together[0].operation, together[0].outcome
    begins = datetime.fromtimestamp(together[0].minute, UTC)
    return Entry(
        time=max(each.last for each in together),
        kind="decision_count",
        outcome=_OUTCOMES[outcome.allowed],
        actor=_actor(operation),
        spiffe_id=_attested(operation),
        namespace=operation.namespace,
        destination=operation.destination,
        policy=outcome.policy,
        details={
            "minute": begins.isoformat(),
            **_claimed(operation),
            "count": sum(each.count for each in together),
            "labels": dict(parse_labels(operation.labels)),
            "operations": [_counted_operation(each) for each in together],
        },
    )


def _counted_operation(counted: MinuteCount) -> Json:
    return {**_what(counted.operation), **_rule(counted.outcome), "count": counted.count}


def _rule(outcome: Outcome) -> dict[str, Json]:
    return {} if outcome.rule is None else {"rule": outcome.rule}


def _what(operation: Operation) -> dict[str, Json]:
    """Return what was done, without what is not known."""
    said: dict[str, Json] = {
        "protocol": operation.protocol,
        "port": operation.port,
        "method": operation.method,
        "path": operation.path,
        "host": operation.host,
    }
    return {name: value for name, value in said.items() if value is not None}


def _not_in_the_log(left: Sequence[MinuteCount], now: datetime) -> Entry:
    """Return the gap of counts that decision records have, and the log has not."""
    return Entry(
        time=now,
        kind="gap",
        outcome="failed",
        actor="meshca",
        reason="too_many_counts",
        details={
            "what": "decision_count",
            "unrecorded": sum(each.count for each in left),
            "since": min(each.first for each in left).isoformat(),
            "by_reason": {"entries": len(left)},
        },
    )


def _gap(gap: Gap) -> Entry:
    return Entry(
        time=gap.at,
        kind="gap",
        outcome="failed",
        actor="meshca",
        reason="decisions_not_recorded",
        details={
            "what": "decision",
            "unrecorded": gap.count,
            "since": gap.since.isoformat(),
            "by_reason": {gap.reason: gap.count},
        },
    )
