/** A certificate found somewhere: was it issued here, to whom, on what proof, and what became of it. */

import { post } from "./api.js";
import { commandLine, quoted } from "./command.js";
import { fill, h } from "./dom.js";
import { entryTable } from "./entries.js";
import { certificateTable } from "./identity.js";
import { facts, field, heading, load, notice, panel } from "./page.js";
import { go, link } from "./route.js";
import { LONG, shown } from "./text.js";
import { time } from "./time.js";
import { tree } from "./tree.js";

/** As the server takes it. */
const MAXIMUM_PEM = 64 * 1024;
const TONES = /** @type {Record<string, string>} */ ({ issued: "good", authority: "good", ocsp_signer: "good", forged: "bad", unlogged: "bad" });
const PROOF = ["method", "cluster", "namespace", "service_account", "pod_name", "pod_uid", "node", "token_id"];

/**
 * @param {HTMLElement} place
 * @param {import("./route.js").Route} route
 * @param {AbortSignal} signal
 */
export async function show(place, route, signal) {
  const result = h("div", { class: "result" });
  const ask = (/** @type {object} */ asked) => load(result, signal, (mine) => post("../v1/audit/certificate", asked, mine), known);
  fill(place, heading("Certificate"), asking(route.what, (pem) => ask({ certificate: pem })), result);
  if (route.what !== "") await ask({ serial: route.what });
}

/**
 * @param {string} serial
 * @param {(pem: string) => void} judge
 */
function asking(serial, judge) {
  const input = h("input", { id: "serial", value: serial, placeholder: "a295d3a31f9f… or A2:95:D3:…", autocomplete: "off", spellcheck: false, required: true, maxLength: 128 });
  const form = h("form", { class: "asking" }, field("Serial", input), h("button", { type: "submit", class: "primary" }, "Show"));
  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    go(link("certificate", input.value.trim()));
  });
  return h("div", { class: "either" }, form, h("span", { class: "or" }, "or"), pemForm(judge));
}

/** @param {(pem: string) => void} judge */
function pemForm(judge) {
  const text = h("textarea", { id: "pem", rows: 2, placeholder: "-----BEGIN CERTIFICATE-----  Paste it, or drop the file here", spellcheck: false, maxLength: MAXIMUM_PEM });
  const wrong = h("span", { class: "why", role: "alert" });
  let newest = /** @type {File | undefined} */ (undefined);
  const form = h("form", { class: "asking pem" }, field("The certificate itself, in PEM", text), h("button", { type: "submit", class: "primary" }, "Judge it"), wrong);
  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    fill(wrong, text.value.trim() ? null : "paste a certificate, or drop its file");
    if (text.value.trim()) judge(text.value);
  });
  form.addEventListener("dragover", (/** @type {DragEvent} */ event) => event.preventDefault());
  form.addEventListener("drop", async (/** @type {DragEvent} */ event) => {
    event.preventDefault();
    const file = event.dataTransfer?.files[0];
    if (file === undefined) return;
    if (file.size > MAXIMUM_PEM) {
      fill(wrong, "this file is longer than any certificate");
      return;
    }
    newest = file;
    const read = await file.text();
    if (newest !== file) return;
    text.value = read;
    form.requestSubmit();
  });
  return form;
}

/** @param {any} answer */
function known(answer) {
  const { certificate: record, found } = answer;
  return [
    h("div", { id: "verdict", role: "status" }, notice(TONES[answer.verdict] ?? "warn", h("strong", {}, answer.verdict), h("p", {}, shown(answer.statement, { most: LONG })))),
    found && panel("What was shown", facts([
      ["subject", shown(found.subject || "empty", { most: LONG })],
      ["issuer", shown(found.issuer, { most: LONG })],
      ["valid", [time(found.not_before), " – ", time(found.not_after)]],
      ["SHA-256", h("code", {}, found.fingerprint)],
      ["signed by our authority", answer.signed_by && h("code", {}, answer.signed_by)],
    ])),
    record && onRecord(answer, record),
    commandLine(`meshca audit certificate ${found ? "found.pem" : quoted(answer.serial)}`),
  ];
}

/**
 * @param {any} answer
 * @param {any} record
 */
function onRecord(answer, record) {
  const { entry, authority, revocation } = answer;
  return [
    h(
      "div",
      { class: "columns" },
      panel("Issued", facts([
        ["identity", h("a", { href: link("identity", record.spiffe_id) }, shown(record.spiffe_id, { most: LONG }))],
        ["serial", h("code", {}, record.serial)],
        ["valid", [time(record.not_before), " – ", time(record.not_after)]],
        ["authority", authority ? [h("code", {}, authority.authority_id), ` (${authority.stage})`] : h("code", {}, record.authority_id)],
        ["in the log", place(entry, answer.logged)],
      ])),
      panel("On the proof of", facts(PROOF.map((name) => /** @type {const} */ ([name.replaceAll("_", " "), record[name] && shown(record[name], { most: LONG })])))),
    ),
    panel("Revocation", revocation ? revoked(revocation) : h("p", { class: "none" }, "Not revoked.")),
    answer.later.length > 0 && panel("What the same pod has had since", certificateTable(answer.later)),
    panel("Entries", answer.events.length ? entryTable(answer.events, new URLSearchParams({ serial: record.serial }), "Entries about the certificate") : h("p", { class: "none" }, "none"), answer.next !== null && h("a", { href: link("log", "", { serial: record.serial, order: "oldest" }) }, "All of them in the log")),
    record.pem && h("details", { class: "panel" }, h("summary", {}, "The certificate as issued"), h("pre", { tabIndex: 0 }, record.pem)),
  ];
}

/**
 * @param {any} entry
 * @param {boolean | null} logged
 */
function place(entry, logged) {
  if (entry === null) return "not named in the inventory";
  const words = entry.proven === true ? "proven by" : entry.proven === false ? "NOT what was signed in" : "not yet in";
  const said = logged === false ? ", which does not say that it was to be signed" : "";
  return [h("a", { href: link("entry", entry.index) }, `entry ${entry.index}`), `, ${words} ${entry.checkpoint === null ? "a checkpoint" : `checkpoint ${entry.checkpoint}`}${said}`];
}

/** @param {any} revocation */
function revoked(revocation) {
  const { decided, timeline } = revocation;
  return [
    facts([
      ["revoked at", time(revocation.revoked_at)],
      ["reason", shown(revocation.reason)],
      ["why", shown(decided.why, { most: LONG })],
      ["by", shown(decided.actor)],
      ["released at", revocation.released_at && time(revocation.released_at)],
      ["in force everywhere", timeline.in_force_at ? [time(timeline.in_force_at), timeline.milliseconds !== null && `, ${timeline.milliseconds} ms after it was decided`] : "not yet"],
    ]),
    h("details", {}, h("summary", {}, "Timeline"), tree(timeline)),
  ];
}
