"""The console in a browser: finding entries, page by page, in groups, and as they come."""

import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from audit.entry import Entry
from tests.admin.console_world import Console, Watched, watched
from tests.audit.tampering import execute
from tests.real_parts import wait_until


def query(page: Page) -> dict[str, list[str]]:
    """Return what the address of the view says."""
    return parse_qs(urlsplit(page.url).fragment.partition("?")[2])


def column(page: Page, name: str) -> list[str]:
    """Return the texts of a column, once there are some."""
    cells = page.locator(f"td.c-{name}")
    expect(cells.first).to_be_visible()
    return cells.all_inner_texts()


def indexes(page: Page) -> list[int]:
    return [int(text) for text in column(page, "index")]


def test_the_head_says_whose_mesh_it_is_and_as_whom_one_looks(look: Watched) -> None:
    page = look.open("")
    expect(page.locator("#trust-domain")).to_have_text("example.org")
    expect(page.locator("#who")).to_contain_text("uid:")
    expect(page.locator("#who .role")).to_have_text("admin")
    expect(page.get_by_role("heading", level=1)).to_have_text("Audit log")
    assert indexes(page) == sorted(indexes(page), reverse=True)


def test_a_filter_is_added_with_the_form_with_a_click_and_taken_away(look: Watched) -> None:
    page = look.open("#/log")
    page.get_by_role("button", name="+ Filter").click()
    page.get_by_label("Filter", exact=True).select_option("kind")
    page.get_by_label("Value of kind").select_option("refusal")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator(".chip")).to_contain_text("refusal")
    expect(page.locator(".command code")).to_have_text("meshca audit query --kind refusal")
    assert set(column(page, "kind")) == {"refusal"}

    page.get_by_role("link", name="token_expired").first.click()
    expect(page.locator(".chip")).to_have_count(2)
    assert query(page) == {"kind": ["refusal"], "reason": ["token_expired"]}
    assert all(text.startswith("token_expired") for text in column(page, "reason"))

    page.get_by_role("link", name="remove the filter kind").click()
    expect(page.locator(".chip")).to_have_count(1)
    assert query(page) == {"reason": ["token_expired"]}
    page.go_back()
    expect(page.locator(".chip")).to_have_count(2)


def test_times_are_ages_or_rfc_3339_and_what_is_none_is_said_at_the_filter(look: Watched) -> None:
    page = look.open("#/log?since=3m&until=100s")
    assert set(column(page, "kind")) == {"policy_change", "revocation"}
    command = "meshca audit query --since 3m --until 100s"
    expect(page.locator(".command code")).to_have_text(command)

    look.open("#/log?since=yesterday")
    expect(page.locator("[data-filter=since] .why")).to_contain_text("neither a time")
    expect(page.locator(".empty")).to_contain_text("Nothing was searched")

    page.get_by_role("button", name="from: yesterday; change").click()
    page.get_by_label("Value of from").fill("2026-11-01 12:05")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator(".command code")).to_have_text(
        "meshca audit query --since 2026-11-01T12:05Z"
    )


def test_what_the_server_says_of_a_filter_is_said_by_that_filter(look: Watched) -> None:
    for name, value, said in (
        ("kind", "refusals", "unknown kind 'refusals'; known: issuance, refusal"),
        ("serial", "xyz", "is not a hexadecimal number"),
        ("fingerprint", "ab", "is not a SHA-256"),
        ("spiffe_id", "orders", "does not begin with spiffe://"),
        ("until", "1970-01-01", "since must be before until"),
    ):
        page = look.open(f"#/log?namespace=shop&since=1m&{name}={value}&reason=x")
        marked = "since" if name == "until" else name
        expect(page.locator(f".chip.wrong[data-filter={marked}] .why")).to_contain_text(said)
        expect(page.locator(".chip.wrong")).to_have_count(1)
        described = page.locator(f"#filter-{marked}")
        expect(described).to_have_attribute("aria-describedby", f"wrong-{marked}")


def test_pages_lead_on_and_back_and_so_does_the_browser(look: Watched) -> None:
    page = look.open("#/log?kind=issuance&limit=20")
    first = indexes(page)
    assert len(first) == 20
    older, newer = (
        page.get_by_role("link", name="Older"),
        page.get_by_role("link", name="Newer"),
    )
    expect(newer).to_have_count(0)
    older.first.click()
    expect(page.locator("td.c-index").first).not_to_have_text(str(first[0]))
    second = indexes(page)
    assert len(second) == 20
    assert max(second) < min(first)
    newer.first.click()
    expect(page.locator("td.c-index").first).to_have_text(str(first[0]))
    assert indexes(page) == first
    page.go_back()
    expect(page.locator("td.c-index").first).to_have_text(str(second[0]))
    page.get_by_role("link", name="Newest first").first.click()
    expect(page.locator("td.c-index").first).to_have_text("4")
    oldest = indexes(page)
    assert oldest == sorted(oldest)
    page.get_by_role("link", name="Newer").first.click()
    expect(page.locator("td.c-index").first).not_to_have_text("4")
    page.get_by_role("link", name="Older").first.click()
    expect(page.locator("td.c-index").first).to_have_text("4")
    assert indexes(page) == oldest


