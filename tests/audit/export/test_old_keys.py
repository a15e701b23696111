"""What a retired key, and a key of another log, can and cannot make of an export."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from audit.export.lines import ExportBroken
from tests.audit.export.world import ORIGIN, LogWorld, a_key, a_witness, introduces, log_world

WITNESS = a_witness()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LogWorld]:
    with log_world(tmp_path) as world:
        world.append(introduces(world.key))
        world.fill(20)
        yield world


def retire(world: LogWorld) -> None:
    world.append(introduces(world.key, "retired"))
    world.fill(5)


def test_a_key_that_the_export_says_was_retired_signs_nothing_more(world: LogWorld) -> None:
    retire(world)
    world.sign()
    with pytest.raises(ExportBroken, match="no known key signed"):
        world.verify(world.export(start=23))
    with pytest.raises(ExportBroken, match="no known key signed"):
        world.verify(world.export())


def test_a_retirement_that_is_left_out_is_seen_by_who_has_a_witness(world: LogWorld) -> None:
    retire(world)
    world.sign()
    *lines, last = world.export(start=23).splitlines()
    trailer = orjson.loads(last)
    end = trailer["audit_export_end"]
    end["keys"] = [each for each in end["keys"] if "retired" not in each["entry"]]
    made = orjson.dumps(trailer, option=orjson.OPT_SORT_KEYS)
    forged = b"".join(line + b"\n" for line in (*lines, made))
    assert world.verify(forged).signed.is_given, "docs/audit.md says that this is not noticed"
    with pytest.raises(ExportBroken, match="has not signed"):
        world.verify(forged, witnesses=[WITNESS.verifier])
    with pytest.raises(ExportBroken, match="no known key signed"):
        world.verify(forged, a_key().verifier)


def test_it_is_said_that_a_key_that_leads_to_another_was_retired(world: LogWorld) -> None:
    new = a_key()
    world.append(introduces(new))
    world.sign(world.key, new)
    retire(world)
    world.sign(new)
    by_old = world.verify(world.export())
    assert (by_old.signed.by, by_old.signed.is_given) == ((new.verifier,), False)
    assert by_old.signed.retired == (world.key.verifier,)
    assert world.verify(world.export(), new.verifier).signed.retired == ()


def test_a_key_of_another_log_signs_nothing_of_ours(world: LogWorld) -> None:
    partner = a_key("partner.test/meshca/audit")
    world.sign(partner)
    with pytest.raises(ExportBroken, match="no known key signed"):
        world.verify(world.export(), world.key.verifier, partner.verifier)
    world.fill(1)
    world.sign(world.key, partner)
    verdict = world.verify(world.export(), world.key.verifier, partner.verifier)
    assert (verdict.log, verdict.signed.by) == (ORIGIN, (world.key.verifier,))
