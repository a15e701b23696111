"""`meshca authz stage`, `promote`, `withdraw`, `approve`, `bypass`: as an operator types them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.end_to_end.server import RunningServer, allow
from tests.meshca.cli import Result
from tests.meshca.test_cli_server import run

WHY = ("--reason", "CHG-7")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("staging")) as running:
        running.apply(allow("frontend", "orders"))
        yield running


def authz(server: RunningServer, *arguments: str) -> Result:
    return run(server, "authz", *arguments)


def written(directory: Path, *callers: str) -> str:
    path = directory / "candidate.yaml"
    path.write_text(yaml.safe_dump_all([allow(caller, "orders") for caller in callers]))
    return str(path)


def test_a_change_walks_into_force_and_is_shown_on_its_way(
    server: RunningServer, tmp_path: Path
) -> None:
    candidate = written(tmp_path, "frontend", "batch")
    assert authz(server, "stage", "show").status == 1

    staged = authz(server, "stage", candidate, *WHY)
    draft = authz(server, "stage", "show")
    authz(server, "promote", *WHY)
    shadow = authz(server, "stage", "show")
    canary = authz(server, "promote", "--namespaces", "shop,stock", *WHY)
    shown = authz(server, "stage", "show")
    status = run(server, "status")
    enforced = authz(server, "promote", *WHY)

    assert "is a draft: nowhere in force" in staged.err
    assert "a draft is not on trial" in draft.err
    assert "stage:     draft" in draft.out
    assert "would have denied 0 requests that passed" in shadow.err
    assert "is at canary in shop, stock" in canary.err
    assert "at 5 it falls back" in shown.err
    assert "canary in:" in status.out
    assert "enforced as applied set" in enforced.err
    assert "batch-orders" in authz(server, "get").out


def test_what_is_staged_is_printed_and_withdrawn(server: RunningServer, tmp_path: Path) -> None:
    candidate = written(tmp_path, "frontend")
    authz(server, "stage", candidate, *WHY)

    documents = authz(server, "stage", "show", "--documents")
    withdrawn = authz(server, "withdraw", *WHY)
    again = authz(server, "withdraw", *WHY)

    assert list(yaml.safe_load_all(documents.out))[-1] == allow("frontend", "orders")
    assert "is withdrawn" in withdrawn.err
    assert (again.status, "nothing is staged" in again.err) == (1, True)


def test_a_mistake_is_named_with_file_and_line(server: RunningServer, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(allow("a", "b")).replace("ALLOW", "ALOW"))

    refused = authz(server, "stage", str(path), *WHY)

    assert refused.status == 1
    assert f"{path}:" in refused.err
    assert "'ALOW'" in refused.err


def test_a_bypass_is_requested_listed_and_ended(server: RunningServer) -> None:
    asked = authz(server, "bypass", "shop/orders", "--label", "v=1", "--for", "30m", *WHY)
    name = asked.out.splitlines()[-1].split()[0]
    alone = authz(server, "approve", name, *WHY)
    listed = authz(server, "bypass")
    ended = authz(server, "bypass", "--end", name, *WHY)

    assert "not in force yet; another person has 15 minutes" in asked.err
    assert "shop/app=orders,v=1" in asked.out
    assert (alone.status, "somebody else has to approve" in alone.err) == (1, True)
    assert name in listed.out
    assert f"{name} is ended" in ended.err
    assert name not in authz(server, "bypass").out
    assert name in authz(server, "bypass", "--all").out
    assert authz(server, "approvals").status == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("stage", "FILE"), "Missing option '--reason'"),
        (("stage", "show", *WHY), "not for show"),
        (("stage", "FILE", "--documents", *WHY), "--documents is for show"),
        (("promote", "--to", "draft", *WHY), "'draft' is none of shadow, canary, enforce"),
        (("promote", "--reason", " "), "--reason is empty"),
        (("bypass", "shop", *WHY), "needs --for"),
        (("bypass", "shop", "--for", "30m"), "Missing option '--reason'"),
        (("bypass", "shop", "--for", "soon", *WHY), "is not a duration"),
        (("bypass", "shop", "--label", "v", "--for", "1m", *WHY), "is not KEY=VALUE"),
        (("bypass", "--for", "30m", *WHY), "name a destination"),
        (("bypass", "--end", "../status", *WHY), "is not a bypass"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_refuses_usage_that_cannot_be_meant(
    server: RunningServer, arguments: tuple[str, ...], message: str
) -> None:
    refused = authz(server, *arguments)

    assert refused.status == 2
    assert message in refused.err
