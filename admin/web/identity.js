/** The whole life of an identity: certificates, entries, bans. */

import { get } from "./api.js";
import { commandLine, quoted } from "./command.js";
import { fill, h } from "./dom.js";
import { entryTable } from "./entries.js";
import { facts, field, heading, load, notice, panel } from "./page.js";
import { go, link } from "./route.js";
import { table } from "./table.js";
import { counted, LONG, number, shown } from "./text.js";
import { time } from "./time.js";

const CERTIFICATES = ["serial", "status", "from", "until", "pod", "node", "authority"];

/**
 * @param {HTMLElement} place
 * @param {import("./route.js").Route} route
 * @param {AbortSignal} signal
 */
export async function show(place, route, signal) {
  const result = h("div", { class: "result" });
  fill(place, heading("Identity"), asking(route.what), result);
  if (route.what === "") return;
  const cursor = route.query.get("cursor");
  const work = (/** @type {AbortSignal} */ mine) => get("../v1/audit/identity", { spiffe_id: route.what, cursor }, mine);
  await load(result, signal, work, (answer) => life(answer, cursor));
}

/** @param {string} value */
function asking(value) {
  const input = h("input", { id: "spiffe-id", name: "spiffe_id", value, placeholder: "spiffe://example.org/ns/shop/sa/orders", autocomplete: "off", spellcheck: false, required: true, maxLength: 2048 });
  const form = h("form", { class: "asking" }, field("SPIFFE ID", input), h("button", { type: "submit", class: "primary" }, "Show its life"));
  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    go(link("identity", input.value.trim()));
  });
  return form;
}

/**
 * @param {any} answer
 * @param {string | null} cursor
 */
function life(answer, cursor) {
  const { certificates: had, entries } = answer;
  const query = new URLSearchParams({ spiffe_id: answer.spiffe_id });
  const command = commandLine(`meshca audit identity ${quoted(answer.spiffe_id)}`);
  if (!answer.known) {
    return [notice("warn", h("strong", {}, "Nothing was ever recorded about it"), h("p", {}, "The log and the inventory have nothing of ", h("code", {}, shown(answer.spiffe_id, { most: LONG })), ". Look at its spelling: trust domain, namespace, service account.")), command];
  }
  return [
    h("h2", { class: "subject" }, shown(answer.spiffe_id, { most: LONG })),
    h(
      "div",
      { class: "figures" },
      figure("live certificates", had.live, had.live ? "good" : ""),
      figure("certificates ever", had.total),
      figure("revoked", had.revoked, had.revoked ? "bad" : ""),
      figure(entries.exact ? "entries" : "entries or more", entries.total),
      figure("bans in force", answer.bans.length, answer.bans.length ? "bad" : ""),
    ),
    panel("In short", facts([
      ["first entry", time(answer.first_entry)],
      ["last entry", time(answer.last_entry)],
      ["first certificate", time(had.first_at)],
      ["last one ends", time(had.last_until)],
      ["entries by kind", h("span", { class: "kinds" }, Object.entries(entries.by_kind).map(([kind, count]) => h("a", { href: link("log", "", { spiffe_id: answer.spiffe_id, kind }) }, `${kind} `, h("span", { class: "number" }, number(count)))))],
    ])),
    answer.bans.length > 0 && panel("Bans", answer.bans.map((/** @type {any} */ ban) => notice("bad", shown(ban.why, { most: LONG }), h("p", { class: "quiet" }, `${ban.ban}, by `, shown(ban.actor), ", since ", time(ban.since), ", until ", time(ban.until))))),
    panel(`Certificates, the newest ${number(had.newest.length)} of ${number(had.total)}`, certificateTable(had.newest)),
    panel("Entries", answer.events.length ? entryTable(answer.events, query, "Entries about the identity") : h("p", { class: "none" }, "none"), turns(answer, cursor)),
    command,
  ];
}

/**
 * @param {any} answer
 * @param {string | null} cursor
 */
function turns(answer, cursor) {
  if (cursor === null && answer.next === null) return null;
  return h(
    "nav",
    { class: "pager", "aria-label": "Pages" },
    cursor !== null && h("a", { class: "turn", href: link("identity", answer.spiffe_id) }, "« First page"),
    answer.next !== null && h("a", { class: "turn", href: link("identity", answer.spiffe_id, { cursor: answer.next }) }, "Older ›"),
  );
}

/**
 * @param {string} label
 * @param {number} value
 * @param {string} [tone]
 */
export function figure(label, value, tone = "") {
  return h("div", { class: `figure ${tone}` }, h("span", { class: "number" }, number(value)), h("span", {}, label));
}

/** @param {any[]} certificates of the inventory */
export function certificateTable(certificates) {
  if (!certificates.length) return h("p", { class: "none" }, "none");
  const rows = certificates.map((one) => [
    h("a", { href: link("certificate", one.serial), class: "index" }, shown(one.serial)),
    h("span", { class: `outcome ${one.revoked ? "failed" : "done"}` }, one.revoked ? "revoked" : shown(one.status)),
    time(one.not_before),
    time(one.not_after),
    shown(one.pod_name || one.pod_uid || "–"),
    shown(one.node || "–"),
    h("span", { class: "short", title: one.authority_id }, shown(one.authority_id)),
  ]);
  return table(counted(rows.length, "certificate"), CERTIFICATES, rows, "certificates");
}
