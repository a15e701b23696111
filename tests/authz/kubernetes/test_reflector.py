"""Listing and watching: going on from a version, starting over, refusing what is too much."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from authz.kubernetes import requests
from authz.kubernetes.pods import PODS, PodReader
from authz.kubernetes.reflector import (
    Broken,
    Changed,
    Current,
    Deleted,
    Event,
    Listed,
    Reflector,
    Waits,
)
from meshca.api_server import ApiServerConnection
from meshca.clock import SystemClock
from meshca.settings_values import ApiServer
from tests.authz.kubernetes.scripted import Answer, Handler, events, gone, page, pod, serving
from tests.real_parts import wait_until

WAITS = Waits(first_retry=0.01, longest_retry=0.05, watch=1.0, silence=5.0)


class Script:
    """Answers of lists and of watches, one after the other, the last again and again."""

    def __init__(self, lists: list[Answer], watches: list[Answer]) -> None:
        self.lists, self.watches = lists, watches
        self.asked: list[dict[str, str]] = []

    def __call__(self, path: str, query: dict[str, str]) -> Answer:
        assert path == "/api/v1/pods"
        self.asked.append(query)
        answers = self.watches if "watch" in query else self.lists
        return answers.pop(0) if len(answers) > 1 else answers[0]


@contextmanager
def following(answer: Handler, directory: Path, **limits: Any) -> Iterator[list[Event]]:
    """Follow the scripted API server and yield what is told, as it comes."""
    told: list[Event] = []
    with serving(answer, directory) as kubeconfig:
        connection = ApiServerConnection(ApiServer.model_validate({"kubeconfig": str(kubeconfig)}))
        reflector = Reflector(
            connection=connection,
            resource=PODS,
            read=PodReader().read,
            tell=told.append,
            clock=SystemClock(),
            waits=WAITS,
            **limits,
        )
        reflector.start()
        try:
            yield told
        finally:
            reflector.stop()
            connection.close()


def until(told: list[Event], count: int, kind: type[Event]) -> None:
    wait_until(
        lambda: sum(isinstance(event, kind) for event in tuple(told)) >= count,
        within_seconds=30,
        what=f"{count} x {kind.__name__} in {told}",
    )


def test_lists_page_by_page_then_watches_from_there(tmp_path: Path) -> None:
    watched = events(
        {"type": "ADDED", "object": pod("c", "8", app="c")},
        {"type": "MODIFIED", "object": pod("a", "9", app="z")},
        {"type": "DELETED", "object": pod("b", "10")},
        {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "12"}}},
    )
    pages = [page([pod("a", app="a")], after="next"), page([pod("b")], version="7")]
    script = Script([*pages, page([])], [watched, events()])
    with following(script, tmp_path) as told:
        until(told, 1, Deleted)
        wait_until(lambda: len(script.asked) > 3, within_seconds=30, what="the next watch")
    assert told[:5] == [
        Listed({"a": {"app": "a"}, "b": {}}),
        Current(),
        Changed("c", {"app": "c"}),
        Changed("a", {"app": "z"}),
        Deleted("b"),
    ]
    assert script.asked[1]["continue"] == "next"
    assert script.asked[2]["resourceVersion"] == "7"
    assert script.asked[2]["allowWatchBookmarks"] == "true"
    assert script.asked[3]["resourceVersion"] == "12"  # the bookmark's


def test_an_empty_list_may_be_null(tmp_path: Path) -> None:
    answer = 200, b'{"metadata": {"resourceVersion": "1"}, "items": null}'
    with following(Script([answer], [events()]), tmp_path) as told:
        until(told, 1, Listed)
    assert told[0] == Listed({})


@pytest.mark.parametrize(
    "watches",
    [[events(gone()), events()], [(410, b"{}"), events()]],
    ids=["said in the watch", "said at once"],
)
def test_a_version_that_is_gone_means_a_new_list(tmp_path: Path, watches: list[Answer]) -> None:
    script = Script([page([pod("a")]), page([pod("b")])], watches)
    with following(script, tmp_path) as told:
        until(told, 2, Listed)
    assert [event for event in told if isinstance(event, Listed)][:2] == [
        Listed({"a": {}}),
        Listed({"b": {}}),
    ]
    assert not any(isinstance(event, Broken) for event in told)


def test_a_list_that_takes_too_long_is_begun_again(tmp_path: Path) -> None:
    script = Script([page([], after="next"), (410, b"{}"), page([pod("a")])], [events()])
    with following(script, tmp_path) as told:
        until(told, 1, Listed)
    assert told[0] == Listed({"a": {}})


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((503, b""), "503"),
        ((403, b"{}"), "403 Forbidden"),
        ((200, b"<html>"), "JSONDecodeError"),
        ((200, b"{}"), "KeyError"),
        (page([{"metadata": {}}]), "KeyError"),
    ],
    ids=["unavailable", "forbidden", "not JSON", "not a list", "not a pod"],
)
def test_an_answer_that_is_none_is_told_and_asked_again(
    tmp_path: Path, answer: Answer, reason: str
) -> None:
    script = Script([answer, answer, page([pod("a")])], [events()])
    with following(script, tmp_path) as told:
        until(told, 1, Listed)
    broken = [event for event in told if isinstance(event, Broken)]
    assert len(broken) == 2
    assert reason in broken[0].reason
    assert not broken[0].is_missing


def test_a_kind_that_is_missing_is_told_as_such(tmp_path: Path) -> None:
    with following(Script([(404, b"")], [events()]), tmp_path) as told:
        until(told, 2, Broken)
    assert all(isinstance(event, Broken) and event.is_missing for event in told)


def test_more_objects_than_the_bound_are_refused(tmp_path: Path) -> None:
    script = Script([page([pod("a"), pod("b"), pod("c")])], [events()])
    with following(script, tmp_path, maximum_objects=2) as told:
        until(told, 1, Broken)
    assert told[0] == Broken("ValueError: more than 2 objects")


def test_an_event_larger_than_the_bound_is_refused(tmp_path: Path) -> None:
    endless = (200, b"x" * (requests.MAXIMUM_EVENT_BYTES + 100_000))
    with following(Script([page([])], [endless, events()]), tmp_path) as told:
        until(told, 1, Broken)
    broken = next(event for event in told if isinstance(event, Broken))
    assert "an event is larger than" in broken.reason


def test_a_watch_that_ends_at_once_is_not_asked_for_in_a_rush(tmp_path: Path) -> None:
    script = Script([page([])], [events()])
    with following(script, tmp_path) as told:
        until(told, 5, Current)
        started, before = time.monotonic(), len(script.asked)
        wait_until(lambda: len(script.asked) >= before + 4, within_seconds=30, what="four more")
        assert time.monotonic() - started > 4 * WAITS.longest_retry * 0.4


def test_a_stopped_reflector_ends_its_watch_and_tells_nothing_more(tmp_path: Path) -> None:
    waiting = threading.Event()

    def answer(_: str, query: dict[str, str]) -> Answer:
        if "watch" not in query:
            return page([])
        waiting.wait(20)
        return events({"type": "ADDED", "object": pod("late")})

    with following(answer, tmp_path) as told:
        until(told, 1, Listed)
    waiting.set()
    assert told == [Listed({})]
