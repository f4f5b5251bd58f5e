// ANCHOR: all
// What the page knows, and how each action changes it. No DOM, no network, no clock: pure functions.

import { initialAccount, nextSecond, reduceAccount } from './account.js';
import { catchUp, judge, nameKey, otherOne } from './cursor.js';
import * as queue from './outbox.js';
import { SIGN_IN, initialLink, needsSignIn, nextDue, reduceLink } from './reconnect.js';
import { initialSearch, reduceSearch } from './search.js';

/** Longest message, in characters. The server has the same limit. */
const MAX_TEXT = 2000;

/** Older entries fall off, so that a day of chat does not fill the browser. */
const MAX_LOG = 500;

/** So many messages of a room outlive the page. */
const MAX_KEPT = 200;

/** A pause this long starts a new group (ms). */
const GROUP_PAUSE = 5 * 60 * 1000;

/** We tell the room that we are typing at most this often (ms). */
export const TYPING_EVERY = 2500;

/** Somebody who was typing and says no more has stopped after this time (ms). */
export const TYPING_FOR = 6000;

/** Errors that are shown at the field for a room; all others belong to the text. */
const ROOM_ERRORS = ['bad_room', 'too_many_rooms', 'forbidden'];

// ANCHOR: state
/**
 * @typedef {{ key: number, kind: 'message', id: string, from: string, text: string, at: number, seq: number,
 *   own: boolean, first: boolean }} Message
 * @typedef {{ key: number, kind: 'note' | 'separator', text: string, at: number }} Note
 * @typedef {object} Conversation
 * @property {'room' | 'direct'} kind
 * @property {string} title the room's name, or the other person's
 * @property {string[]} members
 * @property {(Message | Note)[]} log
 * @property {number} life counts how often the log was started afresh
 * @property {number} unread messages that came while another conversation was open
 * @property {{ name: string, until: number }[]} typing
 * @property {string | null} epoch with `have`, the cursor: see cursor.js
 * @property {number | null} have
 * @property {'away' | 'asked' | 'here'} place whether this connection is in the room
 */

export const initialState = {
  /** Whether somebody has signed in, and not out. It stays so when the server forgets the session. */
  isIn: false,
  /** Who: the name as everyone sees it. */
  me: null,
  /** Which client of that person we are, so that we replace our own old connection and no other. No secret. */
  session: null,
  /** @type {import('./account.js').Account} */
  account: initialAccount,
  /** @type {import('./search.js').Search} */
  search: initialSearch,
  /** @type {import('./reconnect.js').Link} */
  link: initialLink,
  /** @type {import('./outbox.js').Entry[]} */
  outbox: [],
  /** @type {Record<string, Conversation>} by the room's name on the wire: `rust` or `dm:ada:grace` */
  conversations: {},
  /** Rooms somebody wants to be in and never was: each `away` or `asked`. */
  wanted: {},
  /** The one of them to open once we are in it, unless somebody opens another one meanwhile. */
  next: null,
  /** When to ask again for rooms that the server could not read. */
  rejoinAt: null,
  /** The room that is open. */
  current: null,
  /** The server's list: `{ name, members }`. */
  rooms: [],
  /** Whether the server can't store messages at present. */
  degraded: false,
  /** Whether messages outlive the page. */
  lasts: true,
  /** How many entries there have been. */
  entries: 0,
  /** The time of the last action. */
  now: 0,
  roomError: null,
  textError: null,
};

/** Every action goes to the connection first; what its end means for the chat follows from that. */
export function reduce(state, given) {
  const action = isForAnother(state, given) ? ended(given) : given;
  const parts = {
    link: reduceLink(state.link, action),
    account: reduceAccount(state.account, action),
    search: reduceSearch(state.search, action),
  };
  const next = act({ ...state, ...parts, now: action.now ?? state.now }, action);
  const isCut = next.link.opened !== state.link.opened || (isOpen(state) && !isOpen(next));
  return withFreshSearch(state, isCut ? cutOff(next) : next);
}

/** What was found in one room is not shown in another. */
function withFreshSearch(before, state) {
  return before.current === state.current ? state : { ...state, search: initialSearch };
}

