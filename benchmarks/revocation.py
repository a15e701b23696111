"""A revocation, from the decision until it is in force: real Envoys, and thousands of proxies.

On Envoys it is measured from outside: a thief with a certificate of its own asks every proxy all
the time, on connections that are open and on new ones (benchmarks/thief.py). With thousands it is
measured by what the service tells of it: until the last proxy has acknowledged the list and the
filter. Times are from the decision, as the service has recorded it.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from benchmarks.development import temporary
from benchmarks.envoys import THIEF, Pairs, pairs
from benchmarks.figure import Advance, Context, Row, Target
from benchmarks.fleet import ONE_ADS_STREAM, connected
from benchmarks.process import Worker, workers
from ca.keys import private_key_pem
from meshca.cli.client import AdminClient, connect
from meshca.cli.issue import Target as Listener
from meshca.cli.issue import create_certificate
from tests.end_to_end.server import RunningServer

TITLE = "A revocation, until it is in force"
SOON: Final = Target(250, is_minimum=False)
ALL: Final = Target(5.0, is_minimum=False)
_WHY: Final = {"reason": "keyCompromise", "why": "benchmark"}
_POLL_SECONDS: Final = 0.25
_LONGEST_SECONDS: Final = 120.0


def run(context: Context) -> Iterator[Row]:
    """Measure twenty real Envoys under traffic, and ten thousand simulated proxies."""
    couples, rounds = context.scale(10, 2), context.scale(20, 3)
    with context.progress(f"{2 * couples} Envoys", rounds) as advance:
        yield from _envoys(couples, rounds, advance)
    proxies, rounds = context.scale(10_000, 500), 5
    with context.progress(f"{proxies:,} proxies", rounds) as advance:
        yield _fleet(proxies, rounds, advance)


def _envoys(couples: int, rounds: int, advance: Advance) -> Iterator[Row]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="meshca-bench-")))
        server = stack.enter_context(RunningServer(directory))
        (thief,) = stack.enter_context(workers("thief", [{"roots": str(server.roots)}]))
        under_traffic = stack.enter_context(pairs(server, couples, is_robbed=True))
        seen = []
        with under_traffic:
            for number in range(rounds):
                seen.append(_rob(server, under_traffic, thief))
                advance(number + 1)
    what = f"{2 * couples} Envoys under traffic, {rounds} revocations"
    for name, said in (
        ("handshakes", "refused on a new handshake"),
        ("requests", "refused on an open HTTP connection"),
    ):
        yield _row(f"{what}: {said}, p99", [t for each in seen for t in each[name]], SOON)
    pushed, signed = (_rank([each[name] for each in seen], 0.5) for name in ("pushed", "signed"))
    note = f"median: pushed after {pushed:.0f} ms, list signed after {signed:.0f} ms"
    row = _row(f"{what}: acknowledged by all, p99", [each["told"] for each in seen], None)
    yield replace(row, note=f"{row.note}; {note}")
    yield from (row for row in under_traffic.rows(what) if "handshakes failed" not in row.what)


def _row(what: str, times: list[float], target: Target | None) -> Row:
    note = f"p50 {_rank(times, 0.5):.0f} ms, worst {max(times):.0f} ms, of {len(times)}"
    return Row(what, _rank(times, 0.99), "ms", target=target, note=note)


def _rank(times: list[float], share: float) -> float:
    ordered = sorted(times)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def _rob(server: RunningServer, robbed: Pairs, thief: Worker) -> dict[str, Any]:
    """Revoke one certificate that is in use everywhere; return when each proxy refused it."""
    listener = Listener(f"localhost:{server.port}", None, server.roots.read_bytes())
    file = server.directory / "stolen.pem"
    serial = _issue(listener, server.token(THIEF), file)
    ports = [proxy.inbound for proxy in (*robbed.back, *robbed.front)]
    thief.tell(do="open", certificate=str(file), ports=ports)
    statuses = thief.hear()["statuses"]
    if set(statuses) != {200}:
        raise RuntimeError(f"the thief was not let in to begin with: {statuses}")
    thief.tell(do="watch")
    admin = connect(server.config, None)
    _revoke(admin, serial)
    answer, told = thief.hear(), _in_force(admin, serial)
    decided = _seconds(told["decided_at"])
    seen = {
        name: [(at - decided) * 1000 for at in answer[name]] for name in ("requests", "handshakes")
    }
    (replica,), (signed,) = told["replicas"], told["signed"]
    after = {"pushed": replica["pushed_at"], "signed": signed["at"]}
    return {
        **seen,
        "told": told["milliseconds"],
        **{name: (_seconds(at) - decided) * 1000 for name, at in after.items()},
    }


def _seconds(time_text: str) -> float:
    """Return a time of the service as seconds since the epoch."""
    return datetime.fromisoformat(time_text).timestamp()


def _fleet(proxies: int, rounds: int, advance: Advance) -> Row:
    times = []
    with temporary() as development, connected(development, proxies, ONE_ADS_STREAM) as fleet:
        listener = Listener(f"localhost:{development.port}", None, development.roots.read_bytes())
        cpu = fleet.served.cpu_seconds
        for number in range(rounds):
            file = development.directory / "stolen.pem"
            serial = _issue(listener, development.token("thief"), file)
            _revoke(fleet.admin, serial)
            told = _in_force(fleet.admin, serial)
            (replica,) = told["replicas"]
            if replica["acknowledged"] < proxies:
                raise RuntimeError(f"not all were connected: {replica}")
            times.append(told["milliseconds"] / 1000)
            advance(number + 1)
        each = (fleet.served.cpu_seconds - cpu) / rounds / proxies * 1e6
    middle = sorted(times)[rounds // 2]
    note = f"worst of {rounds}: {max(times):.2f} s; list and filter; server CPU {each:.0f} µs each"
    what = f"{proxies:,} proxies: all have acknowledged one revocation"
    return Row(what, middle, "s", target=ALL, note=note)


def _issue(listener: Listener, token: str, file: Path) -> str:
    """Write a new certificate with its chain and key to `file`; return its serial."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    csr = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    chain = create_certificate(listener, csr=csr, token=token.encode(), lifetime=None)
    file.write_bytes("".join(chain).encode() + private_key_pem(key))
    return f"{x509.load_pem_x509_certificate(chain[0].encode()).serial_number:x}"


def _revoke(admin: AdminClient, serial: str) -> None:
    admin.post("/revocations", {"selector": {"serial": serial}, **_WHY})


def _in_force(admin: AdminClient, serial: str) -> Any:
    """Return the timeline of a revocation once everybody has acknowledged it."""
    deadline = time.monotonic() + _LONGEST_SECONDS
    while (told := admin.get(f"/revocations/{serial}")["timeline"])["in_force_at"] is None:
        if time.monotonic() > deadline:
            raise RuntimeError(f"not in force after {_LONGEST_SECONDS:.0f} s: {told}")
        time.sleep(_POLL_SECONDS)
    return told
