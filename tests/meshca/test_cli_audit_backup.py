"""`meshca audit backup` and `restore` on files and databases, without a server."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from audit.checkpoint import Checkpoint
from audit.log import Log
from audit.note import Note
from audit.signing import LastSigned
from audit.verify import verify
from meshca.database import open_engine
from meshca.name_locks import open_name_locks
from meshca.schema import migrate
from tests.audit.backup.world import KEY, ORIGIN, OTHER_KEY, sign
from tests.audit.retention.world import append, entry
from tests.meshca.cli import Result, meshca
from tests.meshca.test_cli_shapes import DOCUMENTED, agree, shape

WHY = ("--reason", "the disk died")
CONFIG = """\
trust_domain: example.org
data_dir: {data}
upstream: {{kind: self_signed}}
clusters:
  - {{name: demo, issuer: "https://demo.invalid", audiences: [meshca], keys: {{file: meshca.yaml}}}}
"""


def config(directory: Path) -> Path:
    path = directory / "meshca.yaml"
    (directory / "data").mkdir(parents=True)
    path.write_text(CONFIG.format(data=directory / "data"))
    return path


def database(configuration: Path) -> sa.Engine:
    engine = open_engine(f"sqlite:///{configuration.parent / 'data' / 'meshca.db'}")
    migrate(engine)
    return engine


def last_signed(configuration: Path) -> LastSigned:
    return LastSigned(configuration.parent / "data" / "audit" / "last-checkpoint")


def backup(configuration: Path, file: Path, *more: str) -> Result:
    return meshca("audit", "backup", str(file), "--direct", "-c", str(configuration), *more)


def restore(configuration: Path, file: Path, *more: str, key: str = str(KEY.verifier)) -> Result:
    return meshca(
        "audit", "restore", str(file), "-c", str(configuration), "--key", key, *WHY, *more
    )


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The configuration of a log with ten entries and a checkpoint."""
    path = config(tmp_path / "here")
    engine = database(path)
    append(engine, *(entry(n) for n in range(10)))
    sign(engine)
    engine.dispose()
    return path


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The configuration of a server that was never started."""
    return config(tmp_path / "there")


def test_a_backup_comes_back(here: Path, there: Path, tmp_path: Path) -> None:
    file = tmp_path / "audit.gz"
    made = backup(here, file, "-o", "json")
    assert (made.status, made.data["entries"], made.data["origin"]) == (0, 10, ORIGIN)
    assert made.data["bytes"] == file.stat().st_size
    assert file.stat().st_mode & 0o777 == 0o600
    restored = restore(there, file, "-o", "json").data
    assert agree(shape(DOCUMENTED["meshca audit restore"]), shape(restored))
    assert restored == {
        "entries": 10,
        "root": made_root(here),
        "redacted": 0,
        "lost": 0,
    }
    engine = database(there)
    assert verify(engine).size == 11
    engine.dispose()


def made_root(configuration: Path) -> str:
    engine = database(configuration)
    try:
        return Log(engine).root_at(10).hex()
    finally:
        engine.dispose()


def test_a_direct_backup_is_on_record(here: Path, tmp_path: Path) -> None:
    backup(here, tmp_path / "audit.gz")
    engine = database(here)
    last = list(Log(engine).entries())[-1].document() or {}
    engine.dispose()
    assert (last["kind"], last["details"]) == ("read", {"route": "meshca audit backup --direct"})
    assert last["actor"].startswith("uid:")


def test_a_backup_overwrites_nothing_and_leaves_nothing_behind(
    here: Path, there: Path, tmp_path: Path
) -> None:
    file = tmp_path / "kept"
    file.write_text("kept")
    refused = backup(here, file)
    assert refused.status == 1
    assert "overwrites nothing" in refused.err
    assert file.read_text() == "kept"
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    assert backup(here, file).status == 1
    assert not (tmp_path / "elsewhere").exists()
    file.unlink()
    database(there).dispose()
    failed = backup(there, file)
    assert "no checkpoint" in failed.err
    assert {path.name for path in tmp_path.iterdir()} == {"here", "there"}


@pytest.mark.parametrize("name", ["leader", "audit-signer", "audit-retention", "replica.main"])
def test_nothing_is_restored_under_a_server(
    here: Path, there: Path, tmp_path: Path, name: str
) -> None:
    backup(here, tmp_path / "audit.gz")
    engine = database(there)
    locks = open_name_locks(engine)
    assert locks.hold(name)
    refused = restore(there, tmp_path / "audit.gz")
    assert refused.status == 1
    assert f"a server runs on this database (it holds '{name}'): stop it first" in refused.err
    locks.close()
    assert Log(engine).head().size == 0
    assert restore(there, tmp_path / "audit.gz").status == 0
    engine.dispose()


def test_what_this_machine_signed_after_it_is_not_forgotten_silently(
    here: Path, tmp_path: Path
) -> None:
    file = tmp_path / "audit.gz"
    backup(here, file)
    engine = database(here)
    append(engine, entry(11), entry(12))
    newest = sign(engine)
    engine.dispose()
    last_signed(here).write(_note(newest))
    (here.parent / "data" / "meshca.db").rename(tmp_path / "lost.db")
    refused = restore(here, file)
    assert refused.status == 1
    assert "ends at entry 10, and the log is known to have had 13" in refused.err
    same_name = restore(here, file, "--accept-older")
    assert "never signs another history: set audit.origin" in same_name.err
    here.write_text(here.read_text() + f"audit: {{origin: {ORIGIN}/2}}\n")
    accepted = restore(here, file, "--accept-older", "--origin", ORIGIN, "-o", "json")
    assert accepted.data["lost"] == 3
    remembered = last_signed(here).read(ORIGIN)
    assert remembered is not None
    assert remembered.size == 13, "what was signed stays remembered"


def _note(checkpoint: Checkpoint) -> Note:
    return Note(str(checkpoint), (KEY.sign(str(checkpoint)),))


def test_a_checkpoint_that_an_anchor_has_is_compared(
    here: Path, there: Path, tmp_path: Path
) -> None:
    file, anchor = tmp_path / "audit.gz", tmp_path / "anchor"
    backup(here, file)
    anchor.write_text(str(_note(Checkpoint(ORIGIN, 5, bytes(32)))))
    contradicted = restore(there, file, "--checkpoint", str(anchor))
    assert "the log was another one when it had 5 entries" in contradicted.err
    anchor.write_text(str(_note(Checkpoint(ORIGIN, 50, bytes(32)))))
    assert "known to have had 50" in restore(there, file, "--checkpoint", str(anchor)).err
    assert "cannot be read" in restore(there, file, "--checkpoint", str(tmp_path / "no")).err


def test_anchors_of_the_configuration_are_asked(here: Path, there: Path, tmp_path: Path) -> None:
    file, anchor = tmp_path / "audit.gz", tmp_path / "notes"
    backup(here, file)
    anchor.write_text(str(_note(Checkpoint(ORIGIN, 50, bytes(32)))) + "\n")
    text = there.read_text()
    there.write_text(text + f"audit: {{anchors: [{{file: {anchor}}}]}}\n")
    assert "known to have had 50" in restore(there, file).err
    there.write_text(text + f"audit: {{anchors: [{{file: {tmp_path}/away/notes}}]}}\n")
    told = restore(there, file)
    assert told.status == 0, told.err


def test_the_key_has_to_be_brought_and_right(here: Path, there: Path, tmp_path: Path) -> None:
    file = tmp_path / "audit.gz"
    backup(here, file)
    assert "not signed by the keys given" in restore(there, file, key=str(OTHER_KEY.verifier)).err
    nonsense = restore(there, file, key="nonsense")
    assert nonsense.status == 2
    assert "a verifier key is written" in nonsense.err
    without = meshca("audit", "restore", str(file), "-c", str(there), *WHY)
    assert without.status == 2


def test_direct_and_url_do_not_go_together(here: Path, tmp_path: Path) -> None:
    refused = backup(here, tmp_path / "audit.gz", "--url", "unix:/x")
    assert refused.status == 2
