"""Verifying exports: what they prove, and that nothing about them can be changed."""

import io
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import sqlalchemy as sa

from audit.export.chosen import Chosen
from audit.export.lines import ExportBroken
from audit.export.verify import Trust, verify_export
from audit.merkle import leaf_hash
from audit.note import NoteRefused
from audit.retention.coverage import columns_digest
from audit.tree import audit_entries
from meshca.errors import EvidenceBroken, RequestRefused, Unavailable
from tests.audit.export.entries import ATTACKS, an_entry
from tests.audit.export.world import ORIGIN, LogWorld, a_key, a_witness, introduces, log_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LogWorld]:
    with log_world(tmp_path) as made:
        yield made


def redaction(*indexes: int) -> dict[str, object]:
    details = {
        "ranges": [[index, index] for index in indexes],
        "kinds": {"issuance": len(indexes)},
        "columns_sha256": columns_digest(()),
    }
    return {"kind": "redaction", "details": details}


def test_a_whole_log_verifies(world: LogWorld) -> None:
    world.fill(1_000)
    world.sign()
    verdict = world.verify(world.export())
    assert (verdict.log, verdict.start, verdict.stop, verdict.shown) == (ORIGIN, 0, 1_000, 1_000)
    assert (verdict.skipped, verdict.redacted, verdict.chosen) == (0, (), Chosen())
    assert verdict.signed.by == (world.key.verifier,)
    assert verdict.signed.is_given


def test_any_stretch_verifies(world: LogWorld) -> None:
    world.fill(700)
    world.sign()
    for start, stop in ((0, 1), (3, 700), (255, 513), (512, 700), (700, 700), (0, 0)):
        verdict = world.verify(world.export(start=start, stop=stop))
        assert (verdict.start, verdict.stop, verdict.shown) == (start, stop, stop - start)


def test_lines_are_the_bodies_that_the_leaves_hash(world: LogWorld) -> None:
    world.fill(3)
    world.sign()
    lines = world.export().splitlines()
    assert lines[1:-1] == [stored.body for stored in world.log.entries()]


def test_an_export_cut_at_any_byte_does_not_verify(world: LogWorld) -> None:
    world.fill(2)
    world.append(introduces(world.key))
    world.sign()
    export = world.export(start=1)
    world.verify(export)
    for length in range(len(export)):
        with pytest.raises(ExportBroken):
            world.verify(export[:length])


def test_no_byte_can_be_changed(world: LogWorld) -> None:
    world.append(an_entry(), introduces(world.key), an_entry(number=2), an_entry(number=3))
    world.redact(2)
    world.sign()
    world.fill(1)
    world.sign()
    export = world.export(start=1, stop=4)
    world.verify(export)
    for at in range(len(export)):
        for change in (export[at] ^ 0x01, export[at] ^ 0x20):
            changed = export[:at] + bytes([change]) + export[at + 1 :]
            if changed == export:
                continue
            with pytest.raises(ExportBroken):
                world.verify(changed)


def test_no_line_can_be_moved_removed_or_inserted(world: LogWorld) -> None:
    world.fill(6)
    world.redact(3)
    world.sign()
    lines = world.export().splitlines(keepends=True)
    for at in range(len(lines)):
        removed = [*lines[:at], *lines[at + 1 :]]
        twice = [*lines[:at], lines[at], *lines[at:]]
        blank = [*lines[:at], b"\n", *lines[at:]]
        moved = [*removed[: at + 1], lines[at], *removed[at + 1 :]] if removed[at:] else twice
        for wrong in (removed, twice, blank, moved):
            with pytest.raises(ExportBroken):
                world.verify(b"".join(wrong))


def test_the_first_wrong_line_is_named(world: LogWorld) -> None:
    world.fill(6)
    world.sign()
    lines = world.export().splitlines(keepends=True)
    with pytest.raises(ExportBroken, match=r"line 4: .*entry 2, which comes next") as caught:
        world.verify(b"".join([*lines[:3], *lines[4:]]))
    assert caught.value.line == 4


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"index": True, "leaf_hash": "00" * 32, "redacted": True}, "not a whole number"),
        ({"index": 1, "leaf_hash": "00" * 31, "redacted": True}, "a hash is 32 bytes"),
        ({"index": 1, "leaf_hash": "AA" * 32, "redacted": True}, "lower-case"),
        ({"index": 1, "leaf_hash": "00" * 32, "redacted": 1}, "not what is left of entry 1"),
        ({"hashes": ["00" * 32], "skipped": [1, 2]}, "no filter is named"),
        ({"anything": 1}, "neither an entry"),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else "",
)
def test_a_line_that_is_none_is_refused(
    world: LogWorld, changed: dict[str, object], message: str
) -> None:
    world.fill(3)
    world.sign()
    lines = world.export().splitlines(keepends=True)
    lines[2] = orjson.dumps(changed, option=orjson.OPT_SORT_KEYS) + b"\n"
    with pytest.raises(ExportBroken, match=message):
        world.verify(b"".join(lines))


