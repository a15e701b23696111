/** Entries as rows. A value is a link that adds it as a filter; the number leads to the entry. */

import { h } from "./dom.js";
import { canFilter } from "./filters.js";
import { link } from "./route.js";
import { row, table } from "./table.js";
import { shown } from "./text.js";
import { time } from "./time.js";

/** @typedef {Record<string, any>} Entry */

export const COLUMNS = ["index", "time", "kind", "outcome", "about", "actor", "where", "reason"];
const PLACES = ["cluster", "namespace", "service_account", "pod", "node"];

/**
 * Return a link that adds a filter to those of `query`, and begins at the first page again.
 *
 * @param {URLSearchParams} query
 * @param {string} name
 * @param {any} value
 * @param {import("./dom.js").Child} [label]
 */
export function adding(query, name, value, label) {
  const text = label ?? shown(value);
  if (value === "" || value === null || value === undefined) return null;
  if (!canFilter(value)) return h("span", {}, text);
  const added = new URLSearchParams(query);
  for (const gone of ["cursor", "back", "group_by"]) added.delete(gone);
  added.set(name, value);
  return h("a", { class: "add", href: link("log", "", added), title: `only ${name} like this` }, text);
}

/** @param {string} outcome */
export function outcome(outcome) {
  const known = ["done", "refused", "failed"].includes(outcome) ? outcome : "other";
  return h("span", { class: `outcome ${known}` }, shown(outcome));
}

/**
 * @param {Entry} entry
 * @param {URLSearchParams} query
 */
export function entryRow(entry, query) {
  return row(COLUMNS, cells(entry, query));
}

/**
 * @param {readonly Entry[]} entries
 * @param {URLSearchParams} query
 * @param {string} caption
 */
export function entryTable(entries, query, caption) {
  const made = table(caption, COLUMNS, entries.map((entry) => cells(entry, query)), "entries");
  if (entries.length) narrow(made);
  return made;
}

/**
 * Give the room of columns in which nothing stands to the others.
 *
 * @param {HTMLElement} made
 */
function narrow(made) {
  for (const column of ["about", "actor", "where", "reason"]) {
    const cells = [...made.querySelectorAll(`.c-${column}`)];
    if (cells.every((cell) => cell.textContent === "")) made.classList.add(`no-${column}`);
  }
}

/**
 * @param {Entry} entry
 * @param {URLSearchParams} query
 * @returns {import("./dom.js").Child[]}
 */
function cells(entry, query) {
  const index = h("a", { class: "index", href: link("entry", entry.index), "aria-label": `entry ${entry.index}` }, String(entry.index));
  const kind = adding(query, "kind", entry.kind);
  if (entry.redacted) {
    const why = h("span", { class: "redacted", title: "the rules of retention removed its body; its hash is still in the log" }, "redacted");
    return [index, time(entry.time), kind, "", why, "", "", ""];
  }
  const isAboutItself = entry.actor !== "" && entry.actor === entry.spiffe_id;
  return [
    index,
    time(entry.time),
    kind,
    adding(query, "outcome", entry.outcome, outcome(entry.outcome)),
    about(entry, query),
    isAboutItself ? h("span", { class: "none", title: "the identity itself" }, "itself") : adding(query, "actor", entry.actor, name(entry.actor)),
    where(entry, query),
    reason(entry, query),
  ];
}

/**
 * @param {Entry} entry
 * @param {URLSearchParams} query
 */
function about(entry, query) {
  const parts = [adding(query, "spiffe_id", entry.spiffe_id, name(entry.spiffe_id))];
  if (entry.destination) parts.push(h("span", { class: "to" }, " → ", adding(query, "destination", entry.destination)));
  if (entry.serial && !entry.spiffe_id) parts.push(adding(query, "serial", entry.serial));
  if (!entry.spiffe_id && !entry.serial && !entry.destination) parts.push(h("span", { class: "said" }, summary(entry)));
  return parts;
}

/** @param {Entry} entry */
function summary(entry) {
  const { route, summary: said, what, stage, step, replica } = entry.details ?? {};
  const found = [route, said, what, stage, step, replica].find((each) => typeof each === "string" && each !== "");
  return found === undefined ? null : shown(found);
}

/**
 * Return a SPIFFE ID of which the part that differs stands out.
 *
 * @param {string} text
 */
function name(text) {
  const parts = typeof text === "string" ? /^(spiffe:\/\/[^/]{1,100})(\/.{1,120})$/s.exec(text) : null;
  if (parts === null) return shown(text);
  return [h("span", { class: "domain" }, shown(parts[1])), shown(parts[2])];
}

/**
 * @param {Entry} entry
 * @param {URLSearchParams} query
 */
function where(entry, query) {
  const isNamed = typeof entry.spiffe_id === "string" && entry.spiffe_id.includes(`/ns/${entry.namespace}/`);
  const place = (isNamed ? ["cluster", "pod"] : ["cluster", "namespace", "pod"]).flatMap((each) => (entry[each] ? [adding(query, each, entry[each])] : []));
  const rest = PLACES.filter((each) => entry[each]).map((each) => `${each} ${String(entry[each]).slice(0, 80)}`);
  return h("span", { class: "places", title: rest.join("\n") }, place.flatMap((each, at) => (at ? [" / ", each] : [each])));
}

/**
 * @param {Entry} entry
 * @param {URLSearchParams} query
 */
function reason(entry, query) {
  const message = entry.details?.message;
  const parts = [entry.reason && adding(query, "reason", entry.reason)];
  if (typeof message === "string" && message) parts.push(h("span", { class: "said" }, entry.reason ? " " : "", shown(message)));
  return parts;
}
