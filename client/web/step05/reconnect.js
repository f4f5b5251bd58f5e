// ANCHOR: all
// When to connect, by what way, and when to give a connection up. No socket, no clock, no chance:
// pure functions. What time it is and what the dice show comes with each action.

import { closeMeaning } from './connection.js';

// ANCHOR: delay
/** The shortest wait before the next attempt (ms). Never zero: a server that refuses at once would be asked without end. */
export const FLOOR = 200;

/** What the first wait is at most (ms). Each failure doubles it. */
const BASE = 1000;

/** What any wait is at most (ms). */
export const CAP = 20_000;

/**
 * How long to wait after so many failed attempts: any time up to a ceiling that grows. "Full
 * jitter": a thousand clients that were cut in one moment come back in a thousand moments.
 *
 * @param {number} attempt how many attempts have failed since the last good connection
 * @param {number} random from 0 up to 1, as from `Math.random()`
 */
export function nextDelay(attempt, random) {
  const ceiling = Math.min(CAP, BASE * 2 ** attempt);
  return Math.round(FLOOR + random * (ceiling - FLOOR));
}
// ANCHOR_END: delay

/** A WebSocket that has said nothing for this long after it was asked for is a failed one (ms). */
export const HUNG = 5000;

/** The same for the fallback, and for a WebSocket that is open but not yet welcome (ms). */
export const SLOW = 15_000;

/** So many WebSockets in a row must fail before the fallback is tried. */
export const TRIES = 2;

/** How long the fallback is kept once it has worked, before a WebSocket is tried again (ms). */
export const REMEMBERED = 10 * 60_000;

/** The same where a WebSocket has worked before: then it was probably the server that was away (ms). */
export const SHORTLY = 30_000;

/** A connection that lasted this long was a good one (ms). */
const STABLE = 5000;

/** A server that is full wants more time than one that broke: as after so many failures. */
const FULL = 3;

// ANCHOR: heartbeat
/** So long may the server say nothing before it is asked something (ms). */
export const QUIET = 35_000;

/** The same while a long history is on its way, of which the page sees nothing until all of it is here (ms). */
export const QUIET_HISTORY = 80_000;

/** So long may an answer take (ms). */
export const PATIENCE = 10_000;

/** The same when the browser has said that the network is gone (ms). */
export const DOUBT = 3000;
// ANCHOR_END: heartbeat

/** The close code that says: sign in, and come back. */
export const SIGN_IN = 4501;

/** What the fallback answers to requests says nothing about whether its stream is alive. */
const ANSWERS = ['ack', 'rooms', 'error'];

// ANCHOR: state
/**
 * @typedef {object} Link
 * @property {'off' | 'connecting' | 'connected' | 'waiting' | 'offline' | 'stopped'} phase
 * @property {'socket' | 'fallback'} way how it is connected, or tries to be
 * @property {number} opened counts connections: another number is another connection
 * @property {number} attempt how many attempts have failed since the last good connection
 * @property {number} failures how many WebSockets in a row have not come to a welcome
 * @property {boolean} hasWorked whether a WebSocket has ever worked on this page
 * @property {number} fallbackUntil until when the fallback is tried first
 * @property {number | null} until when the phase ends by itself
 * @property {number} since when the phase began
 * @property {number} comeBackAt when the server wants us back, as it said itself
 * @property {number} heardAt when the server last said something
 * @property {number | null} deadAt when the connection counts as dead unless the server says something before
 * @property {boolean} online what the browser says about the network
 * @property {{ code: number, reason: string } | null} close why the last connection ended
 */

/** @type {Link} */
export const initialLink = {
  phase: 'off', way: 'socket', opened: 0, attempt: 0, failures: 0, hasWorked: false, fallbackUntil: 0,
  until: null, since: 0, comeBackAt: 0, heardAt: 0, deadAt: null, online: true, close: null,
};

