/** What every view has: headings, waiting, errors that say what to do, and what is empty. */

import { ApiError } from "./api.js";
import { fill, h } from "./dom.js";
import { words } from "./filters.js";
import { shown } from "./text.js";

/** How long something may take before it is said that it does. */
const PATIENCE_MILLISECONDS = 300;

const ADVICE = /** @type {Record<string, string>} */ ({
  unreachable: "See whether the server runs (meshca status), and whether “meshca console” still does; then try again.",
  unauthenticated: "Your proof has ended or is not accepted. Renew the certificate or the token, and reload the page.",
  permission_denied: "Ask an administrator for a role that may do this (admin.roles): auditor, operator or admin.",
  overloaded: "The server is doing as much of this as it takes at once. Wait a moment, then try again.",
  unavailable: "Something that the server needs does not answer. Try again; “meshca status” says what is wrong.",
  evidence_broken: "Somebody has changed the log. Run “meshca audit verify”, and follow docs/runbooks/audit-log.md.",
  wrong_entry: "What answers is not the log that was asked. Run “meshca audit verify”, and follow docs/runbooks/audit-log.md.",
  cross_site: "Open the console from its own address, not from a link on another site.",
});

/**
 * Return a heading of a view, that the keyboard can come to.
 *
 * @param {string} title
 * @param {...import("./dom.js").Child} beside
 */
export function heading(title, ...beside) {
  document.title = `${title} · meshca`;
  return h("div", { class: "heading" }, h("h1", { id: "title", tabIndex: -1 }, title), beside);
}

/** What is being asked for each place. @type {WeakMap<Element, AbortController>} */
const asking = new WeakMap();

/**
 * Return the signal of a new question for `place`, which ends the one before; `signal` ends both.
 *
 * @param {Element} place
 * @param {AbortSignal} signal
 */
function begin(place, signal) {
  asking.get(place)?.abort();
  const mine = new AbortController();
  asking.set(place, mine);
  signal.addEventListener("abort", () => mine.abort(), { signal: mine.signal });
  if (signal.aborted) mine.abort();
  return mine.signal;
}

/**
 * Fill `place` with what `work` makes; say that it takes long, or what went wrong.
 *
 * What stood there goes away at once, and an answer to an earlier question never comes. `onError` may
 * say an error elsewhere, and then returns what stands here instead.
 *
 * @template Answer
 * @param {Element} place
 * @param {AbortSignal} signal
 * @param {(signal: AbortSignal) => Promise<Answer>} work ends with its signal
 * @param {(answer: Answer) => import("./dom.js").Child} show
 * @param {{onError?: (error: ApiError) => import("./dom.js").Child, waiting?: string}} [options]
 */
export async function load(place, signal, work, show, { onError, waiting = "" } = {}) {
  const mine = begin(place, signal);
  let done = () => {};
  fill(place);
  const late = setTimeout(() => {
    if (mine.aborted) return;
    done = busy();
    fill(place, h("p", { class: "waiting", role: "status" }, waiting || "Asking the server …"));
  }, PATIENCE_MILLISECONDS);
  place.setAttribute("aria-busy", "true");
  try {
    const answer = await work(mine);
    if (!mine.aborted) fill(place, show(answer));
  } catch (error) {
    if (mine.aborted) return;
    const said = error instanceof ApiError ? error : new ApiError(-1, "page", String(/** @type {Error} */ (error)?.message ?? error));
    fill(place, onError?.(said) || problem(said, () => load(place, signal, work, show, { onError, waiting })));
  } finally {
    clearTimeout(late);
    done();
    if (asking.get(place)?.signal === mine) place.removeAttribute("aria-busy");
  }
}

let waitingNow = 0;

/** Show that something takes long; return what ends that. */
function busy() {
  const sign = /** @type {HTMLElement} */ (document.getElementById("busy"));
  waitingNow += 1;
  sign.hidden = false;
  return () => {
    waitingNow -= 1;
    sign.hidden = waitingNow === 0;
  };
}

/**
 * Return what went wrong, and what to do.
 *
 * @param {ApiError} error
 * @param {(() => void) | null} [again]
 */
export function problem(error, again = null) {
  const retry = again !== null && h("button", { type: "button", on: { click: again } }, "Try again");
  return h(
    "div",
    { class: "notice bad", role: "alert" },
    h("strong", {}, TITLES[error.status] ?? "That did not work"),
    h("p", {}, shown(words(error), { most: 2_000 })),
    ADVICE[error.code] && h("p", { class: "advice" }, ADVICE[error.code]),
    retry,
  );
}

const TITLES = /** @type {Record<number, string>} */ ({
  0: "No answer",
  400: "The server does not take that",
  401: "Not signed in",
  403: "Not allowed",
  404: "There is no such thing",
  409: "Not now",
  429: "Too much at once",
  503: "Not available",
});

/**
 * Return pairs as a list of definitions; pairs without a value are left out.
 *
 * @param {(readonly [string, import("./dom.js").Child])[]} pairs
 * @param {string} [kind]
 */
export function facts(pairs, kind = "facts") {
  const given = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false);
  return h("dl", { class: kind }, given.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/**
 * Return a part of a view.
 *
 * @param {string} title
 * @param {...import("./dom.js").Child} content
 */
export function panel(title, ...content) {
  return h("section", { class: "panel", "aria-label": title }, h("h2", {}, title), content);
}

/**
 * Return a field with its label, and where its mistake is said.
 *
 * @param {string} label
 * @param {HTMLElement} input
 * @param {string} [hint]
 */
export function field(label, input, hint = "") {
  return h("label", { class: "field" }, h("span", {}, label), input, hint && h("small", {}, hint));
}

/**
 * Return something to say of `tone`: good, warn or bad.
 *
 * @param {string} tone
 * @param {...import("./dom.js").Child} content
 */
export function notice(tone, ...content) {
  return h("div", { class: `notice ${tone}` }, content);
}

/**
 * Give `text` to the browser to save as `name`.
 *
 * @param {string} name
 * @param {string} text
 * @param {AbortSignal} signal with which the link ends
 */
export function download(name, text, signal) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/octet-stream" }));
  signal.addEventListener("abort", () => URL.revokeObjectURL(url));
  return h("a", { class: "button", href: url, download: name }, name);
}
