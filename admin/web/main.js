/** The shell: who asks, the way to each view, and one view at a time. */

import { get } from "./api.js";
import * as at from "./at.js";
import * as certificate from "./certificate.js";
import { fill, h } from "./dom.js";
import * as entry from "./entry.js";
import * as identity from "./identity.js";
import * as log from "./log.js";
import { offer } from "./offer.js";
import { heading, notice } from "./page.js";
import * as report from "./report.js";
import { follow, link, parseRoute } from "./route.js";
import * as state from "./state.js";
import { shown } from "./text.js";

/** @typedef {import("./route.js").Route} Route */
/** @typedef {(place: HTMLElement, route: Route, signal: AbortSignal) => Promise<void>} Show */

const never = () => false;
const ofSomething = (/** @type {Route} */ { what }) => what !== "";

/**
 * `asks` says whether a view asks, as soon as it is there, what its link chose.
 *
 * @type {Record<string, {label: string, show: Show, asks: (route: Route) => boolean, isHidden?: boolean}>}
 */
const VIEWS = {
  log: { label: "Log", show: log.show, asks: ({ query }) => query.toString() !== "" },
  entry: { label: "Entry", show: entry.show, asks: ofSomething, isHidden: true },
  identity: { label: "Identity", show: identity.show, asks: ofSomething },
  certificate: { label: "Certificate", show: certificate.show, asks: ofSomething },
  at: { label: "At a time", show: at.show, asks: ({ query }) => query.has("time") },
  report: { label: "Report", show: report.show, asks: never },
  state: { label: "State", show: state.show, asks: never },
};

/** How long the view before stays while the next one has nothing to show. */
const SWAP_MILLISECONDS = 250;

/** What the browser's history keeps of a view that was chosen here: a reload, or going back, asks again. */
const CHOSEN = "chosen";

const main = /** @type {HTMLElement} */ (document.getElementById("main"));
let leaving = new AbortController();
let view = "";

/**
 * Show what the address says; the view before is left at once.
 *
 * @param {boolean} isChosen here: what a link from elsewhere may have chosen is not asked by itself
 */
async function open(isChosen) {
  const route = parseRoute(location.hash);
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const found = Object.hasOwn(VIEWS, route.view) ? VIEWS[route.view] : null;
  const place = h("div", { class: `view ${found ? route.view : "unknown"}` });
  nav(route.view);
  if (isChosen) history.replaceState(CHOSEN, "");
  const shown = found === null ? unknown(place) : isChosen || !found.asks(route) ? found.show(place, route, signal) : offer(place, found.label, route, () => open(true));
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
  else if (wasInside || isOther) (document.getElementById("ask") ?? document.getElementById("title"))?.focus({ preventScroll: !isOther });
  if (isOther) window.scrollTo(0, 0);
}

/** @param {HTMLElement} place */
async function unknown(place) {
  fill(place, heading("No such view"), notice("warn", h("p", {}, "This link leads to nothing that the console has."), h("a", { href: link("log") }, "To the log")));
}

/** @param {string} current */
function nav(current) {
  const offered = Object.entries(VIEWS).filter(([, { isHidden }]) => !isHidden);
  const here = Object.hasOwn(VIEWS, current) && VIEWS[current].isHidden ? "log" : current;
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
document.addEventListener("click", follow);
window.addEventListener("hashchange", () => open(true));
void introduce();
void open(history.state === CHOSEN);
