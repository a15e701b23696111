"""docs/audit.md says what each kind of entry has: held to the kinds, and to what is written."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from admin.decision_entries import DecisionEntries
from admin.staging_entries import staging_entry
from audit.entry import KINDS, Entry
from audit.gaps import gap
from authz.change import Change
from authz.records.operation import Operation
from authz.records.tables import FullRecord, Gap, MinuteCount, Outcome
from authz.staging.events import STAGE_SUBJECT, Event, Step
from ca.federation.entries import relation_entry
from ca.federation.store import Relation
from rotation.stages import Stage
from rotation.steps import authority_entry
from tests.audit_table import kinds, rows, undocumented
from tests.builders import make_authority
from tests.real_parts import ROOT

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PACKAGES = ("admin", "audit", "authz", "ca", "meshca", "rotation", "sds")
CONTROLS = {
    "soc": r"(CC[1-9]|A1|C1)\.[1-9]",
    "pci": r"\d{1,2}\.\d{1,2}(\.\d{1,2}){0,2}",
    "iso": r"[5-8]\.\d{1,2}",
    "nist": r"[1-7]",
}


def test_every_kind_has_its_rows_and_no_other_has() -> None:
    assert sorted(kinds()) == sorted(KINDS)
    assert sorted(rows()) == sorted(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_names_controls_of_each_framework(kind: str) -> None:
    for framework, named in rows()[kind].controls.items():
        assert named, framework
        assert all(re.fullmatch(CONTROLS[framework], control) for control in named), named


def written_names() -> Iterator[str]:
    """Yield every text, and name of an argument, in the program."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value
                if isinstance(node, ast.keyword) and node.arg:
                    yield node.arg


def test_no_row_names_what_nothing_writes() -> None:
    known = set(written_names())
    made_up = {f"{kind}: {key}" for kind, row in rows().items() for key in row.details - known}
    assert made_up == set()


CALLER, CALLED = "spiffe://example.org/web", "spiffe://example.org/orders"
OPERATION = Operation(CALLER, CALLED, "shop", "{}", "http", 80, "GET", "/", "orders.shop")
CHANGE = Change(("shop/a",), ("shop/b",), ("shop/c",), "v1", "v2")
EVENT: dict[str, Any] = {"at": NOW, "actor": "uid:0", "reason": "test"}


def samples() -> list[Entry]:
    """Return entries as the program makes them; those of whole worlds are looked at there."""
    denied = FullRecord(NOW, OPERATION, Outcome(False), "ext_authz", "", shadow="allow")
    count = MinuteCount(0, OPERATION, Outcome(True, "shop/a", 0), 1, NOW, NOW)
    claimed = replace(OPERATION, asked_by="oidc:gateway")
    entries_of = DecisionEntries()
    relation = Relation("other.example", "https://other.example", "https_web")
    staged = {"candidate": 1, **CHANGE.recorded("+")}
    return [
        *entries_of([denied], NOW),
        *entries_of([count], NOW),
        *entries_of([replace(denied, operation=claimed)], NOW),
        *entries_of([replace(count, operation=claimed)], NOW),
        *entries_of([Gap(NOW, NOW, "rate", 1)], NOW),
        *DecisionEntries(0)([count], NOW),
        gap(NOW, "entry", "not_written", Counter(refusal=1), NOW),
        staging_entry(Event(STAGE_SUBJECT, Step.ENFORCED, details=staged, **EVENT), "done"),
        staging_entry(Event("bypass/b-1", Step.ENDED, details={"seconds": 1}, **EVENT), "done"),
        authority_entry("ab", Stage.ACTIVE, "", NOW, "meshca", make_authority()),
        relation_entry("added", relation, None, now=NOW, actor="uid:0", reason="test"),
    ]


def test_entries_have_nothing_in_details_that_the_table_does_not_name() -> None:
    made = [{"kind": each.kind, "details": each.details} for each in samples()]
    assert undocumented(made) == []


def test_an_entry_with_more_is_found() -> None:
    assert undocumented([{"kind": "ban", "details": {"what": "", "token": ""}}]) == ["ban: token"]
