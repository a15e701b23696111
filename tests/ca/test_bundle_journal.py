"""The number of our bundle: it grows with each change, whatever restarts or the clock does."""

import asyncio
from datetime import timedelta
from pathlib import Path

from ca.authority import Authorities
from ca.bundle_journal import BundleJournal, digest_of
from tests.builders import TRUST_DOMAIN, Pki, make_pki
from tests.fakes import FakeClock
from tests.stores import sqlite_engine, writer_of

OLD, NEW = make_pki(number=1), make_pki(number=2)


def numbers(directory: Path, *steps: tuple[FakeClock, Pki]) -> list[int]:
    """Return the number published after each step, each in a process of its own."""

    async def story() -> list[int]:
        found = []
        with sqlite_engine(directory) as engine:
            for clock, pki in steps:
                authorities = Authorities(TRUST_DOMAIN)
                sequence = int(clock.now().timestamp())
                authorities.activate(pki.authority(), (pki.root,), sequence=sequence)
                async with writer_of(engine) as writer:
                    journal = BundleJournal(
                        authorities=authorities, engine=engine, writer=writer, clock=clock
                    )
                    await journal.record()
                    assert journal.current().roots == (pki.root,)
                    found.append(journal.current().sequence)
        return found

    return asyncio.run(story())


def test_a_restart_with_the_same_roots_keeps_the_number(tmp_path: Path) -> None:
    later = FakeClock()
    later.advance(timedelta(hours=1))

    first, second = numbers(tmp_path, (FakeClock(), OLD), (later, OLD))

    assert first == second


def test_a_change_gets_a_higher_number(tmp_path: Path) -> None:
    later = FakeClock()
    later.advance(timedelta(hours=1))

    first, second = numbers(tmp_path, (FakeClock(), OLD), (later, NEW))

    assert second > first


def test_a_clock_that_was_set_back_does_not_lower_the_number(tmp_path: Path) -> None:
    earlier = FakeClock()
    earlier.jump(timedelta(days=-400))

    first, second = numbers(tmp_path, (FakeClock(), OLD), (earlier, NEW))

    assert second == first + 1


def test_roots_that_come_back_get_a_number_of_their_own(tmp_path: Path) -> None:
    clock = FakeClock()

    first, second, third = numbers(tmp_path, (clock, OLD), (clock, NEW), (clock, OLD))

    assert first < second < third


def test_the_order_of_roots_means_nothing() -> None:
    assert digest_of((OLD.root, NEW.root)) == digest_of((NEW.root, OLD.root))


def test_a_change_while_it_runs_is_numbered_and_told(tmp_path: Path) -> None:
    async def story() -> tuple[int, int, list[int]]:
        authorities, told = Authorities(TRUST_DOMAIN), []
        authorities.activate(OLD.authority(), (OLD.root,))
        with sqlite_engine(tmp_path) as engine:
            async with writer_of(engine) as writer:
                journal = BundleJournal(
                    authorities=authorities, engine=engine, writer=writer, clock=FakeClock()
                )
                changed = asyncio.Event()
                journal.subscribe(lambda: told.append(journal.current().sequence))
                await journal.record()
                before = journal.current().sequence
                journal.subscribe(changed.set)
                authorities.subscribe(journal.wake)
                running = asyncio.create_task(journal.run())
                authorities.activate(OLD.authority(), (OLD.root, NEW.root))
                async with asyncio.timeout(5):
                    await changed.wait()
                running.cancel()
                return before, journal.current().sequence, told

    before, after, told = asyncio.run(story())

    assert after > before
    assert told == [before, after]


def test_two_replicas_with_the_same_roots_publish_the_same_number(tmp_path: Path) -> None:
    async def story() -> set[int]:
        with sqlite_engine(tmp_path) as engine:
            async with writer_of(engine) as one, writer_of(engine) as other:
                journals = []
                for number, writer in enumerate((one, other)):
                    authorities = Authorities(TRUST_DOMAIN)
                    authorities.activate(OLD.authority(), (OLD.root,), sequence=100 + number)
                    journals.append(
                        BundleJournal(
                            authorities=authorities,
                            engine=engine,
                            writer=writer,
                            clock=FakeClock(),
                        )
                    )
                await asyncio.gather(*(journal.record() for journal in journals))
                return {journal.current().sequence for journal in journals}

    assert len(asyncio.run(story())) == 1
