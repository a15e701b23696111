"""The console in a browser: what is asked when, again, and one question after the other."""

import json
from collections.abc import Sequence

import pytest
from playwright.sync_api import Page, Route, expect

from tests.admin.console_world import Watched
from tests.real_parts import wait_until

CERTIFICATE = "**/v1/audit/certificate"


def follow_link(look: Watched, view: str) -> Page:
    """Load the page anew at `view`, as a link from elsewhere does."""
    look.page.goto("about:blank")
    look.page.goto(look.console.url + view)
    return look.page


def questions(look: Watched) -> list[str]:
    """Return what was asked of the log."""
    return [url for url in look.asked if "/v1/audit/" in url]


def await_requests(look: Watched, found: Sequence[object] | None = None, *, many: int = 1) -> None:
    """Wait until there are `many` in `found`, or of questions; asking the page lets them come."""

    def came() -> bool:
        look.page.evaluate("0")
        return len(questions(look) if found is None else found) == many

    wait_until(came, within_seconds=20, what="it is asked")


@pytest.mark.parametrize(
    ("view", "said"),
    [
        ("#/log?text=%3Cb%3E&since=2h", "text<b>since2h"),
        ("#/log?follow=1", "follow1"),
        ("#/log?group_by=kind", "group_bykind"),
        ("#/entry/4", "of4"),
        ("#/identity/spiffe%3A%2F%2Fexample.org%2Fx", "ofspiffe://example.org/x"),
        ("#/certificate/ffff", "offfff"),
        ("#/at?time=2m&namespace=shop", "time2mnamespaceshop"),
    ],
)
def test_what_a_link_from_elsewhere_asks_is_shown_and_asked_by_a_click(
    look: Watched, view: str, said: str
) -> None:
    page = follow_link(look, view)
    ask = page.get_by_role("button", name="Ask", exact=True)
    expect(ask).to_be_focused()
    asked = page.get_by_role("region", name="What is asked").locator("dl")
    assert "".join((asked.text_content() or "").split()) == said
    expect(page.locator("#who .role")).to_have_text("admin")
    assert questions(look) == []
    page.keyboard.press("Enter")
    expect(page.locator(".result")).to_be_visible()
    await_requests(look)
    expect(ask).to_have_count(0)


@pytest.mark.parametrize("view", ["", "#/log", "#/state", "#/report?since=1d", "#/certificate"])
def test_what_a_link_does_not_choose_needs_no_click(look: Watched, view: str) -> None:
    page = follow_link(look, view)
    expect(page.locator(".view button, .view td").first).to_be_visible()
    expect(page.get_by_role("button", name="Ask", exact=True)).to_have_count(0)


def test_after_the_first_click_links_a_reload_and_going_back_ask_at_once(look: Watched) -> None:
    page = follow_link(look, "#/log?kind=refusal")
    ask = page.get_by_role("button", name="Ask", exact=True)
    page.reload()
    expect(ask).to_be_focused()
    ask.click()
    page.get_by_role("link", name="token_expired").first.click()
    expect(page.locator(".chip")).to_have_count(2)
    page.reload()
    expect(page.locator(".chip")).to_have_count(2)
    page.goto("about:blank")
    page.go_back()
    expect(page.locator(".chip")).to_have_count(2)
    page.go_back()
    expect(page.locator(".chip")).to_have_count(1)
    expect(page.locator("td.c-kind").first).to_have_text("refusal")


def test_the_same_question_again_is_asked_again(look: Watched) -> None:
    page = look.open("#/log?since=2h")

    def has_asked(times: int) -> None:
        await_requests(look, many=times)
        expect(page.locator("td.c-index").first).to_be_visible()

    has_asked(1)
    page.get_by_role("link", name="Entries", exact=True).click()
    has_asked(2)
    page.get_by_role("button", name="from: 2h; change").click()
    page.get_by_role("button", name="Apply").click()
    has_asked(3)
    page.reload()
    has_asked(4)


