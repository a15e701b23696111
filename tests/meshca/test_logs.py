"""Logs: a line is a line, and no local variable of a failing function is in them."""

import json
from collections.abc import Iterator

import pytest
import structlog

from meshca import logs


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def fail() -> None:
    token = "hunter2" + "-token"
    raise RuntimeError(f"a token of {len(token)} characters")


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "terminal"])
def test_an_exceptions_local_variables_are_not_shown(
    as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(json=as_json)
    try:
        fail()
    except RuntimeError:
        logs.get_logger("test").exception("it_failed")
    shown = capsys.readouterr().err
    assert "a token of 13 characters" in shown
    assert "hunter2-token" not in shown


def test_a_line_of_json_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(json=True)
    logs.get_logger("test").info("said", text='a\n{"event": "forged"}')
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert json.loads(line)["text"] == 'a\n{"event": "forged"}'


def test_text_is_clipped_and_cleaned() -> None:
    assert logs.clip("a\x1b[31m\nb") == "a\ufffd[31m\ufffdb"
    assert logs.clip("x" * 600) == "x" * 512 + "…"
