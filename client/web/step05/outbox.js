// ANCHOR: all
// The messages that are not yet safe, in the order in which they were typed. No network, no storage,
// no clock: pure functions.

/** The server knows a repeated id for a day. What was sent first before that must not go out again by itself (ms). */
export const REPEATABLE = 23 * 60 * 60_000;

/** Refusals that are no more than "not now". */
const NOT_NOW = ['unavailable', 'rate_limited', 'not_in_room', 'hello_first', 'unauthorized'];

/** How long "not now" is, where the server does not say (ms). */
const SOON = 1000;

// ANCHOR: entry
/**
 * @typedef {object} Entry
 * @property {string} id our own choice, and the same each time it is sent
 * @property {string} room
 * @property {string} text
 * @property {number} at when it was typed
 * @property {number} turn its place in the queue; a clock can go back, a count can't
 * @property {number | null} triedAt when it was first sent
 * @property {'waiting' | 'sending' | 'sent' | 'failed'} status `sent`: the server has stored it, and its echo is on the way
 * @property {number | null} seq its number in the room, once it is sent
 * @property {number} notBefore not to be sent before this time
 * @property {string | null} problem why it failed
 * @property {string | null} code the same for programs
 */
// ANCHOR_END: entry

// ANCHOR: id
/** A new UUID. `randomUUID` is there on https and localhost only, `getRandomValues` everywhere. */
export function newId(source = globalThis.crypto) {
  if (source.randomUUID) return source.randomUUID();
  const bytes = source.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40; // version 4: random
  bytes[8] = (bytes[8] & 0x3f) | 0x80; // the variant of RFC 9562
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
// ANCHOR_END: id

// ANCHOR: queue
/** @returns {Entry[]} the outbox with one more message */
export function add(outbox, { id, room, text, at }) {
  const turn = 1 + Math.max(0, ...outbox.map((entry) => entry.turn));
  return [...outbox, { id, room, text, at, turn, triedAt: null, status: 'waiting', seq: null, notBefore: 0, problem: null, code: null }];
}

/**
 * The messages that may go out now: of each room the oldest, once the one before it is safe. One at
 * a time keeps the order, even if the server refuses one of them for a moment.
 *
 * @param {(room: string) => boolean} isHere whether we are in the room
 */
export function toSend(outbox, isHere, now) {
  return firsts(outbox).filter(({ status, room, notBefore }) => status === 'waiting' && isHere(room) && notBefore <= now);
}

/** The oldest message of each room that is neither safe nor failed. */
function firsts(outbox) {
  const rooms = new Set();
  return outbox.filter(({ status, room }) => {
    if (status === 'sent' || status === 'failed' || rooms.has(room)) return false;
    rooms.add(room);
    return true;
  });
}

/** When a message that was refused may be sent again, or `null`. */
export function nextSend(outbox, now) {
  const times = firsts(outbox).filter(({ status, notBefore }) => status === 'waiting' && notBefore > now).map(({ notBefore }) => notBefore);
  return times.length === 0 ? null : Math.min(...times);
}

function change(outbox, id, changes) {
  return outbox.map((entry) => (entry.id === id ? { ...entry, ...changes(entry) } : entry));
}

/** A message has gone out. */
export function sending(outbox, id, now) {
  return change(outbox, id, ({ triedAt }) => ({ status: 'sending', triedAt: triedAt ?? now }));
}

/** Nothing that is on its way can be trusted to arrive: all of it goes out again, in its order. */
export function cutOff(outbox) {
  return outbox.map((entry) => (entry.status === 'sending' ? { ...entry, status: 'waiting', notBefore: 0 } : entry));
}
// ANCHOR_END: queue

// ANCHOR: answers
/** The server has stored a message. */
export function acked(outbox, id, seq) {
  return change(outbox, id, () => ({ status: 'sent', seq, problem: null, code: null }));
}

/** The server has refused a message. */
export function refused(outbox, { id, code, message, retry_after: after = SOON }, now) {
  if (NOT_NOW.includes(code)) return change(outbox, id, () => ({ status: 'waiting', notBefore: now + after }));
  return change(outbox, id, () => ({ status: 'failed', problem: message, code }));
}

/** A message is in the room for all to see. */
export function seen(outbox, ids) {
  return outbox.some(({ id }) => ids.has(id)) ? outbox.filter(({ id }) => !ids.has(id)) : outbox;
}

/** Messages of a room that are stored, and whose echo won't come: the view has gone on beyond them. */
export function settled(outbox, room, upTo) {
  const isOver = (entry) => entry.room === room && entry.status === 'sent' && entry.seq <= upTo;
  return outbox.some(isOver) ? outbox.filter((entry) => !isOver(entry)) : outbox;
}

/** Messages that may have arrived long ago fail, so that a person decides. */
export function expired(outbox, now) {
  const isOld = ({ status, triedAt }) => status === 'waiting' && triedAt !== null && now - triedAt > REPEATABLE;
  const problem = 'It was first sent more than a day ago and may have arrived.';
  return outbox.some(isOld) ? outbox.map((entry) => (isOld(entry) ? { ...entry, status: 'failed', problem, code: 'too_old' } : entry)) : outbox;
}
// ANCHOR_END: answers

// ANCHOR: people
/** Somebody wants a failed message sent again: as a new one, at the end of the queue. */
export function retried(outbox, id, freshId, now) {
  const entry = outbox.find((one) => one.id === id && one.status === 'failed');
  return entry ? add(discarded(outbox, id), { ...entry, id: freshId, at: now }) : outbox;
}

export function discarded(outbox, id) {
  return outbox.filter((entry) => entry.id !== id);
}

/** How many messages are not safe yet. */
export function waitingCount(outbox) {
  return outbox.filter(({ status }) => status === 'waiting' || status === 'sending').length;
}
// ANCHOR_END: people

// ANCHOR: keep
/** What has to outlive the page: nothing that the server has stored. */
export function toKeep(outbox) {
  const unsafe = outbox.filter(({ status }) => status !== 'sent');
  return unsafe.map((entry) => (entry.status === 'sending' ? { ...entry, status: 'waiting' } : entry));
}
// ANCHOR_END: keep
// ANCHOR_END: all
