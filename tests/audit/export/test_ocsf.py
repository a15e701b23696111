"""OCSF events, held against the published schema.

`ocsf_1_8_0.json` is what the schema of OCSF 1.8.0 (Apache-2.0, https://schema.ocsf.io) says of the
classes and objects that we use: attributes outside profiles, their requirement, type and values.
"""

from pathlib import Path
from typing import Any

import orjson
import pytest

from audit.entry import KINDS
from audit.export import ocsf
from audit.export.ocsf import BY_KIND, event
from audit.log import Stored
from audit.merkle import leaf_hash
from tests.audit.export.entries import (
    ATTACKS,
    ORDERS,
    TEXTS,
    an_entry,
    of_the_chain,
    one_of_each,
    redacted,
    stored,
)

SCHEMA: dict[str, Any] = orjson.loads(Path(__file__).with_name("ocsf_1_8_0.json").read_bytes())
TYPES: dict[str, type] = {
    "integer_t": int,
    "long_t": int,
    "timestamp_t": int,
    "port_t": int,
    "boolean_t": bool,
}


def made(one: Stored) -> dict[str, Any]:
    line = event(one, origin="example.org/meshca/audit", version="0.1.0")
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    document: dict[str, Any] = orjson.loads(line)
    return document


def problems(document: dict[str, Any]) -> list[str]:
    """Return what the schema has against an event."""
    known = SCHEMA["classes"].get(str(document["class_uid"]))
    if known is None:
        return ["an unknown class"]
    activity = str(document["activity_id"])
    said = {
        "class_name": known["caption"],
        "category_name": known["category_name"],
        "activity_name": known["activity_names"].get(activity),
        "type_name": known["type_names"].get(str(document["type_uid"])),
        "category_uid": document["class_uid"] // 1000,
        "type_uid": document["class_uid"] * 100 + document["activity_id"],
    }
    wrong = [f"{name} is {document[name]!r}" for name, is_ in said.items() if document[name] != is_]
    return wrong + _problems(document, known, "")


def _problems(value: dict[str, Any], known: dict[str, Any], path: str) -> list[str]:
    found = []
    attributes = known["attributes"]
    for name, attribute in attributes.items():
        if attribute["requirement"] == "required" and name not in value:
            found.append(f"{path}{name} is missing")
    for name, one in value.items():
        if name not in attributes:
            found.append(f"{path}{name} is unknown")
        else:
            found += _value_problems(one, attributes[name], f"{path}{name}")
    at_least_one = known["constraints"].get("at_least_one", [])
    if at_least_one and not set(at_least_one) & set(value):
        found.append(f"{path}: needs one of {at_least_one}")
    return found


def _value_problems(value: Any, attribute: dict[str, Any], path: str) -> list[str]:
    if attribute.get("deprecated"):
        return [f"{path} is deprecated"]
    if "enum" in attribute and value not in attribute["enum"]:
        return [f"{path} is {value!r}"]
    if attribute["type"] == "object_t":
        known = SCHEMA["objects"].get(attribute["object"])
        if path == "unmapped":
            return [] if isinstance(value, dict) else ["unmapped is no object"]
        return _problems(value, known, f"{path}.") if known else [f"{path}: not in the extract"]
    expected = TYPES.get(attribute["type"], str)
    return [] if type(value) is expected else [f"{path} is a {type(value).__name__}"]


@pytest.mark.parametrize("one", one_of_each(), ids=lambda one: f"{one.kind} {one.index}")
def test_every_kind_is_an_event_that_the_schema_takes(one: Stored) -> None:
    assert problems(made(one)) == []
    assert problems(made(redacted(one))) == []


def test_the_schema_finds_what_is_wrong() -> None:
    good = made(stored(an_entry("login")))
    assert "user is missing" in problems({k: v for k, v in good.items() if k != "user"})
    assert "severity_id is 7" in problems({**good, "severity_id": 7})
    assert "typo is unknown" in problems({**good, "typo": 1})
    assert "metadata.version is missing" in problems({**good, "metadata": {"product": {"uid": ""}}})
    assert ": needs one of ['service', 'dst_endpoint']" in problems(
        {k: v for k, v in good.items() if k != "service"}
    )


def test_it_is_the_version_that_was_looked_at() -> None:
    assert SCHEMA["version"] == ocsf.SCHEMA
    assert made(stored(an_entry()))["metadata"]["version"] == ocsf.SCHEMA


def test_only_known_kinds_have_a_class() -> None:
    assert set(BY_KIND) <= set(KINDS)


def test_the_entry_itself_is_in_it_byte_for_byte() -> None:
    one = stored(an_entry(reason="grüße \u202e\x1b"))
    document = made(one)
    assert document["raw_data"].encode() == one.body
    assert leaf_hash(document["raw_data"].encode()).hex() == document["metadata"]["uid"]


def test_what_has_no_attribute_is_unmapped() -> None:
    unmapped = made(stored(an_entry()))["unmapped"]
    assert unmapped["pod"] == "orders-1"
    assert unmapped["details"]["what"] == "made"


def test_a_refusal_is_a_failed_logon_of_whom_it_was_proven() -> None:
    document = made(stored(an_entry("refusal", outcome="refused", reason="expired")))
    assert (document["class_uid"], document["status"]) == (3002, "Failure")
    assert (document["user"]["name"], document["status_detail"]) == (ORDERS, "expired")


def test_entries_of_the_chain_are_events_too() -> None:
    assert problems(made(of_the_chain())) == []


def test_what_is_redacted_keeps_its_place_and_hash() -> None:
    one = stored(an_entry())
    document = made(redacted(one))
    assert document["metadata"]["uid"] == one.leaf_hash.hex()
    assert ORDERS not in str(document)


@pytest.mark.parametrize("field", TEXTS)
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_no_text_breaks_out(field: str, attack: str) -> None:
    assert problems(made(stored(an_entry(**{field: attack})))) == []


def test_a_line_tells_its_index() -> None:
    line = event(stored(an_entry(), 12), origin="o", version="1")
    assert ocsf.index_of(line) == 12
    assert ocsf.index_of(line[:-9]) is None
    assert ocsf.index_of(b'{"metadata": []}') is None
