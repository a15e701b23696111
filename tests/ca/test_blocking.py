"""A key that is not in this process may take its time, and nobody but its callers waits."""

import asyncio
import threading
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ca import blocking
from ca.authority import Authorities, Signer
from ca.blocking import SigningThreads
from ca.issuer import Prepared, prepare
from ca.keys import PrivateKeySigner
from ca.request import generate
from meshca.errors import AuthorityUnavailable, Overloaded
from tests.builders import NOW, issuing, make_authority, make_caller, make_pki, make_profile
from tests.fakes import FakeClock


@dataclass
class SlowSigner:
    """A signer outside of this process that answers when it is told to."""

    real: Signer
    may_answer: threading.Event = field(default_factory=threading.Event)
    asked: threading.Event = field(default_factory=threading.Event)
    threads: set[str] = field(default_factory=set)

    @property
    def signature_algorithm(self) -> bytes:
        """Return the key's."""
        return self.real.signature_algorithm

    def sign(self, message: bytes) -> bytes:
        """Return the signature, some time."""
        self.threads.add(threading.current_thread().name)
        self.asked.set()
        assert self.may_answer.wait(20)
        return self.real.sign(message)


class NoThreads(Executor):
    """An executor that never comes to do anything, or does it only when told."""

    def __init__(self) -> None:
        self.turns: list[Any] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Keep the call."""
        future: Future[Any] = Future()
        self.turns.append((future, fn))
        return future


def slow_signer() -> SlowSigner:
    return SlowSigner(PrivateKeySigner(make_pki().intermediate_key))


def prepared(signer: Signer) -> Prepared:
    return prepare(
        make_caller(),
        generate().request,
        authority=make_authority(signer=signer),
        profile=make_profile(),
        now=NOW,
    )


def test_the_loop_goes_on_while_a_signer_blocks(tmp_path: Path) -> None:
    signer = slow_signer()

    async def story() -> None:
        async with issuing(tmp_path, authority=make_authority(signer=signer)) as ca:
            issued = asyncio.create_task(ca.issuance.issue(make_caller(), generate().request))
            while not signer.asked.is_set():
                await asyncio.sleep(0.005)
            assert not issued.done()
            signer.may_answer.set()
            assert (await issued).serial

    asyncio.run(story())
    assert {name.partition("_")[0] for name in signer.threads} == {"sign"}


def test_a_key_in_memory_signs_at_once_without_a_thread(tmp_path: Path) -> None:
    executor = NoThreads()

    async def story() -> None:
        async with issuing(tmp_path) as ca:
            ca.issuance.signing._executor = executor
            assert (await ca.issuance.issue(make_caller(), generate().request)).serial

    asyncio.run(story())
    assert executor.turns == []


NOBODY_BARRED = Authorities("example.org")


def test_too_many_that_wait_are_turned_away() -> None:
    threads = SigningThreads(NoThreads())

    async def story() -> None:
        wanted = prepared(slow_signer())
        waiting = [
            asyncio.create_task(threads.sign(wanted, FakeClock(), NOBODY_BARRED))
            for _ in range(blocking.MAXIMUM_WAITING)
        ]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await threads.sign(wanted, FakeClock(), NOBODY_BARRED)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(story())
    assert threads._waiting == 0


def test_whose_turn_comes_too_late_is_not_signed_any_more() -> None:
    executor, clock, signer = NoThreads(), FakeClock(), slow_signer()
    threads = SigningThreads(executor)

    async def story() -> None:
        task = asyncio.create_task(threads.sign(prepared(signer), clock, NOBODY_BARRED))
        await asyncio.sleep(0)
        clock.advance(timedelta(seconds=blocking.WAIT_SECONDS + 1))
        ((future, turn),) = executor.turns
        try:
            turn()
        except AuthorityUnavailable as error:
            future.set_exception(error)
        with pytest.raises(AuthorityUnavailable, match="too slow"):
            await task

    asyncio.run(story())
    assert not signer.asked.is_set()


def test_whose_authority_is_tainted_before_its_turn_is_not_signed() -> None:
    executor, signer = NoThreads(), slow_signer()
    threads, authorities = SigningThreads(executor), Authorities("example.org")

    async def story() -> None:
        wanted = prepared(signer)
        task = asyncio.create_task(threads.sign(wanted, FakeClock(), authorities))
        await asyncio.sleep(0)
        authorities.bar(wanted.authority.authority_id)
        ((future, turn),) = executor.turns
        with pytest.raises(AuthorityUnavailable, match="tainted meanwhile"):
            turn()
        future.cancel()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())