// ANCHOR: another
/**
 * Whether the server takes this browser for somebody else than who sits in front of this page, or
 * for nobody: the session has ended, or another person has signed in in another tab. What waits
 * to be sent is not theirs, so nothing may go out.
 */
function isForAnother({ isIn, me, link }, { type, event, name }) {
  if (!isIn) return false;
  if (type === 'received' && event.type === 'welcome') return nameKey(event.name) !== nameKey(me);
  return type === 'recognized' && link.phase !== 'connected' && (name === null || nameKey(name) !== nameKey(me));
}

/** Then it is as if the server had said so itself. */
function ended({ name, event, now }) {
  return { type: 'stopped', code: SIGN_IN, reason: '', somebody: name ?? event?.name ?? null, now };
}

/** Whether somebody has to sign in again, to go on where they are. */
export function isExpired({ isIn, link }) {
  return isIn && needsSignIn(link);
}
// ANCHOR_END: another

function isOpen({ link: { phase } }) {
  return phase === 'connecting' || phase === 'connected';
}

function act(state, action) {
  switch (action.type) {
    case 'entered':
      return entered(state, action);
    case 'signed out':
      return { ...initialState, link: state.link, account: state.account, entries: state.entries, lasts: state.lasts, now: state.now };
    case 'received':
      return receive(state, action.event, action.now);
    case 'asked':
      return asked(state, action.rooms);
    case 'wanted':
      return { ...state, wanted: { ...state.wanted, [action.room]: 'away' }, next: action.room, roomError: null };
    case 'opened conversation':
      return opened({ ...state, next: null }, action.room);
    case 'wrote to':
      return opened(withConversation({ ...state, next: null }, action.room, { kind: 'direct', title: action.name }), action.room);
    case 'typed':
      return { ...state, outbox: queue.add(state.outbox, { ...action, at: action.now }) };
    case 'sending':
      return { ...state, outbox: queue.sending(state.outbox, action.id, action.now) };
    case 'retried':
      return { ...state, outbox: queue.retried(state.outbox, action.id, action.freshId, action.now) };
    case 'discarded':
      return { ...state, outbox: queue.discarded(state.outbox, action.id) };
    case 'ticked':
      return ticked(state, action.now);
    case 'reopened':
      return askAgain(state);
    case 'storage':
      return { ...state, lasts: action.lasts };
    case 'checked':
      return state.textError === action.problem ? state : { ...state, textError: action.problem };
    default:
      return state;
  }
}
// ANCHOR_END: state

// ANCHOR: entered
/** Somebody signs in, and finds what they have left in this browser. */
function entered(state, { name, kept, room, now }) {
  const { link, account, entries, lasts } = state;
  const fresh = { ...initialState, link, account, entries, lasts, now, isIn: true, me: name, session: kept.session?.id ?? null };
  const outbox = queue.expired(kept.outbox, now);
  let next = kept.rooms.reduce(restored, { ...fresh, outbox });
  for (const { room: of } of outbox) if (!next.conversations[of]) next = withConversation(next, of, {});
  if (room && !next.conversations[room]) next = { ...next, wanted: { [room]: 'away' }, next: room };
  const first = next.conversations[room] ? room : Object.keys(next.conversations)[0];
  return opened(next, first ?? null);
}

function restored(state, { room, title, epoch, have, log, unread }) {
  return append(withConversation(state, room, { title, epoch, have, unread }), room, log);
}

/** What of a room outlives the page. */
export function toKeep(room, { title, epoch, have, log, unread }) {
  const messages = log.filter(({ kind }) => kind === 'message').slice(-MAX_KEPT);
  return { room, title, epoch, have, unread, log: messages.map(({ id, from, text, at, seq }) => ({ id, from, text, at, seq })) };
}
// ANCHOR_END: entered

