/**
 * Pages by cursor, both ways. Pure.
 *
 * A cursor is the index of an entry, behind which a page begins; so the page before is asked for in
 * the other order from the same place, and shown turned round (`back`).
 */

/**
 * @typedef {object} Place where a page is
 * @property {"newest" | "oldest"} order as it is shown
 * @property {number | null} cursor
 * @property {boolean} isBack
 */

/**
 * @param {URLSearchParams} query
 * @returns {Place}
 */
export function placeOf(query) {
  const cursor = query.get("cursor");
  return {
    order: query.get("order") === "oldest" ? "oldest" : "newest",
    cursor: cursor !== null && /^(-1|\d{1,15})$/.test(cursor) ? Number(cursor) : null,
    isBack: query.get("back") === "1" && cursor !== null,
  };
}

/**
 * Return what to ask the server for; before the first entry there is no cursor.
 *
 * @param {Place} place
 */
export function asked(place) {
  return { order: place.isBack ? other(place.order) : place.order, cursor: place.cursor === -1 ? null : place.cursor };
}

/**
 * Return where the pages before and after this one are, in the order in which it is shown; null
 * where there is none. `next` is what the server said.
 *
 * @param {Place} place
 * @param {number | null} next
 * @returns {{before: Place | null, after: Place | null}}
 */
export function around(place, next) {
  const { order, cursor, isBack } = place;
  if (isBack) {
    const step = order === "newest" ? 1 : -1;
    const after = cursor === null ? null : { order, cursor: cursor + step, isBack: false };
    return { before: next === null ? null : { order, cursor: next, isBack: true }, after };
  }
  const step = order === "newest" ? -1 : 1;
  const before = cursor === null ? null : { order, cursor: cursor + step, isBack: true };
  return { before, after: next === null ? null : { order, cursor: next, isBack: false } };
}

/** @param {"newest" | "oldest"} order */
function other(order) {
  return order === "newest" ? "oldest" : "newest";
}
