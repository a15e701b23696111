"""`meshca svid revoke`, `ban` and their kin, as an operator types them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.end_to_end.server import RunningServer, spiffe_id
from tests.meshca.cli import Result
from tests.meshca.test_cli_server import issue, run

WHY = ("--why", "INC-7")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    settings = {"revocation": {"confirm_above": 2}}
    with RunningServer(tmp_path_factory.mktemp("revocation"), settings=settings) as running:
        yield running


def issued(server: RunningServer, directory: Path, account: str) -> x509.Certificate:
    """Return a new certificate of a service account, once its signature is on record."""
    result = issue(server, directory, server.token(account))
    assert result.status == 0, result.err
    server.wait_for_records(account)
    return x509.load_pem_x509_certificates(result.out.encode())[0]


def hex_serial(certificate: x509.Certificate) -> str:
    return f"{certificate.serial_number:x}"


def revoke(server: RunningServer, *arguments: str) -> Result:
    return run(server, "svid", "revoke", *arguments)


def listed(server: RunningServer, account: str) -> dict[str, Any]:
    """Return how each certificate of a service account is revoked, by serial."""
    answer = run(server, "svid", "list", "--service-account", account, "-o", "json").data
    return {svid["serial"]: svid["revoked"] for svid in answer["svids"]}


def test_one_certificate_is_rehearsed_revoked_and_shown(
    server: RunningServer, tmp_path: Path
) -> None:
    serial = hex_serial(issued(server, tmp_path, "one"))
    chosen = ("--serial", serial, "--reason", "keyCompromise")
    rehearsed = revoke(server, *chosen, "--dry-run")
    assert (rehearsed.status, listed(server, "one")) == (0, {serial: None})
    done = revoke(server, *chosen, *WHY, "-o", "json")
    twice = revoke(server, *chosen, *WHY)
    shown = run(server, "svid", "revocation", serial)

    assert serial in rehearsed.out
    assert "1 certificates would be revoked" in rehearsed.err
    assert (done.status, done.data["count"]) == (0, 1)
    assert listed(server, "one")[serial]["reason"] == "keyCompromise"
    assert twice.status == 1
    assert "is revoked already: keyCompromise" in twice.err
    assert done.data["decision"] in shown.out
    assert "INC-7" in shown.out
    assert serial in run(server, "svid", "revocations").out
    assert "keyCompromise" in run(server, "svid", "list", "--serial", serial).out


def test_a_certificate_is_found_by_its_fingerprint_and_its_token(
    server: RunningServer, tmp_path: Path
) -> None:
    certificate = issued(server, tmp_path, "found")
    digest = sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
    colons = ":".join(digest[i : i + 2] for i in range(0, 64, 2)).upper()
    shown = run(server, "svid", "list", "--fingerprint", colons, "-o", "json").data["svids"]
    token_id = shown[0]["token_id"]
    by_token = run(server, "svid", "list", "--token-id", token_id, "-o", "json").data["svids"]
    done = revoke(server, "--fingerprint", colons, "--token-id", token_id, *WHY, "-o", "json")

    assert [svid["serial"] for svid in shown] == [hex_serial(certificate)]
    assert by_token == shown
    assert [hit["fingerprint"] for hit in done.data["hit"]] == [digest]


def test_many_need_the_right_number(server: RunningServer, tmp_path: Path) -> None:
    serials = {hex_serial(issued(server, tmp_path, "many")) for _ in range(3)}
    who = ("--spiffe-id", spiffe_id("many"))
    rehearsed = revoke(server, *who, "--dry-run")
    none, wrong = revoke(server, *who, *WHY), revoke(server, *who, *WHY, "--yes-revoke-2")
    assert set(listed(server, "many").values()) == {None}
    right = revoke(server, *who, *WHY, "--yes-revoke-3", "-o", "json")

    assert "3 certificates would be revoked; it needs --yes-revoke-3" in rehearsed.err
    assert (none.status, wrong.status, right.status) == (1, 1, 0)
    assert "--yes-revoke-3" in none.err
    assert "2 certificates were confirmed, but 3" in wrong.err
    assert {hit["serial"] for hit in right.data["hit"]} == serials


def test_a_hold_is_undone_and_nothing_else_is(server: RunningServer, tmp_path: Path) -> None:
    serial = hex_serial(issued(server, tmp_path, "held"))
    revoke(server, "--serial", serial, "--reason", "certificateHold", *WHY)
    held = listed(server, "held")[serial]
    undone = run(server, "svid", "unrevoke", serial, "--why", "it was found")
    released = listed(server, "held")[serial]
    revoke(server, "--serial", serial, *WHY)
    again = run(server, "svid", "unrevoke", serial, *WHY)

    assert held["reason"] == "certificateHold"
    assert (undone.status, released) == (0, None)
    assert again.status == 1
    assert "that is for good" in again.err


def test_who_is_banned_gets_no_certificate_until_the_ban_is_lifted(
    server: RunningServer, tmp_path: Path
) -> None:
    issued(server, tmp_path, "banned")
    done = revoke(
        *(server, "--service-account", "banned", "--ban", "--until", "2h", *WHY, "-o", "json")
    )
    refused = issue(server, tmp_path, server.token("banned"))
    name, until = done.data["ban"]["ban"], done.data["ban"]["until"]
    shown = run(server, "svid", "bans")
    lifted = run(server, "svid", "unban", name, "--why", "clean")
    twice = run(server, "svid", "unban", name, "--why", "clean")

    assert done.data["count"] == 1
    assert refused.status == 1
    left = datetime.fromisoformat(until) - datetime.now(UTC)
    assert timedelta(hours=1, minutes=59) < left <= timedelta(hours=2, seconds=1)
    assert name in shown.out
    assert "service_account=banned" in shown.out
    assert (lifted.status, twice.status) == (0, 1)
    assert "was lifted already" in twice.err
    assert hex_serial(issued(server, tmp_path, "banned")) in listed(server, "banned")
    assert name not in run(server, "svid", "bans").out
    assert name in run(server, "svid", "bans", "--all").out


def test_a_ban_alone_leaves_what_is_there(server: RunningServer, tmp_path: Path) -> None:
    serial = hex_serial(issued(server, tmp_path, "alone"))
    until = "2100-01-01T00:00:00Z"
    made = run(server, "svid", "ban", "--service-account", "alone", "--until", until, *WHY)
    assert made.status == 0, made.err
    assert f"until {until}" in made.out
    assert listed(server, "alone") == {serial: None}
    assert issue(server, tmp_path, server.token("alone")).status == 1


def test_a_revocation_that_hits_nothing_is_exit_1(server: RunningServer) -> None:
    result = revoke(server, "--node", "no-such-node", *WHY)
    assert (result.status, revoke(server, "--node", "x", "--dry-run").status) == (1, 0)
    assert "nothing was hit" in result.err


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("revoke", "--serial", "a1"), 2, "Missing option '--why'"),
        (("revoke", "--serial", "a1", "--why", " "), 2, "--why is empty"),
        (("revoke", "--serial", "a1", *WHY, "--nope"), 2, "No such option: --nope"),
        (("revoke", "--serial", "a1", *WHY, "--yes-revoke-x"), 2, "No such option: --yes-revoke-x"),
        (("revoke", "--serial", "a1", *WHY, "--yes-revoke"), 2, "No such option: --yes-revoke"),
        (("revoke", "a1", *WHY), 2, "unexpected extra argument (a1)"),
        (("revoke", "--node", "x", *WHY, "--yes-revoke-1", "--yes-revoke-2"), 2, "different"),
        (("revoke", "--serial", "a1", *WHY, "--reason", "stolen"), 2, "'stolen' is none of"),
        (("revoke", "--node", "x", *WHY, "--until", "2h"), 2, "needs --ban"),
        (("revoke", "--node", "x", *WHY, "--ban", "--until", "soon"), 2, "neither a time"),
        (("revoke", *WHY), 1, "that is not all"),
        (("revoke", "--namespace", "shop", "--node", "", *WHY), 1, "node is empty"),
        (("revoke", "--serial", "a1", *WHY), 1, "no certificate with serial a1"),
        (("revoke", "--serial", "xyz", *WHY), 1, "is not hex digits"),
        (("revoke", "--spiffe-id", "spiffe://b.test/x", *WHY), 1, "of trust domain b.test"),
        (("revoke", "--fingerprint", "0" * 64, *WHY, "--ban"), 1, "a ban needs who is banned"),
        (("ban", *WHY), 1, "that is not all"),
        (("ban", "--serial", "a1", *WHY), 2, "No such option: --serial"),
        (("ban", "--node", "x", "--until", "2020-01-01", *WHY), 1, "has ended already"),
        (("unban", "../status", *WHY), 2, "is not a ban"),
        (("unban", "0" * 16, *WHY), 1, "there is no ban"),
        (("unrevoke", "../status", *WHY), 2, "not a serial in hex"),
        (("unrevoke", "a1"), 2, "Missing option '--why'"),
        (("revocation", "a1"), 1, "serial a1 is not revoked"),
        (("revocations", "--cursor", "1"), 1, "cursor"),
    ],
    ids=lambda value: " ".join(value)[:90] if isinstance(value, tuple) else "",
)
def test_says_what_is_wrong(
    server: RunningServer, arguments: tuple[str, ...], status: int, said: str
) -> None:
    result = run(server, "svid", *arguments)

    assert (result.status, result.out) == (status, ""), result.err
    assert said in " ".join(result.err.split())
