// ANCHOR: all
// What the page knows, and how each action changes it. No DOM, no socket, no clock: pure functions.

import { closeMeaning } from './connection.js';

/** Longest message, in characters. The server has the same limit. */
const MAX_TEXT = 2000;

/** Older entries fall off, so that a day of chat does not fill the browser. */
const MAX_LOG = 500;

/** A pause this long starts a new group (ms). */
const GROUP_PAUSE = 5 * 60 * 1000;

/** We tell the room that we are typing at most this often (ms). */
export const TYPING_EVERY = 2500;

/** Somebody who was typing and says no more has stopped after this time (ms). */
export const TYPING_FOR = 6000;

/** Where an error is shown; all others belong to the text. */
const NAME_ERRORS = ['bad_name', 'name_taken', 'hello_first'];
const ROOM_ERRORS = ['bad_room', 'too_many_rooms'];

// ANCHOR: state
/**
 * @typedef {{ key: number, kind: 'message', id: string, from: string, text: string, at: number,
 *   own: boolean, first: boolean }} Message
 * @typedef {{ key: number, kind: 'note' | 'separator', text: string, at: number }} Note
 * @typedef {object} Conversation
 * @property {'room' | 'direct'} kind
 * @property {string} title the room's name, or the other person's
 * @property {string[]} members
 * @property {(Message | Note)[]} log
 * @property {number} unread messages that came while another conversation was open
 * @property {{ name: string, until: number }[]} typing
 */

export const initialState = {
  /** @type {'out' | 'connecting' | 'connected' | 'closed'} */
  status: 'out',
  /** The name that was asked for. */
  name: '',
  /** The name as the server gave it, once it has. */
  me: null,
  /** @type {Record<string, Conversation>} by `room:rust` or `direct:grace` */
  conversations: {},
  /** The key of the open conversation. */
  current: null,
  /** The server's list: `{ name, members }`. */
  rooms: [],
  /** How many entries there have been. */
  entries: 0,
  /** Why the connection ended: `{ code, reason }`. */
  close: null,
  nameError: null,
  roomError: null,
  textError: null,
};

export function reduce(state, action) {
  switch (action.type) {
    case 'connecting':
      return { ...state, status: 'connecting', name: action.name, close: null, nameError: null, roomError: null, textError: null };
    case 'received':
      return receive(state, action.event, action.now);
    case 'opened':
      return opened(state, action.key);
    case 'wrote to':
      return opened(withConversation(state, directKey(action.name), { kind: 'direct', title: action.name }), directKey(action.name));
    case 'ticked':
      return ticked(state, action.now);
    case 'closed':
      return closed(state, action);
    case 'checked':
      return state.textError === action.problem ? state : { ...state, textError: action.problem };
    default:
      return state;
  }
}
// ANCHOR_END: state

// ANCHOR: receive
function receive(state, event, now) {
  switch (event.type) {
    case 'welcome':
      return { ...state, status: 'connected', me: event.name };
    case 'joined':
      return joined(state, event, now);
    case 'left':
      return left(state, roomKey(event.room));
    case 'member_joined':
      return members(state, event, `${event.name} joined`, now);
    case 'member_left':
      return members(state, event, `${event.name} left`, now);
    case 'message':
      return message(state, roomKey(event.room), event);
    case 'direct':
      return direct(state, event);
    case 'typing':
      return typing(state, event, now);
    case 'rooms':
      return { ...state, rooms: event.rooms };
    case 'error':
      return refused(state, event);
    default:
      return state; // a newer server may say more than we know
  }
}
// ANCHOR_END: receive

// ANCHOR: keys
export const roomKey = (room) => `room:${room}`;

/** Names that differ only in case are one person, and one conversation. */
export const directKey = (name) => `direct:${name.toLowerCase()}`;

/** The state with `changes` to one conversation, which is made if there is none. */
function withConversation(state, key, changes) {
  const fresh = { members: [], log: [], unread: 0, typing: [] };
  const conversation = { ...(state.conversations[key] ?? fresh), ...changes };
  return { ...state, conversations: { ...state.conversations, [key]: conversation } };
}
// ANCHOR_END: keys

// ANCHOR: rooms
/** A room we are in now. What we have shown already stays; the history adds what we have missed. */
function joined(state, { room, members: names, history }, now) {
  const key = roomKey(room);
  const known = new Set((state.conversations[key]?.log ?? []).map(({ id }) => id));
  const missed = history.filter(({ id }) => !known.has(id));
  let next = withConversation(state, key, { kind: 'room', title: room, members: sorted(names), typing: [] });
  for (const event of missed) next = append(next, key, messageEntry(next, key, event));
  if (missed.length > 0) next = append(next, key, { kind: 'separator', text: 'You joined here', at: now });
  return opened({ ...next, roomError: null }, state.current === null || !state.conversations[key] ? key : state.current);
}

