"""The smallest configuration, changed as a test says, and what is wrong with it."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from meshca.errors import InvalidDocument
from meshca.settings import Settings, load

GOOD = """\
trust_domain: example.org
data_dir: data
upstream: {kind: self_signed}
clusters:
  - name: demo
    issuer: https://demo.invalid
    audiences: [meshca]
    keys: {file: jwks.json}
"""


def loaded(tmp_path: Path, text: str, environment: Mapping[str, str] | None = None) -> Settings:
    """Return what a file of this text says."""
    path = tmp_path / "meshca.yaml"
    path.write_text(text)
    return load(path, environment or {})


def problems(
    tmp_path: Path, text: str, environment: Mapping[str, str] | None = None
) -> list[tuple[str, int, str]]:
    """Return path, line and message of each mistake in a file of this text."""
    with pytest.raises(InvalidDocument) as caught:
        loaded(tmp_path, text, environment)
    assert {p.file for p in caught.value.problems} == {str(tmp_path / "meshca.yaml")}
    return [(p.path, p.line, p.message) for p in caught.value.problems]


def upstream(kind: str, rest: str) -> str:
    """Return GOOD with another upstream."""
    return GOOD.replace("{kind: self_signed}", f"{{kind: {kind}, {rest}}}")


def edited(old: str, new: str) -> str:
    """Return GOOD with `new` in the place of `old`, which it must have."""
    assert old in GOOD
    return GOOD.replace(old, new)


DISK = "{kind: disk, root: r, chain: c, "
TOKEN = "{module: m.so, token_label: meshca, key_label: intermediate, pin_file: pin}"
