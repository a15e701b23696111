/** How things stood at a time: valid certificates, policies, and who could call whom. */

import { post } from "./api.js";
import { commandLine, quoted } from "./command.js";
import { fill, h } from "./dom.js";
import { entryTable } from "./entries.js";
import { figure } from "./identity.js";
import { facts, field, heading, load, notice, panel } from "./page.js";
import { go, link } from "./route.js";
import { table } from "./table.js";
import { LONG, number, shown } from "./text.js";
import { instant, NoTime, spelledTime, time } from "./time.js";
import { tree } from "./tree.js";

const SHOWN = 100;

/**
 * @param {HTMLElement} place
 * @param {import("./route.js").Route} route
 * @param {AbortSignal} signal
 */
export async function show(place, route, signal) {
  const { query } = route;
  const result = h("div", { class: "result" });
  const form = new Form(query);
  fill(place, heading("At a time"), form.element, result);
  const given = query.get("time");
  if (given === null) return;
  const asked = form.asked(given);
  if (asked === null) return;
  await load(result, signal, (mine) => post("../v1/audit/at", asked, mine), (answer) => [...then(answer, asked), commandLine(command(given, query))], { waiting: "Loading the policies of then …" });
}

/** What is asked: a time, and of a workload, if one is named, who could call it. */
class Form {
  /** @param {URLSearchParams} query */
  constructor(query) {
    this.query = query;
    const plain = { autocomplete: "off", spellcheck: false };
    this.time = h("input", { id: "time", value: query.get("time") ?? "", placeholder: "2h, or 2026-11-01T12:00:00Z", required: true, ...plain });
    this.namespace = h("input", { id: "namespace", value: query.get("namespace") ?? "", placeholder: "shop", maxLength: 253, ...plain });
    this.labels = h("input", { id: "labels", value: query.get("labels") ?? "", placeholder: "app=orders, tier=web", ...plain });
    this.wrong = h("span", { class: "why", role: "alert" });
    this.element = h("form", { class: "asking" }, field("When (UTC)", this.time), field("Who could call: namespace", this.namespace), field("labels", this.labels), h("button", { type: "submit", class: "primary" }, "Show"), this.wrong);
    this.element.addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      this.submit();
    });
  }

  submit() {
    try {
      const query = { time: spelledTime(this.time.value), namespace: this.namespace.value.trim(), labels: this.labels.value.trim() };
      const to = link("at", "", query);
      if (this.asked(this.time.value, query.namespace, query.labels) !== null) go(to);
    } catch (error) {
      this.complain(error);
    }
  }

  /**
   * Return what to send, or null for what cannot be, which is said.
   *
   * @param {string} given
   */
  asked(given, namespace = this.query.get("namespace") ?? "", labels = this.query.get("labels") ?? "") {
    try {
      fill(this.wrong);
      const destination = namespace ? { destination: { namespace, labels: parseLabels(labels) } } : {};
      if (!namespace && labels) throw new NoTime("labels are of a workload in a namespace: name it");
      return { time: instant(given), ...destination };
    } catch (error) {
      return this.complain(error);
    }
  }

  /** @param {unknown} error */
  complain(error) {
    if (!(error instanceof NoTime)) throw error;
    fill(this.wrong, error.message);
    return null;
  }
}

/** @param {string} text */
function parseLabels(text) {
  const pairs = text.split(",").map((each) => each.trim()).filter(Boolean).map((each) => each.split("="));
  if (pairs.some((pair) => pair.length !== 2 || !pair[0].trim())) throw new NoTime("labels are written key=value, key=value");
  return Object.fromEntries(pairs.map(([name, value]) => [name.trim(), value.trim()]));
}

/**
 * @param {string} given
 * @param {URLSearchParams} query
 */
function command(given, query) {
  const namespace = query.get("namespace");
  const words = [`meshca audit at ${quoted(spelledTime(given))}`];
  if (namespace) words.push(`--destination ${quoted(namespace)}`);
  const labels = Object.entries(parseLabels(query.get("labels") ?? ""));
  return [...words, ...(namespace ? labels.map(([name, value]) => `--label ${quoted(`${name}=${value}`)}`) : [])].join(" ");
}

/**
 * @param {any} answer
 * @param {any} asked
 */
function then(answer, asked) {
  const { certificates: had, policies } = answer;
  return [
    h("h2", { class: "subject" }, time(answer.time), " UTC"),
    h("div", { class: "figures" }, figure("valid certificates", had.valid), figure("identities", had.identities), figure("revoked", had.revoked, had.revoked ? "bad" : ""), figure("entries in the log", answer.log_size)),
    asked.destination && panel(`Who could call ${asked.destination.namespace}`, answer.who_can === null ? notice("warn", "No set of policies of that time is on record.") : access(answer.who_can)),
    h(
      "div",
      { class: "columns" },
      panel("Policies in force", policies === null ? h("p", { class: "none" }, "none on record") : facts([["version", h("a", { href: link("log", "", { text: policies.version }) }, shown(policies.version))], ["since", time(policies.since)], ["default", shown(policies.default)], ["from", policies.sources.map((/** @type {string} */ name) => h("div", {}, shown(name)))]])),
      panel("Authorities", answer.authorities.length ? table("Authorities", ["authority", "replica", "until", "stage now"], answer.authorities.map((/** @type {any} */ one) => [h("span", { class: "short", title: one.authority_id }, shown(one.authority_id)), shown(one.replica), time(one.not_after), shown(one.stage_now)])) : h("p", { class: "none" }, "none")),
    ),
    panel("Valid certificates by identity", had.by_identity.length ? table("Valid certificates", ["identity", "valid"], had.by_identity.slice(0, SHOWN).map((/** @type {any} */ one) => [h("a", { href: link("identity", one.spiffe_id) }, shown(one.spiffe_id)), h("span", { class: "number" }, number(one.valid))])) : h("p", { class: "none" }, "none"), had.by_identity.length > SHOWN && h("p", { class: "quiet" }, `the first ${SHOWN} of ${number(had.by_identity.length)}`)),
    answer.laid_over.length > 0 && panel("Laid over the policies, or asked to be, by then", entryTable(answer.laid_over, new URLSearchParams(), "Steps")),
  ];
}

/** @param {any} found */
function access(found) {
  if ("problem" in found) return notice("warn", h("strong", {}, `The set of then ${found.problem}`), h("ul", {}, found.problems.map((/** @type {string} */ each) => h("li", {}, shown(each, { most: LONG })))));
  const rows = found.allowed.map((/** @type {any} */ each) => [
    shown(`${each.verdict}: ${each.reason}`, { most: LONG }),
    Object.entries(each.region).length ? Object.entries(each.region).map(([name, values]) => h("div", {}, h("span", { class: "quiet" }, `${name} `), shown(/** @type {string[]} */ (values).join(", "), { most: 500 }))) : "every request",
    h("details", {}, h("summary", {}, "an example"), tree(each.witness)),
  ]);
  return [
    rows.length > 0 && table("What was allowed", ["by", "requests", "witness"], rows),
    h("p", {}, shown(found.statement, { most: LONG })),
    [...found.beyond, ...found.defects].map((/** @type {string} */ each) => notice("warn", shown(each, { most: LONG }))),
  ];
}
