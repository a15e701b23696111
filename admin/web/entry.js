/** One entry: everything that is recorded, where it leads, and the proof that it is in the log. */

import { ApiError, get } from "./api.js";
import { commandLine } from "./command.js";
import { fill, h } from "./dom.js";
import { adding, outcome } from "./entries.js";
import { heading, load, notice, panel } from "./page.js";
import { prover } from "./prove.js";
import { link } from "./route.js";
import { LONG, shown } from "./text.js";
import { time } from "./time.js";
import { tree } from "./tree.js";

/** @typedef {Record<string, any>} Entry */

const FIELDS = [
  "spiffe_id", "actor", "reason", "serial", "fingerprint", "cluster", "namespace", "service_account",
  "pod", "node", "destination", "policy", "request_id",
];
const REST = ["index", "salt", "v", "leaf_hash"];
const SERIALS = ["serial", "serials", "renews", "proof_serial"];
const VERSIONS = ["policy_version", "before", "after", "version", "based_on"];

/**
 * @param {HTMLElement} place
 * @param {import("./route.js").Route} route
 * @param {AbortSignal} signal
 */
export async function show(place, route, signal) {
  const index = route.what;
  const result = h("div", { class: "result" });
  fill(place, heading(`Entry ${index}`, /^\d{1,15}$/.test(index) && neighbours(Number(index))), result);
  const work = async (/** @type {AbortSignal} */ mine) => asked(await get(`../v1/audit/entries/${encodeURIComponent(index)}`, {}, mine), Number(index));
  await load(result, signal, work, (entry) => whole(entry, Number(index), signal));
}

/**
 * Return `entry` if it is the one that was asked for.
 *
 * @param {Entry} entry
 * @param {number} index
 * @throws {ApiError}
 */
function asked(entry, index) {
  if (entry.index === index) return entry;
  throw new ApiError(-1, "wrong_entry", `entry ${index} was asked for, and the server answered with entry ${entry.index}`);
}

/** @param {number} index */
function neighbours(index) {
  return h(
    "nav",
    { class: "pager", "aria-label": "Neighbours" },
    index > 0 && h("a", { class: "turn", href: link("entry", index - 1) }, `‹ ${index - 1}`),
    h("a", { class: "turn", href: link("entry", index + 1) }, `${index + 1} ›`),
  );
}

/**
 * @param {Entry} entry
 * @param {number} index that was asked for
 * @param {AbortSignal} signal
 */
function whole(entry, index, signal) {
  const nothing = new URLSearchParams();
  const named = new Set(["time", "kind", "outcome", "details", "redacted", ...FIELDS, ...REST]);
  const others = Object.fromEntries(Object.entries(entry).filter(([name]) => !named.has(name)));
  return [
    h("div", { class: "summary" }, adding(nothing, "kind", entry.kind, h("span", { class: "kind" }, shown(entry.kind))), entry.outcome !== undefined && outcome(entry.outcome), h("span", {}, time(entry.time), h("span", { class: "quiet" }, " UTC"))),
    entry.redacted && notice("warn", h("strong", {}, "Redacted"), h("p", {}, "The rules of retention have removed the body of this entry. Its index, time, kind and leaf hash are left, and it can still be proven that it is in the log.")),
    h("div", { class: "columns" }, h("div", { class: "column" }, panel("Fields", fieldList(entry)), panel("In the tree", inTree(entry))), panel("Details", tree(entry.details ?? {}, linked))),
    Object.keys(others).length > 0 && panel("Other fields", tree(others)),
    panel("Proof", prover(entry, index, signal)),
    commandLine(`meshca audit show ${entry.index}`),
  ];
}

/** @param {Entry} entry */
function inTree(entry) {
  const there = REST.filter((name) => entry[name] !== undefined);
  return h("dl", { class: "facts" }, there.map((name) => pair(name.replaceAll("_", " "), h("code", {}, shown(entry[name])))));
}

/** @param {Entry} entry */
function fieldList(entry) {
  const nothing = new URLSearchParams();
  const filled = FIELDS.filter((name) => entry[name] !== undefined && entry[name] !== "");
  if (!filled.length) return h("p", { class: "none" }, "none");
  return h(
    "dl",
    { class: "facts" },
    filled.map((name) => pair(name.replaceAll("_", " "), [adding(nothing, name, entry[name], shown(entry[name], { most: LONG })), leading(name, entry[name])])),
  );
}

/**
 * @param {string} name
 * @param {import("./dom.js").Child} value
 */
function pair(name, value) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value));
}

/**
 * Return the way to what a field names.
 *
 * @param {string} name
 * @param {any} value
 */
function leading(name, value) {
  if ((name === "spiffe_id" || name === "actor") && isIdentity(value)) return h("a", { class: "lead", href: link("identity", value) }, "whole life ›");
  if (name === "serial" && isSerial(value)) return h("a", { class: "lead", href: link("certificate", value) }, "certificate ›");
  return null;
}

/**
 * Return what a value among the details leads to.
 *
 * @param {string} name
 * @param {unknown} value
 */
function linked(name, value) {
  if (SERIALS.includes(name) && isSerial(value)) return h("a", { href: link("certificate", String(value)) }, String(value));
  if (VERSIONS.includes(name) && isDigest(value)) return h("a", { href: link("log", "", { text: String(value) }), title: "entries that name this version" }, String(value));
  if (isIdentity(value) && String(value).length < 512) return h("a", { href: link("identity", String(value)) }, shown(value));
  return null;
}

/** @param {unknown} value */
function isSerial(value) {
  return typeof value === "string" && /^[0-9a-f]{1,40}$/.test(value);
}

/** @param {unknown} value */
function isDigest(value) {
  return typeof value === "string" && /^[0-9a-f]{8,64}$/.test(value);
}

/** @param {unknown} value */
export function isIdentity(value) {
  return typeof value === "string" && value.startsWith("spiffe://");
}
