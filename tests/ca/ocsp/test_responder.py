"""What is said of which certificate, when it was signed, and when it is signed again."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509 import ocsp
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponseStatus

from ca import der
from ca.revocation.reason import Reason
from ca.revocation.selector import Selector
from ca.revocation.state import RevocationState
from ca.revocation.store import Revocations
from tests.builders import KEY_KINDS, NOW, make_authority
from tests.ca.ocsp.world import WHO, World, all_statuses, request, responding, verify

GOOD, REVOKED, UNKNOWN = OCSPCertStatus.GOOD, OCSPCertStatus.REVOKED, OCSPCertStatus.UNKNOWN
HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
NEVER_ISSUED = 2**127 + 12345
Story = Callable[[World], Awaitable[None]]


def play(directory: Path, story: Story, **options: object) -> None:
    """Run `story` in a world."""

    async def scene() -> None:
        async with responding(directory, **options) as world:  # type: ignore[arg-type]  # its own options
            await story(world)

    asyncio.run(scene())


@pytest.mark.parametrize("kind", KEY_KINDS)
@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_good_revoked_and_unknown_are_told_apart(tmp_path: Path, kind: str, algorithm: str) -> None:
    async def story(world: World) -> None:
        good, revoked = await world.issue(), await world.issue()
        await world.revoke(revoked, Reason.superseded)

        said = [
            await world.ask(asked, algorithm=algorithm) for asked in (good, revoked, NEVER_ISSUED)
        ]

        assert [each.certificate_status for each in said] == [GOOD, REVOKED, UNKNOWN]
        assert said[1].revocation_time_utc == NOW
        assert said[1].revocation_reason is x509.ReasonFlags.superseded
        assert {each.hash_algorithm.name for each in said} == {algorithm}
        for each in said:
            verify(each, world.authority)

    play(tmp_path, story, authority=make_authority(kind))


def test_an_unspecified_reason_is_left_out(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        svid = await world.issue()
        await world.revoke(svid, Reason.unspecified)

        said = await world.ask(svid)

        assert (said.certificate_status, said.revocation_reason) == (REVOKED, None)

    play(tmp_path, story)


def test_an_intent_counts_as_issued(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        svid = await world.issue()
        with world.ca.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE certificates SET status = 'intent'")

        assert (await world.ask(svid)).certificate_status is GOOD

    play(tmp_path, story)


def test_a_certificate_of_one_authority_is_unknown_under_another(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        svid = await world.issue()
        other = make_authority(number=2)
        world.held.append(other)
        await world.signers.refresh()

        answer = await world.responder.answer(request(other, svid))

        said = ocsp.load_der_ocsp_response(answer.der)
        assert said.certificate_status is UNKNOWN
        verify(said, other)

    play(tmp_path, story)


def test_an_issuer_that_is_not_ours_is_unauthorized(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for algorithm in ("sha1", "sha256"):
            asked = request(make_authority(number=2), 5, algorithm=algorithm)
            answer = await world.responder.answer(asked)
            assert answer.der == bytes.fromhex("30030a0106")
        assert (await world.ask(5, algorithm="sha512")).response_status is (
            OCSPResponseStatus.UNAUTHORIZED
        )
        assert world.sample("unauthorized") == 3

    play(tmp_path, story)


def test_garbage_is_malformed_and_signs_nothing(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for octets in (b"", b"x", bytes(5000), request(world.authority, 5)[:-1]):
            assert (await world.responder.answer(octets)).der == bytes.fromhex("30030a0101")
        assert world.sample("malformed") == 4

    play(tmp_path, story)


def test_sixteen_certificates_are_answered_at_once_and_in_their_order(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        issued = [await world.issue() for _ in range(3)]
        await world.revoke(issued[1])
        serials = [int(svid.serial, 16) for svid in issued] + list(range(1, 14))

        said = await world.ask(*serials, nonce=b"once")

        statuses = [GOOD, REVOKED, GOOD] + [UNKNOWN] * 13
        assert all_statuses(said) == list(zip(serials, statuses, strict=True))
        verify(said, world.authority)

    play(tmp_path, story)


def test_certificates_of_two_issuers_have_no_one_signer(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        other = make_authority(number=2)
        world.held.append(other)
        await world.signers.refresh()
        one, two = request(world.authority, 5, 6), request(other, 5, 6)
        first = der.items(der.items(der.items(one)[0])[0])[0]
        second = der.items(der.items(der.items(two)[0])[0])[0]
        mixed = der.encode(0x30, der.encode(0x30, der.encode(0x30, first, second)))

        assert (await world.responder.answer(mixed)).der == bytes.fromhex("30030a0106")

    play(tmp_path, story)


@pytest.mark.parametrize("nonce", [b"n", b"n" * 32], ids=["one octet", "32 octets"])
def test_a_nonce_comes_back_and_its_answer_is_for_nobody_else(tmp_path: Path, nonce: bytes) -> None:
    async def story(world: World) -> None:
        svid = await world.issue()
        asked = request(world.authority, svid, nonce=nonce)

        first, second = [await world.responder.answer(asked) for _ in range(2)]

        assert first.der != second.der
        assert first.next_update is None
        said = await world.ask(svid, nonce=nonce)
        assert said.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == nonce

    play(tmp_path, story)


def test_without_a_nonce_everybody_gets_what_was_signed_once(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        svid = await world.issue()
        asked = request(world.authority, svid)
        first = await world.responder.answer(asked)
        world.clock.advance(30 * MINUTE - SECOND)
        assert await world.responder.answer(asked) is first

        world.clock.advance(SECOND)
        again = await world.responder.answer(asked)

        assert again.next_update == NOW + 30 * MINUTE + HOUR
        assert again.der != first.der

    play(tmp_path, story)


def test_a_revocation_is_told_at_once(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        svid = await world.issue()
        for options in ({}, {"algorithm": "sha256"}, {"nonce": b"n"}):
            assert (await world.ask(svid, **options)).certificate_status is GOOD

        await world.revoke(svid)

        for options in ({}, {"algorithm": "sha256"}, {"nonce": b"n"}):
            assert (await world.ask(svid, **options)).certificate_status is REVOKED

    play(tmp_path, story)


def test_a_hold_that_was_ended_is_good_again_at_once(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        svid = await world.issue()
        await world.revoke(svid, Reason.certificateHold)
        assert (await world.ask(svid)).revocation_reason is x509.ReasonFlags.certificate_hold

        await world.operations.release(svid.serial, **WHO)

        assert (await world.ask(svid)).certificate_status is GOOD
        world.clock.advance(2 * HOUR)  # it has ended: the database is asked what it was
        assert (await world.ask(svid)).certificate_status is GOOD

    play(tmp_path, story)


def test_a_certificate_that_has_ended_stays_what_it_was(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        good, revoked = await world.issue(), await world.issue()
        for svid in (good, revoked):
            await world.ask(svid)  # known as good, and kept
        await world.revoke(revoked)
        for after in (HOUR, 11 * MINUTE, 20 * HOUR):
            world.clock.advance(after)
            await world.signers.refresh()
            await world.state.load()

            assert (await world.ask(good)).certificate_status is GOOD
            assert (await world.ask(revoked)).certificate_status is REVOKED
            assert (await world.ask(revoked, nonce=b"n")).certificate_status is REVOKED
        assert world.state.live() == {}, "the state has forgotten it long ago"

    play(tmp_path, story)


def test_a_replica_that_has_not_heard_of_a_revocation_reads_it_with_the_certificate(
    tmp_path: Path,
) -> None:
    async def story(world: World) -> None:
        svid = await world.issue()
        await revoke_elsewhere(world, svid.serial)
        assert world.state.live() == {}

        assert (await world.ask(svid)).certificate_status is REVOKED

        await world.state.load()
        assert (await world.ask(svid)).certificate_status is REVOKED

    play(tmp_path, story)


async def revoke_elsewhere(world: World, serial: str) -> None:
    """Revoke as another replica on the same database does."""
    revocations = Revocations(world.ca.engine)
    operations = replace(
        world.operations, state=RevocationState(revocations=revocations, clock=world.clock)
    )
    await operations.revoke(Selector(serial=serial), Reason.keyCompromise, **WHO)


@pytest.mark.parametrize("skew", [-5 * MINUTE, 5 * MINUTE], ids=["behind", "ahead"])
def test_a_client_whose_clock_is_off_by_five_minutes_takes_the_answer(
    tmp_path: Path, skew: timedelta
) -> None:
    async def story(world: World) -> None:
        svid = await world.issue()
        world.clock.advance(20 * MINUTE)
        await world.signers.refresh()  # the signer is quite new
        for _ in range(60):
            said = await world.ask(svid)
            theirs = world.clock.now() + skew
            (signer,) = said.certificates
            assert said.next_update_utc is not None
            assert said.this_update_utc <= theirs < said.next_update_utc
            assert signer.not_valid_before_utc <= theirs < signer.not_valid_after_utc
            world.clock.advance(MINUTE)

    play(tmp_path, story, is_ready=False)


@pytest.mark.parametrize("jump", [-15 * MINUTE, 15 * MINUTE], ids=["back", "forth"])
def test_our_clock_being_set_does_not_stop_answers(tmp_path: Path, jump: timedelta) -> None:
    async def story(world: World) -> None:
        svid = await world.issue()
        world.clock.advance(20 * MINUTE)
        await world.ask(svid)
        world.clock.jump(jump)

        said = await world.ask(svid)

        assert said.certificate_status is GOOD
        assert said.this_update_utc <= world.clock.now() - 5 * MINUTE

    play(tmp_path, story)


def test_no_answer_outlives_its_signer(tmp_path: Path) -> None:
    authority = make_authority(lifetime=30 * MINUTE)

    async def story(world: World) -> None:
        svid = await world.issue()
        world.clock.advance(29 * MINUTE)

        said = await world.ask(svid)

        assert said.next_update_utc == authority.not_after
        world.clock.advance(MINUTE)
        assert (await world.ask(svid)).response_status is OCSPResponseStatus.TRY_LATER

    play(tmp_path, story, authority=authority)


def test_unknown_is_said_for_a_few_minutes_only(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        assert (await world.ask(NEVER_ISSUED)).next_update_utc == NOW + 5 * MINUTE

    play(tmp_path, story)
