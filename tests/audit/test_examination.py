"""Examining a log that somebody tampered with, on real databases: each way is noticed."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.checkpoint import Checkpoint
from audit.checkpoints import Kept, audit_checkpoints
from audit.examination import Examination, Examined, thinned
from audit.log import Log
from audit.note import Note, NoteRefused, SigningKey, VerifierKey
from audit.tree import audit_entries
from audit.verify import verify
from meshca.errors import EvidenceBroken
from tests.audit.signed_log import ORIGIN, OVERLAP, SignedLog, signed_log
from tests.audit.tampering import copied, execute, put_back, rebuild_tree, rewrite, roll_back, swap


def examine(
    engine: sa.Engine, anchors: Sequence[str] = (), keys: Sequence[VerifierKey] = ()
) -> Examined:
    return Examination(engine=engine, origin=ORIGIN, anchors=anchors, keys=keys).run()


async def grown(log: SignedLog) -> list[str]:
    """Let the log grow to 330 entries under three checkpoints, and return those as anchors."""
    for count in (9, 300, 20):
        await log.append(count)
        assert await log.signer.step()
    return [kept.note for kept in reversed(log.kept())]


def story(engine: sa.Engine, directory: Path, tell: Callable[[SignedLog, list[str]], None]) -> None:
    """Let a log grow, and tell what happens to it then."""

    async def main() -> None:
        async with signed_log(engine, directory) as log:
            tell(log, await grown(log))

    asyncio.run(main())


def test_a_log_that_is_as_it_was_signed_is_well(both_engines: sa.Engine, tmp_path: Path) -> None:
    def tell(log: SignedLog, anchors: list[str]) -> None:
        examined = examine(log.engine, anchors)
        assert examined.head == Log(log.engine).head()
        assert (examined.head.size, examined.signed) == (330, 330)
        assert (examined.checkpoints, examined.anchors) == (3, 3)
        assert len(examined.keys) == 1

    story(both_engines, tmp_path, tell)


def test_what_was_appended_since_is_not_signed_yet(both_engines: sa.Engine, tmp_path: Path) -> None:
    async def main() -> None:
        async with signed_log(both_engines, tmp_path) as log:
            await grown(log)
            await log.append(5)
            examined = examine(log.engine)
            assert (examined.head.size, examined.signed) == (335, 330)

    asyncio.run(main())


def test_an_empty_log_is_well(both_engines: sa.Engine) -> None:
    assert examine(both_engines).head.size == 0


Tampering = Callable[[sa.Engine], None]


def changed_body(engine: sa.Engine) -> None:
    execute(
        engine,
        "UPDATE audit_entries SET body = replace(body, 'shop', 'shed') WHERE leaf_index = 200",
    )


def changed_leaf(engine: sa.Engine) -> None:
    rewrite(engine, 200, reason="it was somebody else")


def changed_column(engine: sa.Engine) -> None:
    execute(engine, "UPDATE audit_entries SET kind = 'gap' WHERE leaf_index = 200")


def removed(engine: sa.Engine) -> None:
    execute(engine, "DELETE FROM audit_entries WHERE leaf_index = 200")


def reordered(engine: sa.Engine) -> None:
    swap(engine, 200, 201)


def changed_node(engine: sa.Engine) -> None:
    execute(engine, "UPDATE audit_nodes SET hash = :hash", hash=bytes(32))


def moved_head(engine: sa.Engine) -> None:
    execute(engine, "UPDATE audit_head SET size = 326")


@pytest.mark.parametrize(
    ("tamper", "index"),
    [
        (changed_body, 200),
        (changed_leaf, 0),
        (changed_column, 200),
        (removed, 200),
        (reordered, 0),
        (changed_node, 0),
        (moved_head, 326),
    ],
)
def test_tampering_that_leaves_the_tree_is_noticed_without_any_anchor(
    both_engines: sa.Engine, tmp_path: Path, tamper: Tampering, index: int
) -> None:
    def tell(log: SignedLog, _anchors: list[str]) -> None:
        tamper(log.engine)
        with pytest.raises(EvidenceBroken) as broken:
            examine(log.engine)
        assert broken.value.index == index

    story(both_engines, tmp_path, tell)


def renumbered(engine: sa.Engine) -> None:
    """Take entry 200 out and close the gap."""
    rows = copied(engine, audit_entries)
    execute(engine, "DELETE FROM audit_entries WHERE leaf_index = 329")
    for row in rows[201:]:
        execute(
            engine,
            "UPDATE audit_entries SET time = :time, kind = :kind, body = :body"
            " WHERE leaf_index = :index",
            time=row[1],
            kind=row[2],
            body=str(row[4]),
            index=row[0] - 1,
        )
    for index in range(200, 329):
        rewrite(engine, index, index=index)


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (changed_leaf, "rewritten from entry 10 on"),
        (reordered, "rewritten from entry 10 on"),
        (renumbered, "rewritten from entry 10 on"),
    ],
)
def test_a_recomputed_tree_is_noticed_by_what_was_signed(
    both_engines: sa.Engine, tmp_path: Path, tamper: Tampering, said: str
) -> None:
    def tell(log: SignedLog, _anchors: list[str]) -> None:
        tamper(log.engine)
        rebuild_tree(log.engine)
        assert verify(log.engine).size in (329, 330), "it agrees with itself"
        with pytest.raises(EvidenceBroken, match=said) as broken:
            examine(log.engine)
        assert broken.value.index == 10

    story(both_engines, tmp_path, tell)


def test_a_log_that_was_cut_off_is_noticed_by_what_was_signed(
    both_engines: sa.Engine, tmp_path: Path
) -> None:
    def tell(log: SignedLog, _anchors: list[str]) -> None:
        roll_back(log.engine, 320)
        with pytest.raises(EvidenceBroken, match="cut off: it has 320 entries") as broken:
            examine(log.engine)
        assert broken.value.index == 320

    story(both_engines, tmp_path, tell)


def test_a_cut_log_without_its_checkpoints_is_noticed_by_an_anchor_only(
    both_engines: sa.Engine, tmp_path: Path
) -> None:
    def tell(log: SignedLog, anchors: list[str]) -> None:
        roll_back(log.engine, 320)
        execute(log.engine, "DELETE FROM audit_checkpoints WHERE size > 320")
        assert examine(log.engine).head.size == 320
        with pytest.raises(EvidenceBroken, match=r"cut off: .* an anchor speaks of 330"):
            examine(log.engine, anchors)
        memory = [log.signer.last.path.read_text()]
        examination = Examination(engine=log.engine, origin=ORIGIN, memory=memory)
        with pytest.raises(EvidenceBroken, match=r"cut off: .* what this machine signed last"):
            examination.run()

    story(both_engines, tmp_path, tell)


def signed_again(log: SignedLog, keys: Sequence[SigningKey]) -> None:
    """Sign what is stored now, as somebody with the database and the keys does."""
    execute(log.engine, "DELETE FROM audit_checkpoints")
    head = Log(log.engine).head()
    text = str(Checkpoint(ORIGIN, head.size, head.root))
    note = str(Note(text, tuple(key.sign(text) for key in keys)))
    put_back(
        log.engine,
        audit_checkpoints,
        [(ORIGIN, head.size, 1, ",".join(k.verifier.key_id.hex() for k in keys), note)],
    )


def test_a_split_view_is_noticed_by_an_anchor_only(both_engines: sa.Engine, tmp_path: Path) -> None:
    """Whoever has the key too can show two logs; each agrees with itself."""

    async def main() -> None:
        async with signed_log(both_engines, tmp_path) as log:
            anchors = await grown(log)
            rewrite(log.engine, 200, reason="it was somebody else")
            rebuild_tree(log.engine)
            signed_again(log, await log.keys.prepare())
            assert examine(log.engine).signed == 330
            with pytest.raises(EvidenceBroken, match="others were shown another log") as broken:
                examine(log.engine, anchors)
            assert broken.value.index == 10

    asyncio.run(main())


def test_a_forged_checkpoint_is_noticed(both_engines: sa.Engine, tmp_path: Path) -> None:
    def tell(log: SignedLog, anchors: list[str]) -> None:
        kept = log.kept()[0]
        checkpoint, note = kept.parsed()
        forged = Note(str(Checkpoint(ORIGIN, 329, checkpoint.root)), note.signatures)
        execute(
            log.engine,
            "UPDATE audit_checkpoints SET size = 329, note = :note WHERE size = 330",
            note=str(forged),
        )
        with pytest.raises(EvidenceBroken, match="of 329 entries is not signed by the log"):
            examine(log.engine, anchors)

    story(both_engines, tmp_path, tell)


def test_a_checkpoint_under_another_size_is_noticed(
    both_engines: sa.Engine, tmp_path: Path
) -> None:
    def tell(log: SignedLog, _anchors: list[str]) -> None:
        execute(log.engine, "UPDATE audit_checkpoints SET size = 329 WHERE size = 330")
        with pytest.raises(EvidenceBroken, match="says another size"):
            examine(log.engine)
        execute(log.engine, "UPDATE audit_checkpoints SET note = 'hello' WHERE size = 329")
        with pytest.raises(EvidenceBroken, match="of 329 entries is none"):
            examine(log.engine)

    story(both_engines, tmp_path, tell)


def test_a_key_that_the_log_does_not_name_makes_no_checkpoint(
    both_engines: sa.Engine, tmp_path: Path
) -> None:
    async def main() -> None:
        async with signed_log(both_engines, tmp_path) as log:
            await grown(log)
            stranger = SigningKey(ORIGIN, Ed25519PrivateKey.generate())
            signed_again(log, [stranger])
            with pytest.raises(EvidenceBroken, match="no known key signed"):
                examine(log.engine)

    asyncio.run(main())


def test_an_anchor_of_another_log_is_refused_as_such(
    both_engines: sa.Engine, tmp_path: Path
) -> None:
    def tell(log: SignedLog, anchors: list[str]) -> None:
        with pytest.raises(NoteRefused, match="another log"):
            examine(log.engine, [anchors[0].replace("meshca/audit\n", "other/audit\n")])

    story(both_engines, tmp_path, tell)


def test_who_knows_the_first_key_comes_to_trust_those_that_follow(
    both_engines: sa.Engine, tmp_path: Path
) -> None:
    async def main() -> None:
        async with signed_log(both_engines, tmp_path) as log:
            await grown(log)
            (first,) = await log.keys.prepare()
            await log.keys.rotate(actor="uid:0")
            await log.append()
            await log.signer.step()
            log.clock.advance(OVERLAP)
            await log.signer.step()
            (second,) = await log.keys.prepare()
            await log.append()
            await log.signer.step()
            assert len(log.kept()[0].parsed()[1].signatures) == 1

            assert first.verifier != second.verifier
            for known in (first.verifier, second.verifier):
                assert len(examine(log.engine, keys=[known]).keys) == 2
            stranger = SigningKey(ORIGIN, Ed25519PrivateKey.generate()).verifier
            with pytest.raises(EvidenceBroken, match="not signed by the log"):
                examine(log.engine, keys=[stranger])

    asyncio.run(main())


def test_a_key_that_was_given_up_signs_nothing_more(
    both_engines: sa.Engine, tmp_path: Path
) -> None:
    """Whoever finds an old key cannot sign a longer log with it."""

    async def main() -> None:
        async with signed_log(both_engines, tmp_path) as log:
            (old,) = await log.keys.prepare()
            await log.signer.step()
            await log.keys.rotate(actor="uid:0")
            await log.signer.step()
            log.clock.advance(OVERLAP)
            await log.signer.step()
            await log.append(3)
            examine(log.engine)
            head = Log(log.engine).head()
            text = str(Checkpoint(ORIGIN, head.size, head.root))
            note = str(Note(text, (old.sign(text),)))
            await log.writer.submit(Kept(ORIGIN, head.size, log.clock.now(), note))
            with pytest.raises(EvidenceBroken, match="not signed by the log"):
                examine(log.engine)

    asyncio.run(main())


def test_many_anchors_are_thinned_to_the_newest_and_some_of_each_time() -> None:
    notes = [str(number) for number in range(1000)]

    assert list(thinned(notes, 2000)) == notes
    chosen = list(thinned(notes, 100))
    assert len(chosen) == len(set(chosen)) == 100
    assert chosen[-50:] == notes[-50:]
    assert chosen == sorted(chosen, key=int)
