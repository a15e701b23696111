"""The order of issuance: durable before signed, compared before returned, whole after kill -9."""

import asyncio
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography import x509

from ca.authority import Signer
from ca.keys import PrivateKeySigner
from ca.store import ISSUED, Intent
from meshca.errors import AuthorityUnavailable, IssuanceFault, ProofRefused, StoreUnavailable
from tests.builders import (
    NOW,
    Issuing,
    issuing,
    make_authority,
    make_caller,
    make_pki,
    make_request,
)
from tests.real_parts import ROOT
from tests.stores import SINKS

Story = Callable[[Issuing], Awaitable[None]]


@dataclass
class WatchingSigner:
    """The real signer, which runs `before` each signature."""

    real: Signer
    before: Callable[[], None] = lambda: None
    calls: int = 0

    @property
    def signature_algorithm(self) -> bytes:
        """Return the real signer's."""
        return self.real.signature_algorithm

    def sign(self, message: bytes) -> bytes:
        """Look, then sign."""
        self.before()
        self.calls += 1
        return self.real.sign(message)


def play(directory: Path, story: Story, signer: Signer, **parts: object) -> None:
    """Run `story` with an authority that signs by `signer`."""

    async def scene() -> None:
        authority = make_authority(signer=signer)
        async with issuing(directory, authority=authority, **parts) as running:  # type: ignore[arg-type]  # named parts
            await story(running)

    asyncio.run(scene())


def real_signer() -> Signer:
    """Return the signer of the authority that builders make."""
    return PrivateKeySigner(make_pki().intermediate_key)


def test_the_record_and_its_audit_entry_are_durable_when_the_key_signs(tmp_path: Path) -> None:
    signer = WatchingSigner(real_signer())
    seen: list[tuple[int, int]] = []

    async def story(running: Issuing) -> None:
        def look() -> None:
            other = sa.create_engine(running.engine.url)  # only what is committed shows here
            with other.connect() as connection:
                count = "SELECT count(*) FROM "
                seen.append(
                    (
                        connection.exec_driver_sql(count + "certificates").scalar_one(),
                        connection.exec_driver_sql(count + "audit_entries").scalar_one(),
                    )
                )
            other.dispose()

        signer.before = look
        svid = await running.issuance.issue(make_caller(), make_request())
        assert seen == [(1, 1)]
        assert running.inventory.get(svid.serial).intent.spiffe_id == svid.spiffe_id

    play(tmp_path, story, signer)


def test_a_signer_that_fails_leaves_an_intent_and_a_failure_on_record(tmp_path: Path) -> None:
    signer = WatchingSigner(real_signer())

    def fail() -> None:
        raise AuthorityUnavailable("the key is gone")

    signer.before = fail

    async def story(running: Issuing) -> None:
        with pytest.raises(AuthorityUnavailable, match="the key is gone"):
            await running.issuance.issue(make_caller(), make_request())
        await running.writer.submit()
        assert [e["outcome"] for e in running.entries()] == ["done", "failed"]
        (serial,) = {e["serial"] for e in running.entries()}
        assert running.inventory.get(serial).status == "intent"

    play(tmp_path, story, signer)


@dataclass
class BrokenSigner(WatchingSigner):
    """A signer outside of this process whose signatures do not verify."""

    def sign(self, message: bytes) -> bytes:
        """Sign something else."""
        return self.real.sign(message + b"!")


def test_a_signature_that_does_not_verify_is_not_returned(tmp_path: Path) -> None:
    async def story(running: Issuing) -> None:
        with pytest.raises(IssuanceFault):
            await running.issuance.issue(make_caller(), make_request())

    play(tmp_path, story, BrokenSigner(real_signer()))


class FullDisk:
    """A sink for intents whose disk is full."""

    def write(self, connection: sa.Connection, records: object) -> None:
        """Fail as SQLite does."""
        raise sa.exc.OperationalError("INSERT", {}, Exception("database or disk is full"))


def test_nothing_is_signed_when_the_record_cannot_be_written(tmp_path: Path) -> None:
    signer = WatchingSigner(real_signer())

    async def story(running: Issuing) -> None:
        with pytest.raises(StoreUnavailable, match="disk is full"):
            await running.issuance.issue(make_caller(), make_request())
        assert signer.calls == 0
        assert running.entries() == []

    play(tmp_path, story, signer, sinks={**SINKS, Intent: FullDisk()})


def test_an_expired_proof_gets_no_certificate(tmp_path: Path) -> None:
    signer = WatchingSigner(real_signer())

    async def story(running: Issuing) -> None:
        with pytest.raises(ProofRefused, match="has expired"):
            await running.issuance.issue(make_caller(expires_at=NOW), make_request())
        assert signer.calls == 0

    play(tmp_path, story, signer)


def test_what_was_issued_is_marked_with_its_certificate(tmp_path: Path) -> None:
    async def story(running: Issuing) -> None:
        svid = await running.issuance.issue(make_caller(), make_request())
        await running.writer.submit()
        record = running.inventory.get(svid.serial)
        assert record.status == ISSUED
        assert record.certificate == svid.der
        x509.load_der_x509_certificate(svid.der).verify_directly_issued_by(svid.chain[1])

    play(tmp_path, story, real_signer())


ENDLESS = textwrap.dedent(
    """
    import asyncio, sys
    from pathlib import Path
    from tests.builders import issuing, make_caller, make_request

    async def worker(running):
        while True:
            svid = await running.issuance.issue(make_caller(), make_request())
            sys.stdout.write(svid.serial + "\\n")
            sys.stdout.flush()

    async def main():
        async with issuing(Path(sys.argv[1])) as running:
            await asyncio.gather(*(worker(running) for _ in range(16)))

    asyncio.run(main())
    """
)


@pytest.mark.parametrize("attempt", range(3))
def test_kill_9_loses_no_certificate_that_left(tmp_path: Path, attempt: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    wanted = random.randint(20, 400)
    printed = [process.stdout.readline() for _ in range(wanted)]
    process.send_signal(signal.SIGKILL)
    printed += process.stdout.readlines()
    process.wait(10)
    process.stdout.close()
    serials = {line.strip() for line in printed if line.endswith("\n")}
    (database,) = tmp_path.glob("*.db")
    engine = sa.create_engine(f"sqlite:///{database}")
    with engine.connect() as connection:
        recorded = set(
            connection.exec_driver_sql("SELECT serial FROM certificates").scalars().all()
        )
        audited = set(
            connection.exec_driver_sql("SELECT serial FROM audit_entries").scalars().all()
        )
    engine.dispose()
    assert len(serials) >= wanted
    assert serials <= recorded
    assert recorded <= audited
