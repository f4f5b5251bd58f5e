// ANCHOR: all
// Wires the parts up. What people do and what the server says are actions; each changes the state;
// then this module does what the state asks for: open a connection, join rooms, send what waits.
// In the order a message travels: main.js, outbox.js, reconnect.js, connection.js or fallback.js,
// state.js with cursor.js, keeper.js with storage.js, view.js. Beside that way: account.js and
// search.js, which ask by api.js.

import { formProblem, secondsLeft } from './account.js';
import * as api from './api.js';
import { connect, socketUrl } from './connection.js';
import { nameKey, roomOfTwo } from './cursor.js';
import { connectFallback } from './fallback.js';
import { createKeeper } from './keeper.js';
import { newId, waitingCount } from './outbox.js';
import { oldest } from './search.js';
import { initialState, isCatchingUp, isExpired, mayTellTyping, nextTick, pendingIn, reduce, textProblem, toJoin, toSend } from './state.js';
import { claim, openStorage, ownerOf } from './storage.js';
import { createView } from './view.js';

/** How often the list of rooms is asked for (ms). */
const ROOMS_EVERY = 5000;

/** Under this name the tab remembers who was here and where, so that a reload goes on. That they are signed in, only the cookie says. */
const REMEMBERED = 'chat-step05';

// ANCHOR: wiring
let state = initialState;
let connection = null;
let namespace = '';
let letGo = null;
let entering = 0;
let ticking = 0;
let lastTold = null;
let searches = 0;

const query = new URLSearchParams(location.search);
const asked = { name: query.get('name') ?? '', room: query.get('room') ?? 'lobby', namespace: query.get('ns') ?? '' };

