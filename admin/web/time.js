/** Times: shown in UTC with the local time as title; read as RFC 3339 or as an age such as 15m. */

import { h } from "./dom.js";

const AGE = /^(?=\d)(?:(\d{1,9})w)?(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?$/;
const SECONDS = [604_800, 86_400, 3_600, 60, 1];
const WITHOUT_ZONE = /^\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?$/;
const RFC_3339 = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)$/i;

/** What is neither a time nor an age. */
export class NoTime extends Error {}

/** @param {string} text */
export function isAge(text) {
  return AGE.test(text.trim());
}

/**
 * Return `text` as it is kept in links: an age as it is, a time with its zone (UTC if it has none).
 *
 * @param {string} text
 * @throws {NoTime}
 */
export function spelledTime(text) {
  const time = text.trim();
  if (isAge(time)) return time;
  if (WITHOUT_ZONE.test(time)) return checked(`${time.length === 10 ? `${time}T00:00` : time}Z`, text);
  return checked(time, text);
}

/**
 * Return `text`, a time or how long ago, in RFC 3339.
 *
 * @param {string} text
 * @throws {NoTime}
 */
export function instant(text) {
  const time = spelledTime(text);
  const age = AGE.exec(time);
  if (age === null) return time;
  const seconds = SECONDS.reduce((sum, unit, at) => sum + unit * Number(age[at + 1] ?? 0), 0);
  const then = new Date(Date.now() - seconds * 1000);
  if (Number.isNaN(then.getTime()) || then.getUTCFullYear() < 1) throw new NoTime(`${text} is too long ago`);
  return then.toISOString();
}

/**
 * @param {string} time
 * @param {string} given
 */
function checked(time, given) {
  if (!RFC_3339.test(time) || Number.isNaN(Date.parse(time))) {
    throw new NoTime(`“${given.slice(0, 80)}” is neither a time like 2026-11-01T12:00:00Z nor an age like 15m or 2h`);
  }
  return time.replace(" ", "T");
}

/**
 * Return a time of the server as an element: UTC to the second, local time and fractions as title.
 *
 * @param {string | null | undefined} text
 * @param {{date?: boolean}} [options]
 */
export function time(text, { date = true } = {}) {
  if (!text) return h("span", { class: "none" }, "–");
  const then = new Date(text);
  if (Number.isNaN(then.getTime())) return h("span", {}, text);
  const utc = then.toISOString();
  const shown = date ? `${utc.slice(0, 10)} ${utc.slice(11, 19)}` : utc.slice(11, 19);
  const local = then.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
  return h("time", { dateTime: text, title: `${text}\nhere: ${local}` }, shown);
}
