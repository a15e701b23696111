"""Worlds of policies, and what a proxy that enforces many of them answers to many requests."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random
from typing import Any

from authz.compile import needs_check
from authz.engine import compile_workload
from authz.policy import Default
from meshca.errors import InvalidDocument
from tests.authz.proxy import Answer, Case, Client, Message, Ports, Proxy
from tests.authz.world import WORKLOAD, Asked, load_world, make_documents

AT_ONCE = 6


@dataclass
class World:
    """A policy set, and how it was written and compiled."""

    documents: list[dict[str, Any]]
    default: Default
    with_check: bool

    def __post_init__(self) -> None:
        self.policies = load_world(self.documents, self.default)
        self.case = Case(compile_workload(self.policies, WORKLOAD), self.with_check)
        self.is_exact = not needs_check(self.case.policies)


def make_worlds(random: Random, ports: Ports, *, checks_in_four: int = 1) -> Iterator[World]:
    """Yield worlds without end; so many in four may have policies that need a check."""
    while True:
        checks = random.random() * 4 < checks_in_four
        documents = make_documents(random, ports, checks=checks)
        default: Default = "deny" if random.random() < 0.7 else "allow"
        try:
            yield World(documents, default, with_check=random.random() < 0.5)
        except InvalidDocument:  # a combination that is refused, such as ambiguous trust domains
            continue


def answered(
    proxy: Proxy, asked: Iterable[tuple[int, Asked]]
) -> Iterator[tuple[int, Asked, Answer]]:
    """Ask the proxy everything, client by client, and yield its answers."""
    by_client: dict[Client, list[tuple[int, Asked, Message]]] = defaultdict(list)
    connections: list[tuple[int, Asked]] = []
    for number, each in asked:
        proxy.identity(each.client.uris)
        if each.message is None:
            connections.append((number, each))
        else:
            by_client[each.client].append((number, each, each.message))

    def send(client: Client) -> list[Answer]:
        return proxy.send_all(client, [(number, m) for number, _, m in by_client[client]])

    with ThreadPoolExecutor(AT_ONCE) as pool:
        said = pool.map(proxy.connect, [each.client for _, each in connections])
        answers = pool.map(send, by_client)
        for (number, each), allowed in zip(connections, said, strict=True):
            yield number, each, Answer(allowed, "", None)
        for several, their in zip(by_client.values(), answers, strict=True):
            for (number, each, _), answer in zip(several, their, strict=True):
                yield number, each, answer
