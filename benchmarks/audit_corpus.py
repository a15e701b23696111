"""A log of many entries, written straight into the table: kinds and identities of a busy mesh.

10,000 identities in 200 namespaces of four clusters, on 800 nodes, a pod for each eight entries.
Seven entries in ten are issuance, the rest decisions, refusals and reads. Bodies are canonical, of
the size that the service writes; leaf hashes are real, the tree above them is not made.

`repeat` makes a log longer by copies of what it has, with the index of it: what a search looks at
is then as much as if all of it had been written, and what is rare is there as often as there are
copies. That takes minutes for ten million entries, and not the better part of an hour.
"""

import random
from collections.abc import Iterator
from hashlib import sha256
from typing import Final

import sqlalchemy as sa

from audit.merkle import leaf_hash
from audit.tree import audit_entries, audit_head
from meshca.database import bulk_insert

START_US: Final = 1_790_000_000_000_000
STEP_US: Final = 250_000
_SECOND: Final = 1_000_000
_PAGE: Final = 8_192

Row = tuple[int, int, str, bytes, str]


def rows(start: int, stop: int) -> Iterator[Row]:
    """Yield the entries `start` to `stop`, the same in every run."""
    choose = random.Random(start)  # noqa: S311  # a corpus, no secret
    for index in range(start, stop):
        kind = _kind(choose.random())
        body = _BODIES[kind](index, choose)
        yield index, START_US + index * STEP_US, kind, leaf_hash(body.encode()), body


def _kind(chance: float) -> str:
    if chance < 0.7:
        return "issuance"
    if chance < 0.9:
        return "decision"
    return "refusal" if chance < 0.98 else "read"


def serial_of(index: int) -> str:
    """Return the serial of the certificate that entry `index` is about, if it is an issuance."""
    return f"{0xA << 124 | index * 0x9E3779B97F4A7C15:032x}"


def fingerprint_of(index: int) -> str:
    """Return the fingerprint of that certificate."""
    return sha256(serial_of(index).encode()).hexdigest()


def identity(number: int) -> str:
    """Return the SPIFFE ID of workload `number`."""
    return f"spiffe://example.org/ns/team-{number % 200:03}/sa/service-{number % 10_000:05}"


def _time(index: int) -> str:
    # Only its form matters: queries compare the column.
    at = START_US + index * STEP_US
    seconds = at // _SECOND
    day, rest = divmod(seconds, 86_400)
    return (
        f"2026-{day % 12 + 1:02}-{day % 28 + 1:02}T"
        f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}.{at % _SECOND:06}Z"
    )


def _place(index: int, choose: random.Random) -> tuple[int, str, str, str]:
    number = int(10_000 * choose.random() ** 2)
    pod = f"service-{number:05}-5d8f7c9b4-{(index >> 3) % 1_000_003:05x}"
    return number, f"cluster-{number % 4}", pod, f"node-{number * 7 % 800:03}"


def _issuance(index: int, choose: random.Random) -> str:
    number, cluster, pod, node = _place(index, choose)
    name, uid = identity(number), f"5f0d7f0a-6a57-4a5c-8b6b-{index:012x}"
    return (
        f'{{"actor":"{name}","cluster":"{cluster}","destination":"","details":{{"authority":'
        f'"2715f257d1a0c4be8f3d6a9b0c1d2e3f40516273","issuer":"https://kubernetes.default.svc",'
        f'"key_sha256":"{fingerprint_of(index + 1)}","method":"kubernetes_jwks","not_after":'
        f'1793624400,"not_before":1793620740,"pod_uid":"{uid}","service_account_uid":'
        f'"0b0e8a3c-8bb8-4e7e-8f43-{number:012x}","token_id":"7e0c7a52-6b66-4c8e-9a7a-'
        f'{index:012x}"}},"fingerprint":"{fingerprint_of(index)}","index":{index},"kind":"issuance",'
        f'"namespace":"team-{number % 200:03}","node":"{node}","outcome":"done","pod":"{pod}",'
        f'"policy":"","reason":"","request_id":"","salt":"{index:032x}","serial":'
        f'"{serial_of(index)}","service_account":"service-{number:05}","spiffe_id":"{name}",'
        f'"time":"{_time(index)}","v":2}}'
    )


def _decision(index: int, choose: random.Random) -> str:
    number, cluster, pod, node = _place(index, choose)
    policy = f"team-{number % 200:03}/policy-{number % 7}"
    return (
        f'{{"actor":"","cluster":"{cluster}","destination":"team-{number % 200:03}/service-'
        f'{number:05}","details":{{"door":"access_log","method":"GET","path":"/v1/orders",'
        f'"port":8080,"shadow":""}},"fingerprint":"","index":{index},"kind":"decision","namespace":'
        f'"team-{number % 200:03}","node":"{node}","outcome":"refused","pod":"{pod}","policy":'
        f'"{policy}","reason":"no rule of {policy} allows it","request_id":"b2c1-{index:012x}",'
        f'"salt":"{index:032x}","serial":"","service_account":"service-{number:05}","spiffe_id":'
        f'"{identity(number * 31)}","time":"{_time(index)}","v":2}}'
    )


