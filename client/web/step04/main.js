// ANCHOR: all
// Wires the parts up. What people do and what the server says are actions; each changes the state;
// then this module does what the state asks for: open a connection, join rooms, send what waits.
// In the order a message travels: main.js, outbox.js, reconnect.js, connection.js or fallback.js,
// state.js with cursor.js, keeper.js with storage.js, view.js.

import { connect, socketUrl } from './connection.js';
import { roomOfTwo } from './cursor.js';
import { connectFallback } from './fallback.js';
import { createKeeper } from './keeper.js';
import { newId, waitingCount } from './outbox.js';
import { initialState, isCatchingUp, mayTellTyping, nextTick, pendingIn, reduce, textProblem, toJoin, toSend } from './state.js';
import { claim, openStorage, ownerOf } from './storage.js';
import { createView } from './view.js';

/** How often the list of rooms is asked for (ms). */
const ROOMS_EVERY = 5000;

/** Under this name the tab remembers who is signed in, so that a reload goes on. */
const REMEMBERED = 'chat-step04';

// ANCHOR: wiring
let state = initialState;
let connection = null;
let namespace = '';
let letGo = null;
let entering = 0;
let ticking = 0;
let lastTold = null;

const view = createView({
  enter, say, leave, edit, again, joinRoom, leaveRoom, open, writeTo, retry, discard,
});
const keeper = createKeeper();
const ready = prepare();

// ANCHOR: dispatch
/** The only way the state changes. */
function dispatch(action) {
  apply(action);
  pump();
  view.render(state);
  schedule();
}

function apply(action) {
  const before = state.link;
  state = reduce(state, { now: Date.now(), random: Math.random(), catchingUp: isCatchingUp(state), ...action });
  keeper.note(state);
  steer(before, state.link);
}

/** One timer, for whatever is due next. */
function schedule() {
  clearTimeout(ticking);
  const next = nextTick(state);
  if (next === null) return;
  ticking = setTimeout(() => dispatch({ type: 'ticked' }), Math.max(10, next - Date.now()));
}
// ANCHOR_END: dispatch
// ANCHOR_END: wiring

// ANCHOR: steer
/** Opens and closes connections as the state says, and asks a silent server for a sign of life. */
function steer(before, { phase, opened, deadAt }) {
  if (opened !== before.opened) openConnection(opened);
  else if (phase !== 'connecting' && phase !== 'connected') closeConnection();
  if (phase === 'connected' && deadAt !== null && deadAt !== before.deadAt) probe();
}

function openConnection(number) {
  closeConnection();
  // What an older connection still has to say is no longer of interest.
  const report = (action) => { if (state.link.opened === number) dispatch(action); };
  const handlers = {
    onOpen: () => {
      report({ type: 'opened' });
      connection?.send({ type: 'hello', name: state.me ?? state.name, session: state.session ?? undefined });
    },
    onEvent: (event) => {
      report({ type: 'received', event });
      if (!state.isIn) leaveQuietly();
      if (['welcome', 'joined', 'left'].includes(event.type)) askForRooms();
    },
    onReopen: () => report({ type: 'reopened' }),
    onClose: ({ code, reason }) => report({ type: 'closed', code, reason }),
  };
  try {
    connection = state.link.way === 'socket'
      ? connect(socketUrl(location, namespace ? `/ws/${namespace}` : '/ws'), handlers)
      : connectFallback(namespace, takePlaces, handlers);
  } catch (error) {
    queueMicrotask(() => handlers.onClose({ code: 1006, reason: error.message }));
  }
}

function closeConnection() {
  connection?.close();
  connection = null;
}

/** The fallback asks for all rooms in one request. */
function takePlaces() {
  const places = toJoin(state);
  apply({ type: 'asked', rooms: places.map(({ room }) => room) });
  return places;
}

/** To join where one is already changes nothing, and the answer says whether we have everything. */
function probe() {
  const here = Object.entries(state.conversations).find(([, { place }]) => place === 'here');
  if (!here) return askForRooms();
  const [room, { epoch, have }] = here;
  connection?.send({ type: 'join', room, epoch, after: have });
}
// ANCHOR_END: steer

// ANCHOR: pump
/** Sends what can be sent: first the rooms, then the messages of those we are in. */
function pump() {
  if (state.link.phase !== 'connected') return;
  for (const place of toJoin(state)) {
    if (connection.send({ type: 'join', ...place })) apply({ type: 'asked', rooms: [place.room] });
  }
  for (const { id, room, text } of toSend(state, Date.now())) {
    if (connection.send({ type: 'message', id, room, text })) apply({ type: 'sending', id });
  }
}
// ANCHOR_END: pump

