"""What is printed never acts upon the terminal, and means the same."""

import json

import pytest
import yaml

from meshca.cli.options import Output
from meshca.cli.output import emit, safe

HOSTILE = "a\x1b[2Jb\x9b31mc\u202ed\u2066e\u2028f\x00\U000e0041"


@pytest.mark.parametrize("output", [Output.json, Output.yaml])
def test_data_has_no_control_character_and_means_the_same(
    output: Output, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"path": HOSTILE, "name": "Zoë – 東京"}
    emit(output, data, lambda: None)
    printed = capsys.readouterr().out
    assert all(character == "\n" or character.isprintable() for character in printed), printed
    assert (json.loads if output is Output.json else yaml.safe_load)(printed) == data


def test_text_of_a_table_has_none_either() -> None:
    assert safe(HOSTILE).isprintable()
    assert safe("Zoë – 東京") == "Zoë – 東京"
