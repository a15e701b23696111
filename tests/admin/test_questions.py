"""The questions that auditors come with, asked at the door."""

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from admin.questions.entries import first_of, of_kinds_between
from audit.checkpoint import open_checkpoint
from audit.entry import Entry
from audit.merkle import verify_consistency
from audit.note import NoteRefused
from audit.query import Query, find
from audit.report_note import check_part, named_parts
from authz.history import PolicyHistory
from ca.issuance import Issuance
from ca.issuer import Svid
from ca.keys import PrivateKeySigner, public_key_der
from ca.ocsp.signers import OcspSigners
from ca.store import certificates
from meshca.metrics import Metrics
from tests.admin.world import ORDERS, POLICY, TRUST_DOMAIN, World, issuance_of, running
from tests.builders import make_caller, make_request

FROM = "2026-11-01T00:00:00Z"


@dataclass
class Asked:
    """A door behind which certificates are issued."""

    world: World
    issuance: Issuance

    async def issue(self) -> Svid:
        """Issue a certificate for `orders` and wait until its signature is on record."""
        expires = self.world.clock.now() + timedelta(hours=2)
        svid = await self.issuance.issue(make_caller(expires_at=expires), make_request())
        await self.world.writer.submit()
        return svid

    async def post(self, path: str, **body: Any) -> Any:
        """Return the answer to `body`, which must be one."""
        response = await self.world.client.post(path, json=body)
        assert response.status_code == 200, response.text
        return response.json()

    def another(self, serial: int) -> x509.Certificate:
        """Return a certificate that our authority's key signs beside the service."""
        authority = self.world.state.authorities.active(self.world.clock.now())
        assert isinstance(authority.signer, PrivateKeySigner)
        now = self.world.clock.now()
        return (
            x509.CertificateBuilder()
            .serial_number(serial)
            .subject_name(x509.Name([]))
            .issuer_name(authority.certificate.subject)
            .public_key(ec.generate_private_key(ec.SECP256R1()).public_key())
            .not_valid_before(now)
            .not_valid_after(now + timedelta(hours=1))
            .sign(authority.signer.key, SHA256())
        )


def ask(tmp_path: Path, story: Callable[[Asked], Awaitable[None]], **given: Any) -> None:
    async def run() -> None:
        async with running(tmp_path, **given) as world:
            issuance = issuance_of(world.state.authorities, world.writer, world.clock)
            await story(Asked(world, issuance))

    asyncio.run(run())


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def test_a_certificate_that_was_issued_here_tells_its_whole_story(tmp_path: Path) -> None:
    async def story(asked: Asked) -> None:
        svid = await asked.issue()
        await asked.world.state.signer.step()
        found = x509.load_der_x509_certificate(svid.der)
        serial = f"{found.serial_number:x}"
        await asked.post(
            "/revocations", selector={"serial": serial}, reason="keyCompromise", why="INC-7"
        )
        by_file = await asked.post("/audit/certificate", certificate=pem(found))
        by_serial = await asked.post("/audit/certificate", serial=f"00:{serial.upper()}")

        assert by_file["verdict"] == by_serial["verdict"] == "issued"
        assert "byte for byte" in by_file["statement"]
        assert by_file["logged"] is by_serial["logged"] is True
        assert by_file["certificate"]["spiffe_id"] == ORDERS
        assert by_file["certificate"]["pod_uid"] == make_caller().evidence.pod_uid
        assert by_file["entry"]["proven"] is True
        assert by_file["entry"]["body"]["serial"] == serial
        assert by_file["authority"]["authority_id"] == by_file["signed_by"]
        assert by_file["revocation"]["decided"]["why"] == "INC-7"
        assert [event["kind"] for event in by_file["events"]] == ["issuance", "revocation"]
        assert by_serial["events"] == by_file["events"]

    ask(tmp_path, story)