// ANCHOR: enter
async function enter(name, room = '', chosen = namespace) {
  entering += 1;
  const mine = entering;
  leaveQuietly();
  const storage = await ready;
  const owner = ownerOf(chosen, name);
  const claimed = await claim(owner);
  if (mine !== entering) return claimed?.();
  if (!claimed) return dispatch({ type: 'not let in', sentence: `You are here as ${name} in another tab of this browser.` });
  const kept = await storage.load(owner).catch(() => ({ outbox: [], rooms: [], session: null }));
  if (mine !== entering) return claimed();
  [letGo, namespace] = [claimed, chosen];
  remember({ name, namespace, room });
  apply({ type: 'entered', name, room, kept });
  keeper.begin(storage, owner, state);
  return dispatch({ type: 'start' });
}

/** Ends what there is, before something new begins. */
function leaveQuietly() {
  keeper.end();
  letGo?.();
  letGo = null;
  apply({ type: 'refused' });
}

function leave() {
  remember(null);
  // The messages stay in the storage until the same name signs in again, here or in another tab.
  dispatch({ type: 'stopped', code: 1000, reason: '' });
  letGo?.();
  letGo = null;
}

function again() {
  if (letGo === null) enter(state.name);
  else dispatch({ type: 'again' });
}

/** What a reload of this tab goes on with. A new tab begins at the way in. */
function remember(who) {
  try {
    if (who) sessionStorage.setItem(REMEMBERED, JSON.stringify(who));
    else sessionStorage.removeItem(REMEMBERED);
  } catch {
    // No storage for this page: then a reload begins at the way in as well.
  }
}

function remembered() {
  try {
    return JSON.parse(sessionStorage.getItem(REMEMBERED));
  } catch {
    return null;
  }
}
// ANCHOR_END: enter

// ANCHOR: actions
/** Puts a message into the outbox, connected or not. `true` if it is in, so that the text field can be emptied. */
function say(text) {
  const problem = textProblem(text);
  dispatch({ type: 'checked', problem });
  if (problem !== null || !state.conversations[state.current]) return false;
  lastTold = null;
  dispatch({ type: 'typed', id: newId(), room: state.current, text: text.trim() });
  return true;
}

function retry(id) {
  dispatch({ type: 'retried', id, freshId: newId() });
}

function discard(id) {
  dispatch({ type: 'discarded', id });
}

function edit(text) {
  dispatch({ type: 'checked', problem: null });
  const room = state.current;
  const now = Date.now();
  if (state.conversations[room]?.place !== 'here' || text.trim() === '' || !mayTellTyping(lastTold, room, now)) return;
  lastTold = { room, at: now };
  connection?.send({ type: 'typing', room });
}
// ANCHOR_END: actions

// ANCHOR: rooms
function joinRoom(room) {
  if (state.conversations[room]) open(room);
  else dispatch({ type: 'wanted', room });
}

function leaveRoom() {
  const room = state.current;
  const count = waitingCount(pendingIn(state, room));
  if (count > 0) dispatch({ type: 'checked', problem: `Messages that wait to be sent here: ${count}. Leave when they are gone.` });
  else connection?.send({ type: 'leave', room });
}

function open(room) {
  dispatch({ type: 'opened conversation', room });
}

function writeTo(name) {
  dispatch({ type: 'wrote to', name, room: roomOfTwo(state.me, name) });
}

function askForRooms() {
  if (state.link.phase === 'connected') connection?.send({ type: 'rooms' });
}

// Nobody tells us when a room starts or ends somewhere else, so we ask.
setInterval(askForRooms, ROOMS_EVERY);
// ANCHOR_END: rooms

// ANCHOR: network
addEventListener('online', () => dispatch({ type: 'network', online: true }));
addEventListener('offline', () => dispatch({ type: 'network', online: false }));
addEventListener('pagehide', () => {
  keeper.flush();
  if (remembered()) remember({ name: state.name, namespace, room: state.current ?? state.next ?? '' });
});
addEventListener('beforeunload', (event) => {
  // Where nothing outlives the page, the browser asks before it goes.
  if (!state.lasts && waitingCount(state.outbox) > 0) event.preventDefault();
});
document.addEventListener('visibilitychange', () => {
  if (document.hidden) keeper.flush();
  else dispatch({ type: 'woken' });
});
// ANCHOR_END: network

// ANCHOR: start
/** Opens the storage. The page can be used meanwhile; only signing in waits for it. */
async function prepare() {
  const storage = await openStorage(() => dispatch({ type: 'storage', lasts: false }));
  dispatch({ type: 'storage', lasts: storage.lasts });
  const fallbackUntil = await storage.fact('fallbackUntil').catch(() => 0);
  dispatch({ type: 'recalled', fallbackUntil: fallbackUntil ?? 0 });
  return storage;
}

const query = new URLSearchParams(location.search);
const asked = { name: query.get('name') ?? '', room: query.get('room') ?? 'lobby', namespace: query.get('ns') ?? '' };
const before = remembered();
view.fill(asked);
dispatch({ type: 'network', online: navigator.onLine });
if (before) enter(before.name, before.room, before.namespace);
else if (query.get('join') === '1' && asked.name !== '') enter(asked.name, asked.room, asked.namespace);
// ANCHOR_END: start
// ANCHOR_END: all
