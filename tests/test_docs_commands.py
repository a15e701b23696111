"""Commands, configuration and numbers in documents are those of the program."""

import ast
import operator
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from meshca import settings
from meshca.cli import app
from tests.real_parts import ROOT

DOCUMENTS = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md") for path in ROOT.glob(pattern)
)
PROGRAM: Any = typer.main.get_command(app)
UNITS = {"KiB": 1024, "MiB": 1024 * 1024}

_FENCE = re.compile(r"^ *```(?:sh|console)[^\n]*\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`(meshca [^`\n]+)`")
_NUMBER = re.compile(r"(\d[\d,]*)(?: (KiB|MiB))?(?!\w)")
_ARITHMETIC = {ast.Mult: operator.mul, ast.Pow: operator.pow}


def commands(document: Path) -> Iterator[str]:
    """Yield each `meshca ...` in the code of a document, without what a shell adds around it."""
    text = document.read_text()
    for block in _FENCE.findall(text):
        for line in block.replace("\\\n", "").splitlines():
            found = re.search(r"(?:^|-- |^\$ )(meshca .*)", line.strip())
            if found:
                yield re.split(r" [|>&]", found[1])[0]
    yield from _CODE.findall(_FENCE.sub("", text))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_exists_with_its_options(document: Path) -> None:
    for text in commands(document):
        words = shlex.split(text.replace("...", ""))[1:]
        command: Any = PROGRAM
        while words and not words[0].startswith("-") and hasattr(command, "commands"):
            name = words.pop(0)
            assert name in command.commands, text
            command = command.commands[name]
        known = {option for parameter in command.params for option in parameter.opts}

        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert used <= known | {"--help"}, text


def test_the_readmes_configuration_loads(tmp_path: Path) -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "README.md").read_text(), re.S | re.M)
    (text,) = [block for block in blocks if block.startswith("trust_domain:")]
    (tmp_path / "meshca.yaml").write_text(text)

    assert settings.load(tmp_path / "meshca.yaml", environment={}).trust_domain == "example.org"


def bounds() -> list[tuple[str, list[int], list[Path]]]:
    """Return each row of the architecture's table of bounds: what, its numbers, the files."""
    section = (ROOT / "docs" / "architecture.md").read_text().partition("\n## Bounds\n")[2]
    rows = re.findall(r"^\| (.+?) \| (.+?) \| `(.+?)` \|$", section.partition("\n## ")[0], re.M)
    return [
        (
            what,
            [int(n.replace(",", "")) * UNITS.get(unit, 1) for n, unit in _NUMBER.findall(limit)],
            [ROOT / path for path in paths.split("`, `")],
        )
        for what, limit, paths in rows
    ]


@pytest.mark.parametrize(("what", "numbers", "paths"), bounds(), ids=[row[0] for row in bounds()])
def test_every_bound_is_a_number_of_its_files(
    what: str, numbers: list[int], paths: list[Path]
) -> None:
    assert numbers
    assert set(numbers) <= {value for path in paths for value in constants(path)}


def constants(path: Path) -> Iterator[float]:
    """Yield the value of each number, and of each product of numbers, in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        value = number(node)
        if value is not None:
            yield value


def number(node: ast.AST) -> float | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        left, right = number(node.left), number(node.right)
        if left is not None and right is not None:
            return float(_ARITHMETIC[type(node.op)](left, right))
    return None
