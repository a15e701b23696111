/** The report of a period: made and signed by the server, saved as three files. */

import { post } from "./api.js";
import { commandLine } from "./command.js";
import { fill, h } from "./dom.js";
import { download, facts, field, heading, load, notice, panel } from "./page.js";
import { table } from "./table.js";
import { counted, number, shown } from "./text.js";
import { instant, NoTime, time } from "./time.js";

const FILES = ["report.json", "report.html", "report.sig"];

/**
 * @param {HTMLElement} place
 * @param {import("./route.js").Route} route
 * @param {AbortSignal} signal
 */
export async function show(place, route, signal) {
  const result = h("div", { class: "result" });
  const plain = { autocomplete: "off", spellcheck: false };
  const since = h("input", { id: "since", value: route.query.get("since") ?? "30d", required: true, placeholder: "30d, or 2026-10-01", ...plain });
  const until = h("input", { id: "until", value: route.query.get("until") ?? "", placeholder: "now", ...plain });
  const wrong = h("span", { class: "why", role: "alert" });
  const button = h("button", { type: "submit", class: "primary" }, "Make the report");
  const form = h("form", { class: "asking" }, field("From (UTC)", since), field("To", until), button, wrong);
  form.addEventListener("submit", async (/** @type {Event} */ event) => {
    event.preventDefault();
    const asked = period(since.value, until.value, wrong);
    if (asked === null) return;
    button.disabled = true;
    await load(result, signal, (mine) => post("../v1/audit/report", asked, mine), (made) => written(made, signal), { waiting: "The server reads every entry of the period; that takes minutes for millions of them. Whoever leaves this view loses the report, and the server still makes it to its end, for up to 30 minutes; the next one waits for that." });
    button.disabled = false;
  });
  fill(
    place,
    heading("Report"),
    h("p", { class: "lede" }, "Inventory, issuance, refusals, revocations with their time to effect, changes of policies with who approved them, exceptions, and the proof that nothing is left out. It is read from the log itself, entry by entry, and signed with the log's key."),
    form,
    result,
  );
}

/**
 * Return what to ask for, or null for no period, which is said.
 *
 * @param {string} since
 * @param {string} until
 * @param {Element} wrong
 */
function period(since, until, wrong) {
  try {
    fill(wrong);
    return { since: instant(since), until: until.trim() ? instant(until) : null };
  } catch (error) {
    if (!(error instanceof NoTime)) throw error;
    fill(wrong, error.message);
    return null;
  }
}

/**
 * @param {Record<string, string>} made
 * @param {AbortSignal} signal
 */
function written(made, signal) {
  const report = JSON.parse(made["report.json"]);
  const proof = report.completeness;
  const kinds = Object.entries(report.summary.counts).sort(([, one], [, two]) => two - one);
  return [
    notice("good", h("strong", {}, "The report is made"), h("p", {}, "Save all three files into one directory; whoever gets them checks them without a server."), h("p", { class: "downloads" }, FILES.map((name) => download(name, made[name], signal)))),
    commandLine("meshca audit verify-report DIR --key log.pub", "Check it"),
    h(
      "div",
      { class: "columns" },
      panel("Period", facts([
        ["from", time(report.from)],
        ["to", time(report.to)],
        ["made by", shown(report.made_by)],
        ["log", shown(report.log)],
        ["entries", number(proof.entries)],
        ["of these redacted", number(proof.redacted)],
        ["gaps", number(proof.gaps)],
        ["complete", completeness(proof)],
      ])),
      panel("Entries by kind", kinds.length ? table("Entries by kind", ["kind", "entries"], kinds.map(([kind, count]) => [shown(kind), h("span", { class: "number" }, number(count))])) : h("p", { class: "none" }, "none")),
    ),
  ];
}

/** @param {any} proof */
function completeness(proof) {
  if (proof.checkpoint_after === null) return "no checkpoint holds all of the period yet: make it again in a second";
  if (proof.checkpoint_before === null) return "signed up to its end; there is no checkpoint from before it";
  return `between two checkpoints, joined by ${counted(proof.consistency.length, "hash", "hashes")}`;
}
