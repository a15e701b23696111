"""The report as one HTML page: no script, nothing from elsewhere, every value escaped.  Pure."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from admin.views import Json

MAXIMUM_CELL: Final = 400
_STYLE: Final = (
    "body{font:14px/1.5 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em}"
    "table{border-collapse:collapse;margin:.5em 0 1.5em;width:100%}"
    "th,td{border:1px solid #bbb;padding:.25em .5em;text-align:left;vertical-align:top;"
    "overflow-wrap:anywhere}th{background:#eee}pre{background:#f4f4f4;padding:1em;overflow:auto}"
)


def report_page(report: Json) -> str:
    """Return the page of `report` (report.py)."""
    title = f"Audit report of {report['trust_domain']}"
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
    )
    parts = [head, f"<h1>{escape(title)}</h1>", _about(report), *_sections(report)]
    return "\n".join([*parts, "</body></html>", ""])


def _about(report: Json) -> str:
    names = ("from", "to", "made_at", "made_by", "version", "log")
    return _table(("", ""), ((name.replace("_", " "), report[name]) for name in names))


def _sections(report: Json) -> Iterable[str]:
    inventory = report["inventory_at_end"]
    yield _heading("Is it complete?")
    yield _completeness(report["completeness"])
    yield _heading("Summary")
    yield _counts("kind", report["summary"]) + _counts("outcome", report["outcomes"])
    yield _heading("Certificates at the end of the period")
    yield (
        f"<p>{inventory['valid']} valid, of {inventory['identities']} identities; "
        f"{inventory['revoked']} revoked.</p>"
    )
    yield _table(("identity", "valid certificates"), inventory["by_identity"].items())
    yield _heading("Issuance by identity")
    yield _counts("identity", report["issuance_by_identity"])
    yield _heading("Refusals by reason")
    yield _counts("reason", report["refusals_by_reason"])
    yield _heading("Revocations")
    yield _records(report["revocations"], _REVOCATION)
    yield _heading("Policy changes, with who approved")
    yield _records(report["policy_changes"], _ENTRY)
    yield _heading("Authorities, roots, keys of the log")
    yield _records(report["authority_changes"], _ENTRY)
    yield _heading("Exceptions: bans, break-glass, gaps, redactions, holds, federation")
    yield _records(report["exceptions"], _ENTRY)


_REVOCATION: Final = (
    *("at", "actor", "why", "reason", "selector", "count"),
    *("in_force_at", "milliseconds_to_effect"),
)
_ENTRY: Final = ("index", "time", "kind", "outcome", "actor", "spiffe_id", "reason", "details")


def _completeness(proof: Json) -> str:
    said = [
        f"Entries {proof['first_index']} up to {proof['end_index']} of the log were written in the "
        f"period, {proof['entries']} by their time.",
        f"{proof['gaps']} entries say that something was counted instead of recorded."
        if proof["gaps"]
        else "Nothing was dropped: no entry of the kind gap.",
    ]
    if proof["redacted"]:
        said.append(
            f"{proof['redacted']} of them are redacted: kind and time are left. `meshca audit "
            "verify` holds them to the entries that say so."
        )
    if proof["checkpoint_before"] is None:
        said.append("No checkpoint lies before the period: none was kept, or the log began in it.")
    elif proof["consistency"] is None:
        said.append("No checkpoint holds all of the period yet: make the report again in a second.")
    else:
        said.append("The log at its end begins with the log before it, as the proof shows.")
    notes = "".join(
        f"<p>{label}:</p><pre>{escape(proof[name])}</pre>"
        for name, label in (
            ("checkpoint_before", "Checkpoint before the period"),
            ("checkpoint_after", "Checkpoint that holds all of it"),
        )
        if proof[name]
    )
    return "".join(f"<p>{escape(sentence)}</p>" for sentence in said) + notes


def _counts(what: str, found: Json) -> str:
    rest = found["values"] - len(found["counts"])
    left = f"<p>{rest} further values are left out.</p>" if rest > 0 else ""
    counts = found["counts"].items()
    return _table((what, "entries"), [*counts, ("all", found["total"])]) + left


def _records(records: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    if not records:
        return "<p>None.</p>"
    rows = ([record.get(name, "") for name in columns] for record in records)
    return _table([name.replace("_", " ") for name in columns], rows)


def _heading(text: str) -> str:
    return f"<h2>{escape(text)}</h2>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        text = "; ".join(f"{key}: {each}" for key, each in value.items() if each not in ("", None))
    else:
        text = "" if value is None else str(value)
    clipped = text if len(text) <= MAXIMUM_CELL else text[:MAXIMUM_CELL] + "…"
    return f"<td>{escape(clipped)}</td>"