def test_a_certificate_of_our_key_that_is_not_on_record_is_a_stolen_key(tmp_path: Path) -> None:
    async def story(asked: Asked) -> None:
        forged = await asked.post("/audit/certificate", certificate=pem(asked.another(4711)))
        assert forged["verdict"] == "forged"
        assert f"meshca ca taint {forged['signed_by']}" in forged["statement"]

        svid = await asked.issue()
        twin = asked.another(x509.load_der_x509_certificate(svid.der).serial_number)
        twice = await asked.post("/audit/certificate", certificate=pem(twin))
        assert twice["verdict"] == "forged", "the serial alone proves nothing"

    ask(tmp_path, story)


def test_what_is_our_own_is_no_stolen_key(tmp_path: Path) -> None:
    async def story(asked: Asked) -> None:
        world = asked.world
        authority = world.state.authorities.active(world.clock.now())
        signers = OcspSigners(
            authorities=world.state.authorities,
            held=lambda: [authority],
            clock=world.clock,
            metrics=Metrics(),
            writer=world.writer,
            trust_domain=TRUST_DOMAIN,
        )
        key = public_key_der(ec.generate_private_key(ec.SECP256R1()).public_key())
        signer = await signers.certify(authority, key, world.clock.now())
        of_signer = await asked.post("/audit/certificate", certificate=pem(signer))
        own = await asked.post("/audit/certificate", certificate=pem(authority.certificate))
        assert (of_signer["verdict"], own["verdict"]) == ("ocsp_signer", "authority")
        twin = asked.another(signer.serial_number)
        answer = await asked.post("/audit/certificate", certificate=pem(twin))
        assert answer["verdict"] == "forged", "the serial of a signer, and another key"

        svid = await asked.issue()
        with world.engine.begin() as connection:
            connection.execute(sa.update(certificates).values(log_index=None))
        old = x509.load_der_x509_certificate(svid.der)
        answer = await asked.post("/audit/certificate", certificate=pem(old))
        assert (answer["verdict"], answer["logged"]) == ("issued", None)

    ask(tmp_path, story)


def test_an_inventory_that_was_changed_does_not_make_a_certificate_ours(tmp_path: Path) -> None:
    async def story(asked: Asked) -> None:
        svid = await asked.issue()
        twin = asked.another(x509.load_der_x509_certificate(svid.der).serial_number)
        der = twin.public_bytes(Encoding.DER)
        changes: list[dict[str, Any]] = [{"certificate": der}]
        changes.append({"certificate": svid.der, "log_index": 999})
        for values in changes:
            with asked.world.engine.begin() as connection:
                connection.execute(sa.update(certificates).values(**values))
            kept = x509.load_der_x509_certificate(values["certificate"])
            answer = await asked.post("/audit/certificate", certificate=pem(kept))
            assert (answer["verdict"], answer["logged"]) == ("unlogged", False)
            assert "changed the inventory" in answer["statement"]

    ask(tmp_path, story)


def test_a_certificate_of_somebody_else_is_foreign_whatever_its_serial(tmp_path: Path) -> None:
    async def story(asked: Asked) -> None:
        svid = await asked.issue()
        serial = x509.load_der_x509_certificate(svid.der).serial_number
        key = ec.generate_private_key(ec.SECP256R1())
        ours = asked.another(serial)
        theirs = (
            x509.CertificateBuilder()
            .serial_number(serial)
            .subject_name(ours.subject)
            .issuer_name(ours.issuer)
            .public_key(key.public_key())
            .not_valid_before(ours.not_valid_before_utc)
            .not_valid_after(ours.not_valid_after_utc)
            .sign(key, SHA256())
        )
        answer = await asked.post("/audit/certificate", certificate=pem(theirs))
        assert (answer["verdict"], answer["signed_by"]) == ("foreign", None)

        assert (await asked.post("/audit/certificate", serial="abc"))["verdict"] == "unknown"

    ask(tmp_path, story)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "either a serial or a certificate"),
        ({"serial": "1", "certificate": "x"}, "either a serial or a certificate"),
        ({"serial": "xyz"}, "not a hexadecimal number"),
        ({"certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"}, "PEM"),
        ({"certificate": "x" * 70_000}, "longer than 65536 bytes"),
    ],
)
def test_what_is_no_question_is_refused(tmp_path: Path, body: dict[str, str], said: str) -> None:
    async def story(asked: Asked) -> None:
        response = await asked.world.client.post("/audit/certificate", json=body)
        assert response.status_code == 400
        assert said in response.text

    ask(tmp_path, story)


