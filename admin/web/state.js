/** How the service and its log stand: who one is, what is signed, and what is behind. */

import { get } from "./api.js";
import { commandLine } from "./command.js";
import { fill, h } from "./dom.js";
import { figure } from "./identity.js";
import { facts, heading, load, notice, panel } from "./page.js";
import { link } from "./route.js";
import { table } from "./table.js";
import { counted, LONG, number, shown } from "./text.js";
import { time } from "./time.js";

const TONES = /** @type {Record<string, string>} */ ({ well: "done", new: "other", failing: "refused", contradicted: "failed" });

/**
 * @param {HTMLElement} place
 * @param {import("./route.js").Route} _route
 * @param {AbortSignal} signal
 */
export async function show(place, _route, signal) {
  const parts = /** @type {const} */ ([
    ["../v1/status", service],
    ["../v1/audit/checkpoint", checkpoint],
    ["../v1/audit/anchors", anchors],
    ["../v1/audit/keys", keys],
    ["../v1/whoami", whoami],
  ]);
  const places = parts.map(() => h("div", {}));
  fill(place, heading("State"), h("div", { class: "stack" }, places), commandLine("meshca status"));
  await Promise.all(parts.map(([path, show], at) => load(places[at], signal, (mine) => get(path, {}, mine), show)));
}

/** @param {any} status */
function service(status) {
  const { audit, proxies, policies, federation, authority } = status;
  const behind = audit.anchors.filter((/** @type {any} */ anchor) => anchor.behind > 0).length;
  const stale = [...policies.stale, ...federation.stale];
  return [
    status.ready ? notice("good", h("strong", {}, "Ready")) : notice("bad", h("strong", {}, "Not ready"), h("ul", {}, status.problems.map((/** @type {string} */ each) => h("li", {}, shown(each, { most: LONG }))))),
    h(
      "div",
      { class: "figures" },
      figure("entries in the log", audit.size),
      figure("anchors behind", behind, behind ? "warn" : ""),
      figure("proxies connected", proxies.connected),
      figure("proxies behind", proxies.behind, proxies.behind ? "warn" : ""),
      figure("policies", policies.policies),
      figure("stale sources", stale.length, stale.length ? "warn" : ""),
    ),
    panel("Service", facts([
      ["trust domain", shown(status.trust_domain)],
      ["version", shown(status.version)],
      ["running since", time(status.started_at)],
      ["its clock says", time(status.time)],
      ["authority", authority === null ? "none: nothing is issued" : [h("code", {}, authority.id), " until ", time(authority.not_after)]],
      ["policies", [h("code", {}, shown(policies.version)), `, by default ${policies.default}`]],
      ["federated", counted(federation.trust_domains, "trust domain")],
    ]), [...policies.problems, ...stale].map((/** @type {string} */ each) => notice("warn", shown(each, { most: LONG })))),
  ];
}

/** @param {any} kept */
function checkpoint(kept) {
  return panel("Newest checkpoint", facts([
    ["log", shown(kept.origin)],
    ["entries", number(kept.size)],
    ["signed", time(kept.time)],
    ["root", h("code", {}, kept.root)],
  ]), h("details", {}, h("summary", {}, "The signed note"), h("pre", { tabIndex: 0 }, kept.checkpoint)), commandLine("meshca audit checkpoint", "Keep it elsewhere"));
}

/** @param {any} answer */
function anchors(answer) {
  const rows = answer.anchors.map((/** @type {any} */ anchor) => [
    shown(anchor.anchor, { most: 300 }),
    h("span", { class: `outcome ${TONES[anchor.state] ?? "other"}` }, shown(anchor.state)),
    h("span", { class: "number" }, number(anchor.behind)),
    time(anchor.confirmed_at),
    [anchor.problem && shown(anchor.problem, { most: LONG }), anchor.advice && h("div", { class: "quiet" }, shown(anchor.advice, { most: LONG }))],
  ]);
  return [
    panel("Anchors", rows.length ? table("Anchors", ["anchor", "state", "entries behind", "confirmed", "problem"], rows) : notice("warn", "No anchor is configured: whoever can change the database and this machine can rewrite the log unseen. See audit.anchors.")),
    panel("Sinks", h("p", { class: "quiet" }, "How far behind each collector is, the metrics say: meshca_audit_sink_lag_seconds. What one did not take is in the log: ", h("a", { href: link("log", "", { kind: "gap" }) }, "gaps"), ".")),
    answer.witness && panel("As a witness", table("Logs watched", ["log", "entries", "seen"], answer.witness.logs.map((/** @type {any} */ log) => [shown(log.origin), h("span", { class: "number" }, number(log.size)), time(log.seen_at)])), h("p", {}, "our key ", h("code", {}, answer.witness.key))),
  ];
}

/** @param {any} answer */
function keys(answer) {
  const rows = answer.keys.map((/** @type {any} */ key) => [shown(key.stage), shown(key.replica), time(key.introduced_at), time(key.retires_at), h("code", {}, key.key)]);
  return panel("Keys of the log", table("Keys of the log", ["stage", "replica", "since", "until", "key"], rows));
}

/** @param {any} me */
function whoami(me) {
  return panel("Who you are", facts([
    ["actor", shown(me.actor)],
    ["proven by", shown(me.proof)],
    ["roles", me.roles.join(", ")],
    ["may", me.permissions.join(", ")],
    ["proof ends", me.expires ? time(me.expires) : "with the connection"],
  ]));
}