/** @returns {Link} */
export function reduceLink(link, action) {
  switch (action.type) {
    case 'start':
    case 'again':
      return begin({ ...link, attempt: 0, comeBackAt: 0 }, action.now);
    case 'opened': // the way is free; the welcome is on it
      return link.phase === 'connecting' ? { ...link, until: action.now + SLOW } : link;
    case 'received':
      return heard(link, action);
    case 'closed':
      return lost(link, action);
    case 'ticked':
      return ticked(link, action);
    case 'network':
      return network(link, action);
    case 'woken':
      return link.phase === 'connected' ? doubted(link, action.now + PATIENCE) : sooner(link, action);
    case 'put off':
      return putOff(link, action);
    case 'stopped':
      return { ...link, phase: 'stopped', until: null, deadAt: null, close: { code: action.code, reason: action.reason } };
    case 'signing out':
    case 'signed out':
      return { ...link, phase: 'off', until: null, deadAt: null, close: null };
    case 'recalled': // what an earlier page has found out; a clock that went back must not keep it for ever
      return { ...link, fallbackUntil: Math.min(action.fallbackUntil, action.now + REMEMBERED) };
    default:
      return link;
  }
}
// ANCHOR_END: state

// ANCHOR: begin
function begin(link, now) {
  const way = now < link.fallbackUntil || link.failures >= TRIES ? 'fallback' : 'socket';
  const until = now + (way === 'socket' ? HUNG : SLOW);
  return { ...link, phase: 'connecting', way, opened: link.opened + 1, until, since: now, deadAt: null };
}

function welcomed(link, now) {
  const met = { ...link, phase: 'connected', since: now, heardAt: now, deadAt: null, close: null, comeBackAt: 0 };
  if (link.way === 'socket') return { ...met, failures: 0, hasWorked: true, fallbackUntil: 0, until: null };
  const until = link.fallbackUntil > now ? link.fallbackUntil : now + (link.hasWorked ? SHORTLY : REMEMBERED);
  return { ...met, fallbackUntil: until, until };
}

function heard(link, { event, now }) {
  if (event.type === 'welcome') return welcomed(link, now);
  if (event.type === 'reconnect') return { ...link, comeBackAt: now + event.after };
  if (link.phase !== 'connected' || (link.way === 'fallback' && ANSWERS.includes(event.type))) return link;
  return { ...link, heardAt: now, deadAt: null };
}
// ANCHOR_END: begin

// ANCHOR: lost
/** Whether a connection that ended with this code is worth another one. */
export function comesBack(code) {
  if (code >= 4000) return code < 4500;
  // We have said goodbye ourselves, or one of us does not speak the protocol, which the next try won't change.
  return ![1000, 1002, 1003, 1007, 1009, 1010].includes(code);
}

function lost(link, { code, reason, now, random }) {
  if (link.phase !== 'connecting' && link.phase !== 'connected') return link;
  const close = { code, reason };
  if (!comesBack(code)) return { ...link, phase: 'stopped', until: null, deadAt: null, close };
  const wasGood = link.phase === 'connected' && now - link.since >= STABLE;
  const failed = wasGood ? 0 : link.attempt;
  const delay = nextDelay(code === 1013 ? Math.max(failed, FULL) : failed, random);
  const next = { ...counted(link), attempt: failed + 1, close, deadAt: null };
  return waiting(next, Math.max(now, link.comeBackAt) + delay, now);
}

/** Counts a failure of the way that was tried. If both fail, it is not the way: they take turns. */
function counted(link) {
  if (link.phase === 'connected') return link;
  if (link.way === 'socket') return { ...link, failures: link.failures + 1 };
  return { ...link, failures: TRIES - 1, fallbackUntil: 0 };
}

/** Without a network nothing is tried until it is back. Now and then it is all the same: browsers can be wrong. */
function waiting(link, until, now) {
  if (link.online) return { ...link, phase: 'waiting', until, since: now };
  return { ...link, phase: 'offline', until: now + CAP, since: now };
}
// ANCHOR_END: lost

// ANCHOR: put-off
/** The server has too much to do, and has said for how long. What is planned before that is planned anew. */
function putOff(link, { after, now, random }) {
  const next = { ...link, comeBackAt: Math.max(link.comeBackAt, now + after) };
  if (link.phase !== 'waiting' || link.until >= next.comeBackAt) return next;
  return { ...next, until: next.comeBackAt + nextDelay(link.attempt, random) };
}

