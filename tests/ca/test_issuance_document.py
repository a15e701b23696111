"""docs/issuance.md says what the code does."""

import re

from ca.lint import RULES
from tests.real_parts import ROOT

DOCUMENT = (ROOT / "docs" / "issuance.md").read_text()
STEPS = ("caller", "request", "prepare", "lint", "record intent", "sign", "compare", "mark issued")


def test_the_table_of_rules_is_the_list_of_rules() -> None:
    table = DOCUMENT.partition("## Lint")[2]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [r.__name__ for r in RULES]


def test_the_steps_have_the_numbers_of_the_code() -> None:
    code = (ROOT / "ca" / "issuance.py").read_text().lower()
    for number, name in enumerate(STEPS, start=1):
        assert f"| {number} {name} |" in DOCUMENT
        assert re.search(rf"\b{number}\. [^\n]*{name.split()[0]}", code)
