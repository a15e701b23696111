/** The filters of the log: what audit/query.py takes, what the command calls them, what people do. */

/**
 * @typedef {object} Filter
 * @property {string} name as the API has it
 * @property {string} label
 * @property {string} option as `meshca audit query` has it
 * @property {string} hint
 * @property {readonly string[]} [values] all that there are
 */

export const KINDS = [
  "issuance", "refusal", "renewal", "policy_change", "policy_stage", "break_glass", "server_start",
  "server_stop", "authority_change", "root_change", "federation_change", "revocation", "ban", "decision",
  "decision_count", "login", "read", "configuration", "clock", "log_key", "legal_hold", "redaction",
  "restore", "anchor", "witness", "gap",
];

/** @type {readonly Filter[]} */
export const FILTERS = [
  { name: "since", label: "from", option: "--since", hint: "15m, 2h, 7d, or 2026-11-01T12:00:00Z" },
  { name: "kind", label: "kind", option: "--kind", hint: "what happened", values: KINDS },
  { name: "outcome", label: "outcome", option: "--outcome", hint: "how it ended", values: ["done", "refused", "failed"] },
  { name: "actor", label: "actor", option: "--actor", hint: "done by: uid:0, oidc:ann, spiffe://…" },
  { name: "spiffe_id", label: "identity", option: "--identity", hint: "about: spiffe://…" },
  { name: "serial", label: "serial", option: "--serial", hint: "of a certificate, however it is written" },
  { name: "fingerprint", label: "fingerprint", option: "--fingerprint", hint: "SHA-256 of a certificate" },
  { name: "cluster", label: "cluster", option: "--cluster", hint: "from this cluster" },
  { name: "namespace", label: "namespace", option: "--namespace", hint: "from this namespace" },
  { name: "service_account", label: "service account", option: "--service-account", hint: "from this service account" },
  { name: "pod", label: "pod", option: "--pod", hint: "from the pod of this name" },
  { name: "node", label: "node", option: "--node", hint: "from this node" },
  { name: "destination", label: "destination", option: "--destination", hint: "decided about requests to it" },
  { name: "policy", label: "policy", option: "--policy", hint: "namespace/name" },
  { name: "request_id", label: "request id", option: "--request-id", hint: "of this request" },
  { name: "reason", label: "reason", option: "--reason", hint: "exactly this reason" },
  { name: "text", label: "text", option: "--text", hint: "anywhere, in any case; slow" },
];

/** `until` is no filter of a stream, and so none of the list: it has its place behind `from`. */
export const UNTIL = { name: "until", label: "until", option: "--until", hint: "before then: 15m, or 2026-11-01T12:00:00Z" };

/** @type {readonly Filter[]} */
export const OFFERED = [FILTERS[0], UNTIL, ...FILTERS.slice(1)];

export const TIMES = ["since", "until"];

/** What counts can be grouped by. */
export const GROUPS = FILTERS.filter((each) => !["since", "text"].includes(each.name));

/** The longest value that the server takes for a filter. */
const LONGEST = 2_048;

/**
 * Return whether `value` can be a filter's: an empty one is none, and a cut one finds nothing.
 *
 * @param {unknown} value
 */
export function canFilter(value) {
  return typeof value === "string" && value.trim() !== "" && value.length <= LONGEST;
}

/**
 * Return the filters that `query` has, in the order in which they are offered.
 *
 * @param {URLSearchParams} query
 * @returns {[Filter, string][]}
 */
export function given(query) {
  return OFFERED.flatMap((each) => {
    const value = query.get(each.name);
    return value === null ? [] : [/** @type {[Filter, string]} */ ([each, value])];
  });
}

/**
 * Return the name of the filter of which an error speaks, if it is one of `names`.
 *
 * @param {import("./api.js").ApiError} error
 * @param {readonly string[]} names
 */
export function namedBy(error, names) {
  const said = error.problems.map((each) => each.path).find((path) => names.includes(path));
  if (said !== undefined) return said;
  const texts = [error.message, ...error.problems.map((each) => each.message)];
  const words = texts.flatMap((text) => text.match(/[a-z_]+/g)?.slice(0, 3) ?? []);
  return words.find((word) => names.includes(word));
}

/**
 * Return what an error says, with what it says of single parameters.
 *
 * @param {import("./api.js").ApiError} error
 */
export function words(error) {
  const said = error.problems.map((each) => (each.path ? `${each.path}: ${each.message}` : each.message));
  return said.length ? said.join("; ") : error.message;
}
