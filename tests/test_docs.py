"""Documents speak of what is there: links, paths, make targets, tests and metrics exist."""

import ast
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from meshca.metrics import Metrics
from tests.real_parts import ROOT

DOCUMENTS = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md") for path in ROOT.glob(pattern)
)
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES: list[str] = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
FOLDERS = (*PACKAGES, "deploy", "docs", "tests", "benchmarks", r"\.ci")

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(rf"(?:{'|'.join(FOLDERS)})/[\w./*-]*[\w*/]")
_FENCE = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
_TEST = re.compile(r"\b(tests/[\w/]+\.py)(?:::(\w+))?")
_METRIC = re.compile(r"\bmeshca_[a-z_]+")


def named(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("document", paths, ids=lambda p: str(p.relative_to(ROOT)))


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as code hosts make them."""
    text = _FENCE.sub("", document.read_text())
    headings = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@cache
def names_in(path: Path) -> frozenset[str]:
    """Return the names of the tests in a file."""
    tree = ast.parse(path.read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, functions))


@cache
def metric_names() -> frozenset[str]:
    """Return the name of every sample that the service can expose."""
    registry = CollectorRegistry()
    Metrics(registry)
    names: set[str] = set()
    for family in registry.collect():
        suffixes = {
            "counter": ("_total",),
            "histogram": ("_bucket", "_sum", "_count"),
            "gauge": ("",),
        }
        names |= {family.name + suffix for suffix in suffixes[family.type]}
    return frozenset(names)


@named(DOCUMENTS)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in _LINK.findall(document.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (document.parent / path).resolve() if path else document
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


@named(DOCUMENTS)
def test_every_path_exists(document: Path) -> None:
    for code in _CODE.findall(document.read_text()):
        for path in [] if "://" in code else _PATH.findall(code):
            assert list(ROOT.glob(path.rstrip("/"))), path


@named(DOCUMENTS)
def test_every_make_target_exists(document: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))
    text = document.read_text()
    used = re.findall(r"(?:`|\$ )make ([a-z][\w-]*)", text)

    assert set(used) <= targets


@named(DOCUMENTS)
def test_every_test_it_names_exists(document: Path) -> None:
    for path, name in _TEST.findall(document.read_text()):
        assert (ROOT / path).exists(), path
        assert not name or name in names_in(ROOT / path), f"{path}::{name}"


@named([*DOCUMENTS, ROOT / "deploy" / "prometheus" / "alerts.yaml"])
def test_every_metric_exists(document: Path) -> None:
    used = set(_METRIC.findall(document.read_text()))

    assert {name for name in used if name not in metric_names()} == set()


def alerts() -> list[dict[str, Any]]:
    document = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_every_alert_has_a_runbook_that_speaks_of_it(alert: dict[str, Any]) -> None:
    runbook = ROOT / alert["annotations"]["runbook"]

    assert alert["alert"] in runbook.read_text()


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_every_label_of_an_alert_exists(alert: dict[str, Any]) -> None:
    collectors = Metrics().registry._collector_to_names
    known = {label for metric in collectors for label in getattr(metric, "_labelnames", ())}
    used = set(re.findall(r"[{,]\s*(\w+)=", alert["expr"]))

    assert used <= known | {"job"}


def test_every_runbook_is_in_the_list() -> None:
    listed = (ROOT / "docs" / "runbooks" / "README.md").read_text()

    for runbook in (ROOT / "docs" / "runbooks").glob("*.md"):
        assert runbook.name == "README.md" or f"({runbook.name})" in listed


def test_every_document_that_the_code_names_exists() -> None:
    sources = [path for package in (*PACKAGES, "tests", "benchmarks") for path in modules(package)]
    named_in_code = {
        name for path in sources for name in re.findall(r"\bdocs/[\w/-]+\.md", path.read_text())
    }

    assert {name for name in named_in_code if not (ROOT / name).exists()} == set()


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).glob("**/*.py"))
