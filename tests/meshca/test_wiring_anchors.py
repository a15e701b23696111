"""Anchors and the witness as the configuration says, built."""

from pathlib import Path

import pytest

from audit.log import Log
from meshca.errors import StoreUnavailable, Unavailable
from meshca.metrics import Metrics
from meshca.name_locks import open_name_locks
from meshca.wiring_anchors import OutsideParts, build_outside
from tests.authz.tls_server import tls_files
from tests.fakes import FakeClock
from tests.meshca.configuration import loaded
from tests.meshca.test_settings_anchors import LOG_KEY, S3, WITNESS_KEY, anchors, witness
from tests.stores import sqlite_engine, writer_of


def built(tmp_path: Path, text: str) -> OutsideParts:
    clock, settings = FakeClock(), loaded(tmp_path, text)
    with sqlite_engine(tmp_path) as engine:
        return build_outside(
            settings,
            log=Log(engine),
            writer=writer_of(engine),
            locks=open_name_locks(engine),
            clock=clock,
            metrics=Metrics(),
        )


def test_each_anchor_has_the_name_of_its_place(tmp_path: Path) -> None:
    tls_files(tmp_path)

    parts = built(
        tmp_path,
        anchors(
            "file: anchor.notes",
            f"s3: {{{S3}}}",
            f"s3: {{{S3}, virtual_host: true}}",
            "syslog: {address: '[::1]:6514', ca_file: roots.pem}",
            "syslog: {socket: /dev/log}",
            f"witness: {{url: 'https://w.test', key: '{WITNESS_KEY}'}}",
        ),
    )

    assert [anchor.name for anchor, _ in parts.keeper.anchors] == [
        f"file:{tmp_path / 'anchor.notes'}",
        "s3:https://s3.test/audit-anchors/mesh/",
        "s3:https://audit-anchors.s3.test/audit-anchors/mesh/",
        "syslog:tls:::1:6514",
        "syslog:unix:/dev/log",
        "witness:w.test/w",
    ]
    assert parts.witness is None
    assert set(parts.loops()) == {"anchors"}


def test_the_witness_has_a_key_that_it_keeps(tmp_path: Path) -> None:
    text = witness(f"logs: [{{origin: other.test/log, keys: ['{LOG_KEY}']}}]")

    one, two = built(tmp_path, text).witness, built(tmp_path, text).witness

    assert one is not None
    assert two is not None
    assert one.key.verifier == two.key.verifier
    assert one.key.name == "example.org/meshca/witness"
    assert (tmp_path / "data" / "audit" / "witness.key").stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_built_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="names one place twice: file:"):
        built(tmp_path, anchors("file: a", "file: a"))
    with pytest.raises(Unavailable, match=r"none\.pem holds no roots"):
        built(tmp_path, anchors("syslog: {address: 'a:1', ca_file: none.pem}"))
    (tmp_path / "witness.key").write_text("nothing")
    (tmp_path / "witness.key").chmod(0o600)
    with pytest.raises(StoreUnavailable, match="no private key that opens"):
        built(
            tmp_path,
            witness(f"key_file: witness.key, logs: [{{origin: o, keys: ['{LOG_KEY}']}}]"),
        )
