"""The compiled filters on a real Envoy against the engine: same request, same answer.

Where a policy needs a check (tokens, providers, the clock), the filter that a check follows lets
pass whatever the engine may allow, and the other one denies whatever the engine may deny.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest

from authz.decision import Decision, Outcome
from authz.engine import compile_workload, decide
from meshca.errors import InvalidDocument
from tests.authz.agreement import World, answered, make_worlds
from tests.authz.proxy import Answer, Case, Ports, running_proxy
from tests.authz.shrink import shrink
from tests.authz.world import (
    CLAIMS,
    WORKLOAD,
    Asked,
    load_world,
    make_asked,
    make_clients,
    make_connection,
    to_request,
)

SEED = 20261101
CASES = 500
REQUESTS = 24
CONNECTIONS = 3
TCP_CASES = 160
TIMES = (None, 0.0, 4e9)


@pytest.mark.end_to_end
def test_envoy_decides_as_the_engine(tmp_path: Path) -> None:
    random = Random(SEED)  # the same cases every time, but for the ports
    ports = Ports.free()
    worlds = list(islice(make_worlds(random, ports), CASES))
    asked = [each for number in range(CASES) for each in _asked(random, ports, number)]
    with running_proxy(tmp_path, ports, [w.case for w in worlds], tcp_cases=TCP_CASES) as proxy:
        asked_and_answered = list(answered(proxy, asked))
    found = [
        (worlds[number], each)
        for number, each, answer in asked_and_answered
        if _disagreement(worlds[number], each, answer)
    ]
    if found:
        pytest.fail(_smallest(tmp_path, ports, *found[0], more=len(found) - 1))
    allowed = [answer.allowed for _, _, answer in asked_and_answered]
    assert len(allowed) == CASES * REQUESTS + TCP_CASES * CONNECTIONS
    assert 0.1 < sum(allowed) / len(allowed) < 0.9


def _asked(random: Random, ports: Ports, number: int) -> Iterator[tuple[int, Asked]]:
    clients = make_clients(Random(SEED), ports)
    for _ in range(REQUESTS):
        yield number, make_asked(random, random.choice(clients))
    for _ in range(CONNECTIONS if number < TCP_CASES else 0):
        yield number, make_connection(random, ports, number)


def _disagreement(world: World, asked: Asked, answer: Answer) -> str:
    """Return how proxy and engine disagree about `asked`, or nothing."""
    if asked.message is not None and not world.is_exact:
        return _is_on_wrong_side(world, asked, answer)
    # On TCP there is no clock and no provider: as for an engine that is told of neither.
    decision = decide(world.policies, to_request(asked))
    if answer.allowed is not decision.allowed:
        return f"{answer}; {decision.reason}"
    if asked.message is None:
        return ""
    if not answer.allowed and not _same_cause(decision, answer):
        return f"{answer}; {decision.outcome}, {decision.reason}"
    return _shadow_disagrees(world, decision, answer)


def _is_on_wrong_side(world: World, asked: Asked, answer: Answer) -> str:
    for claims in CLAIMS:
        for time in TIMES:
            for said in (True, False):
                request = to_request(asked, claims=claims, time=time)
                decision = decide(world.policies, request, answers={"guard": said})
                narrow = world.with_check and decision.allowed and not answer.allowed
                wide = not world.with_check and answer.allowed and not decision.allowed
                if narrow or wide:
                    return f"{answer}; {claims=} {time=} {said=} {decision.reason}"
    return ""


def _same_cause(decision: Decision, answer: Answer) -> bool:
    """Return whether the proxy names a rule exactly when a rule denied."""
    return answer.decided_by.startswith("ns[") is (decision.outcome is Outcome.RULE)


def _shadow_disagrees(world: World, decision: Decision, answer: Answer) -> str:
    shadow = world.case.policies.shadow
    if not answer.allowed:
        return ""  # the body of a refusal is written before the shadow's answer is known
    if shadow is None or decision.shadow is None:
        return "" if answer.shadow is None else f"{answer}: nothing is on trial"
    if any(rule.token_only or rule.expires for rule in (*shadow.deny.rules, *shadow.allow.rules)):
        return ""
    if shadow.custom.rules or answer.shadow is decision.shadow.allowed:
        return ""
    return f"{answer}; in the shadow {decision.shadow.reason}"


def _smallest(directory: Path, ports: Ports, world: World, asked: Asked, *, more: int) -> str:
    """Return the smallest case that still disagrees, in words."""

    def failures(candidates: list[list[dict[str, Any]]]) -> list[str]:
        worlds = [_world_or_none(each, world) for each in candidates]
        cases = [Case(_NOTHING) if each is None else each.case for each in worlds]
        moved = [(number, _moved(asked, number)) for number in range(len(worlds))]
        with running_proxy(directory, ports, cases) as proxy:
            answers = {number: answer for number, _, answer in answered(proxy, moved)}
        return [
            "" if each is None else _disagreement(each, moved[number][1], answers[number])
            for number, each in enumerate(worlds)
        ]

    documents, how = shrink(world.documents, failures)
    compiled = f"default={world.default} with_check={world.with_check}"
    return f"{how}\n{asked}\n{documents}\n{compiled}; and {more} more"


def _moved(asked: Asked, number: int) -> Asked:
    """Return `asked` of case `number`."""
    if asked.message is not None or asked.sni is None:
        return asked
    return replace(asked, sni=f"{asked.sni.partition('.')[0]}.case-{number}.test")


_NOTHING = compile_workload(load_world([], "deny"), WORKLOAD)


def _world_or_none(documents: list[dict[str, Any]], like: World) -> World | None:
    try:
        return World(documents, like.default, like.with_check)
    except InvalidDocument:
        return None
