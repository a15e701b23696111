"""Who signs for which authority, until when, and what happens when that cannot be renewed."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponse, OCSPResponseStatus

from ca.authority import Signer
from ca.keys import PrivateKeySigner
from ca.ocsp import signers
from meshca.errors import AuthorityUnavailable
from tests.builders import NOW, make_authority, make_pki
from tests.ca.ocsp.world import World, responding, verify

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
LIFE = timedelta(days=7) / 4
TRY_LATER, UNAUTHORIZED = OCSPResponseStatus.TRY_LATER, OCSPResponseStatus.UNAUTHORIZED
Story = Callable[[World], Awaitable[None]]


@dataclass
class Sealed:
    """A key in another process, as in Vault's Transit, that may be sealed."""

    real: Signer = field(default_factory=lambda: PrivateKeySigner(make_pki().intermediate_key))
    is_sealed: bool = False
    asked: int = 0
    threads: set[int] = field(default_factory=set)

    @property
    def signature_algorithm(self) -> bytes:
        """Return the key's."""
        return self.real.signature_algorithm

    def sign(self, message: bytes) -> bytes:
        """Sign, unless it is sealed."""
        self.asked += 1
        self.threads.add(threading.get_ident())
        if self.is_sealed:
            raise AuthorityUnavailable("Vault is sealed")
        return self.real.sign(message)


def play(directory: Path, story: Story, **options: object) -> None:
    """Run `story` in a world."""

    async def scene() -> None:
        async with responding(directory, **options) as world:  # type: ignore[arg-type]  # its own options
            await story(world)

    asyncio.run(scene())


async def signer_of(world: World) -> x509.Certificate:
    """Return who signs an answer."""
    return verify(await world.ask(5), world.authority)


async def failure(world: World) -> OCSPResponseStatus:
    said: OCSPResponse = await world.ask(5)
    return said.response_status


