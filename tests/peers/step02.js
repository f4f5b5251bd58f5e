// Milestone 2 for Node: one room for everyone, with `ws`.

import { randomUUID } from 'node:crypto';
import { WebSocketServer } from 'ws';
import { CLOSE_TIMEOUT, httpServer, listen, page, upgrade } from './serve.js';

const MAX_MESSAGE = 64 * 1024; // bytes on the wire
const MAX_TEXT = 2000; // characters
const MAX_UNSENT = 1024 * 1024; // bytes waiting for one client
const HELLO_TIMEOUT = 10_000; // ms

/** The string fields each event must have. */
const FIELDS = { hello: ['name'], message: ['text'] };

/** Everyone who has said hello, by lower-cased name. */
const users = new Map();

/** An event the server cannot accept. The connection stays open. */
class Refused extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

// ANCHOR: connection
function connect(ws) {
  const client = { ws, id: randomUUID(), name: null };
  const deadline = setTimeout(() => {
    sendError(client, new Refused('hello_first', 'Say hello within 10 seconds.'));
    ws.close(1008, 'no hello');
  }, HELLO_TIMEOUT);

  ws.on('message', (data, isBinary) => {
    if (ws.readyState !== ws.OPEN) return; // we are closing: what still arrives counts no more
    try {
      receive(client, parse(data, isBinary));
      if (client.name) clearTimeout(deadline);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      sendError(client, error);
    }
  });
  ws.on('error', (error) => console.error(`closed: ${error.message}`));
  ws.on('close', () => {
    clearTimeout(deadline);
    leave(client);
  });
}

function receive(client, event) {
  if (event.type === 'hello') return hello(client, event.name);
  if (!client.name) throw new Refused('hello_first', 'Say hello before anything else.');
  message(client, event.text);
}
// ANCHOR_END: connection

/** Turns a frame into an event with the fields its type must have. */
function parse(data, isBinary) {
  const bad = (message) => new Refused('bad_json', message);
  if (isBinary) throw bad('Send JSON in text frames.');
  let event;
  try {
    event = JSON.parse(data.toString());
  } catch {
    throw bad('That is not JSON.');
  }
  if (typeof event?.type !== 'string') throw bad('An event is an object with a "type".');
  if (!Object.hasOwn(FIELDS, event.type)) throw new Refused('unknown_type', `There is no event "${event.type}".`);
  for (const field of FIELDS[event.type]) {
    const isText = typeof event[field] === 'string' && !/\p{Surrogate}/u.test(event[field]);
    if (!isText) throw bad(`"${event.type}" needs a string "${field}".`);
  }
  return event;
}

// ANCHOR: names
/** One spelling for names that look alike: the full-width "ａｄａ" becomes "ada". */
function nameFrom(text) {
  const name = text.normalize('NFKC');
  if (/^[\p{Alphabetic}\p{N}_-]{1,32}$/u.test(name)) return name;
  throw new Refused('bad_name', 'A name has 1 to 32 letters, digits, "_" or "-".');
}

function hello(client, text) {
  if (client.name) throw new Refused('forbidden', 'You have said hello already.');
  const name = nameFrom(text);
  const key = name.toLowerCase();
  if (users.has(key)) throw new Refused('name_taken', `Somebody here is called "${name}" already.`);
  client.name = name;
  users.set(key, client);
  const names = [...users.keys()].sort().map((each) => users.get(each).name);
  send(client, JSON.stringify({ type: 'welcome', id: client.id, name, users: names }));
  broadcast({ type: 'user_joined', name }, client);
}

function leave(client) {
  const key = client.name?.toLowerCase();
  if (users.get(key) !== client) return;
  users.delete(key);
  broadcast({ type: 'user_left', name: client.name });
}
// ANCHOR_END: names

function message(client, text) {
  const trimmed = text.trim();
  if (trimmed === '') throw new Refused('empty_text', 'There is nothing to send.');
  if ([...trimmed].length > MAX_TEXT) throw new Refused('text_too_long', `A message has at most ${MAX_TEXT} characters.`);
  broadcast({ type: 'message', id: randomUUID(), from: client.name, text: trimmed, at: Date.now() });
}

// ANCHOR: broadcast
function broadcast(event, except) {
  const json = JSON.stringify(event);
  for (const client of users.values()) {
    if (client !== except) send(client, json);
  }
}

function send(client, json) {
  client.ws.send(json);
  // ws queues without a limit, so the limit is ours to keep.
  if (client.ws.bufferedAmount > MAX_UNSENT) {
    client.ws.close(4008, 'too slow');
    leave(client);
  }
}
// ANCHOR_END: broadcast

function sendError(client, { code, message }) {
  send(client, JSON.stringify({ type: 'error', code, message }));
}

const sockets = new WebSocketServer({ noServer: true, maxPayload: MAX_MESSAGE, closeTimeout: CLOSE_TIMEOUT });
sockets.on('connection', connect);

const server = httpServer(page(new URL('../../client/web/step02/', import.meta.url)));
upgrade(server, (path) => (path === '/ws' ? sockets : undefined));
listen(server, [sockets], 'http', 3002);
