/** The shell: who asks, the way to each view, and one view at a time. */

import { get } from "./api.js";
import * as at from "./at.js";
import * as certificate from "./certificate.js";
import { fill, h } from "./dom.js";
import * as entry from "./entry.js";
import * as identity from "./identity.js";
import * as log from "./log.js";
import { heading, notice } from "./page.js";
import * as report from "./report.js";
import { link, parseRoute } from "./route.js";
import * as state from "./state.js";
import { shown } from "./text.js";

/** @typedef {(place: HTMLElement, route: import("./route.js").Route, signal: AbortSignal) => Promise<void>} Show */

/** @type {Record<string, {label: string, show: Show, isHidden?: boolean}>} */
const VIEWS = {
  log: { label: "Log", show: log.show },
  entry: { label: "Entry", show: entry.show, isHidden: true },
  identity: { label: "Identity", show: identity.show },
  certificate: { label: "Certificate", show: certificate.show },
  at: { label: "At a time", show: at.show },
  report: { label: "Report", show: report.show },
  state: { label: "State", show: state.show },
};

/** How long the view before stays while the next one has nothing to show. */
const SWAP_MILLISECONDS = 250;

const main = /** @type {HTMLElement} */ (document.getElementById("main"));
let leaving = new AbortController();
let view = "";

/** Show what the address says; the view before is left at once. */
async function open() {
  const route = parseRoute(location.hash);
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const place = h("div", { class: `view ${route.view in VIEWS ? route.view : "unknown"}` });
  nav(route.view);
  const shown = route.view in VIEWS ? VIEWS[route.view].show(place, route, signal) : unknown(place);
  await Promise.race([shown, new Promise((resolve) => setTimeout(resolve, SWAP_MILLISECONDS))]);
  if (!signal.aborted) swap(place, route.view);
  await shown;
}

/**
 * Put `place` where the view before was; the focus stays on what is there again, or is at the title.
 *
 * @param {HTMLElement} place
 * @param {string} name
 */
function swap(place, name) {
  const held = document.activeElement;
  const wasInside = held !== null && main.contains(held);
  const id = wasInside ? held.id : "";
  const isOther = view !== name;
  view = name;
  fill(main, place);
  const again = id ? document.getElementById(id) : null;
  if (again !== null && !isOther) again.focus();
  else if (wasInside || isOther) document.getElementById("title")?.focus({ preventScroll: !isOther });
  if (isOther) window.scrollTo(0, 0);
}

/** @param {HTMLElement} place */
async function unknown(place) {
  fill(place, heading("No such view"), notice("warn", h("p", {}, "This link leads to nothing that the console has."), h("a", { href: link("log") }, "To the log")));
}

/** @param {string} current */
function nav(current) {
  const offered = Object.entries(VIEWS).filter(([, { isHidden }]) => !isHidden);
  const here = VIEWS[current]?.isHidden ? "log" : current;
  fill(/** @type {Element} */ (document.getElementById("nav")), offered.map(([name, { label }]) => h("a", { href: link(name), "aria-current": name === here ? "page" : null }, label)));
}

/** Say in the head whose mesh this is, and as whom one looks at it. */
async function introduce() {
  const who = /** @type {HTMLElement} */ (document.getElementById("who"));
  try {
    const me = await get("../v1/whoami");
    fill(who, h("span", { class: "actor", title: `proven by ${me.proof}` }, shown(me.actor, { most: 80 })), me.roles.map((/** @type {string} */ role) => h("span", { class: "role" }, role)));
    const status = await get("../v1/status");
    fill(/** @type {Element} */ (document.getElementById("trust-domain")), shown(status.trust_domain, { most: 80 }));
  } catch {
    fill(who, who.hasChildNodes() ? [...who.childNodes] : h("span", { class: "none" }, "not known who you are"));
  }
}

document.getElementById("skip")?.addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("title")?.focus();
});
window.addEventListener("hashchange", open);
void introduce();
void open();