def test_how_many_have_each_value_and_a_value_leads_to_its_entries(look: Watched) -> None:
    page = look.open("#/log?kind=refusal")
    page.get_by_label("Count by").select_option("reason")
    expect(page.locator(".range")).to_have_text("38 entries match, 4 values")
    expect(page.locator("tbody tr").first).to_contain_text("token_expired")
    expect(page.locator("tbody tr").first).to_contain_text("13")
    page.get_by_role("link", name="token_expired").click()
    expect(page.locator("td.c-index")).to_have_count(13)
    page.get_by_role("button", name="Count all").click()
    expect(page.locator("#count")).to_have_text("13 entries match")


def test_what_was_not_looked_at_is_said(look: Watched) -> None:
    page = look.page
    counted: dict[str, Any] = {
        "count": 7,
        "exact": False,
        "reached": 900,
        "size": 2000,
        "values": 1,
    }
    counted |= {"group_by": "kind", "groups": [{"value": "ban", "count": 7}]}
    page.route("**/v1/audit/count**", lambda route: route.fulfill(json=counted))
    cut = {"entries": [], "next": 500, "size": 2000}
    page.route("**/v1/audit/entries?**", lambda route: route.fulfill(json=cut))
    look.open("#/log?group_by=kind")
    expect(page.locator(".range")).to_contain_text(
        "at least 7 entries match: not exact, entries before 900 were not looked at"
    )
    look.open("#/log?text=zzz")
    expect(page.get_by_text("Searched so far, down to entry 500")).to_be_visible()
    expect(page.get_by_text("Nothing found so far")).to_be_visible()
    expect(page.get_by_role("link", name="Older")).to_have_attribute(
        "href", "#/log?text=zzz&cursor=500"
    )


@pytest.mark.parametrize(
    ("view", "way", "turn"),
    [
        ("cursor=900", "down", "Older"),
        ("cursor=100&back=1", "up", "Newer"),
        ("cursor=100&order=oldest", "up", "Newer"),
        ("cursor=900&order=oldest&back=1", "down", "Older"),
    ],
)
def test_the_advice_to_go_on_points_the_way_that_was_searched(
    look: Watched, view: str, way: str, turn: str
) -> None:
    cut = {"entries": [], "next": 500, "size": 2000}
    look.page.route("**/v1/audit/entries?**", lambda route: route.fulfill(json=cut))
    page = look.open(f"#/log?text=zzz&{view}")
    said = page.locator("p.notice.warn")
    expect(said).to_contain_text(f"{way} to entry 500")
    expect(said).to_contain_text(f"Go on with “{turn}”")
    link = page.get_by_role("link", name=turn).first
    expect(link).to_have_attribute("href", re.compile("cursor=500"))


def test_an_empty_result_says_what_was_searched_for(look: Watched) -> None:
    page = look.open("#/log?kind=ban&namespace=nowhere")
    expect(page.locator(".empty")).to_contain_text("No entry matches")
    expect(page.locator(".empty li")).to_have_text(["kind ban", "namespace nowhere"])


def test_what_takes_long_and_what_fails_is_said(look: Watched) -> None:
    page, held = look.page, list[Route]()
    page.route("**/v1/audit/entries?**", lambda route: held.append(route))
    look.open("#/log")
    expect(page.locator("#busy")).to_be_visible()
    expect(page.get_by_text("Asking the server")).to_be_visible()
    error = {"error": {"code": "overloaded", "message": "too many reads", "problems": []}}
    held.pop().fulfill(status=429, json=error)
    expect(page.get_by_role("alert")).to_contain_text("too many reads")
    expect(page.get_by_role("alert")).to_contain_text("Wait a moment, then try again")
    expect(page.locator("#busy")).to_be_hidden()
    page.unroute("**/v1/audit/entries?**")
    page.get_by_role("button", name="Try again").click()
    assert indexes(page)


def test_a_redacted_entry_is_shown_as_one(look: Watched) -> None:
    world = look.console.world
    look.console.record(Entry(time=world.clock.now(), kind="ban", outcome="done", reason="INC"))
    execute(world.engine, "UPDATE audit_entries SET body = NULL WHERE kind = 'ban'")
    page = look.open("#/log?kind=ban")
    expect(page.locator("td.c-about")).to_have_text("redacted")
    page.locator("td.c-index a").click()
    expect(page.locator(".notice.warn")).to_contain_text("Redacted")
    page.get_by_role("button", name="Prove it").click()
    expect(page.locator("#proof .notice.good")).to_contain_text("The body was redacted")


