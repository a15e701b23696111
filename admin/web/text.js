/**
 * Values of the log as text that shows what it is.
 *
 * What an entry holds was often claimed by a stranger. Control characters, characters that turn the
 * direction of writing, and those that are not seen, are written out by their number; each value is
 * isolated from what stands around it; long ones are cut, and shown whole on demand.
 */

import { h } from "./dom.js";

const ODD =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb]|[\u{e0000}-\u{e0fff}]|\p{Surrogate}/gu;

const NAMES = { "\n": "line feed", "\r": "carriage return", "\t": "tab", "\u001b": "escape", "\u0000": "nul" };

/** How many characters more are shown at once: browsers are slow to lay out much more. */
const STEP = 200_000;

/** The most characters of a value in a table, and where there is room. */
export const SHORT = 96;
export const LONG = 2_000;

/**
 * Return whether a command line, or a person, could take `text` for something else.
 *
 * @param {string} text
 */
export function isOdd(text) {
  return text.search(ODD) >= 0;
}

/**
 * Return `text` so that all of it is seen, cut at `most` characters.
 *
 * @param {unknown} value
 * @param {{most?: number, lines?: boolean}} [options] with `lines`, line feeds and tabs are themselves
 * @returns {HTMLElement}
 */
export function shown(value, { most = SHORT, lines = false } = {}) {
  const text = String(value);
  const made = h("bdi", { class: lines ? "value lines" : "value" });
  show(made, text, most, lines);
  return made;
}

/**
 * Let `made` show the first `most` characters of `text`, and a button for more.
 *
 * @param {HTMLElement} made
 * @param {string} text
 * @param {number} most
 * @param {boolean} lines
 */
function show(made, text, most, lines) {
  const cut = text.length > most ? text.slice(0, most).replace(/[\ud800-\udbff]$/, "") : text;
  made.replaceChildren(...pieces(cut, lines));
  if (cut === text) return;
  const isLast = text.length - most <= STEP;
  const words = isLast ? `show all ${number(text.length)} characters` : `show ${number(STEP)} more of ${number(text.length)} characters`;
  const more = h("button", { type: "button", class: "more" }, words);
  more.addEventListener("click", (/** @type {Event} */ event) => {
    event.preventDefault();
    event.stopPropagation();
    show(made, text, isLast ? text.length : most + STEP, lines);
  });
  made.append("… ", more);
}

/**
 * @param {string} text
 * @param {boolean} lines
 * @returns {(string | Node)[]}
 */
function pieces(text, lines) {
  /** @type {(string | Node)[]} */
  const made = [];
  let from = 0;
  for (const found of text.matchAll(ODD)) {
    const character = found[0];
    if (lines && (character === "\n" || character === "\t")) continue;
    if (found.index > from) made.push(text.slice(from, found.index));
    made.push(written(character));
    from = found.index + character.length;
  }
  made.push(text.slice(from));
  return made;
}

/** @param {string} character */
function written(character) {
  const code = (character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0");
  const name = /** @type {Record<string, string>} */ (NAMES)[character];
  return h("span", { class: "odd", title: name ? `U+${code}, ${name}` : `U+${code}` }, `U+${code}`);
}

/**
 * Return `count` with separators between thousands.
 *
 * @param {number} count
 */
export function number(count) {
  return count.toLocaleString("en-US");
}

/**
 * @param {number} count
 * @param {string} one
 * @param {string} [many]
 */
export function counted(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}
