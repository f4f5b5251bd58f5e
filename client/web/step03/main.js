// ANCHOR: all
// Wires the parts up: what people do goes out by the connection, what comes in changes the state,
// and the view shows the state. In the order a message travels: main.js, connection.js, state.js, view.js.

import { connect, socketUrl } from './connection.js';
import { initialState, joinedRooms, mayTellTyping, nextTick, reduce, textProblem } from './state.js';
import { createView } from './view.js';

/** How often the list of rooms is asked for (ms). */
const ROOMS_EVERY = 5000;

// ANCHOR: wiring
let state = initialState;
let connection = null;
let namespace = '';
let ticking = 0;
let lastTold = null;

const view = createView({
  enter, say, leave, edit, again: () => enter(state.name),
  joinRoom, leaveRoom, open, writeTo,
});

// ANCHOR: dispatch
/** The only way the state changes. */
function dispatch(action) {
  state = reduce(state, action);
  view.render(state);
  schedule();
}

/** One timer, for the next one who stops typing. */
function schedule() {
  clearTimeout(ticking);
  const next = nextTick(state);
  if (next === null) return;
  ticking = setTimeout(() => dispatch({ type: 'ticked', now: Date.now() }), Math.max(0, next - Date.now()));
}
// ANCHOR_END: dispatch
// ANCHOR_END: wiring

// ANCHOR: actions
function enter(name, room = '', chosen = namespace) {
  connection?.close();
  // A namespace shares nothing with another one: what we know of the old one goes.
  if (chosen !== namespace) state = { ...initialState, entries: state.entries };
  namespace = chosen;
  dispatch({ type: 'connecting', name });
  const rooms = new Set([...joinedRooms(state), room].filter(Boolean));
  connection = connect(socketUrl(location, namespace ? `/ws/${namespace}` : '/ws'), {
    onOpen: () => connection.send({ type: 'hello', name }),
    onEvent: (event) => receive(event, rooms),
    onClose: ({ code, reason }) => dispatch({ type: 'closed', code, reason }),
  });
}

function receive(event, rooms) {
  dispatch({ type: 'received', event, now: Date.now() });
  // The server did not take the name: the next try is a new connection.
  if (state.status === 'out') connection.close();
  if (event.type === 'welcome') rooms.forEach(joinRoom);
  if (['welcome', 'joined', 'left'].includes(event.type)) askForRooms();
}

/** Sends a message. `true` if it went out, so that the text field can be emptied. */
function say(text) {
  const problem = textProblem(text);
  dispatch({ type: 'checked', problem });
  const conversation = state.conversations[state.current];
  if (problem !== null || !conversation) return false;
  lastTold = null;
  const { kind, title } = conversation;
  return connection.send(kind === 'room' ? { type: 'message', room: title, text } : { type: 'direct', to: title, text });
}

function edit(text) {
  dispatch({ type: 'checked', problem: null });
  const conversation = state.conversations[state.current];
  if (conversation?.kind !== 'room' || text.trim() === '') return;
  const room = conversation.title;
  const now = Date.now();
  if (!mayTellTyping(lastTold, room, now)) return;
  lastTold = { room, at: now };
  connection.send({ type: 'typing', room });
}

function leave() {
  connection.close();
  dispatch({ type: 'closed', code: 1000, reason: '' });
}
// ANCHOR_END: actions

// ANCHOR: rooms
function joinRoom(room) {
  connection.send({ type: 'join', room });
}

function leaveRoom() {
  const { kind, title } = state.conversations[state.current];
  // A direct conversation is ours alone: the server knows of no end.
  if (kind === 'room') connection.send({ type: 'leave', room: title });
}

function open(key) {
  dispatch({ type: 'opened', key });
}

function writeTo(name) {
  dispatch({ type: 'wrote to', name });
}

function askForRooms() {
  if (state.status === 'connected') connection.send({ type: 'rooms' });
}

// Nobody tells us when a room starts or ends somewhere else, so we ask.
setInterval(askForRooms, ROOMS_EVERY);
// ANCHOR_END: rooms

const query = new URLSearchParams(location.search);
const asked = { name: query.get('name') ?? '', room: query.get('room') ?? 'lobby', namespace: query.get('ns') ?? '' };
view.fill(asked);
view.render(state);
if (query.get('join') === '1' && asked.name !== '') enter(asked.name, asked.room, asked.namespace);
// ANCHOR_END: all
