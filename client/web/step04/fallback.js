// ANCHOR: all
// The same as connection.js for networks that let no WebSocket through: what the server says comes
// as a stream of server-sent events, and each event of ours is a request.

import { parse } from './connection.js';

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
 * @param {() => { room: string, epoch?: string, after?: number }[]} places where the stream is to begin
 * @param {{
 *   onOpen: () => void,
 *   onEvent: (event: object) => void,
 *   onReopen: () => void,
 *   onClose: (close: { code: number, reason: string }) => void,
 * }} handlers
 */
export function connectFallback(namespace, places, { onOpen, onEvent, onReopen, onClose }) {
  const path = (name) => (namespace ? `/${name}/${namespace}` : `/${name}`);
  const ending = new AbortController();
  const { signal } = ending;
  let session = null;
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
    if (session) headers.Authorization = `Bearer ${session}`;
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
    const answer = await post(path('events'), event);
    if (answer?.code === 'unauthorized') end(1006, 'the session has ended');
    else if (answer) onEvent(answer);
  }
  // ANCHOR_END: post

  // ANCHOR: hello
  async function hello(event) {
    const answer = await post(path('hello'), event);
    if (signal.aborted) return undefined;
    if (answer?.code === 'unavailable') return end(1013, 'all places are taken');
    if (answer?.type !== 'welcome') return answer ? onEvent(answer) : end(1006, 'no welcome');
    session = answer.session;
    return listen(answer);
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

  queueMicrotask(() => { if (!signal.aborted) onOpen(); });

  return {
    /** Sends an event. `false` if the connection is not open. */
    send(event) {
      if (signal.aborted) return false;
      inTurn(() => (event.type === 'hello' ? hello(event) : say(event)));
      return true;
    },

    /** Ends the connection. Nothing is reported after this. */
    close,
  };
}
// ANCHOR_END: connect
// ANCHOR_END: all