def test_another_signer_takes_over_at_half_of_its_life(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        first = await signer_of(world)
        world.clock.advance(LIFE / 2 - MINUTE)
        await world.signers.refresh()
        assert await signer_of(world) == first

        world.clock.advance(MINUTE)
        await world.signers.refresh()

        assert (await signer_of(world)).not_valid_before_utc == world.clock.now() - 10 * MINUTE

    play(tmp_path, story)


def test_the_last_signer_of_an_authority_is_not_renewed_in_ever_smaller_steps(
    tmp_path: Path,
) -> None:
    signer = Sealed()

    async def story(world: World) -> None:
        for _ in range(7 * 24 * 4 - 1):
            world.clock.advance(15 * MINUTE)
            await world.signers.refresh()
            await signer_of(world)
        assert signer.asked < 40

    play(tmp_path, story, authority=make_authority(signer=signer))


def test_the_last_signer_stays_to_the_end(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        last = await signer_of(world)
        for _ in range(29):
            world.clock.advance(MINUTE)
            await world.signers.refresh()
            assert await signer_of(world) == last

    play(tmp_path, story, authority=make_authority(lifetime=30 * MINUTE))


def test_it_is_on_record_before_it_is_signed(tmp_path: Path) -> None:
    signer = Sealed()

    async def story(world: World) -> None:
        signer.is_sealed = True
        await world.signers.refresh()
        await world.ca.writer.submit()
        done, failed = world.ca.entries()

        assert (done["kind"], done["outcome"]) == ("authority_change", "done")
        assert (failed["kind"], failed["outcome"]) == ("authority_change", "failed")
        assert done["serial"] == failed["serial"] != ""

        signer.is_sealed = False
        world.clock.advance(MINUTE)
        await world.signers.refresh()
        assert f"{(await signer_of(world)).serial_number:x}" == world.ca.entries()[-1]["serial"]

    play(tmp_path, story, authority=make_authority(signer=signer), is_ready=False)


def test_nothing_is_certified_that_is_not_on_record(tmp_path: Path) -> None:
    signer = Sealed()

    async def story(world: World) -> None:
        with world.ca.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE audit_entries RENAME TO away")
        await world.signers.refresh()

        assert signer.asked == 0
        assert await failure(world) is TRY_LATER

    play(tmp_path, story, authority=make_authority(signer=signer), is_ready=False)


def test_a_sealed_key_leaves_the_signer_there_is_until_its_end(tmp_path: Path) -> None:
    signer = Sealed()

    async def story(world: World) -> None:
        svid = await world.issue()
        first = await signer_of(world)
        signer.is_sealed = True
        world.clock.advance(LIFE / 2)
        await world.signers.refresh()
        assert await signer_of(world) == first
        assert (await world.ask(svid)).certificate_status is OCSPCertStatus.GOOD

        world.clock.advance(LIFE / 2)
        await world.signers.refresh()
        assert await failure(world) is TRY_LATER
        assert (await world.ask(svid)).response_status is TRY_LATER

        signer.is_sealed = False
        world.clock.advance(signers.LAST_RETRY)
        await world.signers.refresh()
        assert await signer_of(world) != first
        assert world.ca.sample("meshca_ocsp_signer_failures_total") == 2

    play(tmp_path, story, authority=make_authority(signer=signer))


def test_a_key_that_is_away_is_asked_ever_less_often(tmp_path: Path) -> None:
    signer = Sealed(is_sealed=True)

    async def story(world: World) -> None:
        for _ in range(24 * 60 * 2):
            await world.signers.refresh()
            world.clock.advance(MINUTE / 2)

        assert signer.asked < 24 * 5

    play(tmp_path, story, authority=make_authority(signer=signer), is_ready=False)


def test_a_key_elsewhere_is_not_asked_on_the_event_loop(tmp_path: Path) -> None:
    signer = Sealed()

    async def story(_world: World) -> None:
        assert threading.get_ident() not in signer.threads

    play(tmp_path, story, authority=make_authority(signer=signer))


def test_a_tainted_authority_certifies_nobody(tmp_path: Path) -> None:
    signer = Sealed()

    async def story(world: World) -> None:
        world.ca.authorities.bar(world.authority.authority_id)
        await world.signers.refresh()
        await world.ca.writer.submit()

        assert (signer.asked, world.ca.entries()) == (0, [])
        assert await failure(world) is TRY_LATER

    play(tmp_path, story, authority=make_authority(signer=signer), is_ready=False)


def test_an_authority_that_is_tainted_while_it_signs_has_no_new_signer(tmp_path: Path) -> None:
    signer = Sealed()

    async def story(world: World) -> None:
        real = signer.real

        class Tainting:
            signature_algorithm = real.signature_algorithm

            def sign(self, message: bytes) -> bytes:
                world.ca.authorities.bar(world.authority.authority_id)
                return real.sign(message)

        signer.real = Tainting()
        await world.signers.refresh()

        assert await failure(world) is TRY_LATER

    play(tmp_path, story, authority=make_authority(signer=signer), is_ready=False)


def test_everything_under_a_tainted_authority_is_revoked_at_once(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        svid = await world.issue()
        assert (await world.ask(svid)).certificate_status is OCSPCertStatus.GOOD
        world.clock.advance(MINUTE)

        world.ca.authorities.bar(world.authority.authority_id)

        for asked in (svid, 2**100):
            for nonce in (None, b"n"):
                said = await world.ask(asked, nonce=nonce)
                assert said.certificate_status is OCSPCertStatus.REVOKED
                assert said.revocation_reason is x509.ReasonFlags.ca_compromise
                assert said.revocation_time_utc == NOW + MINUTE
        assert len(world.responder._kept) == 1  # what strangers ask is not kept

    play(tmp_path, story)


def test_the_signer_of_a_tainted_authority_ends_and_is_not_replaced(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.ca.authorities.bar(world.authority.authority_id)
        world.clock.advance(LIFE)
        await world.signers.refresh()

        assert await failure(world) is TRY_LATER

    play(tmp_path, story)


def test_a_signer_outlives_the_key_of_its_authority(tmp_path: Path) -> None:
    authority = make_authority()

    async def story(world: World) -> None:
        svid = await world.issue()
        first = await signer_of(world)
        world.ca.authorities.forget(authority.authority_id)
        world.held.clear()
        await world.signers.refresh()
        world.held.append(authority)  # for whom requests are made
        assert verify(await world.ask(svid), authority) == first

        world.held.clear()
        world.clock.advance(LIFE)
        await world.signers.refresh()
        world.held.append(authority)
        assert await failure(world) is UNAUTHORIZED

    play(tmp_path, story)


def test_the_loop_certifies_a_new_authority_when_it_is_told_of_it(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        running = asyncio.create_task(world.signers.run())
        other = make_authority(number=2)
        world.held.append(other)
        world.signers.heed()
        async with asyncio.timeout(10):
            while world.ca.sample("meshca_ocsp_answers_total", status="unknown") < 1:
                await asyncio.sleep(0.01)
                world.held.reverse()
                await world.ask(5)
                world.held.reverse()
        running.cancel()

    play(tmp_path, story)


def test_two_authorities_have_a_signer_each(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.held.append(make_authority(number=2))
        await world.signers.refresh()
        one = await signer_of(world)
        world.held.reverse()
        two = await signer_of(world)

        assert one.public_key() != two.public_key()
        assert one.issuer != two.issuer

    play(tmp_path, story)


def test_a_key_that_hangs_does_not_hold_up_the_others(tmp_path: Path) -> None:
    signer, may_answer = Sealed(), threading.Event()

    class Hanging:
        signature_algorithm = signer.signature_algorithm

        def sign(self, message: bytes) -> bytes:
            assert may_answer.wait(20)
            return signer.sign(message)

    async def story(world: World) -> None:
        world.held.insert(0, make_authority(number=2))
        refreshing = asyncio.create_task(world.signers.refresh())
        async with asyncio.timeout(10):
            while await failure(world) is not OCSPResponseStatus.SUCCESSFUL:
                await asyncio.sleep(0.01)
        assert not refreshing.done()
        may_answer.set()
        await refreshing

    play(tmp_path, story, authority=make_authority(signer=Hanging()), is_ready=False)


def test_an_authority_that_is_tainted_while_its_signer_is_recorded_signs_nothing(
    tmp_path: Path,
) -> None:
    signer = Sealed()

    async def story(world: World) -> None:
        refreshing = asyncio.create_task(world.signers.refresh())
        await asyncio.sleep(0)  # drafted and handed to the writer, which has not committed yet
        await asyncio.sleep(0)
        world.ca.authorities.bar(world.authority.authority_id)
        await refreshing

        assert signer.asked == 0
        assert world.ca.entries()[0]["outcome"] == "done"
        assert await failure(world) is TRY_LATER

    play(tmp_path, story, authority=make_authority(signer=signer), is_ready=False)