def test_the_life_of_an_identity(tmp_path: Path) -> None:
    async def story(asked: Asked) -> None:
        first, second = await asked.issue(), await asked.issue()
        clock = asked.world.clock
        await asked.world.writer.submit(
            Entry(time=clock.now(), kind="refusal", outcome="refused", spiffe_id=ORDERS)
        )
        serial = f"{x509.load_der_x509_certificate(first.der).serial_number:x}"
        await asked.post("/revocations", selector={"serial": serial}, why="INC-7")
        await asked.post("/bans", selector={"spiffe_id": ORDERS}, why="INC-8")
        life = await asked.world.get("/audit/identity", spiffe_id=ORDERS, limit="2")
        rest = await asked.world.get(
            "/audit/identity", spiffe_id=ORDERS, limit="2", cursor=str(life["next"])
        )
        nobody = await asked.world.get("/audit/identity", spiffe_id="spiffe://example.org/none")

        had = life["certificates"]
        assert (had["total"], had["live"], had["revoked"]) == (2, 1, 1)
        newest = f"{x509.load_der_x509_certificate(second.der).serial_number:x}"
        assert [(one["serial"], one["revoked"]) for one in had["newest"]] == [
            (newest, False),
            (serial, True),
        ]
        assert life["entries"]["by_kind"]["issuance"] == 2
        assert life["entries"]["by_kind"]["refusal"] == 1
        assert [ban["why"] for ban in life["bans"]] == ["INC-8"]
        assert len(life["events"]) == 2
        assert life["next"] is not None
        ends = life["first_entry"], life["last_entry"]
        assert ends == (rest["first_entry"], rest["last_entry"]), "whichever page is asked for"
        assert ends[1] == life["events"][0]["time"]
        assert (nobody["first_entry"], nobody["last_entry"]) == (None, None)
        assert (life["known"], nobody["known"]) == (True, False)
        assert nobody["events"] == []

    ask(tmp_path, story)


def test_how_things_stood_at_a_time(tmp_path: Path) -> None:
    directory = tmp_path / "policies"
    directory.mkdir()

    async def story(asked: Asked) -> None:
        world = asked.world
        loader = world.state.loader
        history = PolicyHistory(loader=loader, writer=world.writer, clock=world.clock)
        await history.note()
        await asked.issue()
        before = world.clock.now()
        world.clock.advance(timedelta(minutes=10))
        (directory / "orders.yaml").write_text(POLICY)
        await loader.reload()
        await history.note()
        await asked.issue()
        after = world.clock.now()
        world.clock.advance(timedelta(hours=3))
        destination = {"namespace": "shop", "labels": {"app": "orders"}}

        async def at(time: Any) -> Any:
            return await asked.post("/audit/at", time=time.isoformat(), destination=destination)

        old, new, late = await at(before), await at(after), await at(world.clock.now())
        assert [one["certificates"]["valid"] for one in (old, new, late)] == [1, 2, 0]
        assert new["certificates"]["by_identity"] == [{"spiffe_id": ORDERS, "valid": 2}]
        assert old["policies"]["version"] != new["policies"]["version"]
        assert old["who_can"]["allowed"] == []
        (allowed,) = new["who_can"]["allowed"]
        assert allowed["policy"] == "shop/orders-readers"
        regions = [one["who_can"]["allowed"][0]["region"] for one in (new, late)]
        assert regions[0] == regions[1]
        assert 0 < old["log_size"] < new["log_size"] <= late["log_size"]
        ancient = await at(before - timedelta(days=900))
        assert (ancient["policies"], ancient["who_can"]) == (None, None)
        assert (ancient["log_size"], ancient["certificates"]["valid"]) == (0, 0)
        future = {"time": (world.clock.now() + timedelta(hours=1)).isoformat()}
        assert (await world.client.post("/audit/at", json=future)).status_code == 400

    ask(tmp_path, story, policy_directory=directory)