def test_another_spelling_of_the_same_is_refused(world: LogWorld) -> None:
    world.fill(1)
    world.sign()
    header, *rest = world.export().splitlines(keepends=True)
    with pytest.raises(ExportBroken, match=r"line 1: .*not spelt as exports are"):
        world.verify(header.replace(b'"from":0', b'"from": 0') + b"".join(rest))


@pytest.mark.parametrize("text", [b"", b"{}\n", b"[]\n", b"not json\n", b"\n", b"\x00" * 100])
def test_what_is_no_export_is_refused(text: bytes) -> None:
    with pytest.raises(ExportBroken, match="line 1: "):
        verify_export(io.BytesIO(text), Trust([a_key().verifier]))


def test_an_endless_line_is_not_read() -> None:
    with pytest.raises(ExportBroken, match="is longer than"):
        verify_export(io.BytesIO(b"{" + b" " * (6 << 20)), Trust([a_key().verifier]))


def test_another_logs_key_does_not_count(world: LogWorld) -> None:
    world.fill(3)
    world.sign()
    with pytest.raises(ExportBroken, match="no known key signed"):
        world.verify(world.export(), a_key().verifier)


def test_a_forged_log_does_not_verify(world: LogWorld) -> None:
    world.fill(3)
    world.sign(a_key())
    with pytest.raises(ExportBroken, match="no known key signed"):
        world.verify(world.export())


def test_a_key_that_was_rotated_leads_to_the_next(world: LogWorld) -> None:
    second, third = a_key(), a_key()
    world.append(introduces(world.key))
    world.fill(5)
    world.append(introduces(second))
    world.sign(world.key, second)  # the overlap
    world.append(introduces(world.key, "retired"))
    world.fill(300)
    world.append(introduces(third))
    world.sign(second, third)
    world.fill(1)
    world.sign(third)
    for start in (0, 200):
        export = world.export(start=start)
        for key in (world.key, second, third):
            verdict = world.verify(export, key.verifier)
            assert verdict.signed.by == (third.verifier,)
            assert verdict.signed.is_given == (key is third)


def test_without_the_overlap_an_old_key_leads_nowhere(world: LogWorld) -> None:
    second = a_key()
    world.append(introduces(world.key))
    world.sign()
    world.append(introduces(second))  # no checkpoint of the old key ever covers this
    world.sign(second)
    with pytest.raises(ExportBroken, match="no known key signed"):
        world.verify(world.export(), world.key.verifier)
    world.verify(world.export(), second.verifier)


def test_a_key_that_was_given_up_counts_no_more(world: LogWorld) -> None:
    world.append(introduces(world.key), introduces(world.key, "retired"))
    world.fill(3)
    world.sign()
    with pytest.raises(ExportBroken, match="no known key signed"):
        world.verify(world.export(start=3))


def test_a_split_view_does_not_borrow_the_old_keys_word(world: LogWorld, tmp_path: Path) -> None:
    second = a_key()
    world.append(introduces(world.key), introduces(second))
    overlap = world.sign(world.key, second)
    world.sign(second)
    other = tmp_path / "other"
    other.mkdir()
    with log_world(other) as shown:
        shown.append(introduces(world.key), introduces(second))  # other salts: another log
        shown.fill(2)
        shown.sign(second)
        lines = shown.export().splitlines(keepends=True)
        end = orjson.loads(lines[-1])
        end["audit_export_end"]["steps"] = [{"checkpoint": overlap, "consistency": ["00" * 32]}]
        lines[-1] = orjson.dumps(end, option=orjson.OPT_SORT_KEYS) + b"\n"
        with pytest.raises(ExportBroken, match="does not begin this one"):
            world.verify(b"".join(lines), world.key.verifier)


def test_every_witness_must_have_signed(world: LogWorld) -> None:
    first, second = a_witness("w1.example"), a_witness("w2.example")
    world.fill(3)
    world.sign(witnesses=[first])
    export = world.export()
    verdict = world.verify(export, witnesses=[first.verifier])
    assert [w.key.name for w in verdict.signed.witnesses] == ["w1.example"]
    with pytest.raises(ExportBroken, match=r"witness w2.example has not signed"):
        world.verify(export, witnesses=[first.verifier, second.verifier])


def test_redacted_entries_are_named(world: LogWorld) -> None:
    world.fill(9)
    world.append(an_entry(**redaction(2, 3, 4)))
    world.redact(2, 3, 4, 6)
    world.sign()
    verdict = world.verify(world.export())
    assert (verdict.shown, verdict.redacted) == (10, ((2, 4), (6, 6)))
    assert verdict.unexplained == ((6, 6),)


