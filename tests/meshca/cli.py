"""Running the command line inside the test's process: a tenth of the time of a new one."""

import contextlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from meshca.cli import main


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended and what it said where."""

    status: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """Return standard output as JSON."""
        return json.loads(self.out)


def meshca(*arguments: str, environment: Mapping[str, str] | None = None) -> Result:
    """Run `meshca ARGUMENTS`."""
    out, err = io.StringIO(), io.StringIO()
    status: object = None
    before = dict(os.environ)
    os.environ.update(environment or {})
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(arguments)
    except SystemExit as ended:
        status = ended.code
    finally:
        os.environ.clear()
        os.environ.update(before)
        structlog.reset_defaults()
    assert isinstance(status, int | None)
    return Result(status or 0, out.getvalue(), err.getvalue())
