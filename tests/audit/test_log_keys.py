"""The log's own keys: introduced by entries, followed with overlap, kept in private files."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from audit.checkpoint import Checkpoint
from audit.key_files import KeyFiles, Wrapping
from audit.key_history import KeyHistory
from audit.log_keys import LogKey, read_log_keys
from audit.note import NoteRefused, VerifierKey, parse_note, verify_note
from ca.at_rest import KeyFileAtRest, PassphraseAtRest
from meshca.errors import StoreUnavailable, Unavailable
from tests.audit.signed_log import ORIGIN, OVERLAP, SignedLog, signed_log
from tests.audit.tampering import execute
from tests.stores import documents

Story = Callable[[SignedLog], Awaitable[None]]


def run(engine: sa.Engine, directory: Path, story: Story, **options: object) -> None:
    async def main() -> None:
        async with signed_log(engine, directory, **options) as log:  # type: ignore[arg-type]  # passed on
            await story(log)

    asyncio.run(main())


def stages(log: SignedLog) -> list[str]:
    return [key.stage for key in read_log_keys(log.engine, ORIGIN)]


def key_entries(log: SignedLog) -> list[tuple[str, str, str]]:
    found = [d for d in documents(log.engine) if d["kind"] == "log_key"]
    return [(d["reason"], d["details"]["stage"], d["actor"]) for d in found]


def signatures(log: SignedLog) -> int:
    return len(parse_note(log.kept()[0].note).signatures)


def test_a_key_is_introduced_by_an_entry_of_the_log(
    both_engines: sa.Engine, tmp_path: Path
) -> None:
    async def story(log: SignedLog) -> None:
        (key,) = await log.keys.prepare()
        assert await log.keys.prepare() == [key]
        (entry,) = documents(log.engine)
        assert entry["details"] == {
            "verifier": str(key.verifier),
            "origin": ORIGIN,
            "replica": "main",
            "stage": "active",
            "retires_at": None,
        }
        assert key.name == ORIGIN

    run(both_engines, tmp_path, story)


def test_a_key_outlives_the_process(both_engines: sa.Engine, tmp_path: Path) -> None:
    async def story(log: SignedLog) -> None:
        (key,) = await log.keys.prepare()
        log.restart()
        assert [again.verifier for again in await log.keys.prepare()] == [key.verifier]
        assert len(documents(log.engine)) == 1

    run(both_engines, tmp_path, story)


def test_keys_overlap_when_one_follows_another(both_engines: sa.Engine, tmp_path: Path) -> None:
    async def story(log: SignedLog) -> None:
        (old,) = await log.keys.prepare()
        await log.signer.step()
        log.clock.advance(timedelta(seconds=1))
        new = await log.keys.rotate(actor="uid:7")
        assert stages(log) == ["retiring", "active"]
        await log.signer.step()
        assert signatures(log) == 2
        known = [old.verifier, VerifierKey.parse(new.verifier)]
        assert len(verify_note(parse_note(log.kept()[0].note), known)) == 2

        log.clock.advance(OVERLAP - timedelta(seconds=1))
        await log.append()
        await log.signer.step()
        assert signatures(log) == 2

        log.clock.advance(timedelta(seconds=1))
        await log.signer.step()
        assert signatures(log) == 1
        assert stages(log) == ["retired", "active"]
        assert [p.stem for p in (tmp_path / "keys").iterdir()] == [new.key_id]
        assert key_entries(log) == [
            ("introduced", "active", "meshca"),
            ("rotated", "active", "uid:7"),
            ("rotated", "retiring", "uid:7"),
            ("retired", "retired", "meshca"),
        ]

    run(both_engines, tmp_path, story)


def test_a_key_signs_on_until_the_next_one_was_vouched_for(
    both_engines: sa.Engine, tmp_path: Path
) -> None:
    async def story(log: SignedLog) -> None:
        await log.signer.step()
        log.clock.advance(timedelta(seconds=1))
        await log.keys.rotate(actor="uid:7")
        log.clock.advance(OVERLAP * 2)
        assert len(await log.keys.prepare()) == 2, "no checkpoint was signed since"
        await log.signer.step()
        assert signatures(log) == 2
        assert len(await log.keys.prepare()) == 1

    run(both_engines, tmp_path, story)


def test_rotating_twice_leaves_one_active_key(both_engines: sa.Engine, tmp_path: Path) -> None:
    async def story(log: SignedLog) -> None:
        await log.keys.prepare()
        await asyncio.gather(*(log.keys.rotate(actor="uid:7") for _ in range(3)))
        assert sorted(stages(log)) == ["active", "retiring", "retiring", "retiring"]
        assert len(await log.keys.prepare()) == 4

    run(both_engines, tmp_path, story)


def test_a_key_that_was_not_introduced_before_the_process_ended_is_introduced(
    both_engines: sa.Engine, tmp_path: Path
) -> None:
    async def story(log: SignedLog) -> None:
        key = log.keys.files.create()
        assert [each.verifier for each in await log.keys.prepare()] == [key.verifier]
        assert stages(log) == ["active"]

    run(both_engines, tmp_path, story)


def test_a_key_that_is_gone_with_its_disk_is_given_up(
    both_engines: sa.Engine, tmp_path: Path
) -> None:
    async def story(log: SignedLog) -> None:
        (old,) = await log.keys.prepare()
        log.keys.files.remove(old)
        log.restart()
        (new,) = await log.keys.prepare()
        assert new.verifier != old.verifier
        assert [entry[:2] for entry in key_entries(log)][1:] == [
            ("lost", "retired"),
            ("introduced", "active"),
        ]

    run(both_engines, tmp_path, story)


def test_a_database_that_forgot_our_key_is_told_again(
    both_engines: sa.Engine, tmp_path: Path
) -> None:
    async def story(log: SignedLog) -> None:
        (key,) = await log.keys.prepare()
        execute(log.engine, "DELETE FROM audit_log_keys")
        log.restart()
        assert [each.verifier for each in await log.keys.prepare()] == [key.verifier]

    run(both_engines, tmp_path, story)


def test_a_database_that_takes_nothing_leaves_the_old_key(
    both_engines: sa.Engine, tmp_path: Path
) -> None:
    async def story(log: SignedLog) -> None:
        await log.keys.prepare()
        await log.writer.__aexit__(None, None, None)
        with pytest.raises(StoreUnavailable):
            await log.keys.rotate(actor="uid:7")
        assert stages(log) == ["active"]
        assert len(list((tmp_path / "keys").iterdir())) == 1

    run(both_engines, tmp_path, story)


def test_other_texts_are_signed_too_but_never_a_checkpoint(
    both_engines: sa.Engine, tmp_path: Path
) -> None:
    async def story(log: SignedLog) -> None:
        (key,) = await log.keys.prepare()
        note = await log.keys.sign("a report\nof today\n")
        assert verify_note(note, [key.verifier])
        with pytest.raises(NoteRefused, match="by the signer alone"):
            await log.keys.sign(str(Checkpoint(ORIGIN, 9, bytes(32))))

    run(both_engines, tmp_path, story)


def test_replicas_have_keys_of_their_own(both_engines: sa.Engine, tmp_path: Path) -> None:
    async def story(log: SignedLog) -> None:
        async with signed_log(log.engine, tmp_path / "other", replica="other") as other:
            (one,), (two,) = await log.keys.prepare(), await other.keys.prepare()
            assert one.verifier != two.verifier
            assert len(await log.keys.prepare()) == 1
            assert {k.replica for k in read_log_keys(log.engine, ORIGIN)} == {"main", "other"}

    run(both_engines, tmp_path, story)


def secret(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


@pytest.fixture(params=["memory", "passphrase", "file"])
def wrapping(request: pytest.FixtureRequest, tmp_path: Path) -> Wrapping | None:
    if request.param == "passphrase":
        return PassphraseAtRest(secret(tmp_path / "passphrase", b"correct horse"))
    if request.param == "file":
        key = b"a2V5IG9mIHRoaXJ0eS10d28gYnl0ZXMsIG5vIG1vcmU="
        return KeyFileAtRest(secret(tmp_path / "at-rest.key", key))
    return None


def test_private_keys_are_kept_as_key_at_rest_says(
    wrapping: Wrapping | None, tmp_path: Path
) -> None:
    files = KeyFiles(directory=tmp_path / "keys", origin=ORIGIN, wrapping=wrapping)
    key = files.create()

    (path,) = files.directory.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert files.directory.stat().st_mode & 0o777 == 0o700
    assert (b"BEGIN PRIVATE KEY" in path.read_bytes()) == (wrapping is None)
    assert [each.verifier for each in files.load()] == [key.verifier]


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    files = KeyFiles(directory=tmp_path / "keys", origin=ORIGIN)
    files.create()
    (path,) = files.directory.iterdir()
    path.chmod(0o644)
    with pytest.raises(StoreUnavailable, match="others can read it"):
        files.load()


@pytest.mark.parametrize("content", [b"", b"hello", b"-----BEGIN PRIVATE KEY-----\n"])
def test_a_key_file_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    files = KeyFiles(directory=tmp_path / "keys", origin=ORIGIN)
    files.create()
    (path,) = files.directory.iterdir()
    path.write_bytes(content)
    with pytest.raises(Unavailable):
        files.load()


def test_a_key_file_of_another_log_is_left_alone(tmp_path: Path) -> None:
    other = KeyFiles(directory=tmp_path / "keys", origin="example.org/other")
    other.create()
    assert KeyFiles(directory=tmp_path / "keys", origin=ORIGIN).load() == []
    assert len(other.load()) == 1


def test_the_ca_does_not_sign_with_a_key_of_the_log(tmp_path: Path) -> None:
    """They are kept the same way; what they are for is told by their kind."""
    from ca.keys import load_private_key
    from meshca.errors import AuthorityUnavailable

    files = KeyFiles(directory=tmp_path / "keys", origin=ORIGIN)
    files.create()
    (path,) = files.directory.iterdir()
    with pytest.raises(AuthorityUnavailable, match="cannot sign"):
        load_private_key(path)


def test_the_history_of_keys_hears_of_this_log_only() -> None:
    document = {
        "kind": "log_key",
        "index": 4,
        "details": {
            "verifier": "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "origin": ORIGIN,
            "stage": "active",
        },
    }
    history, other = KeyHistory(ORIGIN), KeyHistory("example.org/other")
    history.hear(document)
    other.hear(document)
    history.hear({**document, "kind": "issuance", "details": {"verifier": "no key"}})
    assert list(history.introduced.values()) == [4]
    assert not other.introduced
    with pytest.raises(NoteRefused):
        history.hear({**document, "details": {"verifier": "no key", "origin": ORIGIN}})


def test_a_key_names_itself_by_its_id() -> None:
    verifier = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    from tests.audit.test_log import TIME

    assert LogKey(verifier, ORIGIN, "main", "active", TIME).key_id == "c74f20a3"
