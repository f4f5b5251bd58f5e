// Milestone 3 for Node: rooms, history, typing, direct messages and namespaces, with `ws`.

import { randomUUID } from 'node:crypto';
import { WebSocketServer } from 'ws';
import { CLOSE_TIMEOUT, httpServer, listen, page, upgrade } from './serve.js';

const MAX_MESSAGE = 64 * 1024; // bytes on the wire
const MAX_TEXT = 2000; // characters
const MAX_UNSENT = 1024 * 1024; // bytes waiting for one client
const MAX_ROOMS = 64; // for one connection
const HISTORY = 50; // messages kept for newcomers
const HELLO_TIMEOUT = 10_000; // ms

/** An event the server cannot accept. The connection stays open. */
class Refused extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** What a client may say: the string fields an event must have, and who handles it. */
const EVENTS = {
  hello: { fields: ['name'], handle: hello },
  join: { fields: ['room'], handle: join },
  leave: { fields: ['room'], handle: leave },
  message: { fields: ['room', 'text'], handle: message },
  typing: { fields: ['room'], handle: typing },
  direct: { fields: ['to', 'text'], handle: direct },
  rooms: { fields: [], handle: listRooms },
};

/** A namespace shares nothing with another one: own names, own rooms, own sockets. */
function namespace() {
  const sockets = new WebSocketServer({ noServer: true, maxPayload: MAX_MESSAGE, closeTimeout: CLOSE_TIMEOUT });
  const space = { sockets, users: new Map(), rooms: new Map() };
  sockets.on('connection', (ws) => connect(space, ws));
  return space;
}

function connect(space, ws) {
  const client = { ws, space, id: randomUUID(), name: null, rooms: new Set() };
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
    goodbye(client);
  });
}

function receive(client, event) {
  if (!client.name && event.type !== 'hello') throw new Refused('hello_first', 'Say hello before anything else.');
  EVENTS[event.type].handle(client, event);
}

/** Turns a frame into an event with the fields its type must have. */
function parse(data, isBinary) {
  const bad = (sentence) => new Refused('bad_json', sentence);
  if (isBinary) throw bad('Send JSON in text frames.');
  let event;
  try {
    event = JSON.parse(data.toString());
  } catch {
    throw bad('That is not JSON.');
  }
  if (typeof event?.type !== 'string') throw bad('An event is an object with a "type".');
  if (!Object.hasOwn(EVENTS, event.type)) throw new Refused('unknown_type', `There is no event "${event.type}".`);
  for (const field of EVENTS[event.type].fields) {
    const isText = typeof event[field] === 'string' && !/\p{Surrogate}/u.test(event[field]);
    if (!isText) throw bad(`"${event.type}" needs a string "${field}".`);
  }
  return event;
}

/** One spelling for names that look alike: the full-width "ａｄａ" becomes "ada". */
function nameFrom(text) {
  const name = text.normalize('NFKC');
  if (/^[\p{Alphabetic}\p{N}_-]{1,32}$/u.test(name)) return name;
  throw new Refused('bad_name', 'A name has 1 to 32 letters, digits, "_" or "-".');
}

function hello(client, { name: text }) {
  if (client.name) throw new Refused('forbidden', 'You have said hello already.');
  const { users } = client.space;
  const name = nameFrom(text);
  const key = name.toLowerCase();
  if (users.has(key)) throw new Refused('name_taken', `Somebody here is called "${name}" already.`);
  client.name = name;
  users.set(key, client);
  send(client, JSON.stringify({ type: 'welcome', id: client.id, name }));
}

function goodbye(client) {
  const { users } = client.space;
  const key = client.name?.toLowerCase();
  if (users.get(key) !== client) return;
  users.delete(key);
  for (const room of client.rooms) part(client, room);
}

// ANCHOR: rooms
/** A room is its members and its last messages. It exists while somebody is in it. */
function openRoom({ rooms }, name) {
  if (!rooms.has(name)) rooms.set(name, { name, members: new Set(), history: [] });
  return rooms.get(name);
}

