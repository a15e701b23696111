"""A real collector: rsyslogd, which takes TCP with octet counting and writes a line a message."""

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from meshca.demo.ports import free_port
from tests.real_parts import require, wait_until

_CONFIGURATION = """\
global(workDirectory="{directory}" maxMessageSize="256k")
module(load="imtcp")
input(type="imtcp" address="127.0.0.1" port="{port}")
template(name="line" type="string" string="%pri% %hostname% %app-name% %msgid% %msg%\\n")
action(type="omfile" file="{directory}/messages" template="line")
"""


@dataclass(frozen=True)
class Rsyslogd:
    """Where it listens, and the file that it writes."""

    port: int
    file: Path

    def lines(self, count: int) -> list[list[str]]:
        """Return priority, host, application, message ID and text of `count` messages."""
        wait_until(
            lambda: self.file.exists() and self.file.read_bytes().count(b"\n") >= count,
            within_seconds=20,
            what=f"{count} messages in {self.file}",
        )
        text = self.file.read_text(encoding="utf-8").removesuffix("\n")
        return [line.split(" ", 4) for line in text.split("\n")]


@contextlib.contextmanager
def rsyslogd(directory: Path) -> Iterator[Rsyslogd]:
    """Yield a running collector; skips where the program is missing."""
    program = shutil.which("rsyslogd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    require(program is not None, "rsyslogd", "apt-get install rsyslog")
    assert program is not None
    port, configuration = free_port(), directory / "rsyslog.conf"
    configuration.write_text(_CONFIGURATION.format(directory=directory, port=port))
    command = [program, "-n", "-f", str(configuration), "-i", str(directory / "pid")]
    with (directory / "log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            wait_until(lambda: _listens(port), within_seconds=20, what="rsyslogd listens")
            yield Rsyslogd(port, directory / "messages")
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
