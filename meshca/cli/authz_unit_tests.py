"""`meshca authz test`: unit tests of policy, offline, for pipelines."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshca.cli.failure import CommandFailed
from meshca.cli.options import Output, OutputOption
from meshca.cli.output import emit, note, print_table

if TYPE_CHECKING:
    from authz.analysis.unit_tests import Result, TestFile
    from authz.policy import PolicySet


def register(app: typer.Typer) -> None:
    """Add the command to those of `meshca authz`."""
    app.command("test")(run_tests)


def run_tests(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of tests.")],
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the results as JUnit XML, too.")
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Decide the cases in FILE... and say which are not as expected; needs no server.

    Exit 0 when all are, 1 when one is not or when tests or policies do not load. What a file
    holds is in docs/authorization.md, section "Testing policies".

    Example: meshca authz test policy-tests.yaml --junit results.xml
    """
    from authz.analysis import unit_tests

    results: list[Result] = []
    for file in files:
        tests = unit_tests.load_tests(_read(file), str(file))
        results += unit_tests.run(tests, _policies(tests, file.parent))
    if junit is not None:
        _write(junit, unit_tests.junit(results))
    failed = [result for result in results if not result.passed]
    answer = {
        "cases": len(results),
        "failed": len(failed),
        "failures": [_failure_json(result) for result in failed],
    }
    emit(output, answer, lambda: _print(answer))
    if failed:
        raise typer.Exit(1)


def _failure_json(result: "Result") -> dict[str, Any]:
    case = result.case
    where = {"file": result.source, "line": case.line}
    return {**where, "name": case.name, "failure": result.failure}


def _print(answer: dict[str, Any]) -> None:
    if answer["failures"]:
        rows = ((f"{f['file']}:{f['line']}", f["name"], f["failure"]) for f in answer["failures"])
        print_table(("where", "case", "failure"), rows)
    note(f"{answer['cases']} cases, {answer['failed']} failed")


def _policies(tests: "TestFile", directory: Path) -> "PolicySet":
    from authz.load import load_policies

    return load_policies(
        read_texts([directory / path for path in tests.paths]),
        trust_domain=tests.trust_domain,
        aliases=tests.aliases,
        root_namespace=tests.root_namespace,
        default=tests.default,
    )


def read_texts(paths: list[Path]) -> list[tuple[str, str]]:
    """Return the name and the text of each file, and of each policy file of each directory."""
    from authz.directory import read_directory

    texts: list[tuple[str, str]] = []
    for path in paths:
        texts += read_directory(path) if path.is_dir() else [(str(path), _read(path))]
    return texts


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"cannot read {path}: {error}") from error


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise CommandFailed(f"cannot write {path}: {error}") from error
