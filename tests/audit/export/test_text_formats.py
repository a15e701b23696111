"""CSV and CEF: what readers get back, and that no text breaks out of its place."""

import csv
import io
import re

import orjson
import pytest

from audit.entry import Entry
from audit.export import cef, comma
from audit.export.text import harmless, visible
from audit.log import Stored
from tests.audit.export.entries import (
    ATTACKS,
    ORDERS,
    TEXTS,
    TIME,
    an_entry,
    of_the_chain,
    one_of_each,
    redacted,
    stored,
)

_PAIR = re.compile(r"(?:^|(?<= ))([A-Za-z0-9]+)=((?:[^=\\]|\\[\\=nr])*?)(?= [A-Za-z0-9]+=|$)")
_UNESCAPED = {"\\\\": "\\", "\\=": "=", "\\n": "\n", "\\r": "\r", "\\|": "|"}


def read_csv(*entries: Stored) -> list[dict[str, str]]:
    text = (comma.header() + b"".join(map(comma.row, entries))).decode()
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def read_cef(line: bytes) -> tuple[list[str], dict[str, str]]:
    """Return header fields and values as the standard says that they are read."""
    text = line.decode().removesuffix("\n")
    *head, extension = re.split(r"(?<!\\)(?:\\\\)*\|", text, maxsplit=7)
    pairs = _PAIR.findall(extension)
    assert " ".join(f"{key}={value}" for key, value in pairs) == extension
    return head, {key: unescaped(value) for key, value in pairs}


def unescaped(text: str) -> str:
    return re.sub(r"\\[\\=nr|]", lambda match: _UNESCAPED[match[0]], text)


def a_cef(one: Stored) -> bytes:
    return cef.event(one, origin="example.org/meshca/audit", version="0.1.0")


def test_csv_has_every_field_of_the_entry() -> None:
    (row,) = read_csv(stored(an_entry()))
    assert tuple(row) == comma.COLUMNS
    assert (row["index"], row["spiffe_id"], row["redacted"]) == ("7", ORDERS, "")
    assert row["time"] == "2026-11-01T12:00:00.123456Z"
    assert orjson.loads(row["details"])["what"] == "made"


def test_csv_says_what_is_redacted() -> None:
    one = stored(an_entry())
    (row,) = read_csv(redacted(one))
    assert (row["index"], row["kind"], row["redacted"]) == ("7", "", "true")
    assert row["leaf_hash"] == one.leaf_hash.hex()


@pytest.mark.parametrize("field", [*TEXTS, "details"])
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_no_text_breaks_out_of_its_cell(field: str, attack: str) -> None:
    value = {"what": attack} if field == "details" else attack
    one, after = stored(an_entry(**{field: value})), stored(an_entry(), 8)
    lines = comma.row(one)
    assert lines.count(b"\n") == lines.count(b"\r") == 1
    first, second = read_csv(one, after)
    assert (first["index"], second["index"]) == ("7", "8")
    assert first["outcome"] == "done"
    assert all(cell.isprintable() for cell in first.values())
    assert not any(cell.startswith(("=", "+", "-", "@", "\uff1d")) for cell in first.values())


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\t=1", "\r=1", "\uff0b1"])
def test_a_formula_gets_an_apostrophe(text: str) -> None:
    assert harmless(text) == "'" + visible(text)


def test_what_does_not_print_is_escaped_as_json_does() -> None:
    assert visible("a\x1b[0m\n\u202e\U000e0001") == "a\\u001b[0m\\n\\u202e\\udb40\\udc01"
    assert visible("größer – 💡") == "größer – 💡"


def test_cef_has_its_header_and_its_pairs() -> None:
    head, pairs = read_cef(a_cef(stored(an_entry("refusal", outcome="refused"))))
    assert head == ["CEF:0", "meshca", "meshca", "0.1.0", "refusal", "refusal refused", "4"]
    assert pairs["externalId"] == "7"
    assert pairs["rt"] == str(int(TIME.timestamp() * 1000))
    assert (pairs["suser"], pairs["duser"], pairs["outcome"]) == ("uid:0", ORDERS, "refused")
    assert (pairs["cs3Label"], pairs["cs3"]) == ("destination", "shop/app=orders")
    assert pairs["flexString1"] == "prod-eu/shop/orders/orders-1/node-a"
    assert orjson.loads(pairs["cs6"])["what"] == "made"


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a\\b", "a\\\\b"),
        ("a=b", "a\\=b"),
        ("a\nb", "a\\nb"),
        ("a\rb", "a\\rb"),
        ("a|b", "a|b"),
        ("a\tb", "a\\\\tb"),
        ("a\x1bb", "a\\\\u001bb"),
        ("\\=\n", "\\\\\\=\\n"),
    ],
)
def test_cef_escapes_values_to_the_letter(text: str, escaped: str) -> None:
    assert cef.in_value(text) == escaped


@pytest.mark.parametrize(
    ("text", "escaped"), [("a|b", "a\\|b"), ("a\\b", "a\\\\b"), ("a=b", "a=b")]
)
def test_cef_escapes_the_header_to_the_letter(text: str, escaped: str) -> None:
    assert cef.in_header(text) == escaped


@pytest.mark.parametrize("field", [*TEXTS, "details"])
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_no_text_breaks_out_of_its_value(field: str, attack: str) -> None:
    value = {"what": attack} if field == "details" else attack
    line = a_cef(stored(an_entry(**{field: value})))
    assert line.count(b"\n") == 1
    assert line.removesuffix(b"\n").decode().isprintable()
    head, pairs = read_cef(line)
    assert (len(head), pairs["externalId"], pairs["outcome"]) == (7, "7", "done")
    assert "act" not in pairs
    assert pairs.get("cs1") != "forged" or field == "serial"
    assert len(line) < 40_000


def test_cef_gives_back_what_the_standard_can_say() -> None:
    text = "a|b\\|c act=allowed \\n\n\r\\"
    _, pairs = read_cef(a_cef(stored(an_entry(reason=text))))
    assert pairs["reason"] == text


@pytest.mark.parametrize("one", one_of_each(), ids=lambda one: f"{one.kind} {one.index}")
def test_every_kind_has_a_line(one: Stored) -> None:
    assert comma.index_of(comma.row(one)) == one.index
    assert cef.index_of(a_cef(one)) == one.index
    read_cef(a_cef(redacted(one)))


def test_entries_of_the_chain_have_a_line() -> None:
    (row,) = read_csv(of_the_chain())
    assert (row["kind"], row["policy"]) == ("ban", "")
    read_cef(a_cef(of_the_chain()))


def test_headers_and_halves_tell_no_index() -> None:
    assert comma.index_of(comma.header()) is None
    assert comma.index_of(b"") is None
    assert comma.index_of(b'"12') is None
    assert cef.index_of(b"CEF:0|meshca") is None


def test_an_empty_entry_says_nothing_more() -> None:
    _, pairs = read_cef(a_cef(stored(Entry(TIME, "server_stop", "done"))))
    assert set(pairs) == {
        *("externalId", "rt", "deviceExternalId", "cat", "outcome"),
        *("flexString2Label", "flexString2"),
    }
