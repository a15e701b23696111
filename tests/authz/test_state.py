"""The set in force: swapped whole, told once."""

from authz.policy import PolicySet
from authz.state import PolicyState
from tests.authz.builders import document, load


def test_begins_with_what_it_is_given_and_denies_when_empty() -> None:
    empty = PolicySet.empty(trust_domain="example.org", root_namespace="meshca")
    assert PolicyState(empty).current.default == "deny"


def test_tells_subscribers_after_the_swap() -> None:
    state = PolicyState(load())
    seen: list[str] = []
    unsubscribe = state.subscribe(lambda: seen.append(state.current.version))
    new = load(document("web"))
    assert state.replace(new)
    assert (seen, state.generation) == ([new.version], 1)
    unsubscribe()
    unsubscribe()
    assert state.replace(load())
    assert (len(seen), state.generation) == (1, 2)


def test_says_nothing_when_the_new_set_means_the_same() -> None:
    state = PolicyState(load(document("web")))
    state.subscribe(lambda: seen.append(1))
    seen: list[int] = []
    assert not state.replace(load(document("web")))
    assert (seen, state.generation) == ([], 0)


def test_a_subscriber_that_fails_does_not_keep_the_set_from_the_others() -> None:
    state = PolicyState(load())
    seen: list[int] = []

    def fails() -> None:
        raise ValueError("a bug")

    state.subscribe(fails)
    state.subscribe(lambda: seen.append(1))
    assert state.replace(load(document("web")))
    assert seen == [1]
