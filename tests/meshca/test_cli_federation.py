"""`meshca federation` as an operator types it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.builders import make_pki
from tests.end_to_end.server import RunningServer

PARTNER = "partner.test"
ADD = ("federation", "add", PARTNER, "--endpoint", "https://127.0.0.1:1/")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("federation")) as running:
        root = make_pki(trust_domain=PARTNER).root
        (running.directory / "bundle.pem").write_bytes(root.public_bytes(Encoding.PEM))
        yield running


def test_the_life_of_a_relation(server: RunningServer) -> None:
    added = server.run(*ADD, "--bundle", "bundle.pem", "--reason", "CHG-7")
    listed = server.meshca("federation", "list")
    refreshed = server.run("federation", "refresh", PARTNER)
    again = server.run(*ADD, "--reason", "CHG-8")
    removed = server.meshca("federation", "remove", PARTNER, "--reason", "CHG-9")

    assert added.returncode == 0
    assert "could not be fetched" in added.stderr
    assert PARTNER in listed
    assert "failing: https://127.0.0.1:1/" in listed
    assert refreshed.returncode == 1
    assert again.returncode == 1
    assert "federated already; see --replace" in again.stderr
    assert removed == f"{PARTNER} is trusted no longer\n"
    assert server.query("federation", "list") == {"trust_domains": []}


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ((*ADD, "--reason", " "), 2, "--reason is empty"),
        ((*ADD,), 2, "Missing option '--reason'"),
        ((*ADD, "--reason", "x", "--bundle", "none.pem"), 1, "cannot read none.pem"),
        ((*ADD, "--reason", "x", "--bundle", "binary"), 1, "is not text"),
        ((*ADD, "--reason", "x", "--profile", "http"), 1, "profile"),
        ((*ADD, "--reason", "x", "--profile", "https_spiffe"), 1, "the endpoint's SPIFFE ID"),
        (("federation", "remove", "none.test", "--reason", "x"), 1, "none.test is not federated"),
        (("federation", "refresh", "../status"), 1, "no"),
    ],
    ids=[
        "an empty reason", "no reason", "no such file", "not text", "profile", "no ID",
        "remove nothing", "a path",
    ],
)  # fmt: skip
def test_says_what_is_wrong(
    server: RunningServer, arguments: tuple[str, ...], status: int, said: str
) -> None:
    Path(server.directory / "binary").write_bytes(b"\xff\xfe")

    done = server.run(*arguments)

    assert done.returncode == status, done.stderr
    assert said in done.stderr
