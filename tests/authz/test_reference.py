"""The engine against the naive reference, over random policies and requests of all the language."""

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from authz.engine import decide
from authz.policy import Default, PolicySet
from meshca.errors import InvalidDocument
from tests.authz import naive
from tests.authz.builders import load
from tests.authz.generated import (
    CORE,
    LABELS,
    UNKNOWN,
    WHOLE,
    make_asked,
    make_documents,
    to_request,
)
from tests.authz.generated_values import ALIASES, PROVIDERS
from tests.authz.naive import Asked, World
from tests.authz.shrink import Documents, shrink

SETS = 2_500
REQUESTS = 12
_LANGUAGES = [CORE, WHOLE, WHOLE, WHOLE | UNKNOWN, *(frozenset({part}) for part in sorted(WHOLE))]


def test_engine_decides_as_the_naive_reference() -> None:
    both = [0, 0]
    for seed in range(SETS):  # the same cases every time
        random = Random(seed)
        language = random.choice(_LANGUAGES)
        documents = make_documents(random, language=language)
        world = _world(random)
        policies = _load(documents, world)
        for _ in range(REQUESTS):
            asked = make_asked(random, language=language)
            difference = _difference(policies, documents, asked, world)
            assert not difference, _least(documents, asked, world)
            both[decide(policies, to_request(asked)).allowed] += 1
    assert min(both) > SETS * REQUESTS / 10


@settings(max_examples=60, deadline=None)
@given(random=st.randoms(use_true_random=False), language=st.sampled_from(_LANGUAGES))
def test_engine_decides_as_the_naive_reference_for_unlikely_choices(
    random: Random, language: frozenset[str]
) -> None:
    documents = make_documents(random, language=language)
    world = _world(random)
    policies = _load(documents, world)
    for _ in range(REQUESTS):
        asked = make_asked(random, language=language)
        assert not _difference(policies, documents, asked, world), (documents, asked, world)


def _world(random: Random) -> World:
    return World(
        namespace="shop",
        labels=LABELS,
        default=random.choice(("allow", "deny")),
        trust_domains=("example.org", *ALIASES),
        answers={name: random.random() < 0.5 for name in PROVIDERS if random.random() < 0.8},
    )


def _load(documents: list[dict[str, Any]], world: World) -> PolicySet:
    default: Default = "allow" if world.default == "allow" else "deny"
    return load(*documents, default=default, aliases=ALIASES)


def _difference(
    policies: PolicySet, documents: list[dict[str, Any]], asked: Asked, world: World
) -> str:
    """Return how engine and reference differ about `asked`; nothing if they do not."""
    expected = naive.judge(documents, asked, world)
    decision = decide(policies, to_request(asked), answers=world.answers)
    shadow = decision if decision.shadow is None else decision.shadow
    audited = frozenset(f"{rule.policy}[{rule.index}]" for rule in decision.audited)
    if naive.Verdict(decision.allowed, shadow.allowed, audited) == expected:
        return ""
    return f"{expected} but {decision.reason}; shadow {shadow.reason}; audited {audited}"


def _least(documents: list[dict[str, Any]], asked: Asked, world: World) -> object:
    """Return the least documents about which engine and reference differ."""

    def failures(candidates: list[Documents]) -> list[str]:
        return [_failure(some, asked, world) for some in candidates]

    return asked, world, *shrink(documents, failures)


def _failure(documents: Documents, asked: Asked, world: World) -> str:
    try:
        return _difference(_load(documents, world), documents, asked, world)
    except (InvalidDocument, KeyError):
        return ""  # a part without which it does not load is no case
