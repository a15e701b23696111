"""TokenReview over HTTP: what is sent, and every kind of answer that is no answer."""

import json
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from identity.review import ApiServerReviewer, Review
from meshca.api_server import ApiServerConnection
from meshca.demo.ports import free_port
from meshca.errors import ReviewUnavailable
from meshca.settings_values import ApiServer
from tests.identity.servers import Answers, http_server, write_kubeconfig

TOKEN = "header.payload.the-secret-signature"


@pytest.fixture
def server() -> Iterator[Answers]:
    """A server that stands in for the API server."""
    with http_server() as answers:
        answers.status = 201
        yield answers


@pytest.fixture
def reviewer(server: Answers, tmp_path: Path) -> Iterator[ApiServerReviewer]:
    """A reviewer that asks `server`."""
    config = write_kubeconfig(tmp_path / "kubeconfig", server.url)
    made = ApiServerReviewer(
        ApiServerConnection(ApiServer.model_validate({"kubeconfig": str(config)}))
    )
    yield made
    made.close()


def answer(status: Any) -> bytes:
    """Return a TokenReview, which repeats the token as a real one does."""
    return json.dumps({"kind": "TokenReview", "spec": {"token": TOKEN}, "status": status}).encode()


def test_token_and_audiences_are_asked_about_once(
    server: Answers, reviewer: ApiServerReviewer
) -> None:
    user = {"username": "n", "uid": "u", "groups": ["g"], "extra": {"k": ["v"]}}
    server.body = answer({"authenticated": True, "audiences": ["meshca"], "user": user})

    review = reviewer.review(TOKEN, ["meshca", "spare"])

    assert review == Review(True, "", ("meshca",), "n", "u", ("g",), {"k": ("v",)})
    [(method, path, body)] = server.seen
    assert (method, path) == ("POST", "/apis/authentication.k8s.io/v1/tokenreviews")
    assert body["spec"] == {"token": TOKEN, "audiences": ["meshca", "spare"]}


NOTHING = Review(False, "", (), "", "", (), {})


@pytest.mark.parametrize(
    ("status", "review"),
    [
        ({}, NOTHING),
        (None, NOTHING),
        ("authenticated", NOTHING),
        ({"authenticated": "true"}, NOTHING),
        ({"authenticated": 1, "audiences": "meshca", "user": []}, NOTHING),
        ({"user": {"groups": [1, None], "uid": 5, "extra": []}}, NOTHING),
        ({"error": {"code": 5}}, Review(False, "{'code': 5}", (), "", "", (), {})),
        (
            {"user": {"extra": {"authentication.kubernetes.io/pod-uid": "text"}}},
            Review(False, "", (), "", "", (), {"authentication.kubernetes.io/pod-uid": ()}),
        ),
    ],
)
def test_what_is_of_another_type_counts_as_not_said(
    server: Answers, reviewer: ApiServerReviewer, status: Any, review: Review
) -> None:
    server.body = answer(status)

    assert reviewer.review(TOKEN, ["meshca"]) == review


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 409, 422, 429, 500, 503])
def test_any_failure_of_the_api_server_is_unavailable_and_not_repeated(
    server: Answers, reviewer: ApiServerReviewer, status: int
) -> None:
    server.status = status
    server.body = answer({"authenticated": True})
    server.headers = {"Retry-After": "0", "Location": server.url}

    with pytest.raises(ReviewUnavailable):
        reviewer.review(TOKEN, ["meshca"])
    assert len(server.seen) == 1


@pytest.mark.parametrize("body", [b"", b"<html>", b"[" * 100_000, answer({"error": "x" * 300_000})])
def test_what_is_no_review_is_unavailable(
    server: Answers, reviewer: ApiServerReviewer, body: bytes
) -> None:
    server.body = body

    with pytest.raises(ReviewUnavailable):
        reviewer.review(TOKEN, ["meshca"])


@pytest.mark.parametrize("body", [answer({})[:-3], answer({"authenticated": True})])
@pytest.mark.parametrize("status", [201, 500])
def test_the_token_is_in_no_log_and_no_error(
    server: Answers,
    reviewer: ApiServerReviewer,
    caplog: pytest.LogCaptureFixture,
    status: int,
    body: bytes,
) -> None:
    caplog.set_level(logging.DEBUG)
    server.status, server.body = status, body

    text = ""
    try:
        reviewer.review(TOKEN, ["meshca"])
    except ReviewUnavailable as error:
        text = "".join(traceback.format_exception(error))

    assert "the-secret-signature" not in text + caplog.text


def test_nobody_listening_is_unavailable(tmp_path: Path) -> None:
    config = write_kubeconfig(tmp_path / "kubeconfig", f"http://127.0.0.1:{free_port()}")
    settings = ApiServer.model_validate({"kubeconfig": str(config)})
    reviewer = ApiServerReviewer(ApiServerConnection(settings))

    with pytest.raises(ReviewUnavailable):
        reviewer.review(TOKEN, ["meshca"])
    reviewer.close()