def _refusal(index: int, choose: random.Random) -> str:
    number, cluster, pod, node = _place(index, choose)
    reason = choose.choice(("expired", "bad_signature", "wrong_audience", "banned"))
    return (
        f'{{"actor":"","cluster":"{cluster}","destination":"","details":{{"claimed":{{"sub":'
        f'"system:serviceaccount:team-{number % 200:03}:service-{number:05}"}},"door":"mesh",'
        f'"message":"the token was not taken: {reason}","peer":"10.{number % 250}.1.7:4100"}},'
        f'"fingerprint":"","index":{index},"kind":"refusal","namespace":"team-{number % 200:03}",'
        f'"node":"{node}","outcome":"refused","pod":"{pod}","policy":"","reason":"{reason}",'
        f'"request_id":"","salt":"{index:032x}","serial":"","service_account":"","spiffe_id":"",'
        f'"time":"{_time(index)}","v":2}}'
    )


def _read(index: int, choose: random.Random) -> str:
    return (
        f'{{"actor":"uid:{choose.randrange(5)}","cluster":"","destination":"","details":{{"path":'
        f'"/v1/audit/entries"}},"fingerprint":"","index":{index},"kind":"read","namespace":"",'
        f'"node":"","outcome":"done","pod":"","policy":"","reason":"","request_id":"",'
        f'"salt":"{index:032x}","serial":"","service_account":"","spiffe_id":"","time":'
        f'"{_time(index)}","v":2}}'
    )


_BODIES: Final = {
    "issuance": _issuance,
    "decision": _decision,
    "refusal": _refusal,
    "read": _read,
}


def write(engine: sa.Engine, start: int, stop: int) -> None:
    """Write the entries `start` to `stop`, which must follow those that are there."""
    for first in range(start, stop, _PAGE):
        page = list(rows(first, min(first + _PAGE, stop)))
        with (
            engine.connect().execution_options(meshca_writes=True) as connection,
            connection.begin(),
        ):
            if engine.dialect.name == "postgresql":
                _copy(connection, page)
            else:
                bulk_insert(connection, audit_entries, page)
            size = page[-1][0] + 1
            connection.execute(audit_head.delete())
            connection.execute(
                audit_head.insert().values(id=1, size=size, frontier=_frontier(size))
            )


def _frontier(size: int) -> bytes:
    """Return a frontier of `size` leaves whose hashes stand for nothing."""
    return bytes(32) * size.bit_count()


def _copy(connection: sa.Connection, page: list[Row]) -> None:
    driver = connection.connection.driver_connection
    assert driver is not None
    with (
        driver.cursor() as cursor,
        cursor.copy(
            "COPY audit_entries (leaf_index, time, kind, leaf_hash, body) FROM STDIN"
        ) as copy,
    ):
        for row in page:
            copy.write_row(row)


def repeat(engine: sa.Engine, entries: int, copies: int) -> None:
    """Have the first `entries`, which whole segments hold, `copies` times in all.

    Segments' numbers are random (audit/index/indexer.py): a copy's are those of the first, moved.
    """
    for copy in range(1, copies):
        with (
            engine.connect().execution_options(meshca_writes=True) as connection,
            connection.begin(),
        ):
            for statement in _REPEAT:
                given = {"shift": copy * entries, "time": copy * entries * STEP_US}
                number = {"entries": entries, "number": copy}
                connection.execute(sa.text(statement), {**given, **number})
            size = (copy + 1) * entries
            head = audit_head.update().values(size=size, frontier=_frontier(size))
            connection.execute(head)


_REPEAT: Final = (
    "INSERT INTO audit_entries (leaf_index, time, kind, leaf_hash, body)"
    " SELECT leaf_index + :shift, time + :time, kind, leaf_hash, body FROM audit_entries"
    " WHERE leaf_index < :entries ORDER BY leaf_index",
    "INSERT INTO audit_postings (segment, block, lists)"
    " SELECT segment + :number, block, lists FROM audit_postings"
    " WHERE segment IN (SELECT id FROM audit_segments WHERE first < :entries)"
    " ORDER BY segment, block",
    "INSERT INTO audit_segments (id, first, entries, stage, redactions, minimum_time,"
    " maximum_time, times, named)"
    " SELECT id + :number, first + :shift, entries, stage, redactions, minimum_time + :time,"
    " maximum_time + :time, times, named FROM audit_segments WHERE first < :entries",
)
