/** Tables that become cards where the window is narrow; the roles stay those of a table. */

import { h } from "./dom.js";

/**
 * @param {string} caption for those who do not see it
 * @param {readonly string[]} columns
 * @param {import("./dom.js").Child[][]} rows
 * @param {string} [kind]
 */
export function table(caption, columns, rows, kind = "") {
  const head = columns.map((name) => h("th", { scope: "col", role: "columnheader" }, name));
  return h(
    "div",
    { class: `scroll ${kind}` },
    h(
      "table",
      { role: "table", "aria-label": caption },
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, head)),
      h("tbody", { role: "rowgroup" }, rows.map((cells) => row(columns, cells))),
    ),
  );
}

/**
 * @param {readonly string[]} columns
 * @param {import("./dom.js").Child[]} cells
 */
export function row(columns, cells) {
  return h(
    "tr",
    { role: "row" },
    cells.map((cell, at) => h("td", { role: "cell", "data-label": columns[at], class: `c-${columns[at].replaceAll(" ", "-")}` }, cell)),
  );
}