@pytest.mark.parametrize("view", ["constructor", "__proto__", "toString/x", "nothing"])
def test_what_is_no_view_is_said(look: Watched, view: str) -> None:
    title = look.open("#/report").get_by_role("heading", level=1)
    expect(title).to_have_text("Report")
    look.open(f"#/{view}")
    expect(title).to_have_text("No such view")
    assert questions(look) == []


def test_an_older_answer_never_replaces_a_newer_one(look: Watched) -> None:
    page, held = look.page, list[Route]()
    page.route(CERTIFICATE, lambda route: held.append(route))
    look.open("#/certificate/ffff")
    await_requests(look, held)
    page.get_by_label("The certificate itself").fill(look.console.pem)
    page.get_by_role("button", name="Judge it").click()
    await_requests(look, held, many=2)
    held[1].continue_()
    expect(page.locator("#verdict strong")).to_have_text("issued")
    error = {"error": {"code": "x", "message": "too late", "problems": []}}
    held[0].fulfill(status=500, json=error)
    page.evaluate("() => new Promise(done => setTimeout(done))")
    expect(page.locator("#verdict strong")).to_have_text("issued")
    expect(page.locator(".result")).not_to_contain_text("too late")
    expect(page.locator(".result")).not_to_have_attribute("aria-busy", "true")


def test_a_verdict_goes_away_when_something_else_is_asked(look: Watched) -> None:
    page, held = look.open("#/certificate/ffff"), list[Route]()
    expect(page.locator("#verdict strong")).to_have_text("unknown")
    page.route(CERTIFICATE, lambda route: held.append(route))
    page.get_by_label("The certificate itself").fill(look.console.pem)
    page.evaluate("document.querySelector('form.pem').requestSubmit()")
    assert page.locator("#verdict").count() == 0
    await_requests(look, held)
    held[0].continue_()
    expect(page.locator("#verdict strong")).to_have_text("issued")


def test_of_two_files_dropped_the_newer_is_judged_however_long_each_is_read(look: Watched) -> None:
    page = look.open("#/certificate")
    page.evaluate(
        """async () => {
            const form = document.querySelector("form.pem");
            const drop = text => form.dispatchEvent(Object.assign(
                new Event("drop", { cancelable: true }),
                { dataTransfer: { files: [{ size: 5, text: () => text }] } }));
            let read;
            drop(new Promise(done => (read = done)));
            drop(Promise.resolve("newer"));
            await new Promise(done => setTimeout(done));
            read("older");
            await new Promise(done => setTimeout(done));
        }"""
    )
    expect(page.get_by_label("The certificate itself")).to_have_value("newer")
    expect(page.get_by_role("alert").last).to_contain_text("not a certificate in PEM")
    await_requests(look)


def test_a_stream_that_always_breaks_is_waited_for_longer_each_time(look: Watched) -> None:
    page, asked = look.page, list[int]()
    beat = json.dumps({"heartbeat": "2026-11-01T12:10:00Z", "size": 40, "next": 39})

    def answer(route: Route) -> None:
        asked.append(1)
        beats = 2 if len(asked) == 4 else 1
        route.fulfill(body=f"{beat}\n" * beats)

    page.route("**/v1/audit/follow**", answer)
    look.open("#/log?follow=1")
    for seconds in (1, 2, 4, 1):
        expect(page.locator("#follow-state")).to_contain_text(f"Going on in {seconds} s")
        page.get_by_role("button", name="Now").click(no_wait_after=True)


def test_a_report_says_that_the_server_goes_on_with_it(look: Watched) -> None:
    page, held = look.page, list[Route]()
    page.route("**/v1/audit/report", lambda route: held.append(route))
    look.open("#/report")
    page.get_by_role("button", name="Make the report").click()
    said = page.get_by_text("the server still makes it to its end, for up to 30 minutes")
    expect(said).to_be_visible()
    page.get_by_role("link", name="State").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("State")
