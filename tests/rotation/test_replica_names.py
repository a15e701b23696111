"""A replica has a name, held by a session with the database; who lost it signs nothing."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from ca.authority import Authorities
from meshca.errors import AuthorityUnavailable, Conflict, StoreUnavailable
from meshca.name_locks import NameLocks, open_name_locks
from rotation.intermediates import Intermediates
from rotation.operations import AuthorityOperations
from rotation.stages import Stage
from tests.fakes import FakeClock
from tests.rotation.authorities import Switch
from tests.rotation.root_steps import (
    WHO,
    intermediates_of,
)
from tests.rotation.two_replicas import Two, play
from tests.sds.conftest import TRUST_DOMAIN, build_mesh, running


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    """Replicas `a` and `b`, of which nothing is loaded yet."""
    clock = FakeClock()
    mesh_a, mesh_b = build_mesh(tmp_path, clock), build_mesh(tmp_path, clock)
    a, b = intermediates_of(mesh_a, replica="a"), intermediates_of(mesh_b, replica="b")
    yield Two(clock, mesh_a, mesh_b, a, b)
    for each in (a, b):
        each.members.locks.close()


def test_a_second_process_under_the_same_name_does_not_start(two: Two) -> None:
    async def story(two: Two) -> None:
        second = intermediates_of(two.mesh_b, replica="a")
        with pytest.raises(Conflict, match=r"replica 'a' runs already on .* since 2026.*MESHCA"):
            await second.members.join(within_seconds=0.3)
        assert two.a.signing()

    play(two, story)


def test_a_process_whose_name_another_took_signs_nothing(two: Two) -> None:
    async def story(two: Two) -> None:
        two.a.members.locks.close()  # its session with the database broke
        thief = open_name_locks(two.mesh_a.writer.engine)
        assert thief.hold("replica.a")
        await two.a.tick()
        assert two.a.signing() == ""
        assert "runs already" in two.a.problem
        thief.close()
        await two.both_look()
        assert two.a.signing(), "it has its name back"

    play(two, story)


def test_an_operator_does_not_revive_a_process_without_its_name(two: Two) -> None:
    async def story(two: Two) -> None:
        two.a.members.locks.close()
        thief = open_name_locks(two.mesh_a.writer.engine)
        assert thief.hold("replica.a")
        await two.a.tick()
        stolen = two.b.signing()
        with pytest.raises(AuthorityUnavailable, match="runs already"):
            await AuthorityOperations(two.a).taint(stolen, **WHO)
        assert two.a.signing() == ""
        assert two.a.standings.get(stolen).standing.stage is Stage.TAINTED, (
            "that is said all the same"
        )
        thief.close()

    play(two, story)


class BrokenOnce(NameLocks):
    """A session with the database that has broken, and is opened anew at the next call."""

    def __init__(self, real: NameLocks) -> None:
        self.real, self.is_broken = real, False

    def hold(self, name: str) -> bool:
        if self.is_broken:
            self.is_broken = False
            self.real.close()
            raise StoreUnavailable("the session broke")
        return self.real.hold(name)

    def is_held(self, name: str) -> bool:
        return self.real.is_held(name)

    def close(self) -> None:
        self.real.close()


def test_a_broken_session_is_asked_again_at_once_whose_the_name_is(two: Two) -> None:
    async def story(two: Two) -> None:
        locks = two.a.members.locks = BrokenOnce(two.a.members.locks)
        locks.is_broken = True
        await two.a.tick()
        assert (two.a.problem, two.a.members.is_leader) == ("", True)
        locks.is_broken = True
        two.a.members.locks.close()
        thief = open_name_locks(two.mesh_a.writer.engine)
        assert thief.hold("replica.a")
        await two.a.tick()
        assert (two.a.signing(), two.a.members.is_leader) == ("", False)
        thief.close()

    play(two, story)


def test_replicas_that_start_together_all_start(tmp_path: Path) -> None:
    clock = FakeClock()
    meshes = [build_mesh(tmp_path, clock) for _ in range(3)]

    async def scene() -> None:
        async with running(meshes[0]), running(meshes[1]), running(meshes[2]):
            all_of = [intermediates_of(m, replica=f"r{n}") for n, m in enumerate(meshes)]
            await asyncio.gather(*(each.load() for each in all_of))
            assert len({each.signing() for each in all_of} - {""}) == 3
            for each in all_of:
                each.members.locks.close()

    asyncio.run(scene())


def test_files_serve_one_replica_at_a_time(two: Two) -> None:
    async def story(two: Two) -> None:
        provision = two.a.upstream.provide(two.clock.now())
        files = Switch(two.a.upstream, can_renew=False)
        files.provide = lambda now: provision  # type: ignore[method-assign]
        name = provision.authority.authority_id

        def process(replica: str) -> Intermediates:
            held = Authorities(TRUST_DOMAIN)
            return intermediates_of(two.mesh_a, replica=replica, upstream=files, authorities=held)

        first, second = process("pod-1"), process("pod-2")
        await first.load()
        with pytest.raises(AuthorityUnavailable, match="is replica pod-1's, which runs"):
            await second.load()
        assert first.signing() == name
        await first.members.leave()
        await two.a.tick()  # the authority is ended: nobody has its key
        await second.load()
        assert second.signing() == name
        assert second.standings.get(name).standing.replica == "pod-2"
        second.members.locks.close()

    play(two, story)
