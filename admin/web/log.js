/** The log: entries by filters, page by page; how many have each value; or those that come. */

import { get } from "./api.js";
import { commandLine, queryCommand } from "./command.js";
import { fill, h } from "./dom.js";
import { entryTable } from "./entries.js";
import { complaint, FilterBar, unsearched, without } from "./filter_bar.js";
import { given, GROUPS, TIMES } from "./filters.js";
import { follow } from "./follow.js";
import { countWords, groups } from "./groups.js";
import { heading, load } from "./page.js";
import { around, asked, placeOf } from "./pages.js";
import { go, link } from "./route.js";
import { counted, number } from "./text.js";
import { instant, isAge, NoTime } from "./time.js";

/** @typedef {import("./route.js").Route} Route */
/** @typedef {import("./pages.js").Place} Place */

const SIZES = [50, 100, 250, 500];

/**
 * @param {HTMLElement} place
 * @param {Route} route
 * @param {AbortSignal} signal
 */
export async function show(place, route, signal) {
  const { query } = route;
  const bar = new FilterBar(query);
  const result = h("div", { class: "result" });
  fill(place, heading("Audit log", modes(query)), bar.element, result);
  listenForSlash(bar, signal);
  const filters = resolved(query, bar);
  if (filters === null) {
    fill(result, unsearched());
    return;
  }
  if (query.get("follow") === "1") await follow(result, query, filters, bar, signal);
  else if (query.get("group_by") !== null) await groups(result, query, filters, bar, signal);
  else await page(result, query, filters, bar, signal);
}

/**
 * @param {HTMLElement} place
 * @param {URLSearchParams} query
 * @param {Filters} filters
 * @param {FilterBar} bar
 * @param {AbortSignal} signal
 */
async function page(place, query, filters, bar, signal) {
  const at = placeOf(query);
  const limit = sizeOf(query);
  const sent = { ...filters.sent, ...asked(at), limit };
  const command = commandLine(queryCommand({ ...filters.typed, ...asked(at), limit }));
  const work = (/** @type {AbortSignal} */ mine) => get("../v1/audit/entries", sent, mine);
  await load(place, signal, work, (answer) => found(answer, at, limit, query, filters, command, signal), { onError: complaint(bar) });
}

/**
 * @param {any} answer
 * @param {Place} at
 * @param {number} limit
 * @param {URLSearchParams} query
 * @param {Filters} filters
 * @param {HTMLElement} command
 * @param {AbortSignal} signal
 */
function found(answer, at, limit, query, filters, command, signal) {
  const entries = at.isBack ? [...answer.entries].reverse() : answer.entries;
  const { before, after } = around(at, answer.next);
  const isCut = answer.next !== null && answer.entries.length < limit;
  const [way, next] = asked(at).order === "newest" ? ["down", "Older"] : ["up", "Newer"];
  const turns = () => pager(query, at, before, after);
  return [
    h("div", { class: "tools" }, range(entries, answer.size), counter(filters, signal), sizes(query, limit), turns()),
    entries.length ? entryTable(entries, query, "Entries of the audit log") : nothing(filters, answer, isCut),
    isCut && h("p", { class: "notice warn", role: "status" }, `Searched so far, ${way} to entry ${number(answer.next)}: what is asked for has to be read, and one answer reads 100,000 entries at most. Go on with “${next}”.`),
    entries.length > 20 && h("div", { class: "tools" }, turns()),
    command,
  ];
}

/**
 * @param {any[]} entries
 * @param {number} size
 */
function range(entries, size) {
  const of = `of ${counted(size, "entry", "entries")} in the log`;
  if (!entries.length) return h("span", { class: "range" }, `none ${of}`);
  return h("span", { class: "range" }, `${number(entries[0].index)} – ${number(entries[entries.length - 1].index)} `, h("span", { class: "quiet" }, of));
}

/**
 * Return a button that counts: it is a question of its own, on record like every other.
 *
 * @param {Filters} filters
 * @param {AbortSignal} signal
 */
function counter(filters, signal) {
  const place = h("span", { class: "count", id: "count", "aria-live": "polite" });
  const button = h("button", { type: "button", class: "quiet" }, "Count all");
  button.addEventListener("click", () => {
    load(place, signal, (mine) => get("../v1/audit/count", filters.sent, mine), (answer) => h("span", {}, countWords(answer)));
  });
  place.append(button);
  return place;
}

/**
 * @param {Filters} filters
 * @param {any} answer
 * @param {boolean} isCut
 */
function nothing(filters, answer, isCut) {
  const said = filters.shown.map(([name, value]) => h("li", {}, `${name} `, h("code", {}, value)));
  return h(
    "div",
    { class: "empty", role: "status" },
    h("strong", {}, isCut ? "Nothing found so far" : "No entry matches"),
    said.length ? [h("p", {}, `Searched ${counted(answer.size, "entry", "entries")} for all of:`), h("ul", {}, said)] : h("p", {}, "There is nothing on this page of the log."),
  );
}

