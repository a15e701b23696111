/** A value of JSON as a tree: groups can be closed, texts are shown by text.js. */

import { h } from "./dom.js";
import { LONG, shown } from "./text.js";

/** Deeper is shown as JSON; the log nests no deeper than this. */
const DEEPEST = 12;

/**
 * @param {unknown} value
 * @param {(name: string, value: unknown) => import("./dom.js").Child} [linked] a link, or null
 * @param {string} [name]
 * @param {number} [depth]
 * @returns {HTMLElement}
 */
export function tree(value, linked = () => null, name = "", depth = 0) {
  if (value === null || typeof value !== "object" || depth === DEEPEST) return leaf(value, linked, name);
  const isList = Array.isArray(value);
  const pairs = Object.entries(value);
  if (pairs.length === 0) return h("span", { class: "none" }, isList ? "empty list" : "nothing");
  const items = pairs.map(([key, each]) => h("div", {}, h("dt", {}, shown(isList ? Number(key) + 1 : key, { most: 80 })), h("dd", {}, tree(each, linked, isList ? name : key, depth + 1))));
  const list = h("dl", { class: "tree" }, items);
  if (depth === 0) return list;
  const words = isList ? `${pairs.length} in the list` : `${pairs.length} ${pairs.length === 1 ? "field" : "fields"}`;
  return h("details", { open: pairs.length <= 24 }, h("summary", {}, words), list);
}

/**
 * @param {unknown} value
 * @param {(name: string, value: unknown) => import("./dom.js").Child} linked
 * @param {string} name
 */
function leaf(value, linked, name) {
  const link = linked(name, value);
  if (link) return h("span", {}, link);
  if (typeof value === "string") return value === "" ? h("span", { class: "none" }, "empty") : shown(value, { most: LONG, lines: true });
  return h("span", { class: "literal" }, shown(JSON.stringify(value), { most: LONG }));
}
