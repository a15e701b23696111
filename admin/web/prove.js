/**
 * The proof that an entry is in the log, worked out here: nothing that the server says is believed
 * but its public keys, and that is said.
 */

import { get, getText } from "./api.js";
import { commandLine } from "./command.js";
import { h } from "./dom.js";
import { rootFrom } from "./merkle.js";
import { canVerify, hex, Malformed, parseProof, signedBy } from "./note.js";
import { download, load, notice } from "./page.js";
import { counted, number } from "./text.js";

/** @typedef {{is: boolean | null, text: import("./dom.js").Child}} Step what holds, does not, or cannot be told */

/**
 * Return what proves, when it is asked to, that `entry` is the one of the log at `index`.
 *
 * @param {Record<string, any>} entry as it is shown
 * @param {number} index that was asked for
 * @param {AbortSignal} signal
 */
export function prover(entry, index, signal) {
  const result = h("div", { id: "proof" });
  const button = h("button", { type: "button", class: "primary", id: "prove" }, "Prove it");
  button.addEventListener("click", () => load(result, signal, (mine) => prove(entry, index, mine), (found) => verdict(index, found, signal)));
  const words = "Gets the proof, and works out in this browser that this very text is in the log that was signed.";
  return h("div", {}, h("p", { class: "prove" }, button, h("span", { class: "quiet" }, words)), result);
}

/**
 * @param {Record<string, any>} entry
 * @param {number} index
 * @param {AbortSignal} signal
 */
async function prove(entry, index, signal) {
  if (globalThis.crypto?.subtle === undefined) {
    return { file: "", steps: [{ is: null, text: "This browser has no crypto.subtle here: it needs HTTPS, or an address of this machine." }] };
  }
  const file = await getText("../v1/audit/proof/entry", { index }, signal);
  const { keys } = await get("../v1/audit/keys", {}, signal);
  try {
    return { file, steps: await steps(entry, index, file, keys) };
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    return { file, steps: [{ is: false, text: error.message }] };
  }
}

/**
 * @param {Record<string, any>} entry
 * @param {number} index
 * @param {string} file
 * @param {any[]} keys
 * @returns {Promise<Step[]>}
 */
async function steps(entry, index, file, keys) {
  const proof = await parseProof(file);
  return [
    bodyStep(entry, proof.body),
    leafStep(entry, hex(proof.leaf)),
    await rootStep(entry, index, proof),
    await signatureStep(proof.checkpoint, keys),
  ];
}

/**
 * @param {Record<string, any>} entry
 * @param {number} index
 * @param {import("./note.js").Proof} proof
 * @returns {Promise<Step>}
 */
async function rootStep(entry, index, proof) {
  const { checkpoint } = proof;
  if (entry.index !== index || proof.index !== index) {
    return { is: false, text: `Entry ${index} was asked for, what is shown is entry ${entry.index}, and the proof is of entry ${proof.index}.` };
  }
  const root = await rootFrom(index, checkpoint.size, proof.leaf, proof.hashes);
  if (root === null || hex(root) !== hex(checkpoint.root)) {
    return { is: false, text: ["From there the proof leads to ", h("code", {}, root === null ? "nothing" : hex(root)), ", and the checkpoint has ", h("code", {}, hex(checkpoint.root))] };
  }
  return { is: true, text: [`From there ${counted(proof.hashes.length, "hash", "hashes")} lead to the root of the log of ${number(checkpoint.size)} entries, as number ${number(index)}: `, h("code", {}, hex(checkpoint.root))] };
}

/**
 * @param {Record<string, any>} entry
 * @param {Uint8Array | null} body
 * @returns {Step}
 */
function bodyStep(entry, body) {
  if (body === null) {
    return { is: entry.redacted === true, text: "The body was redacted: what is proven is its leaf hash, not what it said." };
  }
  const { leaf_hash: _, ...said } = entry;
  const is = text(body) === canonical(said);
  return { is, text: is ? `What is shown above is what is in the proof, ${counted(body.length, "byte")}.` : "What is shown above is not what is in the proof." };
}

/**
 * @param {Record<string, any>} entry
 * @param {string} leaf
 * @returns {Step}
 */
function leafStep(entry, leaf) {
  const is = leaf === entry.leaf_hash;
  return { is, text: is ? ["Its leaf hash, computed here: ", h("code", {}, leaf)] : ["Its leaf hash, computed here, is ", h("code", {}, leaf), ", and the server said ", h("code", {}, String(entry.leaf_hash).slice(0, 128))] };
}

/**
 * @param {import("./note.js").Checkpoint} checkpoint
 * @param {any[]} keys
 * @returns {Promise<Step>}
 */
async function signatureStep(checkpoint, keys) {
  if (!(await canVerify())) return { is: null, text: "This browser cannot verify Ed25519: the checkpoint's signature was not checked." };
  const signers = await signedBy(checkpoint, keys);
  if (!signers.length) return { is: false, text: "No key that the server names has signed the checkpoint." };
  return { is: true, text: ["The checkpoint is signed by ", signers.map((key) => [h("code", {}, key.key), ` (${key.stage}) `])] };
}

/**
 * Return what a body says, as JSON with sorted keys; null for what is no JSON.
 *
 * @param {Uint8Array} body
 */
function text(body) {
  try {
    return canonical(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body)));
  } catch {
    return null;
  }
}

/**
 * Return `value` as JSON with sorted keys, so that two can be compared.
 *
 * @param {unknown} value
 * @returns {string}
 */
function canonical(value) {
  return JSON.stringify(value, (_, each) => (each !== null && typeof each === "object" && !Array.isArray(each) ? Object.fromEntries(Object.entries(each).sort(([one], [two]) => (one < two ? -1 : 1))) : each));
}

/**
 * @param {number} index
 * @param {{file: string, steps: Step[]}} found
 * @param {AbortSignal} signal
 */
function verdict(index, found, signal) {
  const isBroken = found.steps.some((step) => step.is === false);
  const isOpen = found.steps.some((step) => step.is === null);
  const [tone, words] = isBroken ? ["bad", "The proof does not hold"] : isOpen ? ["warn", "The proof holds as far as it could be checked"] : ["good", "The proof holds"];
  const marks = /** @type {const} */ ([["holds", "✓"], ["does not hold", "✗"], ["not checked", "?"]]);
  const list = h("ol", { class: "steps" }, found.steps.map((step) => {
    const [said, mark] = marks[step.is === null ? 2 : step.is ? 0 : 1];
    return h("li", { class: step.is === null ? "open" : step.is ? "holds" : "broken" }, h("span", { class: "mark", role: "img", "aria-label": said }, mark), h("span", {}, step.text));
  }));
  const name = `${index}.tlog-proof`;
  return h(
    "div",
    { role: "status" },
    notice(tone, h("strong", {}, words), isBroken && h("p", {}, "Keep the file. Run “meshca audit verify”, and follow docs/runbooks/audit-log.md."), list),
    h("p", {}, "This trusts the server for two things: that these pages are meshca's, and that the keys are the log's. Whoever has a key of the log from elsewhere needs neither: save the proof (or make it with ", h("code", {}, `meshca audit prove ${index}`), "), and check it offline."),
    found.file && h("p", {}, download(name, found.file, signal)),
    commandLine(`meshca audit verify-proof ${name} --key log.pub`, "Check it without the server"),
  );
}

