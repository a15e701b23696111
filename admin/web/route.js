/** Every view is a link: `#/VIEW/WHAT?NAME=VALUE`. Nothing else holds what is shown. */

/**
 * @typedef {object} Route
 * @property {string} view
 * @property {string} what
 * @property {URLSearchParams} query
 */

/**
 * @param {string} hash
 * @returns {Route}
 */
export function parseRoute(hash) {
  const [path, ...rest] = hash.replace(/^#\/?/, "").split("?");
  const [view, ...what] = path.split("/");
  return { view: view || "log", what: decoded(what.join("/")), query: new URLSearchParams(rest.join("?")) };
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/**
 * Return the link to a view.
 *
 * @param {string} view
 * @param {string | number} [what]
 * @param {Record<string, string | number | null | undefined> | URLSearchParams} [query]
 */
export function link(view, what = "", query = {}) {
  const pairs = query instanceof URLSearchParams ? [...query] : Object.entries(query);
  const given = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  const said = given.map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(wellFormed(value))}`);
  const path = what === "" ? view : `${view}/${encodeURIComponent(wellFormed(what))}`;
  return `#/${path}${said.length ? `?${said.join("&")}` : ""}`;
}

/**
 * Return `value` without lone surrogates, which no URL can hold.
 *
 * @param {unknown} value
 */
function wellFormed(value) {
  return String(value).replace(/\p{Surrogate}/gu, "\ufffd");
}

/**
 * Go to a view; to be where one goes is to ask again.
 *
 * @param {string} to as `link` returns it
 */
export function go(to) {
  if (location.hash === to) dispatchEvent(new HashChangeEvent("hashchange"));
  else location.hash = to;
}

/**
 * Let a link to where one is ask again, as `go` does: a browser does nothing there.
 *
 * @param {MouseEvent} event
 */
export function follow(event) {
  const to = event.target instanceof Element ? event.target.closest("a")?.getAttribute("href") : null;
  if (to !== location.hash || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(to);
}
