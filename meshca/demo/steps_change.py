"""The second half of the story: certificates and policy change, and all is on record."""

from collections import Counter
from collections.abc import Iterator

from meshca.demo import policies
from meshca.demo.evidence import Entry, entries_after
from meshca.demo.mesh import CALLED, WORKLOADS, Mesh, identity
from meshca.demo.observation import (
    Listing,
    Observation,
    Progress,
    Seen,
    observe,
    wait_until,
)
from meshca.demo.probes import call_without_certificate
from meshca.demo.steps_identity import await_status, get
from meshca.demo.traffic import Traffic

ROTATIONS = 3
ROTATED_SECONDS = 20.0
POLICY_SECONDS = 1.0
_REQUESTS_BETWEEN = 300
_SHOWN_ENTRIES = 14


def rotate(mesh: Mesh) -> Iterator[Seen]:
    """Every certificate is replaced three times while frontend calls orders without pause."""
    with Traffic(mesh.frontend.outbound["orders"]) as traffic:
        _more_requests(mesh, traffic)
        for number in range(1, ROTATIONS + 1):
            yield Progress("rotating under traffic", number - 1, ROTATIONS)
            seconds = _renew_all(mesh)
            yield _is_served(mesh, number, seconds)
            _more_requests(mesh, traffic)
    made = mesh.frontend.admin.stats(
        f"cluster.outbound-{mesh.frontend.outbound['orders']}.ssl.handshake"
    )
    yield Observation(
        "no request failed",
        "0 failed",
        f"{traffic.failed} of {traffic.requests} requests failed, over {sum(made.values())} "
        f"mutual TLS handshakes {'; '.join(traffic.failures[:3])}".rstrip(),
        traffic.failed == 0 and traffic.requests > 0,
    )


def _more_requests(mesh: Mesh, traffic: Traffic) -> None:
    wanted = traffic.requests + _REQUESTS_BETWEEN
    wait_until(
        lambda: traffic.requests >= wanted,
        within_seconds=ROTATED_SECONDS,
        what=f"{_REQUESTS_BETWEEN} more requests",
        clock=mesh.clock,
    )


def _renew_all(mesh: Mesh) -> float:
    """Renew every proxy's certificate; return the seconds until all present a new one."""
    admins = [mesh.workloads[name].admin for name in WORKLOADS]
    before = [admin.serials() for admin in admins]
    for name in WORKLOADS:
        mesh.meshca("svid", "renew", identity(name))
    return wait_until(
        lambda: all(a.serials().isdisjoint(b) for a, b in zip(admins, before, strict=True)),
        within_seconds=ROTATED_SECONDS,
        what="every proxy has a new certificate",
        clock=mesh.clock,
    )


def _is_served(mesh: Mesh, number: int, seconds: float) -> Observation:
    """Look at the certificate that a new connection to orders is shown."""
    orders = mesh.workloads["orders"]
    (loaded,) = orders.admin.serials()
    shown = call_without_certificate(orders.inbound, mesh.roots).serial
    return Observation(
        f"rotation {number}: {len(WORKLOADS)} new certificates, in use",
        expected=f"orders presents {loaded}",
        seen=f"orders presents {shown}, {seconds:.2f} s after the last command",
        held=shown == loaded,
    )


def change_policy(mesh: Mesh) -> Iterator[Seen]:
    """A policy change is in force within a second, in both directions."""
    yield observe(
        "frontend may not call payments: no policy allows it",
        expected=403,
        seen=get(mesh, "payments").status_code,
    )
    for what, text, status in (
        ("allowed", policies.ORDERS_AND_PAYMENTS, 200),
        ("refused again", policies.ORDERS_ONLY, 403),
    ):
        seconds = _apply(mesh, text, status)
        yield Observation(
            f"frontend calls payments: {what}",
            expected=f"{status} within {POLICY_SECONDS:g} s of the change",
            seen=f"{status}, {seconds:.2f} s after `meshca authz apply` was done",
            held=seconds <= POLICY_SECONDS,
        )
    yield observe(
        "frontend may still call orders", expected=200, seen=get(mesh, "orders").status_code
    )


def _apply(mesh: Mesh, text: str, status: int) -> float:
    """Apply a policy set; return the seconds until payments answers with `status`."""
    apply_policies(mesh, text, f"demo: payments is to answer {status}")
    start = mesh.clock.monotonic()
    await_status(mesh, "payments", status)
    return mesh.clock.monotonic() - start


def apply_policies(mesh: Mesh, text: str, reason: str) -> None:
    """Put a policy set in force; `reason` goes on record."""
    path = mesh.directory / "policies.yaml"
    path.write_text(text)
    mesh.meshca("authz", "apply", str(path), "--reason", reason)


def show_trail(mesh: Mesh) -> Iterator[Seen]:
    """Everything above is in the audit log, whose tree is intact."""
    entries = [entry for entry in entries_after(mesh, 0) if entry["kind"] != "read"]
    kinds = Counter(entry["kind"] for entry in entries)
    reasons = {entry["reason"] for entry in entries if entry["kind"] == "refusal"}
    rotated = len(WORKLOADS) * (ROTATIONS + 1)
    yield Listing(("time", "what", "outcome", "who", "reason"), _rows(entries))
    yield Observation(
        "every certificate is on record",
        f"{rotated} or more issuances",
        f"{kinds['issuance']} issuances",
        kinds["issuance"] >= rotated,
    )
    expected = {"no_token", "bad_signature", "wrong_audience"}
    yield Observation(
        "every kind of refusal is on record",
        ", ".join(sorted(expected)),
        ", ".join(sorted(reasons)),
        expected <= reasons,
    )
    yield Observation(
        "every policy change is on record",
        "2 or more changes",
        f"{kinds['policy_change']} changes",
        kinds["policy_change"] >= len(CALLED),
    )
    verified = mesh.query("audit", "verify")
    yield Observation(
        "nothing in the log was altered",
        "intact",
        f"{verified['entries']} entries, root {verified['root'][:16]}",
        bool(verified["intact"]),
    )


def _rows(entries: list[Entry]) -> tuple[tuple[str, ...], ...]:
    """Return the newest entry of each kind, identity and reason, so that a screen holds them."""
    newest = {(e["kind"], e["spiffe_id"], e["reason"]): e for e in entries}
    shown = sorted(newest.values(), key=lambda e: int(e["index"]))[-_SHOWN_ENTRIES:]
    return tuple(
        (
            e["time"][11:19],
            e["kind"],
            e["outcome"],
            e["spiffe_id"] or e["actor"],
            e["reason"] or e["details"].get("message", ""),
        )
        for e in shown
    )