// ANCHOR: receive
function receive(state, event, now) {
  switch (event.type) {
    case 'welcome':
      return { ...state, me: event.name, session: event.session, degraded: false };
    case 'joined':
      return joined(state, event);
    case 'left':
      return left(state, event.room);
    case 'member_joined':
      return members(state, event, `${event.name} joined`, now);
    case 'member_left':
      return members(state, event, `${event.name} left`, now);
    case 'message':
      return message(state, event);
    case 'ack':
      return acked(state, event);
    case 'typing':
      return typing(state, event, now);
    case 'rooms':
      return { ...state, rooms: event.rooms };
    case 'status':
      return { ...state, degraded: event.degraded };
    case 'error':
      return refused(state, event, now);
    default:
      return state; // a newer server may say more than we know
  }
}
// ANCHOR_END: receive

// ANCHOR: keys
/** The state with `changes` to one conversation, which is made if there is none. */
function withConversation(state, room, changes) {
  const other = otherOne(room, state.me);
  const fresh = {
    kind: other === null ? 'room' : 'direct', title: other ?? room, members: [], log: [], life: 0, unread: 0, typing: [],
    epoch: null, have: null, place: 'away',
  };
  const conversation = { ...(state.conversations[room] ?? fresh), ...changes };
  return { ...state, conversations: { ...state.conversations, [room]: conversation } };
}

/** The state with `changes` to every conversation. */
function withAll(state, changes) {
  const all = Object.entries(state.conversations).map(([room, one]) => [room, { ...one, ...changes(one) }]);
  return { ...state, conversations: Object.fromEntries(all) };
}
// ANCHOR_END: keys

// ANCHOR: places
/** We have asked to be let into these rooms. */
function asked(state, rooms) {
  return rooms.reduce((next, room) => {
    if (next.conversations[room]) return withConversation(next, room, { place: 'asked' });
    return { ...next, wanted: { ...next.wanted, [room]: 'asked' } };
  }, state);
}

/** The rooms to ask for, each with how far we have read it; the open one first. */
export function toJoin({ conversations, wanted, current }) {
  const known = Object.entries(conversations).filter(([, { place }]) => place === 'away');
  const cursor = ({ epoch, have }) => (have === null ? {} : { epoch, after: have });
  const rooms = known.map(([room, one]) => ({ room, ...cursor(one) })).sort((a, b) => (b.room === current) - (a.room === current));
  const fresh = Object.entries(wanted).filter(([room, place]) => place === 'away' && !conversations[room]);
  return [...rooms, ...fresh.map(([room]) => ({ room }))];
}

/** Whether a room has been asked for and has not answered. */
export function isCatchingUp({ conversations, wanted }) {
  return [...Object.values(conversations).map(({ place }) => place), ...Object.values(wanted)].includes('asked');
}

/** All that was asked and not answered is to be asked again. */
export function askAgain(state) {
  const wanted = Object.fromEntries(Object.keys(state.wanted).map((room) => [room, 'away']));
  return withAll({ ...state, wanted, rejoinAt: null }, ({ place }) => ({ place: place === 'asked' ? 'away' : place }));
}

/** The connection is gone: so are the others, and what was on its way. */
function cutOff(state) {
  const gone = withAll(askAgain(state), () => ({ place: 'away', members: [], typing: [] }));
  return { ...gone, outbox: queue.cutOff(gone.outbox), rooms: [], degraded: false };
}
// ANCHOR_END: places

// ANCHOR: joined
/** We are in a room, and get what we have missed, maybe in several pieces. */
function joined(state, event) {
  const { room, epoch, seq, members: names } = event;
  const before = state.conversations[room];
  const news = catchUp(before ?? { epoch: null, have: null }, event);
  // A hole: the place is `away` again, so that the room is asked once more, from our cursor.
  if (news === null) return withConversation(state, room, { place: 'away' });
  let next = withConversation(state, room, { place: 'here', members: sorted(names), typing: [] });
  next = withConversation(next, room, { title: titleOf(next, room) });
  if (news.isReset) next = startedAfresh(next, room);
  next = take(next, room, news.fresh, { epoch, have: seq });
  const { [room]: _no, ...wanted } = next.wanted;
  const isNext = next.next === room || next.current === null;
  return opened({ ...next, wanted, next: isNext ? null : next.next, roomError: null }, isNext ? room : next.current);
}

