// ANCHOR: all
// The requests: who am I, sign in, sign up, sign out, search. The browser keeps the cookie that
// says who we are and sends it along; no script can read it, so none can give it away.

import { parse } from './connection.js';

/** A request without an answer is given up after this time (ms). */
const ANSWER = 15_000;

// ANCHOR: answer
/**
 * @typedef {{ code: string, message: string, retry_after?: number }} Problem
 * @typedef {{ status: number, body?: object, problem?: Problem }} Answer either `body` or `problem`
 */

/**
 * What an answer means. Refusals are the `error` events of the wire, so that there is one list of codes.
 *
 * @returns {Answer}
 */
export function answerOf(status, text) {
  if (status >= 200 && status < 300) return { status, body: text === '' ? {} : JSON.parse(text) };
  const event = parse(text);
  const problem = event?.type === 'error' ? event : { code: 'unavailable', message: `The server answered with ${status}.` };
  return { status, problem };
}

async function ask(method, path, body) {
  const headers = body ? { 'Content-Type': 'application/json' } : {};
  const options = { method, headers, body: body && JSON.stringify(body), cache: 'no-store', signal: AbortSignal.timeout(ANSWER) };
  try {
    const response = await fetch(path, options);
    return answerOf(response.status, await response.text());
  } catch {
    return { status: 0, problem: { code: 'no_answer', message: 'No server answers.' } };
  }
}
// ANCHOR_END: answer

// ANCHOR: requests
/** Who the cookie says we are: the body has a `name`, or the status is 401. */
export const whoAmI = () => ask('GET', '/api/me');

export const signIn = (name, password) => ask('POST', '/api/login', { name, password });

export const signUp = (name, password) => ask('POST', '/api/register', { name, password });

/** Ends the session: on the server, which closes its connections, and not only in this browser. */
export const signOut = () => ask('POST', '/api/logout');

/** Messages with these words, the newest first. `before`: only those with a smaller number. */
export function search(namespace, { room, text, before }) {
  const query = new URLSearchParams({ room, q: text });
  if (namespace) query.set('ns', namespace);
  if (before !== null) query.set('before', before);
  return ask('GET', `/api/search?${query}`);
}
// ANCHOR_END: requests
// ANCHOR_END: all
