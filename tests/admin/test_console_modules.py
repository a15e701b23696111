"""The console's modules: they know what the service knows, and compute what it computes."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from admin.console import web
from admin.permissions import TABLE
from audit.entry import KINDS, OUTCOMES
from audit.index.terms import FIELDS
from audit.merkle import leaf_hash
from audit.query import Filters
from meshca.cli.audit_queries import query
from tests.admin.console_world import HOSTILE, browser
from tests.audit.naive import naive_path, naive_root

WEB = Path(str(web()))
_PLACE = re.compile(r"\$\{.*?\}+")
MODULES = sorted(WEB.glob("*.js"))


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """Return a page at which the modules can be imported, without a server."""

    def file(route: Any) -> None:
        name = route.request.url.rpartition("/")[2]
        kind = "text/javascript" if name.endswith(".js") else "text/html"
        body = (WEB / name).read_text() if name else "<!doctype html>"
        route.fulfill(body=body, content_type=kind)

    with browser() as opened:
        made = _blank(opened)
        made.route("**/*", file)
        made.goto("https://console.example/")
        yield made


def _blank(opened: Browser) -> Page:
    return opened.new_page()


def test_the_filters_offered_are_those_of_the_log_and_of_the_command(page: Page) -> None:
    offered = page.evaluate("import('./filters.js').then(({FILTERS}) => FILTERS)")
    assert [each["name"] for each in offered] == [field.name for field in fields(Filters)]
    own = {"identity": "spiffe_id"}
    options = {
        own.get(name, name): f"--{name.replace('_', '-')}" for name in signature(query).parameters
    }
    assert {each["name"]: each["option"] for each in offered}.items() <= options.items()
    values = {each["name"]: tuple(each["values"]) for each in offered if "values" in each}
    assert values == {"kind": KINDS, "outcome": OUTCOMES}


def test_counts_are_offered_by_every_field_that_the_log_counts_by(page: Page) -> None:
    names = page.evaluate("import('./filters.js').then(m => m.GROUPS.map(each => each.name))")
    assert set(names) == set(FIELDS)


def test_every_path_that_a_module_asks_for_is_a_route() -> None:
    asked = {
        ("POST" if verb.startswith("post") else "GET", path)
        for module in MODULES
        for verb, path in re.findall(r"(\w*\(|)[`\"]\.\./(v1[^`\"]*)", module.read_text())
    }
    named = {f"{verb} /{re.sub(_PLACE, '{index}', path)}" for verb, path in asked}
    assert len(named) > 12
    assert named <= set(TABLE)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_a_module_is_one_idea_and_nothing_in_it_parses_html_or_keeps_anything(module: Path) -> None:
    text = module.read_text()
    assert text.startswith("/**")
    assert text.count("\n") <= 400
    forbidden = r"innerHTML|outerHTML|insertAdjacent|document\.write|DOMParser|\beval\b|Function\("
    stored = r"localStorage|sessionStorage|indexedDB|document\.cookie|https?://|window\.open"
    assert re.findall(f"{forbidden}|{stored}", text) == []


def test_the_page_itself_has_no_script_and_no_style_in_it() -> None:
    text = (WEB / "index.html").read_text()
    assert re.findall(r"<script(?![^>]* src=)|<style|style=|\son\w+=", text) == []
    named = re.findall(r"(?:src|href)=\"([^\"#]+)\"", text)
    assert [name for name in named if not (WEB / name).is_file()] == []


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 21, 64])
def test_inclusion_proofs_lead_where_the_log_says(page: Page, size: int) -> None:
    leaves = [leaf_hash(b"%d" % number) for number in range(size)]
    root = naive_root(leaves).hex()
    proofs = [[node.hex() for node in naive_path(at, leaves)] for at in range(size)]
    found = page.evaluate(
        """async ([leaves, proofs]) => {
            const { rootFrom } = await import("./merkle.js");
            const bytes = text => Uint8Array.from(text.match(/../g), pair => parseInt(pair, 16));
            const hex = all => all && [...all].map(b => b.toString(16).padStart(2, "0")).join("");
            const root = async (leaf, at, proof) =>
                hex(await rootFrom(at, leaves.length, bytes(leaf), proof));
            const roots = change => Promise.all(
                leaves.map((leaf, at) => root(leaf, at, change(proofs[at].map(bytes), at))));
            return [
                await roots(proof => proof),
                await roots(proof => proof.slice(1)),
                await roots(proof => [...proof, new Uint8Array(32)]),
                await roots((proof, at) => proofs[(at + 1) % leaves.length].map(bytes)),
            ];
        }""",
        [[leaf.hex() for leaf in leaves], proofs],
    )
    assert found[0] == [root] * size
    assert found[1] == ([root] if size == 1 else [None] * size)
    assert found[2] == [None] * size
    assert root not in found[3] or size <= 2


def test_a_command_is_quoted_so_that_a_shell_takes_each_word_as_it_is(page: Page) -> None:
    values = [HOSTILE, "plain", "two words", "it's", "'; rm -rf / #", "$(id)`id`", "-x", "a\nb"]
    values += ["\\x41", "~", "*", "é—☃", "!x", ""]
    words = page.evaluate(
        "values => import('./command.js').then(m => values.map(m.quoted))", values
    )
    for value, word in zip(values, words, strict=True):
        told = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True)
        assert told.stdout.decode() == value
    assert all(word.isprintable() for word in words)


def test_a_link_leads_to_a_view_of_the_console_only(page: Page) -> None:
    refused = page.evaluate(
        """async () => {
            const { h } = await import("./dom.js");
            return ["javascript:alert(1)", "//evil.example", "data:text/html,x", "https:x"].map(
                href => { try { h("a", { href }); return href; } catch { return null; } });
        }"""
    )
    assert refused == [None] * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("15m", "2026-11-01T11:45:00.000Z"),
        ("1d2h", "2026-10-31T10:00:00.000Z"),
        ("2026-11-01", "2026-11-01T00:00Z"),
        ("2026-11-01 10:00", "2026-11-01T10:00Z"),
        ("2026-11-01T10:00:00+02:00", "2026-11-01T10:00:00+02:00"),
        ("m", None),
        ("2m1h", None),
        ("2026-13-01", None),
        ("", None),
        ("99999999w", None),
    ],
)
def test_times_are_read_as_the_command_reads_them_in_utc(
    page: Page, text: str, expected: str | None
) -> None:
    page.clock.set_fixed_time("2026-11-01T12:00:00Z")
    found = page.evaluate(
        """async text => {
            const { instant, NoTime } = await import("./time.js");
            try { return instant(text); } catch (error) {
                if (!(error instanceof NoTime)) throw error;
                return null;
            }
        }""",
        text,
    )
    assert found == expected
