// ANCHOR: all
// How far a room has been read, and what of the things that come is new. Pure functions.

/**
 * @typedef {object} Cursor
 * @property {string | null} epoch which count `have` belongs to
 * @property {number | null} have the number of the last message we have; `null` if we have never been here
 */

// ANCHOR: message
/** What to do with a message: take it, drop it, or ask for those before it. */
export function judge({ have }, seq) {
  if (have === null || seq > have + 1) return 'hole';
  return seq === have + 1 ? 'next' : 'old';
}
// ANCHOR_END: message

// ANCHOR: joined
/**
 * What a `joined` brings, or `null` if something is missing between it and what we have. Then we
 * ask again, with our cursor: whoever wrote to us first has had us joined without one.
 *
 * @returns {{ fresh: object[], isReset: boolean } | null} `isReset`: what we have is not what came before
 */
export function catchUp({ epoch, have }, joined) {
  if (have === null) return { fresh: joined.history, isReset: false };
  if (joined.gap || joined.epoch !== epoch) return { fresh: joined.history, isReset: true };
  const fresh = joined.history.filter(({ seq }) => seq > have);
  const isWhole = fresh.every(({ seq }, n) => seq === have + 1 + n) && have + fresh.length === joined.seq;
  return isWhole ? { fresh, isReset: false } : null;
}
// ANCHOR_END: joined

// ANCHOR: rooms
/** The room in which two people speak with each other, by the rules of the server. */
export function roomOfTwo(one, other) {
  return `dm:${[one, other].map(nameKey).sort(byCodePoint).join(':')}`;
}

/** The other one of the two in such a room, in lower case, or `null` if it is not one. */
export function otherOne(room, me) {
  if (!room.startsWith('dm:')) return null;
  const [one, other] = room.slice(3).split(':');
  return one === nameKey(me) ? other : one;
}

/** Names that differ only in case are one person. */
export function nameKey(name) {
  return name.normalize('NFKC').toLowerCase();
}

/** As the server sorts. `sort()` by itself takes apart the letters beyond U+FFFF. */
function byCodePoint(a, b) {
  const [one, other] = [a, b].map((text) => Array.from(text, (letter) => letter.codePointAt(0)));
  const at = one.findIndex((point, n) => point !== other[n]);
  return at === -1 ? one.length - other.length : one[at] - (other[at] ?? -1);
}
// ANCHOR_END: rooms
// ANCHOR_END: all
