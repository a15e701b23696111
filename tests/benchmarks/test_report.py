"""What a run of the benchmarks prints and keeps."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.figure import Row, Target
from benchmarks.report import merge_into, put_into

DOCUMENT = "before\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nafter\n"
SHORT = Row("SVIDs", 1500.0, "/s per core", "5.0 × floor", Target(2000))


def test_a_run_replaces_the_last_one_between_the_marks() -> None:
    text = put_into(DOCUMENT, {"date": "today"}, [("Issuance", [SHORT])])

    assert text.startswith("before\n<!-- measured: begin -->\n- date: today\n")
    assert text.endswith("<!-- measured: end -->\nafter\n")
    assert "| SVIDs | 1,500 /s per core | ≥ 2,000 — short | 5.0 × floor |  |" in text
    assert "old" not in text


def test_naming_some_figures_leaves_the_tables_of_the_others() -> None:
    run = [("Issuance", [SHORT]), ("Tokens", [Row("validation", 300.0, "µs")])]
    text = put_into(DOCUMENT, {"date": "today"}, run)
    again = [("Tokens", [Row("validation", 299.0, "µs")]), ("Roots", [Row("in all", 7.0, "s")])]
    merged = merge_into(text, {"date": "tomorrow", "load": "0"}, again)

    assert merged.startswith("before\n<!-- measured: begin -->\n- date: today\n\n### Issuance\n")
    assert "| SVIDs | 1,500 /s per core |" in merged
    assert "300 µs" not in merged
    assert merged.count("Measured apart: date: tomorrow · load: 0\n") == 2
    order = [merged.index(f"### {title}\n") for title in ("Issuance", "Tokens", "Roots")]
    assert order == sorted(order)
    assert merged.endswith("|\n<!-- measured: end -->\nafter\n")
    assert merge_into(merged, {"date": "tomorrow", "load": "0"}, again) == merged


def test_a_document_without_marks_is_left_alone() -> None:
    with pytest.raises(ValueError, match="no <!-- measured: begin -->"):
        put_into("nothing here", {}, [])
    with pytest.raises(ValueError, match="no <!-- measured: begin -->"):
        merge_into("nothing here", {}, [])


@pytest.mark.parametrize(
    ("target", "value", "is_met"),
    [
        (Target(2000), 2000, True),
        (Target(2000), 1999, False),
        (Target(3.0, is_minimum=False), 3.0, True),
        (Target(3.0, is_minimum=False), 3.1, False),
    ],
)
def test_a_target_is_a_bound_on_one_side(target: Target, value: float, is_met: bool) -> None:
    assert target.is_met(value) is is_met


def test_a_figure_runs_and_lands_in_the_document(tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text(DOCUMENT)
    command = [sys.executable, "-m", "benchmarks", "--quick", "tokens", "--markdown", str(document)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stderr
    assert "ES256 validation, cache hit" in done.stdout
    assert "| RS256 validation, no cache hit |" in document.read_text()