def test_entries_are_followed_over_a_stop_of_the_server_and_none_is_missed(look: Watched) -> None:
    page, now = look.page, look.console.world.clock.now()

    def revoke(serial: str) -> None:
        look.console.record(Entry(time=now, kind="revocation", outcome="done", serial=serial))

    look.open("#/log?kind=revocation")
    page.get_by_role("link", name="Follow").click()
    state = page.locator("#follow-state")
    expect(state).to_have_text("Following")
    expect(page.locator("#heartbeat")).to_contain_text("heartbeat 12:10:00 UTC")
    revoke("aa01")
    expect(page.locator("td.c-about")).to_have_text(["aa01"])
    look.console.stop()
    expect(state).to_contain_text("The server ended it: the server is stopping. Going on in")
    revoke("aa02")
    look.console.stop(is_stopping=False)
    page.get_by_role("button", name="Now").click(timeout=2_000, no_wait_after=True)
    expect(state).to_have_text("Following")
    revoke("aa03")
    expect(page.locator("td.c-about")).to_have_text(["aa03", "aa02", "aa01"])
    expect(page.get_by_text("3 entries came")).to_be_visible()
    command = "meshca audit query --kind revocation --follow"
    expect(page.locator(".command code")).to_have_text(command)


def test_after_a_break_it_goes_on_behind_what_was_searched_or_came(look: Watched) -> None:
    page, asked = look.page, list[str]()
    first, beat = (
        json.dumps({"heartbeat": "2026-11-01T12:10:00Z", "size": 90, "next": next_})
        for next_ in (None, 39)
    )
    entry = json.dumps(look.console.do(look.console.world.get("/audit/entries/50")))
    answers = [[], [first], [first, beat], [beat, entry], ["no JSON"]]

    def answer(route: Route) -> None:
        asked.append(urlsplit(route.request.url).query)
        if len(asked) > len(answers):
            return  # it is heard of no more
        lines = answers[len(asked) - 1]
        route.fulfill(body="".join(f"{line}\n" for line in lines)) if lines else route.abort()

    page.route("**/v1/audit/follow**", answer)
    look.open("#/log?follow=1&outcome=done")
    for _ in answers:
        expect(page.locator("#follow-state")).to_contain_text("Going on in")
        page.get_by_role("button", name="Now").click()
    wait_until(lambda: len(asked) == 6, within_seconds=20, what="it goes on")
    assert asked == [
        "outcome=done",
        "outcome=done",
        "outcome=done",
        "outcome=done&cursor=39",
        "outcome=done&cursor=50",
        "outcome=done&cursor=50",
    ]
    expect(page.locator("td.c-index")).to_have_text(["50"])


def test_following_ends_when_the_view_is_left(look: Watched) -> None:
    page, costly = look.open("#/log?follow=1"), look.console.world.state.access.costly
    expect(page.locator("#follow-state")).to_have_text("Following")
    wait_until(lambda: sum(costly.values()) == 1, within_seconds=20, what="it is followed")
    page.get_by_role("link", name="State").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("State")
    wait_until(lambda: sum(costly.values()) == 0, within_seconds=20, what="nobody follows")


def test_a_filter_that_cannot_be_followed_ends_it(look: Watched) -> None:
    page = look.open("#/log?follow=1&kind=nothing")
    expect(page.locator("[data-filter=kind] .why")).to_contain_text("unknown kind")
    expect(page.locator("#follow-state")).to_have_text("Ended")
    asked = [url for url in look.asked if "/audit/follow" in url]
    assert len(asked) == 1


def test_it_works_by_keyboard(look: Watched) -> None:
    page = look.open("#/log")
    expect(page.locator("td.c-index").first).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_label("Filter", exact=True)).to_be_focused()
    page.keyboard.type("name")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Value of namespace")).to_be_focused()
    page.keyboard.type("bank/x")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="+ Filter")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.type("name")
    page.keyboard.press("Tab")
    page.keyboard.type("bank")
    page.keyboard.press("Enter")
    expect(page.locator("[data-filter=namespace]")).to_be_visible()
    expect(page.get_by_role("button", name="+ Filter")).to_be_focused()
    assert query(page) == {"namespace": ["bank"]}
    page.locator("td.c-index a").first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(r"Entry \d+"))
    expect(page.get_by_role("heading", level=1)).to_be_focused()


def test_a_narrow_window_shows_everything_without_scrolling_sideways(
    chrome: Browser, served: Console
) -> None:
    with watched(chrome, served, viewport={"width": 360, "height": 740}) as narrow:
        for view in ("#/log", "#/log?group_by=kind", f"#/certificate/{served.serial}", "#/state"):
            page = narrow.open(view)
            expect(page.locator("td").first).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, view