/** Whether the connection has ended because nobody is signed in any more. */
export function needsSignIn({ phase, close }) {
  return phase === 'stopped' && close?.code === SIGN_IN;
}
// ANCHOR_END: put-off

// ANCHOR: time
function ticked(link, { now, random, catchingUp }) {
  if (link.phase === 'connected') return watched(link, { now, random, catchingUp });
  if (link.until === null || now < link.until) return link;
  if (link.phase === 'connecting') return lost(link, { code: 1006, reason: 'no answer', now, random });
  return begin(link, now);
}

/**
 * A browser can't ping, so the page asks something that has an answer. Only an answer that stays
 * away counts: silence alone may be a computer that was asleep.
 */
function watched(link, { now, random, catchingUp }) {
  if (link.deadAt !== null && now >= link.deadAt) return lost(link, { code: 1006, reason: 'no answer', now, random });
  if (link.until !== null && now >= link.until) return socketAgain(link, now);
  return now - link.heardAt >= quietFor(catchingUp) ? doubted(link, now + PATIENCE) : link;
}

function quietFor(catchingUp) {
  return catchingUp ? QUIET_HISTORY : QUIET;
}

/** The fallback works, and maybe a WebSocket does by now. If this one fails, it is the fallback for long. */
function socketAgain(link, now) {
  return begin({ ...link, failures: TRIES - 1, fallbackUntil: 0, hasWorked: false }, now);
}

/** Something is asked now (the driver does it), and the answer is due. */
function doubted(link, deadAt) {
  return link.deadAt === null || deadAt < link.deadAt ? { ...link, deadAt } : link;
}

/** The browser says that the network came or went. An open connection is asked, not believed to be gone. */
function network(link, { online, now, random }) {
  const next = { ...link, online };
  if (link.phase === 'connected') return doubted(next, now + (online ? PATIENCE : DOUBT));
  if (online) return sooner(next, { now, random });
  return link.phase === 'waiting' ? waiting(next, now, now) : next;
}

/** There is reason to hope: the next attempt is like the first one. */
function sooner(link, { now, random }) {
  if (link.phase !== 'waiting' && link.phase !== 'offline') return link;
  const until = Math.min(link.until, Math.max(now, link.comeBackAt) + nextDelay(0, random));
  return { ...waiting({ ...link, attempt: 0 }, until, now), since: link.since };
}

/** When `ticked` has something to do next, or `null`. */
export function nextDue({ phase, until, heardAt, deadAt }, catchingUp) {
  if (phase !== 'connected') return until;
  return Math.min(until ?? Infinity, deadAt ?? heardAt + quietFor(catchingUp));
}
// ANCHOR_END: time

// ANCHOR: words
const REASONS = {
  4029: 'This page sent more than the server takes.',
  4500: 'You have come back in another window, and this one was left.',
  4501: 'You have to sign in again.',
};

/** Why a connection ended, in words. */
export function whyClosed({ code, reason }) {
  return `${REASONS[code] ?? closeMeaning(code)} (${reason ? `${code}, “${reason}”` : code})`;
}

const messages = (count) => (count === 1 ? '1 message' : `${count} messages`);

/** The connection in words, and how many messages wait for it. */
export function linkSentence({ phase, way, until, close }, { me, waiting: count, now }) {
  const rest = count > 0 ? `: ${messages(count)} waiting` : '';
  switch (phase) {
    case 'connecting': return `Connecting…${count > 0 ? ` ${messages(count)} waiting` : ''}`;
    case 'connected': return `Connected as ${me}${way === 'fallback' ? ' (without WebSocket)' : ''}${rest}`;
    case 'waiting': return `Not connected, reconnecting in ${Math.max(1, Math.ceil((until - now) / 1000))} s${rest}`;
    case 'offline': return `You are offline${rest}`;
    case 'stopped': return close?.code === SIGN_IN ? `Signed out${rest}` : `Closed (${close?.code})${rest}`;
    default: return '';
  }
}
// ANCHOR_END: words
// ANCHOR_END: all
