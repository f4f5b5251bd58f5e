// ANCHOR: all
// The socket: open it, parse what comes in, send what goes out. It knows nothing about chat.

/** The address of `path` on the server that this page came from. */
export function socketUrl({ protocol, host }, path) {
  return `${protocol === 'https:' ? 'wss' : 'ws'}://${host}${path}`;
}

// ANCHOR: connect
/**
 * Opens a connection and reports what happens to it.
 *
 * @param {string} url
 * @param {{
 *   onOpen: () => void,
 *   onEvent: (event: object) => void,
 *   onClose: (close: { code: number, reason: string }) => void,
 * }} handlers
 */
export function connect(url, { onOpen, onEvent, onClose }) {
  const socket = new WebSocket(url);
  const listening = new AbortController();
  const { signal } = listening;

  socket.addEventListener('open', onOpen, { signal });
  socket.addEventListener('close', onClose, { signal });
  socket.addEventListener('message', ({ data }) => {
    const event = parse(data);
    if (event) onEvent(event);
  }, { signal });

  return {
    /** Sends an event. `false` if the connection is not open. */
    send(event) {
      if (socket.readyState !== WebSocket.OPEN) return false;
      socket.send(JSON.stringify(event));
      return true;
    },

    /** Ends the connection. Nothing is reported after this. */
    close() {
      listening.abort();
      socket.close(1000);
    },
  };
}
// ANCHOR_END: connect

// ANCHOR: parse
/** What the server sent as an object, or `null`: a broken frame must not stop the page. */
export function parse(data) {
  try {
    const event = JSON.parse(data);
    return typeof event?.type === 'string' ? event : null;
  } catch {
    return null;
  }
}
// ANCHOR_END: parse

// ANCHOR: closes
const CLOSES = {
  1000: 'You have left.',
  1001: 'The server is going away.',
  1002: 'The server did not understand this page.',
  1006: 'The connection broke, or no server answered.',
  1007: 'The server got text that is not UTF-8.',
  1008: 'The server closed the connection by its rules.',
  1009: 'A message was too big for the server.',
  1011: 'Something went wrong in the server.',
  1012: 'The server is restarting.',
  1013: 'The server is full. Try again later.',
  4008: 'This page was too slow to take in what the server sent.',
};

/** What a close code means, in words. */
export function closeMeaning(code) {
  return CLOSES[code] ?? 'The server closed the connection.';
}
// ANCHOR_END: closes
// ANCHOR_END: all
