"""Two replicas on one database: each answers for the authorities of the other."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_certificate
from cryptography.x509.ocsp import (
    OCSPCertStatus,
    OCSPResponse,
    OCSPResponseStatus,
    load_der_ocsp_response,
)

from ca.authority import Authority
from ca.issuer import Svid
from ca.keys import PrivateKeySigner, generate_key, public_key_der
from ca.ocsp.colleagues import SEEN_FOR, OcspColleagues
from ca.ocsp.colleagues_store import Colleagues, Delegation, ResponderSeen, key_hash
from tests.builders import NOW, make_authority
from tests.ca.ocsp.world import World, make_world, request, responding, verify

GOOD, REVOKED = OCSPCertStatus.GOOD, OCSPCertStatus.REVOKED


async def ask(world: World, authority: Authority, serial: Svid | int) -> OCSPResponse:
    """Ask a replica that may not hold `authority`."""
    answer = await world.responder.answer(request(authority, serial))
    return load_der_ocsp_response(answer.der)


def colleagues_of(world: World, replica: str) -> OcspColleagues:
    """Return the part of a replica that exchanges keys."""
    return OcspColleagues(
        replica=replica,
        signers=world.signers,
        colleagues=Colleagues(world.ca.engine),
        writer=world.ca.writer,
        clock=world.clock,
        metrics=world.ca.metrics,
    )


def pair(world: World) -> tuple[World, OcspColleagues, OcspColleagues]:
    """Return another replica without any authority, and both exchanges."""
    other = make_world(world.ca, [], world.clock)
    return other, colleagues_of(world, "a"), colleagues_of(other, "b")


async def exchange(*parts: OcspColleagues) -> None:
    """Let everybody look until everybody has seen what the others did."""
    for _ in range(2):
        for part in parts:
            await part.look()


def test_a_replica_answers_for_the_authority_of_another(tmp_path: Path) -> None:
    async def story() -> None:
        async with responding(tmp_path) as world:
            other, here, there = pair(world)
            svid = await world.issue()
            asked = await ask(other, world.authority, svid)
            assert asked.response_status is OCSPResponseStatus.UNAUTHORIZED

            await exchange(there, here, there)
            answer = await ask(other, world.authority, svid)

            assert answer.certificate_status is GOOD
            verify(answer, world.authority)
            (certificate,) = answer.certificates
            assert public_key_der(certificate.public_key()) == there.public_key  # type: ignore[arg-type]  # EC

    asyncio.run(story())


def test_what_is_revoked_or_tainted_at_one_is_said_by_the_other(tmp_path: Path) -> None:
    async def story() -> None:
        async with responding(tmp_path) as world:
            other, here, there = pair(world)
            svid, second = await world.issue(), await world.issue()
            await exchange(there, here, there)
            assert (await ask(other, world.authority, svid)).certificate_status is GOOD

            await world.revoke(svid)
            await other.state.load()
            assert (await ask(other, world.authority, svid)).certificate_status is REVOKED

            world.ca.authorities.bar(world.authority.authority_id)
            assert (await ask(other, world.authority, second)).certificate_status is REVOKED

    asyncio.run(story())


def test_a_replica_that_started_again_is_certified_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with responding(tmp_path) as world:
            other, here, there = pair(world)
            await exchange(there, here, there)
            (before,) = Colleagues(world.ca.engine).delegations(world.clock.now())

            again = colleagues_of(other, "b")
            await exchange(again, here, again)

            (after,) = Colleagues(world.ca.engine).delegations(world.clock.now())
            assert before.key_sha256 == key_hash(there.public_key)
            assert after.key_sha256 == key_hash(again.public_key)

    asyncio.run(story())


def test_it_is_certified_again_at_half_of_its_life_and_not_before(tmp_path: Path) -> None:
    async def story() -> None:
        async with responding(tmp_path) as world:
            _, here, there = pair(world)
            await exchange(there, here, there)
            table = Colleagues(world.ca.engine)
            (first,) = table.delegations(NOW)

            begins = load_der_x509_certificate(first.certificate).not_valid_before_utc
            half = begins + (first.not_after - begins) / 2
            world.clock.advance(half - NOW - timedelta(minutes=1))
            await exchange(there, here)
            assert table.delegations(world.clock.now()) == [first]

            world.clock.advance(timedelta(minutes=1))
            await exchange(there, here)
            (second,) = table.delegations(world.clock.now())
            assert second.not_after > first.not_after

    asyncio.run(story())


def test_a_replica_that_was_not_seen_for_long_is_not_certified(tmp_path: Path) -> None:
    async def story() -> None:
        async with responding(tmp_path) as world:
            _, here, there = pair(world)
            await there.look()
            world.clock.advance(SEEN_FOR + timedelta(seconds=1))
            await here.look()

            assert Colleagues(world.ca.engine).delegations(world.clock.now()) == []

    asyncio.run(story())


def test_a_barred_authority_certifies_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        async with responding(tmp_path) as world:
            _, here, there = pair(world)
            world.ca.authorities.bar(world.authority.authority_id)
            await exchange(there, here)

            assert Colleagues(world.ca.engine).delegations(world.clock.now()) == []

    asyncio.run(story())


def test_a_certificate_that_another_signed_is_not_used(tmp_path: Path) -> None:
    async def story() -> None:
        async with responding(tmp_path) as world:
            other, here, there = pair(world)
            stranger = make_authority("p384")
            await exchange(there, here, there)
            (real,) = Colleagues(world.ca.engine).delegations(NOW)
            forged = Delegation(
                real.authority_id,
                real.key_sha256,
                stranger.certificate.public_bytes(Encoding.DER),
                real.certificate,
                real.not_after,
            )
            await world.ca.writer.submit(forged)
            await there.look()

            answer = await ask(other, world.authority, 1)
            assert answer.response_status is OCSPResponseStatus.UNAUTHORIZED

    asyncio.run(story())


def test_what_cannot_be_read_is_certified_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with responding(tmp_path) as world:
            _, here, there = pair(world)
            await exchange(there, here)
            (real,) = Colleagues(world.ca.engine).delegations(NOW)
            await world.ca.writer.submit(replace(real, certificate=b"\x30\x82no certificate"))
            await here.look()

            (again,) = Colleagues(world.ca.engine).delegations(NOW)
            certificate = load_der_x509_certificate(again.certificate)
            assert public_key_der(certificate.public_key()) == there.public_key  # type: ignore[arg-type]  # EC

    asyncio.run(story())


def test_a_key_that_is_not_ours_is_nobody_elses_business(tmp_path: Path) -> None:
    async def story() -> None:
        async with responding(tmp_path) as world:
            _, here, there = pair(world)
            key = public_key_der(PrivateKeySigner(generate_key()).key.public_key())
            await world.ca.writer.submit(ResponderSeen("c", key, NOW))
            await exchange(here, there)
            await here.look()

            assert {one.key_sha256 for one in Colleagues(world.ca.engine).delegations(NOW)} == {
                key_hash(key),
                key_hash(there.public_key),
            }

    asyncio.run(story())
