"""`meshca authz check --batch --policies`: lines a second of the real command, offline.

The command is started as a user starts it; what it takes to start and to load the policies is
measured by a batch of one line, and taken off.
"""

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.development import MESHCA
from benchmarks.figure import Context, Row, Target
from benchmarks.policy_corpus import TRUST_DOMAIN, Corpus, spread

TITLE = "Checks by the batch"
POLICIES = 1_000


def run(context: Context) -> Iterator[Row]:
    """Measure a batch of many lines beside one of a single line."""
    count = context.scale(50_000, 5_000)
    corpus = spread(POLICIES, count)
    with tempfile.TemporaryDirectory(prefix="meshca-bench-") as directory:
        policies = Path(directory, "policies")
        policies.mkdir()
        Path(policies, "mesh.yaml").write_text(corpus.text())
        start = _seconds(policies, Path(directory), Corpus([], corpus.requests[:1]))
        whole = _seconds(policies, Path(directory), corpus)
    yield Row(
        f"checks of a batch, {POLICIES:,} policies, offline",
        count / (whole - start),
        "lines/s",
        target=Target(2_000),
        note=f"{count:,} lines; JSON read, decided, worded and written on one core",
    )
    yield Row("before the first line", start, "s", note="Python, imports, policies loaded")


def _seconds(policies: Path, directory: Path, corpus: Corpus) -> float:
    lines = directory / "requests.jsonl"
    lines.write_text("".join(json.dumps(asked) + "\n" for asked in corpus.requests))
    command = [str(MESHCA), "authz", "check", "--batch", str(lines)]
    options = ["--policies", str(policies), "--trust-domain", TRUST_DOMAIN]
    started = time.perf_counter()
    done = subprocess.run([*command, *options], capture_output=True, check=True)
    spent = time.perf_counter() - started
    if done.stdout.count(b"\n") != len(corpus.requests):
        raise RuntimeError("the batch was not answered line by line")
    return spent
