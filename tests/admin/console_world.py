"""The console before a browser: a real admin door with a busy log behind it, and Chromium.

Whatever a page logs as an error, whatever dialog opens, and whatever it asks of another origin
fails the test that did it.
"""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Dialog,
    Page,
    Request,
    expect,
    sync_playwright,
)
from starlette.types import ASGIApp, Receive, Scope, Send

from admin.api import create_app
from admin.peer import Peer
from admin.serve import serve_tcp
from audit.entry import Entry
from authz.history import PolicyHistory
from tests.admin.world import POLICY, TRUST_DOMAIN, World, issuance_of, running
from tests.builders import make_caller, make_request
from tests.real_parts import CHROMIUM_OPTIONS, chromium

HOSTILE = (
    "<script>alert(1)</script><img src=//evil.example/x onerror=alert(2)> javascript:alert(3) "
    "\u202egnp.exe\u202c \x1b[31mred\x1b[0m \x07 zero\u200bwidth"
)
"""What a stranger may claim of itself."""

PATIENCE_MILLISECONDS = 20_000
_REFUSALS = (
    ("token_expired", "the token expired 14 s ago"),
    ("unknown_issuer", "no issuer https://oidc.example.org/dev is configured"),
    ("not_bound_to_pod", "the token is bound to no pod"),
)
Answer = TypeVar("Answer")


@dataclass
class Console:
    """A served console; `do` runs what a story does on the server's side."""

    world: World
    url: str
    loop: asyncio.AbstractEventLoop
    serial: str = ""
    pem: str = ""

    def do(self, work: Awaitable[Answer]) -> Answer:
        """Return what `work` returns, run where the server runs."""

        async def awaited() -> Answer:
            return await work

        return asyncio.run_coroutine_threadsafe(awaited(), self.loop).result(60)

    def record(self, *entries: Entry) -> None:
        """Append to the log, and sign for it."""
        self.do(self.world.writer.submit(*entries))
        self.do(self.world.state.signer.step())

    def stop(self, *, is_stopping: bool = True) -> None:
        """Say to everybody who follows that the server stops; or that it is there again."""
        event = self.world.state.stopping
        self.loop.call_soon_threadsafe(event.set if is_stopping else event.clear)


@contextmanager
def console(directory: Path) -> Iterator[Console]:
    """Serve the console of a world with a history, on loopback, as the user of this process."""
    served: Future[Console] = Future()
    ended = threading.Event()

    async def serve() -> None:
        policies = directory / "policies"
        policies.mkdir()
        (policies / "orders.yaml").write_text(POLICY)
        async with running(directory, policy_directory=policies) as world:
            app = _as_this_user(create_app(world.state))
            async with serve_tcp(app, "127.0.0.1:0", key="listen.admin") as address:
                loop = asyncio.get_running_loop()
                made = Console(world, f"http://{address}/console/", loop)
                await _history(made)
                served.set_result(made)
                await asyncio.to_thread(ended.wait)

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if served.done():
                raise
            served.set_exception(error)

    thread = threading.Thread(target=run, name="console")
    thread.start()
    try:
        yield served.result(60)
    finally:
        ended.set()
        thread.join(30)


def _as_this_user(app: ASGIApp) -> ASGIApp:
    """Return `app` for whom every request is one of this user over the unix socket."""
    peer = Peer(os.getpid(), os.geteuid(), os.getegid())

    async def known(scope: Scope, receive: Receive, send: Send) -> None:
        state = {**scope.get("state", {}), "peer": peer}
        await app({**scope, "state": state}, receive, send)

    return known


@contextmanager
def browser() -> Iterator[Browser]:
    """Return a browser of its own."""
    path = chromium()
    expect.set_options(timeout=PATIENCE_MILLISECONDS)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=CHROMIUM_OPTIONS)
        yield opened
        opened.close()


@dataclass
class Watched:
    """A page, and what it must not do: errors, dialogs, requests elsewhere."""

    page: Page
    console: Console
    wrong: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("request", self._requested)
        self.page.on("dialog", self._opened)
        self.page.clock.set_fixed_time(self.console.world.clock.now())

    def open(self, view: str) -> Page:
        """Go to `view`, such as `#/log?kind=ban`; the page is loaded only once for all of them.

        It is loaded with a view that asks nothing, so that none waits for a click.
        """
        address = self.console.url + view
        if not self.page.url.startswith(self.console.url):
            self.page.goto(self.console.url + "#/nothing-yet")
        if self.page.url == address:
            self.page.reload()
        else:
            self.page.goto(address)
        return self.page

    @contextmanager
    def for_a_test(self) -> Iterator[None]:
        """Let a test use the page, which shows nothing yet; what it does wrong fails it."""
        self.open("#/nothing-yet")
        expect(self.page.get_by_role("heading", level=1)).to_have_text("No such view")
        self.asked.clear()
        yield
        self.page.unroute_all()
        assert self.wrong == []

    def _said(self, message: ConsoleMessage) -> None:
        expected = message.text.startswith("Failed to load resource: ")
        if message.type in ("error", "warning") and not expected:
            self.wrong.append(f"{message.type}: {message.text}")

    def _opened(self, dialog: Dialog) -> None:
        self.wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _requested(self, request: Request) -> None:
        self.asked.append(request.url)
        origin = self.console.url.removesuffix("console/")
        if not request.url.startswith((origin, f"blob:{origin}")):
            self.wrong.append(f"asked for {request.url}")


