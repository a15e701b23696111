"""Plans: every mistake at once, with file, line and key; nothing that is there is overwritten."""

from pathlib import Path

import pytest

from ca.ceremony.plan import load_plan
from meshca.errors import InvalidDocument
from tests.ca.ceremony.plans import CRL, INTERMEDIATE, ROOT, edited

ENTRY = "{serial: 01:ab, time: 2026-11-01T00:00:00Z}"


def problems(directory: Path, text: str) -> list[tuple[str, int, str]]:
    """Return what is wrong with a plan: key, line, message."""
    path = directory / "plan.yaml"
    path.write_text(text)
    with pytest.raises(InvalidDocument) as caught:
        load_plan(path)
    assert {p.file for p in caught.value.problems} == {str(path)}
    return [(p.path, p.line, p.message) for p in caught.value.problems]


def put_inputs(directory: Path) -> None:
    for name in ("root.pem", "root.key", "intermediate.csr", "old.pem"):
        (directory / name).write_text("there")


SINGLE: dict[str, tuple[str, str, str]] = {
    "no kind": (edited(ROOT, "ceremony: root\n", ""), "ceremony", "root, intermediate, crl"),
    "another kind": (
        edited(ROOT, "ceremony: root", "ceremony: tea"),
        "ceremony",
        "must be one of root, intermediate, crl",
    ),
    "a list as kind": (edited(ROOT, "ceremony: root", "ceremony: [root]"), "ceremony", "one of"),
    "unknown key": (ROOT + "colour: blue\n", "colour", "unknown key"),
    "another kind's key": (ROOT + "number: 1\n", "number", "unknown key"),
    "no subject": (edited(ROOT, "subject:", "# subject:"), "subject", "missing"),
    "a long name": (
        edited(ROOT, "example.org root R1", "x" * 65),
        "subject.common_name",
        "at most 64",
    ),
    "a control character": (
        edited(ROOT, "example.org root R1", '"root\\n"'),
        "subject.common_name",
        "cannot be printed",
    ),
    "a country that is none": (edited(ROOT, "CH", "Swiss"), "subject.country", "pattern"),
    "no end": (
        edited(ROOT, ", not_after: 2036-11-01T12:00:00Z", ""),
        "validity",
        "either `not_after` or `lifetime`",
    ),
    "two ends": (
        edited(ROOT, "12:00:00Z}", "12:00:00Z, lifetime: 1d}"),
        "validity",
        "either `not_after` or `lifetime`",
    ),
    "an end before the beginning": (
        edited(ROOT, "2036-", "2025-"),
        "validity",
        "not_after is not after not_before",
    ),
    "a local time": (
        edited(ROOT, "2036-11-01T12:00:00Z", "2036-11-01T12:00:00"),
        "validity.not_after",
        "write a time in UTC",
    ),
    "a day that is none": (
        edited(ROOT, "2036-11-01", "2036-02-30"),
        "validity.not_after",
        "write a time in UTC",
    ),
    "a weak key": (edited(ROOT, "p384", "rsa2048"), "key_type", "'p256', 'p384', 'rsa3072'"),
    "a root without room": (
        edited(ROOT, "path_length: 1", "path_length: 0"),
        "path_length",
        "greater than or equal to 1",
    ),
    "a number as a word": (edited(ROOT, "path_length: 1", "path_length: one"), "path_length", ""),
    "a trust domain that is none": (
        edited(ROOT, "trust_domain: example.org", "trust_domain: Example.org"),
        "trust_domain",
        "characters other than",
    ),
    "both outputs in one": (
        edited(ROOT, "certificate: root.pem", "certificate: root.key"),
        "outputs.certificate",
        "is written twice",
    ),
    "no directory": (
        edited(ROOT, "key: root.key", "key: nowhere/root.key"),
        "outputs.key",
        "cannot be written: no directory",
    ),
    "nothing to sign": (
        INTERMEDIATE[: INTERMEDIATE.index("certificates:")] + "certificates: []\n",
        "certificates",
        "at least 1",
    ),
    "no request": (
        edited(INTERMEDIATE, "intermediate.csr", "other.csr"),
        "certificates[0].csr",
        "cannot be read",
    ),
    "a digest that is none": (
        edited(INTERMEDIATE, "    output", "    public_key_sha256: ab12\n    output"),
        "certificates[0].public_key_sha256",
        "not a SHA-256",
    ),
    "no issuer": (
        edited(INTERMEDIATE, "certificate: root.pem", "certificate: other.pem"),
        "issuer.certificate",
        "cannot be read",
    ),
    "no list of revoked": (edited(CRL, "revoked: []\n", ""), "revoked", "missing"),
    "number 0": (edited(CRL, "number: 1", "number: 0"), "number", "greater than or equal to 1"),
    "neither file nor serial": (
        edited(CRL, "[]", "[{time: 2026-11-01T00:00:00Z}]"),
        "revoked[0]",
        "either `certificate` or `serial`",
    ),
    "both file and serial": (
        edited(CRL, "[]", f"[{ENTRY}]").replace("{serial", "{certificate: old.pem, serial"),
        "revoked[0]",
        "either `certificate` or `serial`",
    ),
    "revoked without a time": (edited(CRL, "[]", "[{serial: ab}]"), "revoked[0].time", "missing"),
    "a serial that is none": (
        edited(CRL, "[]", f"[{ENTRY}]").replace("01:ab", "xyz"),
        "revoked[0].serial",
        "not a serial number in hex",
    ),
    "a reason that says nothing": (
        edited(CRL, "[]", f"[{ENTRY}]").replace("{serial", "{reason: unspecified, serial"),
        "revoked[0].reason",
        "'key_compromise'",
    ),
}


