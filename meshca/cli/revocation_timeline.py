"""The timeline of a revocation, for people: what happened when, and who is still behind."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from meshca.cli.output import note, print_table

_TIMELINE: Final = ("at", "after", "what")
_BEHIND: Final = ("behind", "pod", "since", "lacks", "said")


def print_timeline(timeline: dict[str, Any]) -> None:
    """Print what happened, in order, and then who has not acknowledged it."""
    decided = timeline["decided_at"]
    happened = sorted(_happened(timeline), key=lambda each: datetime.fromisoformat(each[0]))
    print_table(_TIMELINE, [(at, _after(decided, at), what) for at, what in happened])
    behind = [each for replica in timeline["replicas"] for each in replica["behind"]]
    if behind:
        names = ("spiffe_id", "pod", "since", "lacks", "nack")
        print_table(_BEHIND, [[each[name] for name in names] for each in behind])
    for text in _notes(timeline, len(behind)):
        note(text)


def _happened(timeline: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield timeline["decided_at"], "decided"
    for signed in timeline["signed"]:
        yield signed["at"], f"list {signed['number']} of {signed['authority_id']} signed"
    for replica in timeline["replicas"]:
        yield from _replica(replica)
    if timeline["in_force_at"] is not None:
        yield timeline["in_force_at"], "in force everywhere"


def _replica(replica: dict[str, Any]) -> Iterator[tuple[str, str]]:
    name, proxies = replica["replica"], replica["proxies"]
    if replica["pushed_at"] is None:
        return
    yield replica["pushed_at"], f"{name}: pushed to {proxies} proxies"
    last = replica["last_acknowledged_at"]
    if last is not None:
        left = f", {replica['left']} left" if replica["left"] else ""
        so_far = "" if replica["complete"] else " so far"
        yield last, f"{name}: acknowledged by {replica['acknowledged']}{left}{so_far}"


def _notes(timeline: dict[str, Any], named: int) -> Iterator[str]:
    if timeline["milliseconds"] is not None:
        yield f"in force {timeline['milliseconds']} ms after it was decided"
    count = sum(replica["behind_count"] for replica in timeline["replicas"])
    if count > named:
        yield f"and {count - named} more are behind"
    for replica in timeline["replicas"]:
        name = replica["replica"]
        if replica["pushed_at"] is None:
            yield f"{name}: nothing is known of it yet"
        for authority in replica["unsigned"]:
            yield f"{name}: the list of {authority} was not signed: refused by the filter only"
        if replica["without_list"]:
            yield f"{name}: {replica['without_list']} proxies take no list: only their filter acts"
        if replica["without_filter"]:
            yield f"{name}: {replica['without_filter']} proxies have no filter: only lists act"


def _after(since: str, at: str) -> str:
    distance = datetime.fromisoformat(at) - datetime.fromisoformat(since)
    return f"{distance.total_seconds() * 1000:+,.0f} ms"
