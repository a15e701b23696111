/** The command that asks what a view shows, quoted so that a POSIX-like shell takes it as it is. */

import { h } from "./dom.js";
import { OFFERED } from "./filters.js";
import { isOdd } from "./text.js";

/**
 * Return `text` as one word of a shell.
 *
 * What a terminal would act on when it is pasted is written by its bytes, as bash and zsh read them.
 *
 * @param {string} text
 */
export function quoted(text) {
  if (isOdd(text)) {
    const bytes = [...new TextEncoder().encode(text)];
    return `$'${bytes.map(escaped).join("")}'`;
  }
  return /^[A-Za-z0-9_./:@%+,=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** @param {number} byte */
function escaped(byte) {
  const character = String.fromCharCode(byte);
  return /[A-Za-z0-9 _./:@%+,=-]/.test(character) ? character : `\\x${byte.toString(16).padStart(2, "0")}`;
}

/**
 * @param {string} option
 * @param {string | number} value
 */
function withValue(option, value) {
  const word = quoted(String(value));
  return word.startsWith("-") ? `${option}=${word}` : `${option} ${word}`;
}

/**
 * Return the `meshca audit query` of a request.
 *
 * @param {Record<string, string | number | null | undefined>} asked
 */
export function queryCommand(asked) {
  const words = ["meshca audit query"];
  for (const { name, option } of OFFERED) {
    const value = asked[name];
    if (value !== undefined && value !== null) words.push(withValue(option, value));
  }
  if (asked.group_by) words.push(withValue("--group-by", asked.group_by));
  if (asked.order === "oldest") words.push("--oldest-first");
  if (asked.limit && asked.limit !== 100) words.push(`--limit ${asked.limit}`);
  if (asked.cursor !== undefined && asked.cursor !== null) words.push(`--cursor ${asked.cursor}`);
  if (asked.follow) words.push("--follow");
  return words.join(" ");
}

/**
 * Return a line that shows `command`, and copies it.
 *
 * @param {string} command
 * @param {string} [label]
 */
export function commandLine(command, label = "The same on the command line") {
  const text = h("code", { tabIndex: 0 }, command);
  const said = h("span", { class: "sr", role: "status" });
  const button = h("button", { type: "button", class: "quiet" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command);
      button.textContent = said.textContent = "Copied";
    } catch {
      getSelection()?.selectAllChildren(text);
      button.textContent = said.textContent = "Selected";
    }
  });
  return h("div", { class: "command", role: "group", "aria-label": label }, h("span", { class: "prompt", "aria-hidden": "true" }, "$"), text, button, said);
}
