"""The first half of the story: proxies get identities, call each other, and strangers cannot."""

from collections.abc import Iterator
from pathlib import Path

import httpx

from meshca.demo.evidence import await_refusal, last_index
from meshca.demo.mesh import WORKLOADS, Mesh, Workload, identity
from meshca.demo.observation import Observation, observe, wait_until
from meshca.demo.probes import call_without_certificate, fetch_secret, forge

ALLOWED_SECONDS = 10.0
NO_CERTIFICATE = "tlsv13_alert_certificate_required"
_NO_CERTIFICATE_LOGGED = "peer_did_not_provide_required_client_certificate"


def prove(mesh: Mesh) -> Iterator[Observation]:
    """Each proxy has the SVID that its token entitles it to, and the server has it on record."""
    recorded = {
        svid["serial"]: svid["spiffe_id"] for svid in mesh.query("svid", "list", "--live")["svids"]
    }
    for name in WORKLOADS:
        leaf = mesh.workloads[name].admin.leaves()[0]
        serial = str(leaf["serial_number"]).lstrip("0").lower()
        (presented,) = mesh.workloads[name].admin.identities()
        yield Observation(
            f"{name} presents its identity",
            expected=identity(name),
            seen=f"{presented}, serial {serial}, until {leaf['expiration_time']}",
            held=presented == identity(name) == recorded.get(serial),
        )


def call(mesh: Mesh) -> Iterator[Observation]:
    """A call from frontend reaches the app of orders, which learns who called."""
    answer = await_status(mesh, "orders", 200)
    yield observe("frontend calls orders", expected=200, seen=answer.status_code)
    caller = answer.json()["headers"].get("x-forwarded-client-cert", "")
    yield Observation(
        "orders knows the caller from its certificate",
        expected=f"URI={identity('frontend')}",
        seen=caller.rpartition(";")[2],
        held=f"URI={identity('frontend')}" in caller.split(";"),
    )
    inbound = f"listener.127.0.0.1_{mesh.workloads['orders'].inbound}.ssl.versions.TLSv1.3"
    handshakes = mesh.workloads["orders"].admin.stats("ssl.versions").get(inbound, 0)
    yield Observation("both spoke TLS 1.3", "1 or more", f"{handshakes} handshakes", handshakes > 0)


def refuse(mesh: Mesh) -> Iterator[Observation]:
    """Whoever cannot prove who they are gets no connection and no certificate."""
    yield from _without_certificate(mesh)
    yield from _without_token(mesh)
    intruder = mesh.new_workload("intruder", ["orders"])
    genuine = mesh.token("frontend")
    replace(intruder.token_file, forge(genuine))
    after = last_index(mesh)
    mesh.start_proxy(intruder)
    yield from _with_token(mesh, intruder, "a forged token", "bad_signature", after)
    after = last_index(mesh)
    replace(intruder.token_file, mesh.token("frontend", "--audience", "somebody-else"))
    yield from _with_token(mesh, intruder, "a token for another audience", "wrong_audience", after)
    mesh.processes.stop(intruder.name)


def _without_certificate(mesh: Mesh) -> Iterator[Observation]:
    orders = mesh.workloads["orders"]
    shown = call_without_certificate(orders.inbound, mesh.roots)
    yield observe(
        "no identity: the call to orders dies in the handshake",
        expected=NO_CERTIFICATE,
        seen=shown.verdict,
    )
    log = mesh.directory / "logs" / "orders.log"
    wait_until(
        lambda: _NO_CERTIFICATE_LOGGED in log.read_text(errors="replace"),
        within_seconds=ALLOWED_SECONDS,
        what=f"the access log of orders' proxy says {_NO_CERTIFICATE_LOGGED}",
        clock=mesh.clock,
    )
    yield Observation(
        "no identity: the access log of orders says why",
        _NO_CERTIFICATE_LOGGED,
        _NO_CERTIFICATE_LOGGED,
        True,
    )


def _without_token(mesh: Mesh) -> Iterator[Observation]:
    after = last_index(mesh)
    status = fetch_secret(mesh.server_port, mesh.roots, "localhost", None)
    yield observe(
        "no token: the server gives no certificate", expected="UNAUTHENTICATED", seen=status
    )
    yield observe(
        "no token: the audit trail says why",
        expected="no_token",
        seen=await_refusal(mesh, after, "no_token")["reason"],
    )


def _with_token(
    mesh: Mesh, intruder: Workload, what: str, reason: str, after: int
) -> Iterator[Observation]:
    entry = await_refusal(mesh, after, reason)
    claimed = entry["details"].get("claimed", {})
    yield Observation(
        f"{what}: the audit trail says why",
        expected=reason,
        seen=f"{entry['reason']}, claimed {claimed.get('sub', claimed)}",
        held=entry["reason"] == reason,
    )
    yield observe(
        f"{what}: the proxy gets no certificate",
        expected="0 certificates",
        seen=f"{len(intruder.admin.leaves())} certificates",
    )
    yield observe(
        f"{what}: the same call cannot even begin",
        expected="connection refused",
        seen=_try(intruder.outbound["orders"]),
    )


def _try(port: int) -> str:
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/items", timeout=5.0, trust_env=False)
    except httpx.ConnectError:
        return "connection refused"
    return str(answer.status_code)


def get(mesh: Mesh, called: str) -> httpx.Response:
    """Call `called` through frontend's proxy."""
    port = mesh.frontend.outbound[called]
    return httpx.get(f"http://127.0.0.1:{port}/items", timeout=5.0, trust_env=False)


def await_status(mesh: Mesh, called: str, status: int) -> httpx.Response:
    """Call `called` until it answers with `status`; return the last answer."""
    last = [get(mesh, called)]

    def answers() -> bool:
        last[0] = get(mesh, called)
        return last[0].status_code == status

    wait_until(
        answers,
        within_seconds=ALLOWED_SECONDS,
        what=f"frontend's calls to {called} are answered with {status}",
        clock=mesh.clock,
    )
    return last[0]


def replace(path: Path, text: str) -> None:
    """Replace a file in one step, as the kubelet does: an Envoy that watches sees it."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.rename(path)
