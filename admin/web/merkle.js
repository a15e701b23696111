/**
 * Inclusion proofs of RFC 6962 (RFC 9162, 2.1.3.2), as audit/merkle.py has them. Pure.
 *
 *     leaf = SHA-256(0x00 || body)          node = SHA-256(0x01 || left || right)
 *
 * Sizes are whole numbers up to 2^53, which is more entries than any log will have.
 */

/** @param {...(Uint8Array | number[])} parts */
async function sha256(...parts) {
  const joined = Uint8Array.from(parts.flatMap((part) => [...part]));
  return new Uint8Array(await crypto.subtle.digest("SHA-256", joined));
}

/** @param {Uint8Array} body */
export async function leafHash(body) {
  const prefixed = new Uint8Array(body.length + 1);
  prefixed.set(body, 1);
  return new Uint8Array(await crypto.subtle.digest("SHA-256", prefixed));
}

/**
 * Return the root to which `hashes` lead from the leaf of entry `index` of `size`; null if they are
 * too many or too few to lead anywhere.
 *
 * @param {number} index
 * @param {number} size
 * @param {Uint8Array} leaf
 * @param {Uint8Array[]} hashes
 * @returns {Promise<Uint8Array | null>}
 */
export async function rootFrom(index, size, leaf, hashes) {
  if (!Number.isSafeInteger(index) || !Number.isSafeInteger(size) || index < 0 || index >= size) return null;
  let [node, last, root] = [index, size - 1, leaf];
  for (const hash of hashes) {
    if (last === 0 || hash.length !== 32) return null;
    if (node % 2 === 1 || node === last) {
      root = await sha256([1], hash, root);
      while (node % 2 === 0 && node !== 0) [node, last] = [half(node), half(last)];
    } else {
      root = await sha256([1], root, hash);
    }
    [node, last] = [half(node), half(last)];
  }
  return last === 0 ? root : null;
}

/** @param {number} number */
function half(number) {
  return Math.floor(number / 2);
}
