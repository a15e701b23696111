"""`meshca authz diff`, `who-can`, `what-can` and `reach` on files, without a server."""

import json
from pathlib import Path

import pytest
import yaml

from tests.authz.builders import document, rule, to_yaml
from tests.meshca.cli import meshca

FRONTEND = "example.org/ns/shop/sa/frontend"
ORDERS = "example.org/ns/shop/sa/orders"
OFFLINE = ("--trust-domain", "example.org")


def orders(*methods: str) -> str:
    """Return the policies of orders and payments; the frontend may use `methods`."""
    operation = {"methods": list(methods), "paths": ["/items/*"]}
    return to_yaml(
        document(
            "orders",
            selector={"app": "orders"},
            rules=[rule({"principals": [FRONTEND]}, operation)],
        ),
        document("payments", selector={"app": "payments"},
                 rules=[rule({"principals": [ORDERS]})]),
    )  # fmt: skip


@pytest.fixture
def sets(tmp_path: Path) -> tuple[str, str]:
    """Return a directory and a file: the frontend may read, and it may also write."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "policies.yaml").write_text(orders("GET"))
    (tmp_path / "b.yaml").write_text(orders("GET", "POST"))
    return str(tmp_path / "a"), str(tmp_path / "b.yaml")


def test_a_difference_is_told_line_by_line_and_fails(sets: tuple[str, str]) -> None:
    result = meshca("authz", "diff", *sets, *OFFLINE)

    assert result.status == 1
    assert result.out.splitlines()[0] == (
        f"newly allowed: to shop/app=orders: protocol http; source {FRONTEND}; method POST; "
        "path /items/*"
    )
    assert "  after: allow: allowed by ns[shop]-policy[orders]-rule[0]" in result.out
    assert result.out.splitlines()[-1] == "nothing else changes"


def test_a_witness_is_a_request_that_check_decides_as_told(
    sets: tuple[str, str], tmp_path: Path
) -> None:
    answer = meshca("authz", "diff", *sets, *OFFLINE, "-o", "json").data
    batch = tmp_path / "batch.jsonl"
    batch.write_text(json.dumps(answer["changes"][0]["witness"]))
    (tmp_path / "after").mkdir()
    (tmp_path / "after" / "b.yaml").write_text(Path(sets[1]).read_text())

    for policies, verdict in ((sets[0], "deny"), (str(tmp_path / "after"), "allow")):
        checked = meshca("authz", "check", "--batch", str(batch), "--policies", policies, *OFFLINE)
        assert json.loads(checked.out)["verdict"] == verdict


def test_equal_sets_succeed(sets: tuple[str, str]) -> None:
    result = meshca("authz", "diff", sets[0], sets[0], *OFFLINE)

    assert (result.status, result.out) == (0, "nothing changes\n")


def test_a_set_that_is_not_there_or_does_not_load_is_an_error(
    sets: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "bad.yaml").write_text("kind: Something")
    missing = meshca("authz", "diff", sets[0], str(tmp_path / "none"), *OFFLINE)
    bad = meshca("authz", "diff", sets[0], str(tmp_path / "bad.yaml"), *OFFLINE)
    without = meshca("authz", "diff", *sets)

    assert (missing.status, bad.status, without.status) == (1, 1, 2)
    assert "name a file, a directory, current, staged or applied:N" in missing.err
    assert "bad.yaml:1" in bad.err


def test_who_can_names_every_way_in(sets: tuple[str, str]) -> None:
    who = ("authz", "who-can", "shop/orders", "--policies", sets[0], *OFFLINE)
    anybody, nobody = meshca(*who), meshca(*who, "--method", "DELETE")

    assert anybody.out.startswith(f"allowed: to shop/app=orders: protocol http; source {FRONTEND};")
    assert anybody.out.splitlines()[-1] == "nothing else is allowed"
    assert (nobody.status, nobody.out) == (0, "nothing else is allowed\n")
    assert meshca(*who, "--protocol", "udp").status == 2


def test_what_can_names_every_destination(sets: tuple[str, str]) -> None:
    result = meshca("authz", "what-can", FRONTEND, "--policies", sets[0], "-o", "json")

    assert [each["destinations"] for each in result.data["allowed"]] == [["shop/app=orders"]]
    assert meshca("authz", "what-can", "example.org", "--policies", sets[0]).status == 2


def test_reach_finds_the_way_through_the_identities_of_a_file(
    sets: tuple[str, str], tmp_path: Path
) -> None:
    services = [
        {"namespace": "shop", "labels": {"app": "orders"}, "spiffe_id": f"spiffe://{ORDERS}"}
    ]
    file = tmp_path / "identities.yaml"
    file.write_text(yaml.safe_dump(services))
    asked = ("shop/payments", "--policies", sets[0], "--identities", str(file))

    found = meshca("authz", "reach", FRONTEND, *asked)
    nowhere = meshca("authz", "reach", "example.org/ns/shop/sa/nobody", *asked)

    assert found.status == 0
    assert found.out.splitlines()[0] == "1. 2 calls"
    assert f"spiffe://{ORDERS} -> shop/app=payments, ns[shop]-policy[payments]-rule[0]" in found.out
    assert (nowhere.status, nowhere.out) == (1, "there is no way\n")


@pytest.mark.parametrize("text", ["{}", "- {namespace: a}", "- {x: 1}", "[1]", "- - a", "\x00"])
def test_a_file_of_identities_that_is_none_is_an_error(
    text: str, sets: tuple[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "identities.yaml"
    file.write_text(text)
    asked = ("--policies", sets[0], "--identities", str(file))
    result = meshca("authz", "reach", FRONTEND, "shop/payments", *asked)

    assert result.status == 1
    assert "identities.yaml" in result.err
