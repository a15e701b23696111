/**
 * What the address asked when the page was loaded, to be asked by a click.
 *
 * A link from elsewhere chooses the view, and every question is on record under the name of whoever's
 * browser it is; so nothing is asked that a person has not seen. From then on links are our own.
 */

import { fill, h } from "./dom.js";
import { heading, panel } from "./page.js";
import { LONG, shown } from "./text.js";

/**
 * @param {HTMLElement} place
 * @param {string} label of the view
 * @param {import("./route.js").Route} route
 * @param {() => void} ask
 */
export async function offer(place, label, route, ask) {
  const asked = [["of", route.what], ...route.query].filter(([, value]) => value !== "");
  const button = h("button", { type: "button", class: "primary", id: "ask", on: { click: ask } }, "Ask");
  fill(
    place,
    heading(label),
    h("p", { class: "lede" }, "The address of this page asks a question. It may have come from somebody else, and the answer is recorded as read by you: it is asked when you say so."),
    h("div", { class: "stack" }, panel("What is asked", h("dl", { class: "facts" }, asked.map(([name, value]) => h("div", {}, h("dt", {}, shown(name)), h("dd", {}, shown(value, { most: LONG })))))), h("p", {}, button)),
  );
}
