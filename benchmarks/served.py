"""SVIDs through `meshca serve`: CreateCertificate over TLS, a token with each call.

The server runs on one core, its clients on the others; `per core` is per second of the server's
CPU time, as /proc counts it.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.development import Development, certificate_request, temporary
from benchmarks.figure import Context, Row, Target
from benchmarks.floor import Floor, in_floors
from benchmarks.issuance import CSRS, ROUNDS
from benchmarks.process import Process, Worker, server, workers

TITLE = "SVIDs over grpc.aio, a token with each call"
TARGET = Target(2000)
IN_FLIGHT = 64

Rounds = list[tuple[Floor, tuple[float, dict[str, float]]]]


def run(context: Context) -> Iterator[Row]:
    """Measure with tokens the server has seen within the minute, and with new ones."""
    count = context.scale(5000, 800)
    with temporary() as development:
        files = _Files(development)
        given = {
            "port": development.port,
            "roots": str(development.roots),
            "csrs": str(files.csrs()),
            "token": development.token("first"),
        }
        with server(development) as served, workers("csr_client", [given]) as (client,):
            for what, target, paths in (
                ("tokens of 64 pods (cache hits)", TARGET, [files.tokens(64)] * (ROUNDS + 1)),
                ("every token new", None, [files.tokens(count) for _ in range(ROUNDS + 1)]),
            ):
                rounds = _measure(context, served, client, paths, count, what)
                yield _row(what, target, count, rounds)


def _row(what: str, target: Target | None, count: int, rounds: Rounds) -> Row:
    spent = median(cpu for _, (cpu, _) in rounds) / count * 1e6
    ratio = median(cpu / count * 1e6 / floor.issue_us for floor, (cpu, _) in rounds)
    seconds, p50, p99 = (
        median(answer[name] for _, (_, answer) in rounds)
        for name in ("seconds", "p50_ms", "p99_ms")
    )
    note = (
        f"{spent:.0f} µs CPU each; {count / seconds:,.0f}/s wall, p50 {p50:.0f} ms, "
        f"p99 {p99:.0f} ms, {IN_FLIGHT} in flight"
    )
    return Row(f"SVIDs, {what}", 1e6 / spent, "/s per core", in_floors(ratio), target, note)


def _measure(
    context: Context, served: Process, client: Worker, paths: list[Path], count: int, what: str
) -> Rounds:
    """Return, for a few rounds, the floor, the server's CPU seconds and what the client saw."""
    _round(served, client, paths[0], count // 4)
    rounds = []
    with context.progress(what, count * ROUNDS) as advance:
        for number, path in enumerate(paths[1:], start=1):
            rounds.append(context.beside_floor(partial(_round, served, client, path, count)))
            advance(number * count)
    return rounds


def _round(
    served: Process, client: Worker, tokens: Path, count: int
) -> tuple[float, dict[str, float]]:
    started = served.cpu_seconds
    client.tell(tokens=str(tokens), count=count, in_flight=IN_FLIGHT)
    answer = client.hear()
    return served.cpu_seconds - started, answer


class _Files:
    """What clients are given, made beforehand so that they only have to send it."""

    def __init__(self, development: Development) -> None:
        self._development = development
        self._made = 0

    def csrs(self) -> Path:
        """Return a file of PEM CSRs, each with a key of its own."""
        path = self._path("csrs")
        path.write_text("\0".join(certificate_request().decode() for _ in range(CSRS)))
        return path

    def tokens(self, count: int) -> Path:
        """Return a file of new tokens, a pod each."""
        path = self._path("tokens")
        pods = range(count)
        path.write_text("\n".join(self._development.token("web", f"web-{n}") for n in pods))
        return path

    def _path(self, what: str) -> Path:
        self._made += 1
        return self._development.directory.parent / f"{what}-{self._made}"
