/**
 * Signed notes, checkpoints and proof files of C2SP, as audit/note.py and audit/proof_file.py have
 * them. Parsing is pure; only signatures and hashes ask crypto.subtle.
 */

import { leafHash } from "./merkle.js";

const ED25519 = 0x01;
const FIRST_LINE = "c2sp.org/tlog-proof@v1";
const REDACTED = "leaf-hash ";

/** What is not what it says. */
export class Malformed extends Error {}

/** @param {string} text */
export function base64(text) {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    throw new Malformed("a line is not base64");
  }
}

/** @param {Uint8Array} bytes */
export function hex(bytes) {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @typedef {object} Checkpoint
 * @property {string} origin
 * @property {number} size
 * @property {Uint8Array} root
 * @property {string} text what the signatures are over
 * @property {{name: string, id: string, signature: Uint8Array}[]} signatures
 */

/**
 * @param {string} note
 * @returns {Checkpoint}
 */
export function parseCheckpoint(note) {
  const end = note.indexOf("\n\n");
  if (end < 0) throw new Malformed("the checkpoint is no signed note");
  const text = note.slice(0, end + 1);
  const [origin, size, root] = text.split("\n");
  if (!origin || !/^(0|[1-9]\d{0,15})$/.test(size) || base64(root ?? "").length !== 32) {
    throw new Malformed("the checkpoint does not say its size and root");
  }
  const signatures = note.slice(end + 2).split("\n").filter(Boolean).map(parseSignature);
  return { origin, size: Number(size), root: base64(root), text, signatures };
}

/** @param {string} line */
function parseSignature(line) {
  const found = /^\u2014 (\S+) (\S+)$/.exec(line);
  if (found === null) throw new Malformed("a line of the checkpoint is no signature");
  const bytes = base64(found[2]);
  return { name: found[1], id: hex(bytes.slice(0, 4)), signature: bytes.slice(4) };
}

/**
 * @typedef {object} Proof
 * @property {number} index
 * @property {Uint8Array} leaf
 * @property {Uint8Array | null} body null when it was redacted
 * @property {Uint8Array[]} hashes
 * @property {Checkpoint} checkpoint
 */

/**
 * Return what a proof file says, nothing of it verified.
 *
 * @param {string} text
 * @returns {Promise<Proof>}
 */
export async function parseProof(text) {
  const end = text.indexOf("\n\n");
  const [first, extra, index, ...hashes] = text.slice(0, Math.max(end, 0)).split("\n");
  if (first !== FIRST_LINE || !extra?.startsWith("extra ") || !/^index (0|[1-9]\d{0,15})$/.test(index ?? "")) {
    throw new Malformed("the server's proof is no proof file");
  }
  const said = base64(extra.slice("extra ".length));
  const head = new TextEncoder().encode(REDACTED);
  const isRedacted = head.every((byte, at) => said[at] === byte);
  return {
    index: Number(index.slice("index ".length)),
    leaf: isRedacted ? said.slice(head.length) : await leafHash(said),
    body: isRedacted ? null : said,
    hashes: hashes.map(base64),
    checkpoint: parseCheckpoint(text.slice(end + 2)),
  };
}

/**
 * Return the verifier key `name+id+base64`; its ID is not believed but computed.
 *
 * @param {string} text
 */
export async function parseKey(text) {
  const [name, , ...encoded] = text.split("+");
  const packed = base64(encoded.join("+"));
  if (packed[0] !== ED25519 || packed.length !== 33) throw new Malformed("a key is none of Ed25519");
  const named = new Uint8Array([...new TextEncoder().encode(`${name}\n`), ...packed]);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", named));
  return { name, id: hex(digest.slice(0, 4)), bytes: packed.slice(1) };
}

/**
 * Return whether this browser can verify Ed25519.
 *
 * @returns {Promise<boolean>}
 */
export async function canVerify() {
  try {
    await crypto.subtle.importKey("raw", base64("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="), "Ed25519", false, ["verify"]);
    return true;
  } catch {
    return false;
  }
}

/**
 * Return the keys, of those given, that signed `checkpoint`; throws Malformed for a signature of one
 * of them that is wrong.
 *
 * @template {{key: string}} Key
 * @param {Checkpoint} checkpoint
 * @param {Key[]} keys
 * @returns {Promise<Key[]>}
 */
export async function signedBy(checkpoint, keys) {
  const found = [];
  for (const each of keys) {
    const key = await parseKey(each.key);
    if (key.name !== checkpoint.origin) continue;
    const line = checkpoint.signatures.find((one) => one.name === key.name && one.id === key.id);
    if (line === undefined) continue;
    const imported = await crypto.subtle.importKey("raw", key.bytes, "Ed25519", false, ["verify"]);
    const text = new TextEncoder().encode(checkpoint.text);
    if (!(await crypto.subtle.verify("Ed25519", imported, line.signature, text))) {
      throw new Malformed(`the signature of the key ${key.id} is wrong`);
    }
    found.push(each);
  }
  return found;
}