@pytest.mark.parametrize("what", SINGLE)
def test_refuses_for_this_reason_only(what: str, tmp_path: Path) -> None:
    text, key, said = SINGLE[what]
    put_inputs(tmp_path)
    if text.startswith("ceremony: root"):
        (tmp_path / "root.pem").unlink()
        (tmp_path / "root.key").unlink()
    ((found, _, message),) = problems(tmp_path, text)
    assert found == key
    assert said in message


def test_every_mistake_is_reported_at_once_with_its_line(tmp_path: Path) -> None:
    text = """\
ceremony: root
trust_domain: Example.org
subject: {organization: "", common_nome: root}
validity: {}
key_type: p521
outputs: {key: root.key}
"""
    assert {(key, line) for key, line, _ in problems(tmp_path, text)} == {
        ("trust_domain", 2),
        ("subject.organization", 3),
        ("subject.common_name", 3),
        ("subject.common_nome", 3),
        ("validity", 4),
        ("key_type", 5),
        ("outputs.certificate", 6),
    }


def test_every_output_that_exists_is_named(tmp_path: Path) -> None:
    (tmp_path / "root.key").write_text("precious")
    (tmp_path / "root.pem").symlink_to(tmp_path / "nowhere")
    found = problems(tmp_path, ROOT)
    assert [(key, "overwrites nothing" in said) for key, _, said in found] == [
        ("outputs.key", True),
        ("outputs.certificate", True),
    ]
    assert (tmp_path / "root.key").read_text() == "precious"


def test_every_input_that_is_missing_is_named(tmp_path: Path) -> None:
    text = edited(CRL, "[]", "[{certificate: old.pem, time: 2026-11-01T00:00:00Z}]")
    found = problems(tmp_path, text + "previous: old.crl\n")
    assert [key for key, _, _ in found] == [
        "issuer.certificate",
        "issuer.key",
        "previous",
        "revoked[0].certificate",
    ]


def test_a_plan_is_known_by_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(ROOT)
    first = load_plan(path).sha256
    path.write_text(ROOT + "# a comment\n")
    assert len(first) == 64
    assert load_plan(path).sha256 != first
