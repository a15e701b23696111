"""The compiled filters on a real Envoy against the engine: same request, same answer."""

from random import Random

import pytest

from authz.decision import Decision, Outcome
from authz.engine import compile_workload, decide
from authz.policy import PolicySet
from tests.authz.builders import load
from tests.authz.generated import (
    METHODS,
    PATHS,
    PRINCIPALS,
    WORKLOAD,
    make_asked,
    make_documents,
    to_request,
)
from tests.authz.naive import Asked
from tests.authz.proxy import Answer, Proxy, running_proxy
from tests.real_parts import free_port

SEED = 20261101
CASES = 250
REQUESTS = 14
CONNECTIONS = 3
TCP_CASES = 120


@pytest.mark.end_to_end
def test_envoy_decides_as_the_engine(tmp_path_factory: pytest.TempPathFactory) -> None:
    random = Random(SEED)  # the same cases every time
    ports = (free_port(), free_port())
    sets = [
        load(*make_documents(random, ports=ports), default=random.choice(("deny", "deny", "allow")))
        for _ in range(CASES)
    ]
    compiled = [compile_workload(policies, WORKLOAD) for policies in sets]
    directory = tmp_path_factory.mktemp("envoy")
    with running_proxy(directory, ports, compiled, tcp_cases=TCP_CASES) as proxy:
        verdicts = [_agree(random, proxy, number, policies) for number, policies in enumerate(sets)]
    both = [verdict for case in verdicts for verdict in case]
    assert 0.1 < sum(both) / len(both) < 0.9


def _agree(random: Random, proxy: Proxy, number: int, policies: PolicySet) -> list[bool]:
    verdicts = []
    for _ in range(REQUESTS):
        asked = make_asked(random, ports=proxy.ports)
        if asked.path is None:
            asked = Asked(asked.principal, asked.port, random.choice(METHODS), random.choice(PATHS))
        if asked.principal is None:
            asked = Asked(None, proxy.plaintext, asked.method, asked.path)
        decision = decide(policies, to_request(asked))
        answer = _send(proxy, number, asked)
        assert answer.allowed is decision.allowed, (asked, decision.reason, answer, policies)
        assert answer.allowed or _same_cause(decision, answer), (asked, decision.reason, answer)
        verdicts.append(decision.allowed)
    for _ in range(CONNECTIONS if number < TCP_CASES else 0):
        asked = Asked(random.choice(PRINCIPALS), random.choice(proxy.ports), None, None)
        decision = decide(policies, to_request(asked))
        allowed = proxy.connect(number, (f"spiffe://{asked.principal}",), asked.port)
        assert allowed is decision.allowed, (asked, decision.reason, policies)
        verdicts.append(decision.allowed)
    return verdicts


def _send(proxy: Proxy, number: int, asked: Asked) -> Answer:
    assert asked.method is not None
    assert asked.path is not None
    uris = () if asked.principal is None else (f"spiffe://{asked.principal}",)
    return proxy.send(number, uris, asked.port, asked.method, asked.path)


def _same_cause(decision: Decision, answer: Answer) -> bool:
    """Return whether the proxy names a rule exactly when a rule denied."""
    cause = answer.decided_by.removeprefix("rbac_access_denied_matched_policy[").removesuffix("]")
    return cause.startswith("ns[") is (decision.outcome is Outcome.RULE)