const view = createView({
  submit, chooseMode, say, leave, edit, again, joinRoom, leaveRoom, open, writeTo, retry, discard, openSearch, closeSearch, search, searchOlder,
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
  if (phase === 'waiting' && before.phase === 'connecting') askWhy();
}

/** A browser does not tell a page why a WebSocket was refused. Whether the session has ended, a request can tell. */
async function askWhy() {
  const mine = entering;
  const { status, body, problem } = await api.whoAmI();
  if (mine !== entering) return;
  if (body || status === 401) dispatch({ type: 'recognized', name: body?.name ?? null });
  else if (problem.retry_after) dispatch({ type: 'put off', after: problem.retry_after });
}

function openConnection(number) {
  closeConnection();
  // What an older connection still has to say is no longer of interest.
  const report = (action) => { if (state.link.opened === number) dispatch(action); };
  const handlers = {
    onOpen: () => report({ type: 'opened' }),
    onEvent: (event) => {
      report({ type: 'received', event });
      if (['welcome', 'joined', 'left'].includes(event.type)) askForRooms();
    },
    onReopen: () => report({ type: 'reopened' }),
    onClose: ({ code, reason }) => report({ type: 'closed', code, reason }),
  };
  try {
    connection = state.link.way === 'socket'
      ? connect(socketUrl(location, socketPath()), handlers)
      : connectFallback(namespace, state.session, takePlaces, handlers);
  } catch (error) {
    queueMicrotask(() => handlers.onClose({ code: 1006, reason: error.message }));
  }
}

/** With our session, so that the server replaces our own old connection, if it has not noticed that it is dead. */
function socketPath() {
  const path = namespace ? `/ws/${namespace}` : '/ws';
  return state.session === null ? path : `${path}?${new URLSearchParams({ session: state.session })}`;
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

// ANCHOR: account
/** The form: sign in or sign up, then come in. Whoever has to sign in again goes on where they are. */
async function submit({ name, password, room, namespace: chosen }) {
  const { mode, isBusy } = state.account;
  if (isBusy || secondsLeft(state.account, Date.now()) > 0) return;
  const wrong = formProblem(mode, { name, password });
  if (wrong) return dispatch({ type: 'form refused', problem: wrong });
  dispatch({ type: 'form sent' });
  const { body, problem } = await (mode === 'sign up' ? api.signUp(name, password) : api.signIn(name, password));
  if (problem) return dispatch({ type: 'form refused', problem });
  view.forgetPassword();
  if (isExpired(state) && nameKey(body.name) === nameKey(state.me)) return dispatch({ type: 'start' });
  return isExpired(state) ? enter(body.name, asked.room, asked.namespace) : enter(body.name, room, chosen);
}

function chooseMode(mode) {
  dispatch({ type: 'mode chosen', mode });
}

/** Signs out. Only if the server has ended the session, for otherwise the next one here could go on with it. */
async function leave() {
  if (state.link.phase === 'off') return; // on the way out already
  dispatch({ type: 'signing out' });
  const who = await api.whoAmI();
  // If another person has signed in in another tab, the cookie is theirs, and stays.
  const isOurs = who.body && nameKey(who.body.name) === nameKey(state.me);
  const { problem, status } = isOurs ? await api.signOut() : who;
  if (!problem || status === 401) return leaveForGood();
  dispatch({ type: 'start' });
  return dispatch({ type: 'not signed out', problem });
}

/** The messages that wait stay in the storage until the same person signs in again. */
function leaveForGood() {
  remember(null);
  keeper.strip();
  leaveQuietly();
  view.fill({ ...asked, name: '' });
}
// ANCHOR_END: account

// ANCHOR: enter
/** Somebody is signed in: takes what they have left in this browser, and connects. */
async function enter(name, room, chosen) {
  entering += 1;
  const mine = entering;
  leaveQuietly();
  const storage = await ready;
  const owner = ownerOf(chosen, name);
  const claimed = await claim(owner);
  if (mine !== entering) return claimed?.();
  if (!claimed) return dispatch({ type: 'form refused', problem: { code: 'elsewhere', message: inAnotherTab(name) } });
  const kept = await storage.load(owner).catch(() => ({ outbox: [], rooms: [], session: null }));
  if (mine !== entering) return claimed();
  [letGo, namespace] = [claimed, chosen];
  remember({ name, namespace, room });
  apply({ type: 'entered', name, room, kept });
  keeper.begin(storage, owner, state);
  return dispatch({ type: 'start' });
}

function inAnotherTab(name) {
  return `${name} is here in another tab of this browser. Go on there, or close it and reload this page.`;
}

/** Ends what there is, before something new begins: nothing of one person is left for the next. */
function leaveQuietly() {
  keeper.end();
  letGo?.();
  letGo = null;
  dispatch({ type: 'signed out' });
}

function again() {
  dispatch({ type: 'again' });
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

// ANCHOR: search
function openSearch() {
  dispatch({ type: 'search opened' });
}

function closeSearch() {
  dispatch({ type: 'search closed' });
}

function search(text) {
  if (text === '') return dispatch({ type: 'search opened' });
  return look({ type: 'searched', text }, { room: state.current, text, before: null });
}

function searchOlder() {
  return look({ type: 'searched further' }, { room: state.current, text: state.search.text, before: oldest(state.search) });
}

async function look(action, wanted) {
  searches += 1;
  const turn = searches;
  dispatch({ ...action, turn });
  const { body, problem } = await api.search(namespace, wanted);
  if (problem) dispatch({ type: 'not found', turn, problem });
  else dispatch({ type: 'found', turn, messages: body.messages });
}
// ANCHOR_END: search

// ANCHOR: network
addEventListener('online', () => dispatch({ type: 'network', online: true }));
addEventListener('offline', () => dispatch({ type: 'network', online: false }));
addEventListener('pagehide', () => {
  keeper.flush();
  if (state.isIn) remember({ name: state.me, namespace, room: state.current ?? state.next ?? '' });
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

/** The cookie says who is here, and the tab remembers where they were. */
async function begin() {
  const before = remembered();
  view.fill({ ...asked, ...before, room: before?.room.startsWith('dm:') ? '' : before?.room ?? asked.room });
  const { status, body, problem } = await api.whoAmI();
  const name = body?.name ?? (status === 401 ? null : before?.name ?? null);
  if (name === null) return dispatch(status === 401 ? { type: 'recognized', name } : { type: 'form refused', problem });
  const isSame = before && nameKey(before.name) === nameKey(name);
  const { room, namespace: chosen } = isSame ? before : asked;
  return enter(name, room, chosen);
}

dispatch({ type: 'network', online: navigator.onLine });
begin();
// ANCHOR_END: start
// ANCHOR_END: all