/** The room of that name, which the client must be in. */
function roomOf(client, name) {
  checkRoomName(name);
  if (!client.rooms.has(name)) throw new Refused('not_in_room', `You are not in "${name}".`);
  return client.space.rooms.get(name);
}

function checkRoomName(name) {
  if (/^[a-z0-9_-]{1,64}$/.test(name)) return;
  throw new Refused('bad_room', 'A room has 1 to 64 of a-z, 0-9, "_" and "-".');
}

function broadcast(room, event, except) {
  const json = JSON.stringify(event);
  for (const member of room.members) {
    if (member !== except) send(member, json);
  }
}
// ANCHOR_END: rooms

// ANCHOR: join
function join(client, { room: name }) {
  checkRoomName(name);
  const isNew = !client.rooms.has(name);
  if (isNew && client.rooms.size >= MAX_ROOMS) {
    throw new Refused('too_many_rooms', `You can be in ${MAX_ROOMS} rooms at once.`);
  }
  const room = openRoom(client.space, name);
  room.members.add(client);
  client.rooms.add(name);
  const members = [...room.members].map((member) => member.name).sort(byKey);
  send(client, JSON.stringify({ type: 'joined', room: name, members, history: room.history }));
  if (isNew) broadcast(room, { type: 'member_joined', room: name, name: client.name }, client);
}

function byKey(a, b) {
  return a.toLowerCase() < b.toLowerCase() ? -1 : 1;
}

function leave(client, { room: name }) {
  roomOf(client, name);
  part(client, name);
  send(client, JSON.stringify({ type: 'left', room: name }));
}

function part(client, name) {
  const { rooms } = client.space;
  const room = rooms.get(name);
  client.rooms.delete(name);
  room.members.delete(client);
  if (room.members.size === 0) rooms.delete(name);
  broadcast(room, { type: 'member_left', room: name, name: client.name });
}
// ANCHOR_END: join

function message(client, { room: name, text }) {
  const room = roomOf(client, name);
  const event = { type: 'message', room: name, id: randomUUID(), from: client.name, text: textFrom(text), at: Date.now() };
  room.history.push(event);
  if (room.history.length > HISTORY) room.history.shift();
  broadcast(room, event);
}

function textFrom(text) {
  const trimmed = text.trim();
  if (trimmed === '') throw new Refused('empty_text', 'There is nothing to send.');
  if ([...trimmed].length > MAX_TEXT) throw new Refused('text_too_long', `A message has at most ${MAX_TEXT} characters.`);
  return trimmed;
}

function typing(client, { room: name }) {
  const room = roomOf(client, name);
  broadcast(room, { type: 'typing', room: name, name: client.name }, client);
}

// ANCHOR: direct
function direct(client, { to, text }) {
  const receiver = client.space.users.get(to.normalize('NFKC').toLowerCase());
  if (!receiver) throw new Refused('no_such_user', `Nobody here is called "${to}".`);
  const event = {
    type: 'direct', id: randomUUID(), from: client.name, to: receiver.name, text: textFrom(text), at: Date.now(),
  };
  // A set, so that a note to oneself comes once.
  for (const one of new Set([client, receiver])) send(one, JSON.stringify(event));
}
// ANCHOR_END: direct

function listRooms(client) {
  const rooms = [...client.space.rooms.values()]
    .map(({ name, members }) => ({ name, members: members.size }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  send(client, JSON.stringify({ type: 'rooms', rooms }));
}

function send(client, json) {
  client.ws.send(json);
  // ws queues without a limit, so the limit is ours to keep.
  if (client.ws.bufferedAmount > MAX_UNSENT) {
    client.ws.close(4008, 'too slow');
    goodbye(client);
  }
}

function sendError(client, { code, message: sentence }) {
  send(client, JSON.stringify({ type: 'error', code, message: sentence }));
}

const spaces = new Map(['/ws', '/ws/general', '/ws/staff'].map((path) => [path, namespace()]));
const server = httpServer(page(new URL('../../client/web/step03/', import.meta.url)));
upgrade(server, (path) => spaces.get(path)?.sockets);
listen(server, [...spaces.values()].map((space) => space.sockets), 'http', 3003);