/**
 * @param {URLSearchParams} query
 * @param {Place} at
 * @param {Place | null} before
 * @param {Place | null} after
 */
function pager(query, at, before, after) {
  const [back, on] = at.order === "newest" ? ["‹ Newer", "Older ›"] : ["‹ Older", "Newer ›"];
  const turn = (/** @type {Place | null} */ to, /** @type {string} */ text) => (to === null ? h("span", { class: "turn off", "aria-disabled": "true" }, text) : h("a", { class: "turn", href: pageLink(query, to) }, text));
  const otherWay = without(query, []);
  if (at.order === "newest") otherWay.set("order", "oldest");
  else otherWay.delete("order");
  return h(
    "nav",
    { class: "pager", "aria-label": "Pages" },
    h("a", { class: "turn", href: link("log", "", otherWay) }, at.order === "newest" ? "Newest first ↓" : "Oldest first ↑"),
    at.cursor !== null && h("a", { class: "turn", href: link("log", "", without(query, [])) }, "« First page"),
    turn(before, back),
    turn(after, on),
  );
}

/**
 * @param {URLSearchParams} query
 * @param {Place} to
 */
function pageLink(query, to) {
  const there = without(query, []);
  there.set("cursor", String(to.cursor));
  if (to.isBack) there.set("back", "1");
  return link("log", "", there);
}

/** @param {URLSearchParams} query */
function sizeOf(query) {
  const limit = Number(query.get("limit") ?? 100);
  return Number.isInteger(limit) && limit >= 1 && limit <= 1_000 ? limit : 100;
}

/**
 * @param {URLSearchParams} query
 * @param {number} limit
 */
function sizes(query, limit) {
  const offered = [...new Set([...SIZES, limit])].sort((one, two) => one - two);
  const select = h("select", { id: "page-size", "aria-label": "Rows on a page" }, offered.map((size) => h("option", { value: String(size), selected: size === limit }, `${size} rows`)));
  select.addEventListener("change", () => {
    const there = without(query, []);
    there.set("limit", select.value);
    go(link("log", "", there));
  });
  return select;
}

/** @param {URLSearchParams} query */
function modes(query) {
  const plain = without(query, ["follow", "group_by"]);
  const stream = without(query, ["group_by", "order", "until"]);
  stream.set("follow", "1");
  const by = query.get("group_by");
  const mode = query.get("follow") === "1" ? "follow" : by !== null ? "groups" : "entries";
  const current = (/** @type {string} */ name) => (name === mode ? "page" : null);
  const options = GROUPS.map((each) => h("option", { value: each.name, selected: each.name === by }, `by ${each.label}`));
  const group = h("select", { id: "group-by", class: mode === "groups" ? "current" : "", "aria-label": "Count by" }, h("option", { value: "", selected: by === null }, "Count by …"), options);
  group.addEventListener("change", () => {
    const there = without(query, ["follow", "group_by"]);
    if (group.value) there.set("group_by", group.value);
    go(link("log", "", there));
  });
  return h(
    "nav",
    { class: "modes", "aria-label": "Ways to look" },
    h("a", { href: link("log", "", plain), id: "mode-entries", "aria-current": current("entries") }, "Entries"),
    group,
    h("a", { href: link("log", "", stream), id: "mode-follow", "aria-current": current("follow") }, h("span", { class: "dot", "aria-hidden": "true" }), "Follow"),
  );
}

/**
 * @typedef {object} Filters
 * @property {Record<string, string>} sent to the API
 * @property {Record<string, string>} typed for the command, which takes ages itself
 * @property {[string, string][]} shown to people
 */

/**
 * Return the filters of `query`, or null if a time is none, which is said at its chip.
 *
 * @param {URLSearchParams} query
 * @param {FilterBar} bar
 * @returns {Filters | null}
 */
function resolved(query, bar) {
  const filters = /** @type {Filters} */ ({ sent: {}, typed: {}, shown: [] });
  let isWrong = false;
  for (const [{ name, label }, value] of given(query)) {
    try {
      const sent = TIMES.includes(name) ? instant(value) : value;
      filters.sent[name] = sent;
      filters.typed[name] = TIMES.includes(name) && !isAge(value) ? sent : value;
      filters.shown.push([label, value]);
    } catch (error) {
      if (!(error instanceof NoTime)) throw error;
      isWrong = bar.complain(name, error.message);
    }
  }
  return isWrong ? null : filters;
}

/**
 * @param {FilterBar} bar
 * @param {AbortSignal} signal
 */
function listenForSlash(bar, signal) {
  const listen = (/** @type {KeyboardEvent} */ event) => {
    const isTyping = event.target instanceof Element && event.target.closest("input, select, textarea") !== null;
    if (event.key !== "/" || event.ctrlKey || event.altKey || event.metaKey || isTyping) return;
    event.preventDefault();
    bar.opener.click();
  };
  document.addEventListener("keydown", listen, { signal });
}
