"""The numbered steps of issuance: in their order, and what is left when one of them fails."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography import x509

from ca.authority import Signer
from ca.issuance import Issuance
from ca.issuer import Svid
from ca.keys import PrivateKeySigner
from ca.request import from_csr
from ca.store import Filter, Planned, Signed
from meshca.database import Sink
from meshca.errors import (
    AuthorityUnavailable,
    IssuanceFault,
    Overloaded,
    ProofRefused,
    RequestRefused,
    StoreUnavailable,
    Unavailable,
)
from meshca.spiffe_id import SpiffeId
from tests.builders import (
    NOW,
    ORDERS,
    Issuing,
    issuing,
    make_authority,
    make_caller,
    make_csr,
    make_key,
    make_pki,
    make_request,
)
from tests.stores import SINKS

Rows = list[dict[str, object]]


def rows(path: Path, query: str) -> Rows:
    """Return what another process would read from the database right now."""
    with closing(sqlite3.connect(path / "meshca.db")) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query)]


@dataclass
class WatchingSigner:
    """The real signer; before each signature it does what the test wants."""

    before: Callable[[bytes], None]
    inner: Signer = field(default_factory=lambda: PrivateKeySigner(make_pki().intermediate_key))
    calls: int = 0

    @property
    def signature_algorithm(self) -> bytes:
        """Return the algorithm of the real one."""
        return self.inner.signature_algorithm

    def sign(self, message: bytes) -> bytes:
        """Sign as the real one does."""
        self.calls += 1
        self.before(message)
        return self.inner.sign(message)


def test_issues_to_an_attested_caller(tmp_path: Path) -> None:
    async def story() -> None:
        async with issuing(tmp_path) as ca:
            svid = await ca.issuance.issue(make_caller(), from_csr(make_csr(), ORDERS))
            assert svid.spiffe_id == str(ORDERS)
            assert svid.issued_at == NOW
            record = ca.inventory.get(svid.serial)
            assert record.intent.evidence.pod_uid == "5f0d7f0a"
            assert ca.sample("meshca_issuance_total", outcome="issued") == 1
            assert ca.sample("meshca_issuance_seconds_count", outcome="issued") == 1
        assert rows(tmp_path, "SELECT status FROM certificates") == [{"status": "issued"}]
        stored = rows(tmp_path, "SELECT certificate FROM certificates")[0]["certificate"]
        assert stored == svid.der

    asyncio.run(story())


def test_the_record_and_the_audit_entry_are_durable_before_the_key_signs(tmp_path: Path) -> None:
    seen: list[tuple[Rows, Rows]] = []

    def look(_message: bytes) -> None:
        certificates = rows(tmp_path, "SELECT serial, status, certificate FROM certificates")
        entries = rows(tmp_path, "SELECT body FROM audit_entries")
        seen.append((certificates, [json.loads(str(entry["body"])) for entry in entries]))

    async def story() -> str:
        authority = make_authority(signer=WatchingSigner(look))
        async with issuing(tmp_path, authority=authority) as ca:
            return (await ca.issuance.issue(make_caller(), make_request())).serial

    serial = asyncio.run(story())
    ((certificates, entries),) = seen
    assert certificates == [{"serial": serial, "status": "intent", "certificate": None}]
    ((kind, outcome, entry_serial),) = [(e["kind"], e["outcome"], e["serial"]) for e in entries]
    assert (kind, outcome, entry_serial) == ("issuance", "done", serial)


def test_the_audit_entry_tells_on_what_evidence(tmp_path: Path) -> None:
    async def story() -> Issuing:
        async with issuing(tmp_path) as ca:
            await ca.issuance.issue(make_caller(), make_request())
            return ca

    asyncio.run(story())
    (entry,) = rows(tmp_path, "SELECT leaf_index, body FROM audit_entries")
    body = json.loads(str(entry["body"]))
    assert rows(tmp_path, "SELECT log_index FROM certificates") == [{"log_index": 0}]
    assert body["index"] == entry["leaf_index"] == 0
    assert (body["cluster"], body["namespace"], body["pod"]) == ("prod-eu", "shop", "orders-0")
    assert body["details"]["pod_uid"] == "5f0d7f0a"
    assert body["details"]["service_account_uid"] == "0b0e8a3c"
    assert body["details"]["token_id"] == "7e0c7a52"
    assert body["details"]["authority"] == make_authority().authority_id
    assert body["details"]["not_after"] == int((NOW + timedelta(hours=1)).timestamp())


def test_a_certificate_found_somewhere_is_held_against_the_entry_by_what_was_signed(
    tmp_path: Path,
) -> None:
    async def story() -> Svid:
        async with issuing(tmp_path) as ca:
            caller = replace(make_caller(), certificate_serial="a1")
            svid = await ca.issuance.issue(caller, make_request(), renews="b2")
            await ca.writer.submit()
            fingerprint = sha256(svid.der).hexdigest()
            (found,) = ca.inventory.list(Filter(fingerprint=fingerprint))
            assert (found.intent.serial, found.log_index) == (svid.serial, 0)
            return svid

    svid = asyncio.run(story())
    (entry,) = rows(tmp_path, "SELECT body FROM audit_entries")
    body = json.loads(str(entry["body"]))
    tbs = x509.load_der_x509_certificate(svid.der).tbs_certificate_bytes
    assert body["details"]["tbs_sha256"] == sha256(tbs).hexdigest()
    assert (body["details"]["renews"], body["details"]["proof_serial"]) == ("b2", "a1")


def failing(error: Exception) -> WatchingSigner:
    def fail(_message: bytes) -> None:
        raise error

    return WatchingSigner(fail)


@dataclass(frozen=True)
class Spoiling:
    """A signer whose signatures do not verify."""

    @property
    def signature_algorithm(self) -> bytes:
        """Return the algorithm of the real one."""
        return PrivateKeySigner(make_key()).signature_algorithm

    def sign(self, message: bytes) -> bytes:
        """Sign something else."""
        return PrivateKeySigner(make_pki().intermediate_key).sign(message + b"!")


@pytest.mark.parametrize(
    ("signer", "error", "said"),
    [
        (failing(Unavailable("vault is sealed")), Unavailable, "vault is sealed"),
        (failing(OSError("connection reset")), IssuanceFault, "connection reset"),
        (Spoiling(), IssuanceFault, "the signature does not verify"),
    ],
    ids=["sealed", "broken", "spoilt signatures"],
)
def test_a_signature_that_fails_leaves_an_intent_and_a_failed_entry(
    tmp_path: Path, signer: Signer, error: type[Exception], said: str
) -> None:
    async def story() -> None:
        async with issuing(tmp_path, authority=make_authority(signer=signer)) as ca:
            with pytest.raises(error, match=said):
                await ca.issuance.issue(make_caller(), make_request())
            assert ca.sample("meshca_issuance_total", outcome="failed") == 1

    asyncio.run(story())
    assert rows(tmp_path, "SELECT status, certificate FROM certificates") == [
        {"status": "intent", "certificate": None}
    ]
    stored = rows(tmp_path, "SELECT body FROM audit_entries ORDER BY leaf_index")
    done, failed = [json.loads(str(row["body"])) for row in stored]
    assert (done["outcome"], failed["outcome"]) == ("done", "failed")
    assert done["serial"] == failed["serial"]
    assert said in failed["reason"]


REFUSED = {
    "the proof has expired": (ProofRefused, make_caller(expires_at=NOW), make_request()),
    "the lifetime is too long": (
        RequestRefused,
        make_caller(),
        make_request(lifetime=timedelta(days=2)),
    ),
    "the identity is not ours": (
        IssuanceFault,
        make_caller(SpiffeId("example.com", "/a")),
        make_request(),
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_nothing_is_recorded_or_signed_when(tmp_path: Path, why: str) -> None:
    error, caller, request = REFUSED[why]
    signer = WatchingSigner(lambda _: None)

    async def story() -> None:
        async with issuing(tmp_path, authority=make_authority(signer=signer)) as ca:
            with pytest.raises(error):
                await ca.issuance.issue(caller, request)
            assert ca.inventory.list(Filter()) == []
            assert ca.entries() == []
            outcome = "failed" if error is IssuanceFault else "refused"
            assert ca.sample("meshca_issuance_total", outcome=outcome) == 1

    asyncio.run(story())
    assert signer.calls == 0


def test_nothing_is_issued_by_an_expired_authority(tmp_path: Path) -> None:
    async def story() -> None:
        async with issuing(tmp_path) as ca:
            ca.clock.advance(timedelta(days=7))
            caller = make_caller(expires_at=ca.clock.now() + timedelta(hours=1))
            with pytest.raises(AuthorityUnavailable, match="expired at"):
                await ca.issuance.issue(caller, make_request())
            assert ca.inventory.list(Filter()) == []

    asyncio.run(story())


class BrokenSink:
    """A table that takes nothing."""

    def write(self, connection: sa.Connection, records: Sequence[object]) -> None:
        """Refuse every record."""
        raise sa.exc.OperationalError("INSERT", {}, sqlite3.OperationalError("disk is full"))


@pytest.mark.parametrize("away", ["certificates", "audit_entries", "audit_head"])
def test_without_a_durable_record_nothing_is_signed(tmp_path: Path, away: str) -> None:
    signer = WatchingSigner(lambda _: None)

    async def story() -> None:
        authority = make_authority(signer=signer)
        async with issuing(tmp_path, authority=authority) as ca:
            with ca.engine.begin() as connection:
                connection.exec_driver_sql(f"ALTER TABLE {away} RENAME TO away")
            with pytest.raises(StoreUnavailable, match="no such table"):
                await ca.issuance.issue(make_caller(), make_request())
            with ca.engine.begin() as connection:
                connection.exec_driver_sql(f"ALTER TABLE away RENAME TO {away}")
            assert ca.inventory.list(Filter()) == [], "neither half is stored without the other"
            assert ca.entries() == []
            assert ca.sample("meshca_issuance_total", outcome="failed") == 1

    asyncio.run(story())
    assert signer.calls == 0


def test_an_authority_that_is_tainted_while_the_intent_is_written_does_not_sign(
    tmp_path: Path,
) -> None:
    signer = WatchingSigner(lambda _message: None)
    authority = make_authority(signer=signer)

    @dataclass
    class Tainting:
        """Writes intents; by the time it has, the authority is tainted."""

        bar: Callable[[str], None]

        def write(self, connection: sa.Connection, records: Sequence[Planned]) -> None:
            """Write `records`."""
            SINKS[Planned].write(connection, records)
            self.bar(authority.authority_id)

    async def story() -> list[str]:
        later: list[Callable[[str], None]] = []
        sinks: dict[type, Sink] = {**SINKS, Planned: Tainting(lambda name: later[0](name))}
        async with issuing(tmp_path, authority=authority, sinks=sinks) as ca:
            later.append(ca.authorities.bar)
            with pytest.raises(AuthorityUnavailable, match="tainted meanwhile"):
                await ca.issuance.issue(make_caller(), make_request())
            await ca.writer.submit()
            return [str(entry["outcome"]) for entry in ca.entries()]

    assert asyncio.run(story()) == ["done", "failed"]
    assert signer.calls == 0


def test_a_certificate_that_cannot_be_marked_issued_is_still_on_record(tmp_path: Path) -> None:
    sinks: dict[type, Sink] = {**SINKS, Signed: BrokenSink()}

    async def story() -> None:
        async with issuing(tmp_path, sinks=sinks) as ca:
            svid = await ca.issuance.issue(make_caller(), make_request())
            assert ca.inventory.get(svid.serial).status == "intent"

    asyncio.run(story())


def test_when_too_much_waits_callers_are_turned_away(tmp_path: Path) -> None:
    async def story() -> None:
        async with issuing(tmp_path) as ca:
            ca.writer.maximum_pending = 2
            work = [ca.issuance.issue(make_caller(), make_request()) for _ in range(5)]
            outcomes = await asyncio.gather(*work, return_exceptions=True)
            assert [type(o) for o in outcomes if isinstance(o, Exception)] == [Overloaded] * 3
            assert len(ca.inventory.list(Filter())) == 2

    asyncio.run(story())


def test_many_at_once_share_commits_and_get_one_certificate_each(tmp_path: Path) -> None:
    async def story() -> None:
        async with issuing(tmp_path) as ca:
            work = [ca.issuance.issue(make_caller(), make_request()) for _ in range(300)]
            svids = await asyncio.gather(*work)
            assert len({svid.serial for svid in svids}) == 300
            assert ca.sample("meshca_commit_group_size_count") < 30
        stored = rows(tmp_path, "SELECT serial, certificate FROM certificates")
        assert {r["serial"]: r["certificate"] for r in stored} == {s.serial: s.der for s in svids}
        assert len(rows(tmp_path, "SELECT * FROM audit_entries")) == 300

    asyncio.run(story())


def test_a_caller_who_gives_up_leaves_an_intent_at_most(tmp_path: Path) -> None:
    async def story(issuance: Issuance) -> None:
        task = asyncio.create_task(issuance.issue(make_caller(), make_request()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def stories() -> None:
        signer = WatchingSigner(lambda _: None)
        async with issuing(tmp_path, authority=make_authority(signer=signer)) as ca:
            await story(ca.issuance)
        assert signer.calls == 0
        assert [r["status"] for r in rows(tmp_path, "SELECT status FROM certificates")] == [
            "intent"
        ]

    asyncio.run(stories())
