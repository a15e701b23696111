"""The console in a browser: one entry and its proof, the ready questions, and hostile values."""

import json
import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from audit.entry import Entry
from audit.log_keys import read_log_keys
from meshca.cli import main
from tests.admin.console_world import HOSTILE, Console, Watched, watched
from tests.admin.world import ORDERS

HOSTILE_KIND = "refusal"


def index_of(served: Console, kind: str) -> int:
    """Return the newest entry of a kind."""
    return max(one.index for one in served.world.state.log.entries() if one.kind == kind)


def public_key(served: Console) -> str:
    (key,) = read_log_keys(served.world.engine, served.world.state.signer.origin)
    return key.verifier


def status(arguments: list[str]) -> int:
    """Return the exit status of a command."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def prove(page: Page) -> None:
    page.get_by_role("button", name="Prove it").click()


def test_an_entry_is_shown_whole_and_leads_on(look: Watched) -> None:
    page = look.open(f"#/entry/{index_of(look.console, 'policy_change')}")
    expect(page.locator(".summary")).to_contain_text("policy_change")
    expect(page.locator("dd", has_text="let frontend read orders")).to_be_visible()
    expect(page.locator(".value.lines", has_text="+++ applied")).to_contain_text("rules:")
    page.get_by_role("link", name="9be2d0315f1d").click()
    expect(page.locator("td.c-kind").first).to_have_text("policy_change")
    page.go_back()
    page.get_by_role("navigation", name="Neighbours").get_by_role("link").first.click()
    expect(page.locator(".summary")).to_contain_text("decision")
    page.get_by_role("link", name="whole life").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Identity")


def test_an_entry_that_is_not_there_is_said(look: Watched) -> None:
    page = look.open("#/entry/99999")
    expect(page.get_by_role("alert")).to_contain_text("the log has no entry 99999")


def test_the_proof_of_an_entry_holds_and_its_file_does_without_the_server(
    look: Watched, tmp_path: Path
) -> None:
    page = look.open("#/entry/4")
    prove(page)
    expect(page.locator("#proof .notice.good strong")).to_have_text("The proof holds")
    expect(page.locator("#proof li.holds")).to_have_count(4)
    expect(page.locator("#proof")).to_contain_text("This trusts the server for two things")
    expect(page.locator("#proof")).to_contain_text(public_key(look.console))
    with page.expect_download() as saved:
        page.get_by_role("link", name="4.tlog-proof").click()
    assert saved.value.suggested_filename == "4.tlog-proof"
    key = public_key(look.console)
    file = str(saved.value.path())
    assert status(["audit", "verify-proof", file, "--key", key]) == 0


def changed(page: Page, path: str, change: Any) -> None:
    """Let the server answer `path` with what `change` makes of its answer."""

    def answer(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, body=change(response.text()))

    page.route(re.compile(path), answer)


def test_a_leaf_hash_that_is_not_the_entrys_is_said(look: Watched) -> None:
    def other(text: str) -> str:
        return json.dumps({**json.loads(text), "leaf_hash": "00" * 32})

    changed(look.page, "/entries/4$", other)
    page = look.open("#/entry/4")
    prove(page)
    expect(page.locator("#proof .notice.bad strong")).to_have_text("The proof does not hold")
    expect(page.locator("#proof li.broken")).to_contain_text("and the server said 0000")


def test_a_text_that_is_not_what_was_logged_is_said(look: Watched) -> None:
    def other(text: str) -> str:
        return json.dumps({**json.loads(text), "reason": "nothing of note"})

    changed(look.page, "/entries/4$", other)
    page = look.open("#/entry/4")
    prove(page)
    expect(page.locator("#proof li.broken")).to_have_count(1)
    expect(page.locator("#proof li.broken")).to_contain_text("is not what is in the proof")


def test_a_proof_that_leads_elsewhere_is_said(look: Watched) -> None:
    def other(text: str) -> str:
        head, _, checkpoint = text.partition("\n\n")
        lines = head.split("\n")
        lines[3] = b64encode(bytes(32)).decode()
        return "\n".join(lines) + "\n\n" + checkpoint

    changed(look.page, "/proof/entry", other)
    page = look.open("#/entry/4")
    prove(page)
    expect(page.locator("#proof li.broken")).to_contain_text("From there the proof leads to")


def test_another_entry_than_the_one_asked_for_is_an_error(look: Watched) -> None:
    def fifth(route: Route) -> None:
        route.fulfill(response=route.fetch(url=route.request.url.replace("/4", "/5")))

    look.page.route(re.compile("/entries/4$"), fifth)
    page = look.open("#/entry/4")
    said = "entry 4 was asked for, and the server answered with entry 5"
    expect(page.get_by_role("alert")).to_contain_text(said)
    expect(page.get_by_role("button", name="Prove it")).to_have_count(0)


def test_the_proof_of_another_entry_is_said(look: Watched) -> None:
    changed(look.page, "/proof/entry", lambda text: text.replace("\nindex 4\n", "\nindex 5\n"))
    page = look.open("#/entry/4")
    prove(page)
    expect(page.locator("#proof li.broken")).to_contain_text("and the proof is of entry 5")


@pytest.mark.parametrize("body", [b"no JSON", b'"\xff"', b"[" * 100_000])
def test_a_proof_of_what_is_no_json_does_not_hold(look: Watched, body: bytes) -> None:
    def other(text: str) -> str:
        return re.sub(r"extra \S+", f"extra {b64encode(body).decode()}", text, count=1)

    changed(look.page, "/proof/entry", other)
    page = look.open("#/entry/4")
    prove(page)
    expect(page.locator("#proof .notice.bad strong")).to_have_text("The proof does not hold")
    expect(page.locator("#proof li.broken").first).to_contain_text("is not what is in the proof")
    expect(page.locator("#proof li")).to_have_count(4)


def test_a_checkpoint_that_was_not_signed_is_said(look: Watched) -> None:
    def other(text: str) -> str:
        return text.replace("\n162\n", "\n163\n") if "\n162\n" in text else _other_size(text)

    changed(look.page, "/proof/entry", other)
    page = look.open("#/entry/4")
    prove(page)
    expect(page.locator("#proof .notice.bad")).to_contain_text("is wrong")


def _other_size(text: str) -> str:
    return re.sub(r"\n\n(\S+)\n(\d+)\n", lambda m: f"\n\n{m[1]}\n{int(m[2]) - 1}\n", text, count=1)


def test_a_browser_without_ed25519_says_what_it_did_not_check(
    chrome: Browser, served: Console
) -> None:
    with watched(chrome, served) as look:
        look.page.add_init_script("crypto.subtle.importKey = () => Promise.reject(new Error())")
        page = look.open("#/entry/4")
        prove(page)
        expect(page.locator("#proof .notice.warn")).to_contain_text("as far as it could be checked")
        expect(page.locator("#proof li.open")).to_contain_text("signature was not checked")


def test_the_whole_life_of_an_identity(look: Watched) -> None:
    page = look.open("#/identity")
    page.get_by_label("SPIFFE ID").fill(ORDERS)
    page.keyboard.press("Enter")
    expect(page.locator(".figure", has_text="live certificates")).to_contain_text("1")
    serials = page.locator(".certificates td.c-serial")
    expect(serials).to_have_text([look.console.serial])
    expect(page.locator(".entries td.c-kind").first).to_have_text("issuance")
    serials.get_by_role("link").click()
    expect(page.locator("#verdict strong")).to_have_text("issued")


def test_an_identity_of_which_nothing_is_known_is_said(look: Watched) -> None:
    page = look.open("#/identity/spiffe%3A%2F%2Fexample.org%2Fnobody")
    expect(page.locator(".notice.warn")).to_contain_text("Nothing was ever recorded")
    page = look.open("#/identity/nobody")
    expect(page.get_by_role("alert")).to_contain_text("does not begin with spiffe://")


def test_a_certificate_by_its_serial_and_by_its_bytes(look: Watched) -> None:
    page = look.open("#/certificate/ffff")
    expect(page.locator("#verdict strong")).to_have_text("unknown")
    page.get_by_label("Serial").fill(look.console.serial.upper())
    page.keyboard.press("Enter")
    expect(page.locator("#verdict strong")).to_have_text("issued")
    expect(page.locator("dd", has_text="kubernetes_jwks")).to_be_visible()
    page.get_by_label("The certificate itself").fill(look.console.pem)
    page.get_by_role("button", name="Judge it").click()
    expect(page.locator("#verdict")).to_contain_text("byte for byte")
    expect(page.locator(".command code")).to_have_text("meshca audit certificate found.pem")
    page.get_by_label("The certificate itself").fill("no certificate")
    page.get_by_role("button", name="Judge it").click()
    expect(page.get_by_role("alert").last).to_contain_text("not a certificate in PEM")


def test_a_certificate_is_dropped_on_the_page(look: Watched) -> None:
    page = look.open("#/certificate")
    dropped = page.evaluate_handle(
        """pem => {
            const data = new DataTransfer();
            data.items.add(new File([pem], "found.pem"));
            return data;
        }""",
        look.console.pem,
    )
    page.dispatch_event("form.pem", "drop", {"dataTransfer": dropped})
    expect(page.locator("#verdict")).to_contain_text("byte for byte")


def test_how_things_stood_at_a_time_and_who_could_call_whom(look: Watched) -> None:
    page = look.open("#/at")
    page.get_by_label("When").fill("5m")
    page.get_by_label("namespace").fill("shop")
    page.get_by_label("labels").fill("app=orders")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator(".figure", has_text="valid certificates")).to_contain_text("1")
    access = page.get_by_role("region", name="Who could call shop")
    expect(access).to_contain_text("example.org/ns/shop/sa/frontend")
    command = "meshca audit at 5m --destination shop --label app=orders"
    expect(page.locator(".command code")).to_have_text(command)
    page.get_by_label("labels").fill("app")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator("form .why")).to_contain_text("labels are written key=value")


def test_a_report_is_saved_as_three_files_that_verify(look: Watched, tmp_path: Path) -> None:
    page = look.open("#/report")
    page.get_by_label("From").fill("2026-11-01T00:00:00Z")
    page.get_by_label("To").fill("30s")
    page.get_by_role("button", name="Make the report").click()
    expect(page.locator(".notice.good")).to_contain_text("The report is made")
    expect(page.get_by_role("table", name="Entries by kind")).to_contain_text("refusal")
    for name in ("report.json", "report.html", "report.sig"):
        with page.expect_download() as saved:
            page.get_by_role("link", name=name).click()
        saved.value.save_as(tmp_path / "report" / name)
    key = public_key(look.console)
    assert status(["audit", "verify-report", str(tmp_path / "report"), "--key", key]) == 0


def test_a_report_of_no_period_is_said(look: Watched) -> None:
    page = look.open("#/report")
    page.get_by_label("From").fill("soon")
    page.get_by_role("button", name="Make the report").click()
    expect(page.locator("form .why")).to_contain_text("neither a time")
    page.get_by_label("From").fill("2030-01-01")
    page.get_by_role("button", name="Make the report").click()
    expect(page.locator(".notice.bad")).to_contain_text("must be before its end")


def test_the_state_says_what_is_signed_and_who_one_is(look: Watched) -> None:
    page = look.open("#/state")
    expect(page.locator(".notice.good")).to_have_text("Ready")
    checkpoint = page.get_by_role("region", name="Newest checkpoint")
    expect(checkpoint).to_contain_text("example.org/meshca/audit")
    keys = page.get_by_role("table", name="Keys of the log")
    expect(keys).to_contain_text(public_key(look.console))
    expect(page.get_by_role("region", name="Anchors")).to_contain_text("No anchor is configured")
    expect(page.get_by_role("region", name="Who you are")).to_contain_text("govern")


def test_an_unknown_view_leads_back(look: Watched) -> None:
    page = look.open("#/nothing")
    page.get_by_role("link", name="To the log").click()
    expect(page.locator("td.c-index").first).to_be_visible()


def test_hostile_values_are_text_and_run_nothing(look: Watched) -> None:
    page = look.open("#/log?kind=refusal&reason=malformed_token")
    row = page.locator("tbody tr")
    expect(row).to_contain_text("<script>alert(1)</script>")
    expect(row.locator(".odd").first).to_be_visible()
    assert "\u202e" not in page.locator("main").inner_text()
    assert "\x1b" not in page.locator("main").inner_text()
    row.locator("td.c-index a").click()
    expect(page.locator(".odd", has_text="U+001B").first).to_be_visible()
    expect(page.locator(".odd", has_text="U+202E").first).to_be_visible()
    expect(page.locator("dd", has_text="'; rm -rf / #").first).to_be_visible()
    for link in page.locator("main a").all():
        assert (link.get_attribute("href") or "").startswith("#/")
    assert page.locator("main img, main script, main iframe").count() == 0
    prove(page)
    expect(page.locator("#proof .notice.good strong")).to_have_text("The proof holds")


def test_hostile_values_stay_text_as_filters_and_in_links(look: Watched) -> None:
    page = look.open("#/log?reason=malformed_token")
    page.locator("td.c-actor a").click()
    expect(page.locator("[data-filter=actor]")).to_contain_text("<script>")
    expect(page.locator("td.c-index")).to_have_count(1)
    expect(page.locator(".command code")).to_contain_text("--actor $'")
    look.open("#/identity/javascript%3Aalert(1)")
    expect(page.get_by_role("alert")).to_be_visible()
    for view in ("#/entry/%3Cimg src=x onerror=alert(1)%3E", "#/%E0%A4%A", "#/log?cursor=%00&x=1"):
        look.open(view)
        expect(page.get_by_role("heading", level=1)).to_be_visible()


def test_a_value_of_ten_mebibytes_is_cut_and_shown_on_demand(look: Watched) -> None:
    long = "a\u202e" + "b" * (10 * 1024 * 1024)

    def longer(text: str) -> str:
        return json.dumps({**json.loads(text), "reason": long, "details": {"message": "m" * 3000}})

    changed(look.page, "/entries/4$", longer)
    page = look.open("#/entry/4")
    more = page.get_by_role("button", name="show 200,000 more of 10,485,762 characters")
    expect(more).to_be_visible()
    length = "document.querySelector('main').textContent.length"
    assert page.evaluate(length) < 10_000
    more.click()
    expect(more).to_be_visible()
    assert 200_000 < page.evaluate(length) < 210_000
    page.get_by_role("button", name="show all 3,000 characters").click()
    expect(page.locator("dd", has_text="m" * 3000).first).to_be_visible()


def test_what_is_said_by_hostile_errors_and_names_is_text(chrome: Browser, served: Console) -> None:
    error = {"error": {"code": "x", "message": HOSTILE, "problems": []}}
    me = {"actor": HOSTILE, "roles": []}
    with watched(chrome, served) as look:
        page = look.page
        page.route("**/v1/audit/entries?**", lambda route: route.fulfill(status=500, json=error))
        page.route("**/v1/whoami", lambda route: route.fulfill(json=me))
        look.open("#/log")
        expect(page.get_by_role("alert")).to_contain_text("<script>")
        expect(page.locator("#who")).to_contain_text("<script>")


def test_an_entry_appended_meanwhile_waits_for_its_checkpoint(look: Watched) -> None:
    world = look.console.world
    new = Entry(time=world.clock.now(), kind="gap", outcome="failed", reason="rate")
    look.console.do(world.writer.submit(new))
    index = index_of(look.console, "gap")
    page = look.open(f"#/entry/{index}")
    prove(page)
    expect(page.locator("#proof [role=alert]")).to_contain_text("is not signed for yet")
    look.console.do(world.state.signer.step())
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#proof .notice.good")).to_be_visible()
