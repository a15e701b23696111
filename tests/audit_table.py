"""The tables of docs/audit.md about kinds of entries, and what of an entry they do not name."""

import re
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from tests.real_parts import ROOT

DOCUMENT = ROOT / "docs" / "audit.md"
_NAME = re.compile(r"`(\w+)`")


@dataclass(frozen=True, slots=True)
class Row:
    """What a kind's `details` may have, and the controls that it serves, by framework."""

    details: frozenset[str]
    controls: Mapping[str, tuple[str, ...]]


def _cells(header: str) -> list[list[str]]:
    """Return the cells of the table that begins with `header`, without the header."""
    text = DOCUMENT.read_text()
    assert text.count(header) == 1, header
    lines = text[text.index(header) :].splitlines()
    end = next(n for n, line in enumerate(lines) if not line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:end]]


def kinds() -> list[str]:
    """Return the kinds that the first table speaks of."""
    return [kind for cells in _cells("| kind | when |") for kind in _NAME.findall(cells[0])]


@cache
def rows() -> Mapping[str, Row]:
    """Return the second table."""
    header = "| kind | `details` | SOC 2 | PCI DSS 4.0 | ISO 27001:2022 | NIST 800-207 |"
    names = ("soc", "pci", "iso", "nist")
    return {
        _NAME.findall(kind)[0]: Row(
            frozenset(_NAME.findall(details)),
            {name: tuple(cell.split()) for name, cell in zip(names, controls, strict=True)},
        )
        for kind, details, *controls in _cells(header)
    }


def undocumented(documents: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return `kind: key` of everything in `details` that the table does not name."""
    found = {
        f"{document['kind']}: {key}"
        for document in documents
        for key in document["details"]
        if document["kind"] not in rows() or key not in rows()[document["kind"]].details
    }
    return sorted(found)


def check_database(path: Path) -> None:
    """Fail unless the table names every key of every entry in an SQLite database."""
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT body FROM audit_entries WHERE body IS NOT NULL"
        bodies = [orjson.loads(body) for (body,) in connection.execute(query)]
    assert not undocumented(bodies), "docs/audit.md does not name what was written"