function left(state, key) {
  const { [key]: _gone, ...conversations } = state.conversations;
  if (state.current !== key) return { ...state, conversations };
  return opened({ ...state, conversations, textError: null }, Object.keys(conversations)[0] ?? null);
}

function members(state, { type, room, name }, text, now) {
  const key = roomKey(room);
  const conversation = state.conversations[key];
  if (!conversation) return state;
  const others = conversation.members.filter((member) => member !== name);
  const next = type === 'member_joined' ? sorted([...others, name]) : others;
  const changed = withConversation(state, key, { members: next, typing: stopped(conversation, name) });
  return append(changed, key, { kind: 'note', text, at: now });
}

function opened(state, key) {
  if (key !== null && !state.conversations[key]) return state;
  const next = { ...state, current: key, textError: key === state.current ? state.textError : null };
  return key === null ? next : withConversation(next, key, { unread: 0 });
}

/** Names in the order people expect. */
function sorted(names) {
  return [...names].sort((a, b) => a.localeCompare(b));
}
// ANCHOR_END: rooms

// ANCHOR: messages
// ANCHOR: unread
function message(state, key, event) {
  const conversation = state.conversations[key];
  if (!conversation) return state;
  const unread = key === state.current || event.from === state.me ? conversation.unread : conversation.unread + 1;
  const changed = withConversation(state, key, { unread, typing: stopped(conversation, event.from) });
  return append(changed, key, messageEntry(changed, key, event));
}
// ANCHOR_END: unread

/** A direct message belongs to the conversation with the other one, whoever wrote it. */
function direct(state, event) {
  const other = event.from === state.me ? event.to : event.from;
  const key = directKey(other);
  return message(withConversation(state, key, { kind: 'direct', title: other }), key, event);
}

function messageEntry(state, key, { id, from, text, at }) {
  const entry = { kind: 'message', id, from, text, at, own: from === state.me };
  return { ...entry, first: startsGroup(state.conversations[key].log.at(-1), entry) };
}

/** Messages by one sender, shortly after one another, stand under one name. */
export function startsGroup(previous, { from, at }) {
  return previous?.kind !== 'message' || previous.from !== from || at - previous.at > GROUP_PAUSE;
}

/** Each entry gets the next number, so that the view sees which ones are new. */
function append(state, key, entry) {
  const log = [...state.conversations[key].log, { ...entry, key: state.entries }].slice(-MAX_LOG);
  return { ...withConversation(state, key, { log }), entries: state.entries + 1 };
}
// ANCHOR_END: messages

// ANCHOR: typing
// ANCHOR: typing-ends
function typing(state, { room, name }, now) {
  const key = roomKey(room);
  const conversation = state.conversations[key];
  if (!conversation) return state;
  const others = stopped(conversation, name);
  return withConversation(state, key, { typing: [...others, { name, until: now + TYPING_FOR }] });
}

function stopped({ typing: who }, name) {
  return who.filter((one) => one.name !== name);
}

/** Forgets everyone who has not typed for a while. */
function ticked(state, now) {
  let next = state;
  for (const [key, { typing: who }] of Object.entries(state.conversations)) {
    const still = who.filter(({ until }) => until > now);
    if (still.length < who.length) next = withConversation(next, key, { typing: still });
  }
  return next;
}

/** When the next one stops typing, or `null`. */
export function nextTick({ conversations }) {
  const ends = Object.values(conversations).flatMap(({ typing: who }) => who.map(({ until }) => until));
  return ends.length === 0 ? null : Math.min(...ends);
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

function refused(state, { code, message: sentence }) {
  if (state.status === 'connecting' || NAME_ERRORS.includes(code)) {
    return { ...state, status: 'out', nameError: sentence };
  }
  if (ROOM_ERRORS.includes(code)) return { ...state, roomError: sentence };
  return { ...state, textError: sentence };
}

function closed(state, { code, reason }) {
  // Before the welcome there is no chat to show: the way in says what went wrong.
  if (state.me === null) return { ...state, status: 'out', nameError: closeMeaning(code) };
  const conversations = Object.fromEntries(
    Object.entries(state.conversations).map(([key, one]) => [key, { ...one, members: [], typing: [] }]),
  );
  return { ...state, status: 'closed', close: { code, reason }, conversations, rooms: [] };
}

/** The rooms we are in, to join them again after the connection was lost. */
export function joinedRooms({ conversations }) {
  return Object.values(conversations).filter(({ kind }) => kind === 'room').map(({ title }) => title);
}

/** The rooms on the server's list that we are not in. */
export function otherRooms({ rooms, conversations }) {
  return rooms.filter(({ name }) => !conversations[roomKey(name)]);
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
