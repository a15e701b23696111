"""The configuration of anchors and of the witness: what it takes, what it refuses by its key."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.note import COSIGNATURE, SigningKey
from tests.meshca.configuration import GOOD, loaded, problems

PRIVATE = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
LOG_KEY = str(SigningKey("other.test/log", PRIVATE).verifier)
WITNESS_KEY = str(SigningKey("w.test/w", PRIVATE, COSIGNATURE).verifier)
S3 = "endpoint: https://s3.test, bucket: audit-anchors, prefix: mesh/"
PUBLIC = "listen: {public: 127.0.0.1:0}\n"


def anchors(*written: str) -> str:
    return GOOD + f"audit: {{anchors: [{', '.join(f'{{{each}}}' for each in written)}]}}\n"


def witness(written: str) -> str:
    return GOOD + PUBLIC + f"audit: {{witness: {{{written}}}}}\n"


def test_takes_every_kind_of_anchor(tmp_path: Path) -> None:
    audit = loaded(
        tmp_path,
        anchors(
            "file: anchor.notes, every: 10s",
            f"s3: {{{S3}, region: eu-1, credentials_file: s3.ini, profile: meshca}}",
            "syslog: {address: 'logs.test:6514', ca_file: ca.pem}",
            "syslog: {socket: /dev/log}",
            f"witness: {{url: 'https://w.test/x/', key: '{WITNESS_KEY}'}}",
        ),
    ).audit

    file, s3, collector, local, other = audit.anchors
    assert (file.file, file.every) == (tmp_path / "anchor.notes", timedelta(seconds=10))
    assert s3.s3 is not None
    assert s3.s3.credentials_file == tmp_path / "s3.ini"
    assert collector.syslog is not None
    assert collector.syslog.transport == "tls"
    assert local.every == timedelta(minutes=1)
    assert other.witness is not None
    assert other.witness.url == "https://w.test/x"
    assert audit.witness is None


def test_takes_a_witness_with_several_keys_of_a_log(tmp_path: Path) -> None:
    text = witness(f"logs: [{{origin: other.test/log, keys: ['{LOG_KEY}', '{LOG_KEY}']}}]")

    config = loaded(tmp_path, text).audit.witness

    assert config is not None
    assert config.logs[0].keys == [LOG_KEY, LOG_KEY]


A = "audit.anchors[0]"
LOG = f"{{origin: o, keys: ['{LOG_KEY}']}}"
REFUSED = {
    "none of them": (anchors("every: 1m"), A, "exactly one of `file`, `s3`"),
    "two of them": (anchors("file: a, syslog: {socket: b}"), A, "exactly one of `file`, `s3`"),
    "too often": (anchors("file: a, every: 10ms"), f"{A}.every", ""),
    "too seldom": (anchors("file: a, every: 2d"), A, "every is from 1s to 1d"),
    "no folder": (
        anchors("s3: {endpoint: https://s3.test, bucket: abc, prefix: mesh}"),
        f"{A}.s3.prefix",
        "",
    ),
    "a path": (
        anchors("s3: {endpoint: https://s3.test/x, bucket: abc, prefix: mesh/}"),
        f"{A}.s3",
        "endpoint is scheme and host only",
    ),
    "a bucket": (
        anchors("s3: {endpoint: https://s3.test, bucket: A, prefix: m/}"),
        f"{A}.s3.bucket",
        "",
    ),
    "two ways": (
        anchors("syslog: {address: 'a:1', socket: b}"),
        f"{A}.syslog",
        "exactly one of `address` and `socket`",
    ),
    "roots without TLS": (
        anchors("syslog: {address: 'a:1', transport: udp, ca_file: c}"),
        f"{A}.syslog",
        "belong to transport tls",
    ),
    "no key": (
        anchors("witness: {url: https://w.test, key: abc}"),
        f"{A}.witness.key",
        "is no verifier key",
    ),
    "a log's key": (
        anchors(f"witness: {{url: https://w.test, key: '{LOG_KEY}'}}"),
        f"{A}.witness.key",
        "is not the key of a witness",
    ),
    "a damaged key": (
        anchors(f"witness: {{url: https://w.test, key: 'x{WITNESS_KEY}'}}"),
        f"{A}.witness.key",
        "is damaged",
    ),
    "too many": (anchors(*(f"file: f{n}" for n in range(17))), "audit.anchors", "at most 16"),
    "nobody's witness": (witness("logs: []"), "audit.witness.logs", "at least 1"),
    "a witness's key": (
        witness(f"logs: [{{origin: o, keys: ['{WITNESS_KEY}']}}]"),
        "audit.witness.logs[0].keys[0]",
        "is not the key of a log",
    ),
    "a log without keys": (
        witness("logs: [{origin: o, keys: []}]"),
        "audit.witness.logs[0].keys",
        "at least 1",
    ),
    "one log twice": (witness(f"logs: [{LOG}, {LOG}]"), "audit.witness", "named twice"),
    "a witness behind no door": (
        witness(f"logs: [{LOG}]").replace(PUBLIC, ""),
        "",
        "listen.public is not: nobody could ask it",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case: str, tmp_path: Path) -> None:
    text, path, message = REFUSED[case]

    found = problems(tmp_path, text)

    assert [where for where, _, _ in found] == [path]
    assert message in found[0][2]