/** The log goes on elsewhere than where we have stopped. To hide that would be a lie. */
function startedAfresh(state, room) {
  const { life } = state.conversations[room];
  const separator = { key: state.entries, kind: 'separator', text: 'Older messages are not loaded', at: state.now };
  const outbox = queue.settled(state.outbox, room, Infinity);
  return { ...withConversation(state, room, { log: [separator], life: life + 1 }), entries: state.entries + 1, outbox };
}

/** The other's name as they write it themselves, where we can see it. */
function titleOf(state, room) {
  const { kind, title, members: names } = state.conversations[room];
  return kind === 'room' ? title : names.find((name) => nameKey(name) === nameKey(title)) ?? title;
}
// ANCHOR_END: joined

// ANCHOR: rooms
function left(state, room) {
  const { [room]: _gone, ...conversations } = state.conversations;
  if (state.current !== room) return { ...state, conversations };
  return opened({ ...state, conversations, textError: null }, Object.keys(conversations)[0] ?? null);
}

function members(state, { type, room, name }, text, now) {
  const conversation = state.conversations[room];
  if (!conversation) return state;
  const others = conversation.members.filter((member) => member !== name);
  const next = type === 'member_joined' ? sorted([...others, name]) : others;
  const changed = withConversation(state, room, { members: next, typing: stopped(conversation, name) });
  return appendNote(changed, room, { kind: 'note', text, at: now });
}

function opened(state, room) {
  if (room !== null && !state.conversations[room]) return state;
  const next = { ...state, current: room, textError: room === state.current ? state.textError : null };
  return room === null ? next : withConversation(next, room, { unread: 0 });
}

/** Names in the order people expect. */
function sorted(names) {
  return [...names].sort((a, b) => a.localeCompare(b));
}
// ANCHOR_END: rooms

// ANCHOR: messages
function message(state, event) {
  const conversation = state.conversations[event.room];
  if (!conversation) return state;
  switch (judge(conversation, event.seq)) {
    case 'next':
      return take(state, event.room, [event], { have: event.seq });
    case 'hole':
      return conversation.place === 'here' ? withConversation(state, event.room, { place: 'away' }) : state;
    default:
      return state;
  }
}

/** Takes in messages that are next in their order, and moves the cursor with them. */
function take(state, room, events, cursor) {
  const { unread, typing: who } = state.conversations[room];
  const isOwn = ({ from }) => nameKey(from) === nameKey(state.me);
  const more = room === state.current ? 0 : events.filter((event) => !isOwn(event)).length;
  const writers = new Set(events.map(({ from }) => from));
  const changes = { ...cursor, unread: unread + more, typing: who.filter(({ name }) => !writers.has(name)) };
  const next = append(withConversation(state, room, changes), room, events);
  const own = new Set(events.filter(isOwn).map(({ id }) => id));
  return { ...next, outbox: queue.settled(queue.seen(next.outbox, own), room, next.conversations[room].have) };
}

/** Adds messages to a log, each at most once. A sender's ids are the sender's own. */
function append(state, room, events) {
  const identity = ({ id, from }) => `${id} ${nameKey(from ?? '')}`;
  const log = [...state.conversations[room].log];
  const known = new Set(log.map(identity));
  for (const event of events.filter((one) => !known.has(identity(one)))) {
    const { id, from, text, at, seq } = event;
    const entry = { key: state.entries + log.length, kind: 'message', id, from, text, at, seq, own: nameKey(from) === nameKey(state.me) };
    log.push({ ...entry, first: startsGroup(log.at(-1), entry) });
  }
  const entries = state.entries + log.length;
  return { ...withConversation(state, room, { log: log.slice(-MAX_LOG) }), entries };
}

function appendNote(state, room, note) {
  const log = [...state.conversations[room].log, { ...note, key: state.entries }].slice(-MAX_LOG);
  return { ...withConversation(state, room, { log }), entries: state.entries + 1 };
}

/** Messages by one sender, shortly after one another, stand under one name. */
export function startsGroup(previous, { from, at }) {
  return previous?.kind !== 'message' || previous.from !== from || at - previous.at > GROUP_PAUSE;
}
// ANCHOR_END: messages

