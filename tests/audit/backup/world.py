"""A log with checkpoints, its backup, and a second database to restore into."""

import asyncio
import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.backup.pack import Backup
from audit.backup.restore import Restored, Terms, restore
from audit.checkpoint import Checkpoint
from audit.checkpoints import Kept, KeptSink
from audit.entry import Entry
from audit.log import Log
from audit.note import Note, SigningKey
from audit.retention.holds import Scope
from meshca.database import open_engine
from meshca.schema import migrate
from tests.audit.retention.world import NOW, append, holds_of, writer
from tests.fakes import FakeClock

ORIGIN = "example.org/meshca/audit"
KEY = SigningKey(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OTHER_KEY = SigningKey(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(32)))


def checkpoint(engine: sa.Engine) -> Checkpoint:
    """Return what a checkpoint of the log says now."""
    head = Log(engine).head()
    return Checkpoint(ORIGIN, head.size, head.root)


def sign(engine: sa.Engine, key: SigningKey = KEY) -> Checkpoint:
    """Sign a checkpoint of the log as it is, and keep it."""
    signed = checkpoint(engine)
    note = Note(str(signed), (key.sign(str(signed)),))
    writes = engine.connect().execution_options(meshca_writes=True)
    with writes as connection, connection.begin():
        KeptSink().write(connection, [Kept(ORIGIN, signed.size, NOW, str(note))])
    return signed


def place_hold(engine: sa.Engine) -> str:
    """Place a hold on everything, as the service does; return its name."""

    async def story() -> str:
        clock = FakeClock()
        async with writer(engine, clock) as running:
            holds = holds_of(engine, running, clock)
            held = await holds.place(Scope(everything=True), actor="uid:1", reason="case 7")
            return held.name

    return asyncio.run(story())


def ask_for_release(engine: sa.Engine, name: str, actor: str) -> None:
    """Take a step of the release of a hold, an hour after it was placed."""

    async def story() -> None:
        clock = FakeClock()
        clock.advance(timedelta(hours=1))
        async with writer(engine, clock) as running:
            await holds_of(engine, running, clock).release(name, actor=actor, reason="settled")

    asyncio.run(story())


def tell_key(engine: sa.Engine, key: SigningKey, stage: str = "active") -> None:
    """Have the log say at which stage `key` is; there is no row."""
    details: dict[str, Any] = {
        "verifier": str(key.verifier),
        "origin": ORIGIN,
        "replica": "main",
        "stage": stage,
        "retires_at": None,
    }
    append(engine, Entry(NOW, "log_key", "done", "meshca", reason="rotated", details=details))


def backup(engine: sa.Engine) -> bytes:
    """Return a backup of the log."""
    return b"".join(Backup(engine, ORIGIN, NOW).chunks())


def bring_back(engine: sa.Engine, content: bytes, **changes: Any) -> Restored:
    """Restore `content`, signed by KEY."""
    values: dict[str, Any] = {
        "keys": (KEY.verifier,),
        "origin": ORIGIN,
        "signs_as": ORIGIN,
        "actor": "uid:0",
        "reason": "the disk died",
        "now": NOW,
    }
    return restore(engine, io.BytesIO(content), Terms(**{**values, **changes}))


def fresh(directory: Path) -> sa.Engine:
    """Return another database with an empty log; dispose of it."""
    engine = open_engine(f"sqlite:///{directory / 'other.db'}")
    migrate(engine)
    return engine
