"""The machine of intermediates: each stage leads where it should, from any state, and ends."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotation.stages import (
    ACTIVATE,
    ALLOWED,
    ENDED,
    PREPARE,
    Facts,
    Stage,
    Standing,
    Step,
    activate_at,
    next_step,
    prepare_at,
    waits_for,
)

NOW = datetime(2026, 11, 1, tzinfo=UTC)
LIFE = timedelta(days=10)
DAY = timedelta(days=1)


def standing(name: str, stage: Stage, begin: datetime = NOW) -> Standing:
    """Return an authority that lives ten days from `begin`."""
    return Standing(name, "main", stage, begin, begin + LIFE, begin)


def facts(
    *held: str,
    unpublished: tuple[str, ...] = (),
    behind: tuple[str, ...] = (),
    unreached: tuple[str, ...] = (),
    leaving: tuple[str, ...] = (),
    live_until: dict[str, datetime] | None = None,
    can_prepare: bool = True,
) -> Facts:
    """Return a world where `held` are held, and everything is with everybody but what is named."""
    return Facts(
        held=frozenset(held),
        published=frozenset(held) - set(unpublished),
        reached=frozenset(held) - set(unpublished) - set(unreached),
        propagated=frozenset(held) - set(unpublished) - set(behind),
        live_until=live_until or {},
        can_prepare=can_prepare,
        leaving=frozenset(leaving),
    )


def test_the_first_is_asked_for_published_and_active_at_once() -> None:
    assert next_step([], facts(), NOW) == Step(Stage.PREPARED, "no authority can sign")
    prepared = standing("a", Stage.PREPARED)
    step = next_step([prepared], facts("a"), NOW)
    assert step is not None
    assert (step.stage, step.authority_id) == (Stage.PUBLISHED, "a")
    step = next_step([replace(prepared, stage=Stage.PUBLISHED)], facts("a", behind=("a",)), NOW)
    assert step is not None
    assert (step.stage, step.authority_id, step.retires) == (Stage.ACTIVE, "a", ())


@pytest.mark.parametrize("name", [f"authority-{n}" for n in range(20)])
def test_the_draws_lie_in_their_windows_and_differ(name: str) -> None:
    active = standing(name, Stage.ACTIVE)
    assert NOW + LIFE * PREPARE[0] <= prepare_at(active) <= NOW + LIFE * PREPARE[1]
    assert NOW + LIFE * ACTIVATE[0] <= activate_at(active) <= NOW + LIFE * ACTIVATE[1]
    assert prepare_at(active) != prepare_at(standing(name + "x", Stage.ACTIVE))


def test_nothing_is_due_in_the_first_half() -> None:
    active = standing("a", Stage.ACTIVE)
    assert next_step([active], facts("a"), NOW + LIFE * 0.499) is None


def test_a_successor_is_prepared_at_half_life() -> None:
    active = standing("a", Stage.ACTIVE)
    step = next_step([active], facts("a"), prepare_at(active))
    assert step == Step(Stage.PREPARED, "half of the active one's life has passed")


def test_none_is_asked_for_where_the_upstream_has_none() -> None:
    active = standing("a", Stage.ACTIVE)
    assert next_step([active], facts("a", can_prepare=False), NOW + LIFE * 0.9) is None


def test_a_successor_takes_over_when_its_time_has_come_and_retires_the_other() -> None:
    both = [standing("a", Stage.ACTIVE), standing("b", Stage.PUBLISHED, NOW + DAY)]
    assert next_step(both, facts("a", "b"), activate_at(both[0]) - timedelta(seconds=1)) is None
    step = next_step(both, facts("a", "b"), activate_at(both[0]))
    assert step is not None
    assert (step.stage, step.authority_id, step.retires) == (Stage.ACTIVE, "b", ("a",))


def test_a_successor_whose_root_is_not_with_everybody_waits_even_when_overdue() -> None:
    both = [standing("a", Stage.ACTIVE), standing("b", Stage.PUBLISHED, NOW + DAY)]
    assert next_step(both, facts("a", "b", behind=("b",)), NOW + LIFE * 0.99) is None


def test_a_successor_takes_over_from_one_that_has_ended_whoever_lacks_its_root() -> None:
    world = facts("b", behind=("b",))
    ended = [standing("a", Stage.RETIRED), standing("b", Stage.PUBLISHED, NOW + DAY)]
    step = next_step(ended, world, NOW + LIFE)
    assert step is not None
    assert (step.stage, step.authority_id) == (Stage.ACTIVE, "b")


def test_an_authority_whose_root_leaves_is_succeeded_at_once() -> None:
    active = standing("a", Stage.ACTIVE)
    step = next_step([active], facts("a", leaving=("a",)), NOW)
    assert step is not None
    assert step.stage is Stage.PREPARED
    both = [active, standing("b", Stage.PUBLISHED)]
    waiting = facts("a", "b", leaving=("a",), behind=("b",))
    assert next_step(both, waiting, NOW) is None
    step = next_step(both, facts("a", "b", leaving=("a",)), NOW)
    assert step is not None
    assert (step.stage, step.authority_id, step.retires) == (Stage.ACTIVE, "b", ("a",))


def test_a_spare_under_a_leaving_root_does_not_take_over() -> None:
    both = [standing("a", Stage.ACTIVE), standing("b", Stage.PUBLISHED)]
    step = next_step(both, facts("a", "b", leaving=("a", "b")), NOW)
    assert step is not None
    assert (step.stage, step.authority_id) == (Stage.PREPARED, "")


def test_a_spare_under_a_leaving_root_ends_once_another_signs() -> None:
    both = [standing("a", Stage.PUBLISHED), standing("b", Stage.ACTIVE)]
    step = next_step(both, facts("a", "b", leaving=("a",)), NOW)
    assert step == Step(Stage.RETIRED, "its root is to be replaced", "a")


def test_when_nothing_signs_one_that_everybody_can_verify_is_preferred() -> None:
    both = [standing("a", Stage.PUBLISHED), standing("b", Stage.PUBLISHED, NOW + LIFE * -0.1)]
    step = next_step(both, facts("a", "b", behind=("a",), leaving=("b",)), NOW)
    assert step is not None
    assert (step.stage, step.authority_id) == (Stage.ACTIVE, "b")


def test_one_without_its_key_signs_no_more() -> None:
    step = next_step([standing("a", Stage.ACTIVE)], facts(), NOW)
    assert step is not None
    assert (step.stage, step.authority_id) == (Stage.RETIRING, "a")
    step = next_step([standing("a", Stage.PUBLISHED)], facts(), NOW)
    assert step is not None
    assert (step.stage, step.authority_id) == (Stage.RETIRED, "a")


@pytest.mark.parametrize(
    ("stage", "after"), [(Stage.RETIRING, Stage.RETIRED), (Stage.TAINTED, Stage.REVOKED)]
)
def test_it_ends_when_the_last_certificate_under_it_has_ended(stage: Stage, after: Stage) -> None:
    both = [standing("a", stage), standing("b", Stage.ACTIVE)]
    last = NOW + timedelta(hours=1)
    world = facts("b", live_until={"a": last})
    assert next_step(both, world, last - timedelta(seconds=1)) is None
    step = next_step(both, world, last)
    assert step is not None
    assert (step.stage, step.authority_id) == (after, "a")


def test_a_tainted_one_is_succeeded_at_once() -> None:
    tainted = standing("a", Stage.TAINTED)
    world = facts("a", live_until={"a": NOW + DAY})
    assert next_step([tainted], world, NOW) == Step(Stage.PREPARED, "no authority can sign")


def test_an_active_one_that_is_not_valid_yet_is_succeeded_and_retired() -> None:
    future = standing("a", Stage.ACTIVE, NOW + DAY)
    step = next_step([future], facts("a"), NOW)
    assert step is not None
    assert step.stage is Stage.PREPARED
    step = next_step([future, standing("b", Stage.PUBLISHED)], facts("a", "b"), NOW)
    assert step is not None
    assert (step.authority_id, step.retires) == ("b", ("a",))


def test_what_is_waited_for_is_said() -> None:
    both = [standing("a", Stage.ACTIVE), standing("b", Stage.PUBLISHED)]
    said = waits_for(both, facts("a", "b", behind=("b",)), NOW)
    assert said["b"] == "every workload to have its root and its list"
    assert said["a"].startswith("its successor, to be prepared at 2026-11-06")


stages = st.sampled_from(list(Stage))
names = st.integers(0, 5).map(lambda n: f"authority-{n}")
standings_of_all_kinds = st.lists(
    st.builds(
        lambda name, stage, day: standing(name, stage, NOW + DAY * day),
        names,
        stages,
        st.integers(-12, 2),
    ),
    max_size=5,
    unique_by=lambda s: s.authority_id,
)


@given(
    standings=standings_of_all_kinds,
    held=st.sets(names),
    behind=st.sets(names),
    leaving=st.sets(names),
    can_prepare=st.booleans(),
)
def test_from_any_state_the_steps_are_allowed_and_come_to_an_end(
    standings: list[Standing],
    held: set[str],
    behind: set[str],
    leaving: set[str],
    can_prepare: bool,
) -> None:
    held = held | {"new"}
    world = facts(*held, behind=tuple(behind), leaving=tuple(leaving), can_prepare=can_prepare)
    state = {s.authority_id: s for s in standings}
    for _ in range(20):
        step = next_step(list(state.values()), world, NOW)
        if step is None:
            break
        if step.stage is Stage.PREPARED:
            assert "new" not in state, "asked twice for a successor"
            state["new"] = standing("new", Stage.PREPARED)
            continue
        for name, after in [(step.authority_id, step.stage)] + [
            (old, Stage.RETIRING) for old in step.retires
        ]:
            assert after in ALLOWED[state[name].stage]
            state[name] = replace(state[name], stage=after)
    else:
        pytest.fail("the steps do not end")
    signing = [s for s in state.values() if s.stage is Stage.ACTIVE and s.lives(NOW)]
    assert all(s.authority_id in held for s in signing)
    if can_prepare:
        assert signing, "nothing signs, though the upstream would have helped"
    assert all(
        s.stage in ENDED or s.stage is Stage.TAINTED for s in state.values() if s.not_after <= NOW
    )
