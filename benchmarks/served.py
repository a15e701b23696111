"""SVIDs through `meshca serve`: CreateCertificate over TLS, a token with each call.

The server runs on one core, its clients on the others; `per core` is per second of the server's
CPU time, as /proc counts it.
"""

from collections.abc import Iterator
from pathlib import Path

from benchmarks.development import Development, certificate_request, temporary
from benchmarks.figure import Advance, Context, Row, Target
from benchmarks.floor import mean_floor
from benchmarks.issuance import CSRS
from benchmarks.process import Process, Worker, server, workers

TITLE = "SVIDs over grpc.aio, a token with each call"
TARGET = Target(2000)
IN_FLIGHT = 64
_ROUNDS = 3


def run(context: Context) -> Iterator[Row]:
    """Measure with tokens the server has seen within the minute, and with new ones."""
    count = context.scale(8000, 800)
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
                ("tokens of 64 pods (cache hits)", TARGET, [files.tokens(64)] * (_ROUNDS + 1)),
                ("every token new", None, [files.tokens(count) for _ in range(_ROUNDS + 1)]),
            ):
                with context.progress(what, count * _ROUNDS) as advance:
                    measured = _measure(context, served, client, paths, count, advance)
                yield _row(what, target, *measured)


def _row(
    what: str, target: Target | None, ratio: str, per_core: float, answer: dict[str, float]
) -> Row:
    wall = answer["count"] / answer["seconds"]
    note = (
        f"{1e6 / per_core:.0f} µs CPU each; {wall:,.0f}/s wall, p50 {answer['p50_ms']:.0f} ms, "
        f"p99 {answer['p99_ms']:.0f} ms, {IN_FLIGHT} in flight"
    )
    return Row(f"SVIDs, {what}", per_core, "/s per core", ratio, target, note)


def _measure(
    context: Context,
    served: Process,
    client: Worker,
    paths: list[Path],
    count: int,
    advance: Advance,
) -> tuple[str, float, dict[str, float]]:
    """Return the median of a few rounds: the ratio, SVIDs per CPU second, the client's view."""
    _round(served, client, paths[0], count // 4)
    before = context.floor()
    rounds = []
    for number, path in enumerate(paths[1:], start=1):
        rounds.append(_round(served, client, path, count))
        advance(number * count)
    floor = mean_floor(before, context.floor())
    cpu_seconds, answer = sorted(rounds, key=lambda r: r[0])[len(rounds) // 2]
    return floor.ratio(cpu_seconds / count * 1e6), count / cpu_seconds, answer


def _round(
    served: Process, client: Worker, tokens: Path, count: int
) -> tuple[float, dict[str, float]]:
    started = served.cpu_seconds
    client.tell(tokens=str(tokens), count=count, in_flight=IN_FLIGHT)
    answer = client.hear()
    return served.cpu_seconds - started, {**answer, "count": count}


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
