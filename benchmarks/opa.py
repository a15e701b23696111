"""OPA on the decisions of the policy engine's figure, if its binary is there.

Rules are given to it as data, by the workload that they select, so that it too looks at the rules
of one workload only; the Rego below says what they mean. Its own measure of a query is taken, which
leaves out HTTP and JSON. What it answers is compared with the engine first.
"""

import json
import shutil
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

import httpx

from authz.engine import decide
from authz.policy import PolicySet
from benchmarks.figure import Row
from benchmarks.policy_corpus import Corpus, to_request
from meshca.demo.ports import free_port

_REGO: Final = """
package mesh
import rego.v1
default allow := false
rules := data.workloads[input.destination.namespace][input.destination.labels.app]
principal := trim_prefix(input.source.principal, "spiffe://")
namespace := split(principal, "/")[2]
allow if {
	some rule in rules.allow
	holds(rule)
	not denied
}
denied if {
	some rule in rules.deny
	holds(rule)
}
holds(rule) if {
	from(rule)
	to(rule)
	when(rule)
}
from(rule) if not rule.principals
from(rule) if rule.principals[principal]
to(rule) if not rule.paths
to(rule) if {
	method(rule)
	some path in rule.paths
	startswith(input.http.path, path)
}
method(rule) if not rule.methods
method(rule) if rule.methods[input.http.method]
when(rule) if not rule.tenant
when(rule) if rule.tenant == input.http.headers["x-tenant"]
from(rule) if rule.namespaces[namespace]
"""
_START_SECONDS: Final = 60.0
_ASKED: Final = 500


def compared(corpus: Corpus, policies: PolicySet) -> Iterator[Row]:
    """Yield one row: what OPA takes for a decision, or that it is not there."""
    program = shutil.which("opa")
    what = f"OPA, a decision, {len(corpus.documents):,} policies, 250 workloads"
    if program is None:
        yield Row(what, 0, "", note="not there: no `opa` in PATH")
        return
    with _serving(program, corpus) as client:
        times, agreed = [], 0
        for asked in corpus.requests[:_ASKED]:
            answer = client.post("/v1/data/mesh/allow?metrics=true", json={"input": asked}).json()
            times.append(answer["metrics"]["timer_rego_query_eval_ns"] / 1e3)
            agreed += answer["result"] is decide(policies, to_request(asked)).allowed
    note = f"its own measure of the query; {agreed:,} of {len(times):,} answers agree"
    yield Row(what, median(times), "µs p50", note=note)


@contextmanager
def _serving(program: str, corpus: Corpus) -> Iterator[httpx.Client]:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="meshca-bench-") as directory:
        policy, data = Path(directory, "mesh.rego"), Path(directory, "data.json")
        policy.write_text(_REGO)
        data.write_text(json.dumps({"workloads": _data(corpus)}))
        command = [program, "run", "--server", "--log-level", "error", "--addr"]
        process = subprocess.Popen([*command, f"127.0.0.1:{port}", str(policy), str(data)])
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                _wait(client)
                yield client
        finally:
            process.terminate()
            process.wait()


def _wait(client: httpx.Client) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            client.get("/health").raise_for_status()
            return
        except httpx.HTTPError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _data(corpus: Corpus) -> dict[str, Any]:
    """Return the rules by namespace, workload and action, with sets as objects."""
    data: dict[str, Any] = defaultdict(lambda: defaultdict(lambda: {"allow": [], "deny": []}))
    for document in corpus.documents:
        spec = document["spec"]
        rules = data[document["metadata"]["namespace"]][spec["selector"]["matchLabels"]["app"]]
        rules[spec["action"].lower()] += [_rule(rule) for rule in spec["rules"]]
    return data


def _rule(rule: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for entry in rule.get("from", ()):
        for name, values in entry["source"].items():
            said[name] = _set(values)
            # Whoever is named by namespace has no list of principals to be in.
            said.setdefault("principals", {})
    for entry in rule.get("to", ()):
        operation = entry["operation"]
        said["paths"] = [path.removesuffix("*") for path in operation["paths"]]
        if "methods" in operation:
            said["methods"] = _set(operation["methods"])
    for condition in rule.get("when", ()):
        said["tenant"] = condition["values"][0]
    return said


def _set(values: Sequence[str]) -> dict[str, bool]:
    return dict.fromkeys(values, True)