@contextmanager
def watched(browser: Browser, console: Console, **context: Any) -> Iterator[Watched]:
    """Return a page of its own; what it does wrong fails the test."""
    opened = browser.new_context(**context)
    opened.set_default_timeout(PATIENCE_MILLISECONDS)
    page = Watched(opened.new_page(), console)
    yield page
    opened.close()
    assert page.wrong == []


async def _history(console: Console) -> None:
    """Make a mesh of some services, a day's worth of what happens to them, and a certificate."""
    world = console.world
    issuance = issuance_of(world.state.authorities, world.writer, world.clock)
    loader = world.state.loader
    await PolicyHistory(loader=loader, writer=world.writer, clock=world.clock).note()
    expires = world.clock.now() + timedelta(hours=2)
    svid = await issuance.issue(make_caller(expires_at=expires), make_request())
    found = x509.load_der_x509_certificate(svid.der)
    console.serial = f"{found.serial_number:x}"
    console.pem = found.public_bytes(Encoding.PEM).decode()
    await world.writer.submit()  # its signature is on record
    world.clock.advance(timedelta(minutes=10))
    await world.writer.submit(*_entries(world))
    await world.state.signer.step()


class _Story:
    """Entries as they are told, each so many seconds before `now`."""

    def __init__(self, now: datetime) -> None:
        self.now, self.entries = now, list[Entry]()

    def say(self, ago: int, kind: str, outcome: str = "done", **said: Any) -> None:
        """Tell of one entry."""
        at = self.now - timedelta(seconds=ago)
        self.entries.append(Entry(time=at, kind=kind, outcome=outcome, **said))


def _entries(world: World) -> list[Entry]:
    """Return what happened in the last two hours."""
    story = _Story(world.clock.now())
    _tell_of_services(story.say)
    _tell_of_people(story.say)
    return story.entries


def _tell_of_services(say: Callable[..., None]) -> None:
    """Tell what was issued and refused to workloads."""
    services = ("shop/orders", "shop/frontend", "shop/cart", "bank/ledger", "bank/payments")
    for number in range(150):
        namespace, _, account = services[number % 5].partition("/")
        where = {
            "cluster": ("prod-eu", "prod-us")[number % 2],
            "namespace": namespace,
            "service_account": account,
            "pod": f"{account}-7d9f6b5c4-{number:05x}",
            "node": f"node-{number % 7}",
        }
        name = f"spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{account}"
        ago = 7000 - 45 * number
        if number % 4 == 3:
            reason, message = _REFUSALS[number % 3]
            details: dict[str, Any] = {
                "door": "sds",
                "message": message,
                "from": f"10.3.{number % 7}.{number}:41822",
                "claimed": {"sub": f"system:serviceaccount:{namespace}:{account}"},
            }
            say(ago, "refusal", "refused", reason=reason, details=details, **where)
        else:
            details = {
                "method": "kubernetes_jwks",
                "authority": "5f1d0c9be2",
                "not_before": "2026-11-01T11:00:00Z",
                "not_after": "2026-11-01T12:00:00Z",
                "tbs_sha256": f"{number:064x}",
            }
            serial = f"{0xA295D3A31F9F8F8AE80729FB31AC8400 + number:x}"
            said = {"spiffe_id": name, "actor": name, "serial": serial, "details": details}
            say(ago, "issuance", **said, **where)


def _tell_of_people(say: Callable[..., None]) -> None:
    """Tell of single events: a decision, changes, what a stranger claimed."""
    caller = f"spiffe://{TRUST_DOMAIN}/ns/shop/sa/cart"
    denied = {"method": "DELETE", "path": "/ledger/accounts/17", "rule": "", "labels": {"app": "l"}}
    say(
        200,
        "decision",
        "refused",
        spiffe_id=caller,
        destination="bank/ledger",
        policy="bank/ledger-readers",
        reason="no rule allows it",
        details=denied,
    )
    diff = "--- applied\n+++ applied\n@@ -9,3 +9,4 @@\n   rules:\n+    - from: []\n"
    change = {"summary": "1 added, 1 changed", "applied_version": 7, "diff": diff}
    say(
        120,
        "policy_change",
        actor="oidc:ann@example.org",
        policy="shop/orders-readers",
        reason="let frontend read orders (SEC-1412)",
        details={**change, "before": "1f0c5b7a44d2", "after": "9be2d0315f1d"},
    )
    say(110, "revocation", actor="oidc:ann@example.org", serial="ab12", reason="INC-7: key leaked")
    say(100, "issuance", "failed", spiffe_id=caller, actor=caller, reason="signer_unavailable")
    claimed = {"sub": HOSTILE, "aud": ["<b>", "\u202e"], "iss": "x" * 1000}
    hostile = {"door": "sds", "message": HOSTILE, "claimed": claimed}
    say(
        90,
        "refusal",
        "refused",
        reason="malformed_token",
        actor=HOSTILE,
        pod="'; rm -rf / #",
        request_id="--url=x",
        namespace="\u202elive",
        details=hostile,
    )
    say(60, "server_start", actor="meshca", details={"version": "0.1.0", "replica": "meshca-0"})
