"""Policy sets and requests of a made-up mesh, for the figures of the policy engine.

250 workloads in 25 namespaces, each with its share of the policies, in the mix of a mesh that is
kept well: most rules name exact principals, methods and the prefix of a path; some a namespace, a
header or nobody. `crowded` is the worst case: every policy is attached to one workload.

The same documents are written as YAML for the loader and as data for OPA.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from authz.load import load_policies
from authz.policy import PolicySet
from authz.request import Http, Request
from authz.workload import Workload
from meshca.spiffe_id import SpiffeId

TRUST_DOMAIN = "example.org"
ROOT_NAMESPACE = "meshca"
NAMESPACES = 25
WORKLOADS_EACH = 10
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Corpus:
    """The documents of one mesh and requests to its workloads, in the shape of `authz check`."""

    documents: list[Document]
    requests: list[dict[str, Any]]

    def text(self) -> str:
        """Return the documents as one YAML text (JSON is YAML)."""
        return "\n---\n".join(json.dumps(document) for document in self.documents)

    def load(self) -> PolicySet:
        """Return the set."""
        chunks = [self.documents[at : at + 250] for at in range(0, len(self.documents), 250)]
        return load_policies(
            ((f"{n}.yaml", Corpus(chunk, []).text()) for n, chunk in enumerate(chunks)),
            trust_domain=TRUST_DOMAIN,
            root_namespace=ROOT_NAMESPACE,
            default="deny",
        )


def spread(policies: int, requests: int) -> Corpus:
    """Return a mesh whose policies are spread over its workloads."""
    random = Random(7)  # noqa: S311  # the same mesh in each run
    places = [(f"ns-{n}", f"app-{w}") for n in range(NAMESPACES) for w in range(WORKLOADS_EACH)]
    return _corpus(random, places, policies, requests)


def crowded(policies: int, requests: int) -> Corpus:
    """Return a mesh whose policies are all attached to one workload."""
    random = Random(7)  # noqa: S311  # the same mesh in each run
    return _corpus(random, [("ns-0", "app-0")], policies, requests)


def workloads() -> Iterator[Workload]:
    """Yield the workloads of `spread`."""
    for number in range(NAMESPACES):
        for app in range(WORKLOADS_EACH):
            yield Workload(f"ns-{number}", {"app": f"app-{app}"})


def to_request(asked: dict[str, Any]) -> Request:
    """Return what the engine takes."""
    destination, http = asked["destination"], asked["http"]
    return Request(
        SpiffeId.parse(asked["source"]["principal"]),
        Workload(destination["namespace"], destination["labels"]),
        destination["port"],
        Http(http["method"], http["path"], headers=http["headers"]),
    )


def _corpus(random: Random, places: list[tuple[str, str]], policies: int, requests: int) -> Corpus:
    documents = [_document(random, *places[n % len(places)], n) for n in range(policies)]
    asked = [_request(random, *random.choice(places), documents) for _ in range(requests)]
    return Corpus(documents, asked)


def _account(random: Random) -> str:
    return f"ns-{random.randrange(NAMESPACES)}/sa/client-{random.randrange(40)}"


def _document(random: Random, namespace: str, app: str, number: int) -> Document:
    denies = number % 10 == 9
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": f"policy-{number}", "namespace": namespace},
        "spec": {
            "action": "DENY" if denies else "ALLOW",
            "selector": {"matchLabels": {"app": app}},
            "rules": [_deny(random, number)] if denies else _allows(random, number),
        },
    }


def _deny(random: Random, number: int) -> Document:
    kind = number // 10 % 3
    if kind == 0:
        return {"to": [{"operation": {"paths": [f"/internal/{number}/*"]}}]}
    names = [f"{TRUST_DOMAIN}/ns/{_account(random)}" for _ in range(3)]
    source = {"principals": names} if kind == 1 else {"namespaces": [f"banned-{number}"]}
    return {"from": [{"source": source}]}


def _allows(random: Random, number: int) -> list[Document]:
    rules: list[Document] = []
    for place in range(random.choice((1, 1, 2, 3))):
        operation = {
            "methods": random.sample(_METHODS, 2),
            "paths": [f"/api/v{place}/things-{number % 40}/*", f"/health/{number % 40}"],
        }
        rule: Document = {"to": [{"operation": operation}]}
        match random.randrange(10):
            case 0:
                rule["from"] = [{"source": {"namespaces": [f"ns-{random.randrange(NAMESPACES)}"]}}]
            case 1:
                key = "request.headers[x-tenant]"
                rule["when"] = [{"key": key, "values": [f"tenant-{number}"]}]
            case _:
                names = [f"{TRUST_DOMAIN}/ns/{_account(random)}" for _ in range(4)]
                rule["from"] = [{"source": {"principals": names}}]
        rules.append(rule)
    return rules


def _request(random: Random, namespace: str, app: str, documents: list[Document]) -> dict[str, Any]:
    """Return a request that a rule was written for, two times in three, or one that was made up."""
    principal, method = f"{TRUST_DOMAIN}/ns/{_account(random)}", random.choice(_METHODS)
    path = f"/api/v{random.randrange(3)}/things-{random.randrange(40)}/1"
    document = random.choice(documents)
    rule = random.choice(document["spec"]["rules"])
    if random.random() < 2 / 3 and "to" in rule and "methods" in rule["to"][0]["operation"]:
        operation = rule["to"][0]["operation"]
        namespace = document["metadata"]["namespace"]
        app = document["spec"]["selector"]["matchLabels"]["app"]
        method = random.choice(operation["methods"])
        path = operation["paths"][0].replace("*", "1")
        for entry in rule.get("from", ()):
            principal = random.choice(entry["source"].get("principals", [principal]))
    return {
        "source": {"principal": f"spiffe://{principal}"},
        "destination": {"namespace": namespace, "labels": {"app": app}, "port": 8080},
        "http": {
            "method": method,
            "path": path,
            "headers": {"x-tenant": f"tenant-{random.randrange(len(documents))}"},
        },
    }