def test_an_index_that_is_far_behind_changes_no_answer(tmp_path: Path) -> None:
    """With nothing indexed and little read at once, each question still goes to the end."""

    async def story(asked: Asked) -> None:
        world = asked.world
        query = Query(reason="INC-7", limit=1)
        await world.writer.submit(
            Entry(time=world.clock.now(), kind="ban", outcome="done", reason="INC-7"),
            *(Entry(time=world.clock.now(), kind="ban", outcome="done") for _ in range(30)),
        )
        assert len(find(world.engine, query, maximum_read=3)) == 0, "one page does not get there"
        found = first_of(world.state, query, maximum_read=3)
        assert found is not None
        told = of_kinds_between(world.state, ("ban",), query, 10, maximum_read=3)
        assert [one["index"] for one in told] == [found.index]

    ask(tmp_path, story)


def test_a_revoked_certificate_is_not_counted_as_valid_from_then_on(tmp_path: Path) -> None:
    async def story(asked: Asked) -> None:
        svid = await asked.issue()
        before = asked.world.clock.now()
        asked.world.clock.advance(timedelta(minutes=1))
        serial = f"{x509.load_der_x509_certificate(svid.der).serial_number:x}"
        await asked.post("/revocations", selector={"serial": serial}, why="INC-7")
        asked.world.clock.advance(timedelta(minutes=1))
        now = asked.world.clock.now()
        old = await asked.post("/audit/at", time=before.isoformat())
        new = await asked.post("/audit/at", time=now.isoformat())
        assert (old["certificates"]["valid"], old["certificates"]["revoked"]) == (1, 0)
        assert (new["certificates"]["valid"], new["certificates"]["revoked"]) == (0, 1)

    ask(tmp_path, story)


def test_a_report_is_signed_whole_and_proves_that_the_log_only_grew(tmp_path: Path) -> None:
    async def story(asked: Asked) -> None:
        world = asked.world
        await asked.issue()
        await world.state.signer.step()
        world.clock.advance(timedelta(hours=1))
        since = world.clock.now()
        svid = await asked.issue()
        serial = f"{x509.load_der_x509_certificate(svid.der).serial_number:x}"
        await asked.post("/revocations", selector={"serial": serial}, why="<b>INC-7</b>")
        world.clock.advance(timedelta(minutes=5))
        until = world.clock.now()
        world.clock.advance(timedelta(minutes=5))
        await asked.issue()
        await world.state.signer.step()
        made = await asked.post("/audit/report", since=since.isoformat(), until=until.isoformat())

        keys = [key.verifier for key in await world.state.signer.keys.prepare()]
        origin, times, parts = named_parts(made["report.sig"], keys)
        assert origin == world.state.signer.origin
        assert times.startswith(since.isoformat().replace("+00:00", "Z"))
        assert set(parts) == {"report.json", "report.html"}
        for name, expected in parts.items():
            assert hashlib.sha256(made[name].encode()).hexdigest() == expected
            with pytest.raises(NoteRefused, match="is not the file that was signed"):
                check_part(name, made[name].encode() + b" ", expected)
        report = orjson.loads(made["report.json"])
        assert report["issuance_by_identity"]["counts"] == {ORDERS: 1}
        assert [one["why"] for one in report["revocations"]] == ["<b>INC-7</b>"]
        assert "&lt;b&gt;INC-7" in made["report.html"]
        assert "<b>" not in made["report.html"]
        assert report["inventory_at_end"]["valid"] == 0
        assert report["summary"]["counts"]["issuance"] == 1
        proof = report["completeness"]
        before, _ = open_checkpoint(proof["checkpoint_before"], keys)
        after, _ = open_checkpoint(proof["checkpoint_after"], keys)
        nodes = [base64.b64decode(node) for node in proof["consistency"]]
        assert verify_consistency(before.size, after.size, before.root, after.root, nodes)
        assert before.size <= proof["first_index"] < proof["end_index"] <= after.size
        for wrong in ((until, since), (since, until + timedelta(hours=9))):
            body = {"since": wrong[0].isoformat(), "until": wrong[1].isoformat()}
            assert (await world.client.post("/audit/report", json=body)).status_code == 400

    ask(tmp_path, story)