// ANCHOR: outbox
function acked(state, { id, room, seq }) {
  const have = state.conversations[room]?.have ?? 0;
  return { ...state, outbox: queue.settled(queue.acked(state.outbox, id, seq), room, have) };
}

/** The messages of a room that are not in its log yet. */
export function pendingIn({ outbox }, room) {
  return outbox.filter((entry) => entry.room === room);
}

/** The messages to send now. */
export function toSend({ outbox, conversations }, now) {
  return queue.toSend(outbox, (room) => conversations[room]?.place === 'here', now);
}
// ANCHOR_END: outbox

// ANCHOR: refused
function refused(state, event, now) {
  const { code, id, message: sentence, retry_after: after } = event;
  const entry = state.outbox.find((one) => one.id === id);
  if (entry) {
    const next = { ...state, outbox: queue.refused(state.outbox, event, now) };
    return code === 'not_in_room' && next.conversations[entry.room] ? withConversation(next, entry.room, { place: 'away' }) : next;
  }
  if (ROOM_ERRORS.includes(code)) return { ...state, roomError: sentence, wanted: {}, next: null };
  if (code === 'unavailable' || code === 'rate_limited') return { ...state, rejoinAt: now + (after ?? 1000) };
  return state.link.phase === 'connected' ? { ...state, textError: sentence } : state;
}
// ANCHOR_END: refused

// ANCHOR: typing
// ANCHOR: typing-ends
function typing(state, { room, name }, now) {
  const conversation = state.conversations[room];
  if (!conversation) return state;
  const others = stopped(conversation, name);
  return withConversation(state, room, { typing: [...others, { name, until: now + TYPING_FOR }] });
}

function stopped({ typing: who }, name) {
  return who.filter((one) => one.name !== name);
}

/** Forgets everyone who has not typed for a while, and asks again for rooms if it is time. */
function ticked(state, now) {
  let next = state.rejoinAt !== null && now >= state.rejoinAt ? askAgain(state) : state;
  for (const [room, { typing: who }] of Object.entries(next.conversations)) {
    const still = who.filter(({ until }) => until > now);
    if (still.length < who.length) next = withConversation(next, room, { typing: still });
  }
  return next;
}

/** When something is to be done that nobody asks for, or `null`. */
export function nextTick(state) {
  const { account, conversations, link, outbox, rejoinAt, now } = state;
  const ends = Object.values(conversations).flatMap(({ typing: who }) => who.map(({ until }) => until));
  // While somebody waits for the next attempt, they see the seconds pass.
  const countdown = link.phase === 'waiting' ? link.until - 1000 * Math.floor((link.until - now - 1) / 1000) : null;
  const due = link.phase === 'connected' ? queue.nextSend(outbox, now) : null;
  const times = [...ends, nextDue(link, isCatchingUp(state)), countdown, due, rejoinAt, nextSecond(account, now)].filter((time) => time !== null);
  return times.length === 0 ? null : Math.min(...times);
}
// ANCHOR_END: typing-ends

/** "ada is typing…" */
export function typingSentence(names) {
  if (names.length === 0) return '';
  if (names.length === 1) return `${names[0]} is typing…`;
  if (names.length === 2) return `${names[0]} and ${names[1]} are typing…`;
  return 'Several people are typing…';
}

/** Whether to tell the room again, given when (and where) we last did. */
export function mayTellTyping(last, room, now) {
  return last === null || last.room !== room || now - last.at >= TYPING_EVERY;
}
// ANCHOR_END: typing

/** The rooms on the server's list that we are not in. */
export function otherRooms({ rooms, conversations }) {
  return rooms.filter(({ name }) => !conversations[name]);
}

export function unreadTotal({ conversations }) {
  return Object.values(conversations).reduce((sum, { unread }) => sum + unread, 0);
}

/** What is wrong with a text, or `null`. The server checks again: this only saves the way. */
export function textProblem(text) {
  const length = [...text.trim()].length;
  if (length === 0) return 'There is nothing to send.';
  if (length > MAX_TEXT) return `That is ${length} characters. ${MAX_TEXT} can be sent at once.`;
  return null;
}
// ANCHOR_END: all