def test_a_body_hidden_as_redacted_is_named_as_unexplained(world: LogWorld) -> None:
    world.fill(3)
    world.sign()
    lines = world.export().splitlines(keepends=True)
    stored = world.log.get([1])[0]
    hidden = {"index": 1, "leaf_hash": stored.leaf_hash.hex(), "redacted": True}
    lines[2] = orjson.dumps(hidden, option=orjson.OPT_SORT_KEYS) + b"\n"
    assert world.verify(b"".join(lines)).unexplained == ((1, 1),)


def test_a_filter_leaves_out_and_still_proves(world: LogWorld) -> None:
    entries = []
    for number in range(600):
        kinds = ("refusal", "refused") if number % 97 == 5 else ("issuance", "done")
        entries.append(an_entry(kinds[0], number, outcome=kinds[1]))
    world.append(*entries)
    world.redact(300)
    world.sign()
    export = world.export(start=7, chosen=Chosen(kind="refusal"))
    verdict = world.verify(export)
    assert (verdict.shown, verdict.redacted, verdict.skipped) == (7, ((300, 300),), 586)
    wrong = export.replace(b'"kind":"refusal"}', b'"kind":"ban"}')
    with pytest.raises(ExportBroken, match="not an entry that the filter asks for"):
        world.verify(wrong)


def test_an_entry_that_matches_can_be_hidden_only_with_its_neighbours_proof(
    world: LogWorld,
) -> None:
    world.append(*(an_entry("refusal", n, outcome="refused") for n in range(4)))
    world.sign()
    lines = world.export(chosen=Chosen(kind="refusal")).splitlines(keepends=True)
    with pytest.raises(ExportBroken, match=r"line 3: .*entry 1, which comes next"):
        world.verify(b"".join([*lines[:2], *lines[3:]]))


def test_an_export_that_was_interrupted_is_gone_on_with(world: LogWorld) -> None:
    world.fill(500)
    world.sign()
    whole = world.export()
    beginning = b"".join(whole.splitlines(keepends=True)[:301])
    world.append(introduces(world.key))
    second = a_key()
    world.append(introduces(second))
    world.sign(world.key, second)
    rest = world.export(start=300, stop=500, is_continued=True)
    verdict = world.verify(beginning + rest, world.key.verifier)
    assert (verdict.start, verdict.stop, verdict.signed.checkpoint.size) == (0, 500, 502)
    assert world.verify(beginning + rest, second.verifier).signed.is_given


def test_no_text_breaks_out_of_its_line(world: LogWorld) -> None:
    for text in ATTACKS.values():
        world.append(an_entry(reason=text, details={text: [text]}))
    world.sign()
    export = world.export()
    assert export.count(b"\n") == len(ATTACKS) + 2
    assert world.verify(export).shown == len(ATTACKS)


def test_what_no_checkpoint_holds_is_not_exported(world: LogWorld) -> None:
    with pytest.raises(Unavailable, match="no checkpoint yet"):
        world.export()
    world.fill(3)
    world.sign()
    world.fill(3)
    assert world.verify(world.export()).stop == 3
    for start, stop in ((0, 4), (4, None), (-1, 2), (2, 1)):
        with pytest.raises(RequestRefused, match="the checkpoint holds entries 0 to 2"):
            world.export(start=start, stop=stop)


def test_a_database_whose_entries_were_rewritten_makes_no_export_that_verifies(
    world: LogWorld,
) -> None:
    world.fill(4)
    world.sign()
    (stored,) = world.log.get([2])
    evil = (stored.body or b"").replace(b"orders", b"hidden")
    rewritten = sa.update(audit_entries).where(audit_entries.c.leaf_index == 2)
    with world.engine.connect().execution_options(meshca_writes=True) as c, c.begin():
        c.execute(rewritten.values(body=evil.decode()))
    with pytest.raises(EvidenceBroken, match="the hash of entry 2 does not match its body"):
        world.export()
    with world.engine.connect().execution_options(meshca_writes=True) as c, c.begin():
        c.execute(rewritten.values(leaf_hash=leaf_hash(evil)))
    with pytest.raises(ExportBroken, match="at least one was changed"):
        world.verify(world.export())


def test_filters_refuse_what_they_do_not_know() -> None:
    with pytest.raises(RequestRefused, match=r"unknown kind 'x'; known: issuance, refusal"):
        Chosen(kind="x")
    with pytest.raises(RequestRefused, match="a filter has texts for actor, cluster"):
        Chosen.parse({"pods": "x"})
    with pytest.raises(RequestRefused, match="a filter has texts"):
        Chosen.parse({"kind": 1})


def test_a_checkpoint_that_is_no_note_is_refused(world: LogWorld) -> None:
    world.fill(1)
    world.sign()
    lines = world.export().splitlines(keepends=True)
    end = orjson.loads(lines[-1])
    end["audit_export_end"]["checkpoint"] = "hello"
    lines[-1] = orjson.dumps(end, option=orjson.OPT_SORT_KEYS) + b"\n"
    with pytest.raises(ExportBroken, match="line 3: ") as caught:
        world.verify(b"".join(lines))
    assert isinstance(caught.value.__cause__, NoteRefused)
