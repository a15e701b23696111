"""The xDS rules of one subscription, without a stream."""

from datetime import UTC, datetime

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from sds.resources import SECRET_TYPE, Resource
from sds.subscription import MAXIMUM_NAMES, Subscription

AT = datetime(2026, 11, 1, tzinfo=UTC)


class World:
    """What exists now: versions by name."""

    def __init__(self, **versions: str) -> None:
        self.versions = versions

    def resolve(self, name: str) -> Resource | None:
        """Return the resource of `name` at its current version."""
        version = self.versions.get(name)
        return None if version is None else Resource(name, version, AnyMessage)


def push(subscription: Subscription, world: World) -> tuple[list[str], str]:
    """Send what is due; return its names and the nonce."""
    due = subscription.due(world.resolve)
    return [r.name for r in due], subscription.pushed(due, AT, 0.0) if due else ""


def test_sends_what_is_wanted_once() -> None:
    world, subscription = World(default="1", ROOTCA="1"), Subscription(SECRET_TYPE)
    subscription.want(["default"])
    assert push(subscription, world)[0] == ["default"]
    assert push(subscription, world)[0] == []


def test_sends_again_when_the_content_changed_even_before_the_answer() -> None:
    world, subscription = World(default="1"), Subscription(SECRET_TYPE)
    subscription.want(["default"])
    push(subscription, world)
    world.versions["default"] = "2"
    assert push(subscription, world)[0] == ["default"]


def test_unknown_names_get_nothing_and_do_not_disturb_others() -> None:
    world, subscription = World(default="1"), Subscription(SECRET_TYPE)
    subscription.want(["spiffe://example.org/ns/x/sa/other", "default"])
    assert push(subscription, world)[0] == ["default"]
    assert subscription.unanswered() == ["spiffe://example.org/ns/x/sa/other"]


def test_a_name_that_comes_to_exist_is_sent_then() -> None:
    world, subscription = World(), Subscription(SECRET_TYPE)
    subscription.want(["default"])
    assert push(subscription, world)[0] == []
    world.versions["default"] = "1"
    assert push(subscription, world)[0] == ["default"]


def test_a_reconnect_is_sent_only_what_changed() -> None:
    world, subscription = World(default="2", ROOTCA="1"), Subscription(SECRET_TYPE)
    subscription.want(["default", "ROOTCA"], {"default": "1", "ROOTCA": "1"})
    assert push(subscription, world)[0] == ["default"]


def test_subscribing_again_sends_again() -> None:
    world, subscription = World(default="1"), Subscription(SECRET_TYPE)
    subscription.want(["default"])
    push(subscription, world)
    subscription.want(["default"])
    assert push(subscription, world)[0] == ["default"]


def test_an_answer_counts_for_the_push_it_names_and_only_once() -> None:
    world, subscription = World(default="1"), Subscription(SECRET_TYPE)
    subscription.want(["default"])
    _, first = push(subscription, world)
    world.versions["default"] = "2"
    _, second = push(subscription, world)
    assert subscription.acknowledged(first, AT) is not None
    assert subscription.states()[0].is_behind
    assert subscription.acknowledged(second, AT) is not None
    assert not subscription.states()[0].is_behind
    assert subscription.acknowledged(second, AT) is None


def test_a_nack_is_kept_with_its_text_and_not_answered() -> None:
    world, subscription = World(default="1"), Subscription(SECRET_TYPE)
    subscription.want(["default"])
    _, nonce = push(subscription, world)
    assert subscription.refused(nonce, "KEY_VALUES_MISMATCH", AT) is not None
    assert push(subscription, world)[0] == []
    state = subscription.states()[0]
    assert (state.nack, state.is_behind, subscription.nacks) == ("KEY_VALUES_MISMATCH", True, 1)


def test_an_ack_after_a_repair_clears_the_nack() -> None:
    world, subscription = World(default="1"), Subscription(SECRET_TYPE)
    subscription.want(["default"])
    _, nonce = push(subscription, world)
    subscription.refused(nonce, "broken", AT)
    world.versions["default"] = "2"
    _, nonce = push(subscription, world)
    subscription.acknowledged(nonce, AT)
    assert subscription.states()[0].nack == ""


@pytest.mark.parametrize("answers", [10, 10_000])
def test_a_proxy_that_never_acknowledges_costs_no_memory(answers: int) -> None:
    world, subscription = World(default="0"), Subscription(SECRET_TYPE)
    subscription.want(["default"])
    for version in range(answers):
        world.versions["default"] = str(version)
        push(subscription, world)
    assert len(subscription._in_flight) <= 8


def test_ten_thousand_names_are_bounded_and_counted() -> None:
    subscription = Subscription(SECRET_TYPE)
    subscription.want([f"name-{n}" for n in range(10_000)])
    assert len(subscription.wanted) == MAXIMUM_NAMES
    assert subscription.refused_names == 10_000 - MAXIMUM_NAMES


def test_state_of_the_world_replaces_the_names() -> None:
    world, subscription = World(a="1", b="1"), Subscription(SECRET_TYPE)
    assert subscription.replace(["a"])
    push(subscription, world)
    assert subscription.replace(["a", "b"])
    assert push(subscription, world)[0] == ["b"]
    assert not subscription.replace(["b"])
    assert list(subscription.wanted) == ["b"]
