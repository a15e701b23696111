"""Strict YAML: what it refuses, and where it says that the mistake is."""

import pytest

from meshca.errors import InvalidDocument
from meshca.yaml_source import MAXIMUM_BYTES, MAXIMUM_DEPTH, format_path, load_documents

BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"

REFUSED = [
    ("alias bomb", BOMB, 1, "anchors and aliases"),
    ("merge key", "a: {x: 1}\nb:\n  <<: *a\n", 3, "anchors and aliases"),
    ("duplicate key", "a: 1\nb:\n  c: 1\n  c: 2\n", 4, "key b.c is given twice"),
    ("duplicate key, quoted", 'a: 1\n"a": 2\n', 2, "key a is given twice"),
    ("deep flow", "[" * 100 + "]" * 100, 1, f"nested deeper than {MAXIMUM_DEPTH}"),
    ("deeper than the stack", "[" * 100_000, 1, f"nested deeper than {MAXIMUM_DEPTH}"),
    ("tag", "a: !!python/object:os.system x\n", 1, "is not allowed"),
    ("mapping as key", "? {a: 1}\n: 2\n", 1, "a key is not text"),
    ("tab", "a:\n\tb: 1\n", 2, "not YAML"),
    ("control character", "a: \x07\n", 0, "not YAML"),
    ("unclosed", "a: [1,\n", 2, "not YAML"),
    ("huge", "a: " + "x" * MAXIMUM_BYTES, 0, "larger than"),
]


@pytest.mark.parametrize(("name", "text", "line", "said"), REFUSED, ids=[c[0] for c in REFUSED])
def test_refuses(name: str, text: str, line: int, said: str) -> None:
    with pytest.raises(InvalidDocument, match=said) as caught:
        load_documents(text, "f.yaml")
    (problem,) = caught.value.problems
    assert problem.file == "f.yaml"
    assert problem.line == line


TEXTS = [
    "no",
    "yes",
    "on",
    "off",
    "y",
    "n",
    "2026-11-01",
    "Null0",
    "12:30:45",
    "012",
    "0x1F",
    "1_000",
    ".inf",
    "<<",
    "9" * 5000,
]


@pytest.mark.parametrize("text", TEXTS)
def test_stays_text(text: str) -> None:
    assert load_documents(f"a: {text}", "f")[0].value == {"a": text}


def test_true_and_false_are_the_only_booleans() -> None:
    value = load_documents("[true, false, True, FALSE]", "f")[0].value
    assert value == [True, False, True, False]


def test_keys_stay_text() -> None:
    assert load_documents("{1: a, true: b, null: c}", "f")[0].value == {
        "1": "a",
        "true": "b",
        "null": "c",
    }


def test_knows_the_line_of_each_path_in_each_document() -> None:
    text = "a:\n  - b: 1\n  - c:\n      d: 2\n---\n# nothing\n---\ne: 3\n"
    first, second = load_documents(text, "f")
    assert first.line_of(("a", 0, "b")) == 2
    assert first.line_of(("a", 1, "c", "d")) == 4
    assert first.line_of(("a", 1, "missing")) == 3
    assert second.line_of(("e",)) == 8


def test_a_problem_says_file_line_and_path() -> None:
    (document,) = load_documents("a:\n  - b: 1\n", "f.yaml")
    assert str(document.problem(("a", 0, "b"), "is wrong")) == "f.yaml:2: a[0].b: is wrong"


def test_a_path_is_written_as_one_would_write_it() -> None:
    assert format_path(("rules", 0, "from", 1, "source")) == "rules[0].from[1].source"
