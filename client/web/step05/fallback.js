// ANCHOR: all
// The same as connection.js for networks that let no WebSocket through: what the server says comes
// as a stream of server-sent events, and each event of ours is a request. The browser sends the
// cookie with each of them, as it does with a WebSocket.

import { parse } from './connection.js';
import { SIGN_IN } from './reconnect.js';

/** A stream that broke may take this long to come back by itself (ms). */
const REOPEN = 5000;

/** A request without an answer is given up after this time (ms). The server answers within 30 seconds. */
const ANSWER = 35_000;

// ANCHOR: places
/** Rooms and how far we have read them, as `join=` wants them: `rust/0b1c…/42,lobby`. */
export function placesText(places) {
  const text = ({ room, epoch, after }) => (epoch ? `${encodeURIComponent(room)}/${epoch}/${after}` : encodeURIComponent(room));
  return places.map(text).join(',');
}
// ANCHOR_END: places

// ANCHOR: connect
/**
 * Opens a connection and reports what happens to it, with the same events as a WebSocket.
 *
 * @param {string} namespace
 * @param {string | null} known the session of the connection before this one
 * @param {() => { room: string, epoch?: string, after?: number }[]} places where the stream is to begin
 * @param {{
 *   onOpen: () => void,
 *   onEvent: (event: object) => void,
 *   onReopen: () => void,
 *   onClose: (close: { code: number, reason: string }) => void,
 * }} handlers
 */
export function connectFallback(namespace, known, places, { onOpen, onEvent, onReopen, onClose }) {
  const path = (name) => (namespace ? `/${name}/${namespace}` : `/${name}`);
  const ending = new AbortController();
  const { signal } = ending;
  let session = known;
  let stream = null;
  let last = Promise.resolve();
  let reopening = 0;

  /** The end, with a code as a socket has one. */
  function end(code, reason) {
    if (signal.aborted) return;
    close();
    onClose({ code, reason });
  }

  function close() {
    clearTimeout(reopening);
    ending.abort();
    stream?.close();
  }

  // ANCHOR: post
  async function post(url, event) {
    const headers = { 'Content-Type': 'application/json' };
    const limit = AbortSignal.any([signal, AbortSignal.timeout(ANSWER)]);
    const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify(event), signal: limit });
    const answer = response.status === 204 ? null : parse(await response.text());
    if (!answer && !response.ok) throw new Error(`status ${response.status}`);
    return answer;
  }

  /** One request after the other: two at once could overtake each other. */
  function inTurn(send) {
    last = last.then(() => (signal.aborted ? undefined : send())).catch((error) => end(1006, error.message));
  }

  async function say(event) {
    const answer = await post(`${path('events')}?${new URLSearchParams({ session })}`, event);
    if (answer?.code === 'unauthorized') end(1006, 'the session has ended');
    else if (answer) onEvent(answer);
  }
  // ANCHOR_END: post

  // ANCHOR: hello
  async function hello() {
    const answer = await post(path('hello'), { type: 'hello', session: session ?? undefined });
    if (signal.aborted) return undefined;
    if (answer?.type !== 'welcome') return notWelcome(answer);
    session = answer.session;
    onOpen();
    return listen(answer);
  }

  /** Refused before the welcome: the end, in the codes that a WebSocket closes with. */
  function notWelcome(answer) {
    if (answer?.code === 'unauthorized' && session !== null) return helloAfresh();
    if (answer?.code === 'unauthorized') return end(SIGN_IN, '');
    if (answer?.retry_after) onEvent({ type: 'reconnect', after: answer.retry_after });
    return end(['unavailable', 'rate_limited'].includes(answer?.code) ? 1013 : 1006, answer?.message ?? 'no welcome');
  }

  /** Maybe only the connection before this one is not known any more, and the cookie still is. */
  function helloAfresh() {
    session = null;
    return hello();
  }
  // ANCHOR_END: hello

  // ANCHOR: listen
  function listen(welcome) {
    const query = new URLSearchParams({ session, join: placesText(places()) });
    stream = new EventSource(`${path('events')}?${query}`);
    let isNew = true;
    const heard = ({ data }) => {
      const event = parse(data);
      if (event) onEvent(event);
    };
    stream.addEventListener('open', () => {
      clearTimeout(reopening);
      if (isNew) onEvent(welcome);
      else onReopen();
      isNew = false;
    }, { signal });
    stream.addEventListener('message', heard, { signal });
    stream.addEventListener('close', ({ data }) => {
      const { code, reason } = JSON.parse(data);
      end(code, reason);
    }, { signal });
    // The browser comes back by itself, with the id of the last event it has seen.
    stream.addEventListener('error', () => {
      if (stream.readyState === EventSource.CLOSED) return end(1006, 'no stream');
      clearTimeout(reopening);
      reopening = setTimeout(end, REOPEN, 1006, 'the stream broke');
    }, { signal });
  }
  // ANCHOR_END: listen

  inTurn(hello);

  return {
    /** Sends an event. `false` if the connection is not open. */
    send(event) {
      if (signal.aborted) return false;
      inTurn(() => say(event));
      return true;
    },

    /** Ends the connection. Nothing is reported after this. */
    close,
  };
}
// ANCHOR_END: connect
// ANCHOR_END: all
