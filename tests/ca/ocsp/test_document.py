"""docs/revocation.md says what the code does."""

import re

from ca.ocsp.lint import RULES
from tests.real_parts import ROOT

DOCUMENT = (ROOT / "docs" / "revocation.md").read_text()


def test_the_table_of_rules_is_the_list_of_rules() -> None:
    table = DOCUMENT.partition("### Lint of signers")[2].partition("\n## ")[0]

    assert re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE) == [
        (rule.__name__, rule.__doc__) for rule in RULES
    ]
