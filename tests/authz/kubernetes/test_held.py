"""What is held of a kind through deletions, outages and a kind that goes, by a clock of our own."""

import math
from datetime import timedelta

import pytest

from authz.kubernetes.held import MAXIMUM_CHARACTERS, Held
from authz.kubernetes.reflector import Broken, Changed, Current, Deleted, Event, Listed, Waits
from tests.fakes import FakeClock

AWAY = Broken("503 Service Unavailable")
MISSING = Broken("the API server does not have this kind", is_missing=True)
HOUR = timedelta(hours=1)


class Story:
    """Events that arrive while time passes."""

    def __init__(self, maximum: int = MAXIMUM_CHARACTERS) -> None:
        self.clock = FakeClock()
        self.held = Held(Waits(settle=1.0, grace=300.0), maximum)

    def take(self, *events: Event) -> bool:
        """Take `events`, and return whether the last of them changed anything."""
        changed = False
        for event in events:
            changed = self.held.take(event, self.clock.now(), self.clock.monotonic())
        return changed

    def due(self) -> list[str]:
        return self.held.due(self.clock.monotonic())

    def advance(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))


def test_new_and_changed_objects_count_at_once() -> None:
    story = Story()
    assert story.take(Listed({"a": "1"}))
    assert story.take(Changed("b", "1"))
    assert story.take(Changed("b", "2"))
    assert not story.take(Changed("b", "2"))
    assert story.held.objects == {"a": "1", "b": "2"}


def test_a_deleted_object_waits_until_it_is_believed() -> None:
    story = Story()
    story.take(Listed({"a": "1", "b": "1"}), Deleted("a"), Deleted("unknown"))
    assert (story.due(), set(story.held.objects)) == ([], {"a", "b"})
    story.advance(1)
    assert story.due() == ["a"]
    story.held.drop(story.due())
    assert (story.held.objects, story.held.next_due()) == ({"b": "1"}, math.inf)


def test_an_object_that_is_put_again_does_not_leave() -> None:
    story = Story()
    story.take(Listed({"a": "1"}), Deleted("a"), Changed("a", "2"))
    story.advance(10)
    assert (story.due(), story.held.objects) == ([], {"a": "2"})


def test_what_a_list_lacks_leaves_and_is_not_put_off_by_the_next_list() -> None:
    story = Story()
    story.take(Listed({"a": "1"}), Listed({}))
    story.advance(0.6)
    story.take(Listed({}))
    story.advance(0.5)
    assert story.due() == ["a"]
    story.held.postpone(story.clock.monotonic())
    assert story.due() == []


def test_an_hour_without_an_api_server_changes_nothing_and_says_since_when() -> None:
    story = Story()
    story.take(Listed({"a": "1"}))
    began = story.clock.now()
    for _ in range(120):
        story.advance(30)
        assert not story.take(AWAY)
    assert story.clock.now() - began == HOUR
    assert (story.held.objects, story.held.problem) == ({"a": "1"}, AWAY.reason)
    assert story.held.contact == began
    story.take(Current())
    assert (story.held.problem, story.held.contact) == ("", began + HOUR)


def test_while_its_kind_is_missing_nothing_leaves_however_long() -> None:
    story = Story()
    story.take(Listed({"a": "1", "b": "1"}), Deleted("a"), MISSING, Deleted("b"))
    story.advance(10 * 86_400)
    story.take(AWAY, Current())
    assert (story.due(), set(story.held.objects)) == ([], {"a", "b"})
    assert story.held.problem == AWAY.reason  # only a list says that the kind is back


def test_what_did_not_come_back_with_its_kind_leaves_after_the_grace() -> None:
    story = Story()
    story.take(Listed({"a": "1", "b": "1"}), MISSING, Listed({"b": "2"}))
    assert (story.held.problem, story.held.objects) == ("", {"a": "1", "b": "2"})
    story.advance(299)
    story.take(Listed({"b": "2"}))
    assert story.due() == []
    story.advance(1)
    assert story.due() == ["a"]


def test_what_did_not_come_back_after_a_restart_leaves_after_the_grace() -> None:
    story = Story()
    story.held.restore({"a": "1", "b": "1"})
    story.take(AWAY, Listed({"b": "2"}), Listed({"b": "2"}))
    assert (story.held.problem, story.held.objects) == ("", {"a": "1", "b": "2"})
    story.take(Deleted("b"))
    story.advance(1)
    assert story.due() == ["b"], "what is deleted later is as ever"
    story.held.drop(story.due())
    story.advance(298)
    assert story.due() == []
    story.advance(1)
    assert story.due() == ["a"]


@pytest.mark.parametrize(
    "event", [Listed({"a": "x" * 11}), Changed("b", "x" * 10)], ids=["a list", "an object"]
)
def test_more_text_than_the_bound_is_not_taken_and_said(event: Event) -> None:
    story = Story(maximum=10)
    story.take(Listed({"a": "1"}))
    assert not story.take(event)
    assert story.held.objects == {"a": "1"}
    assert "more than 10 characters" in story.held.problem
    story.take(Current())
    assert "more than 10 characters" in story.held.problem
    story.take(Listed({"a": "1"}))
    assert story.held.problem == ""
