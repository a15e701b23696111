"""`meshca console` and a real browser: our own page asks, a page of somebody else does not."""

import functools
import http.server
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, sync_playwright

from tests.end_to_end.server import MESHCA, RunningServer
from tests.real_parts import CHROMIUM_OPTIONS, chromium

pytestmark = pytest.mark.end_to_end
BAN = {"selector": {"namespace": "shop"}, "why": "because another page said so"}
ASK = """async ([path, body]) => {
  const options = body ? {method: "POST", body, headers: {"content-type": "application/json"}} : {};
  const answer = await fetch(path, options);
  return [answer.status, await answer.text()];
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    chromium()
    with RunningServer(tmp_path_factory.mktemp("console")) as server:
        yield server


@pytest.fixture(scope="module")
def address(server: RunningServer) -> Iterator[str]:
    """Return the console's address, behind a relay of the command line."""
    command = [str(MESHCA), "console", "--config", str(server.config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as relay:
        assert relay.stdout is not None
        try:
            yield relay.stdout.readline().strip()
        finally:
            relay.send_signal(signal.SIGINT)
            assert relay.wait(20) == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_OPTIONS)
        yield opened
        opened.close()


@contextmanager
def site(directory: Path, page: str) -> Iterator[str]:
    """Serve `page` as somebody else's, on another port of this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as the base has it
            return None

    (directory / "index.html").write_text(page)
    handler = functools.partial(Quiet, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}/"
        finally:
            serving.shutdown()
            thread.join()


def watched(page: Page, address: str) -> list[tuple[str, int]]:
    """Return a list that fills with what is asked of the relay: its kind, and the status.

    The status is 0 of what the browser did not hand on.
    """
    found: list[tuple[str, int]] = []
    root = address.removesuffix("console/")

    def note(asked: Request, status: int) -> None:
        if asked.url.startswith(root):
            found.append((asked.resource_type, status))

    page.on("response", lambda response: note(response.request, response.status))
    page.on("requestfailed", lambda request: note(request, 0))
    return found


def test_our_own_page_asks_and_leaves_nothing_in_the_browser(
    browser: Browser, address: str, server: RunningServer
) -> None:
    with browser.new_context() as context:
        page, wrong = context.new_page(), list[str]()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("requestfailed", lambda request: wrong.append(request.url))
        answers = watched(page, address)
        shown = page.goto(address, wait_until="networkidle")
        assert shown is not None
        assert shown.status == 200
        assert {status for _, status in answers} == {200}
        assert {"document", "script", "stylesheet", "fetch"} <= {kind for kind, _ in answers}
        assert wrong == []
        status, text = page.evaluate(ASK, ["../v1/whoami", None])
        assert (status, json.loads(text)["actor"]) == (200, f"uid:{os.geteuid()}")
        status, text = page.evaluate(ASK, ["../v1/audit/certificate", '{"serial": "ffff"}'])
        assert (status, json.loads(text).get("verdict")) == (200, "unknown")
        assert context.cookies() == []
        assert page.evaluate("localStorage.length + sessionStorage.length") == 0
        assert page.evaluate("window.isSecureContext")


def test_a_page_of_somebody_else_does_nothing_even_with_the_address(
    browser: Browser, address: str, server: RunningServer, tmp_path: Path
) -> None:
    api = address.removesuffix("console/") + "v1/"
    attack = f"""<!doctype html>
<img src="{api}audit/entries?pod=from-elsewhere"><iframe src="{address}"></iframe>
<link rel="stylesheet" href="{address}console.css"><script src="{address}main.js"></script>
<form method="post" enctype="text/plain" action="{api}bans" target="there">
<input name='{json.dumps(BAN)[:-1]}, "x":"' value='"}}'></form><iframe name="there"></iframe>
<a href="{address}">a link</a>
<script>
  document.forms[0].submit();
  const asked = [
    fetch("{api}whoami"),
    fetch("{api}bans", {{method: "POST", mode: "no-cors", body: '{json.dumps(BAN)}'}}),
    fetch("{api}whoami", {{method: "POST", headers: {{"x-mine": "1"}}}}),
  ];
  Promise.allSettled(asked).then((all) => document.title = all.map((each) => each.status));
</script>"""
    with site(tmp_path, attack) as url, browser.new_context() as context:
        page = context.new_page()
        answers = watched(page, address)
        page.goto(url, wait_until="networkidle")
        page.wait_for_function("document.title !== ''")
        assert page.title() == "rejected,rejected,rejected"
        kinds = {"image", "document", "script", "stylesheet", "fetch"}
        assert {kind for kind, _ in answers} >= kinds
        assert {status for _, status in answers} == {0, 403}
        with page.expect_navigation():
            page.click("a")
        assert answers[-1] == ("document", 403)
        assert "open the address yourself" in page.content()
    assert server.query("svid", "bans")["bans"] == []
    reads = server.query("audit", "query", "--kind", "read")["entries"]
    assert reads != []
    assert "from-elsewhere" not in str(reads)


def test_the_page_is_told_what_to_do_while_the_server_is_down(
    browser: Browser, address: str, server: RunningServer
) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(address)
        server.stop()
        try:
            status, text = page.evaluate(ASK, ["../v1/status", None])
        finally:
            server.start()
        assert (status, json.loads(text)["error"]["code"]) == (502, "unreachable")
        assert f"start it: meshca serve --config {server.config}" in text
        assert page.evaluate(ASK, ["../v1/status", None])[0] == 200
