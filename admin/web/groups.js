/** How many entries have each value of a field; a value leads to its entries. */

import { get } from "./api.js";
import { commandLine, queryCommand } from "./command.js";
import { h } from "./dom.js";
import { adding } from "./entries.js";
import { complaint } from "./filter_bar.js";
import { load } from "./page.js";
import { table } from "./table.js";
import { counted, number } from "./text.js";

const MOST = 1_000;

/**
 * @param {HTMLElement} place
 * @param {URLSearchParams} query
 * @param {import("./log.js").Filters} filters
 * @param {import("./filter_bar.js").FilterBar} bar
 * @param {AbortSignal} signal
 */
export async function groups(place, query, filters, bar, signal) {
  const field = query.get("group_by") ?? "";
  const sent = { ...filters.sent, group_by: field, limit: MOST };
  const command = commandLine(queryCommand({ ...filters.typed, group_by: field, limit: MOST }));
  const work = (/** @type {AbortSignal} */ mine) => get("../v1/audit/count", sent, mine);
  await load(place, signal, work, (answer) => [...counts(answer, field, query), command], { onError: complaint(bar) });
}

/**
 * @param {any} answer
 * @param {string} field
 * @param {URLSearchParams} query
 */
function counts(answer, field, query) {
  const most = Math.max(1, ...answer.groups.map((/** @type {any} */ group) => group.count));
  const rows = answer.groups.map((/** @type {any} */ group) => [
    group.value === "" ? h("span", { class: "none" }, `no ${field.replaceAll("_", " ")}`) : adding(query, field, group.value),
    h("span", { class: "number" }, number(group.count)),
    bar(group.count, most, answer.count),
  ]);
  const more = answer.values > answer.groups.length && `; the first ${number(answer.groups.length)} are shown`;
  return [
    h("div", { class: "tools" }, h("span", { class: "range", role: "status" }, `${countWords(answer)}, ${counted(answer.values, "value")}${more || ""}`)),
    rows.length ? table(`Entries by ${field}`, [field.replaceAll("_", " "), "entries", "share"], rows, "groups") : h("div", { class: "empty" }, h("strong", {}, "No entry matches")),
  ];
}

/**
 * @param {number} count
 * @param {number} most
 * @param {number} all
 */
function bar(count, most, all) {
  const share = `${((100 * count) / Math.max(1, all)).toFixed(1)} %`;
  return h("span", { class: "bar" }, h("progress", { max: most, value: count, "aria-hidden": "true" }), h("span", { class: "number" }, share));
}

/** @param {any} answer */
export function countWords(answer) {
  const many = `${counted(answer.count, "entry", "entries")} match`;
  return answer.exact ? many : `at least ${many}: not exact, entries before ${number(answer.reached)} were not looked at`;
}
