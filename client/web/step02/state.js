// ANCHOR: all
// What the page knows, and how each action changes it. No DOM, no socket, no clock: pure functions.

import { closeMeaning } from './connection.js';

/** Longest message, in characters. The server has the same limit. */
const MAX_TEXT = 2000;

/** Older entries fall off, so that a day of chat does not fill the browser. */
const MAX_LOG = 500;

/** A pause this long starts a new group (ms). */
const GROUP_PAUSE = 5 * 60 * 1000;

/** Errors about the name are shown at the name, all others at the text. */
const NAME_ERRORS = ['bad_name', 'name_taken', 'hello_first'];

// ANCHOR: state
/**
 * @typedef {{ key: number, kind: 'message', id: string, from: string, text: string, at: number,
 *   own: boolean, first: boolean }} Message
 * @typedef {{ key: number, kind: 'note', text: string, at: number }} Note
 */

export const initialState = {
  /** @type {'out' | 'connecting' | 'connected' | 'closed'} */
  status: 'out',
  /** The name that was asked for. */
  name: '',
  /** The name as the server gave it, once it has. */
  me: null,
  /** Everyone who is here, oneself included. */
  users: [],
  /** @type {(Message | Note)[]} */
  log: [],
  /** How many entries there have been. */
  entries: 0,
  /** Why the connection ended: `{ code, reason }`. */
  close: null,
  nameError: null,
  textError: null,
};

export function reduce(state, action) {
  switch (action.type) {
    case 'connecting':
      return { ...state, status: 'connecting', name: action.name, close: null, nameError: null, textError: null };
    case 'received':
      return receive(state, action.event, action.now);
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
      return { ...state, status: 'connected', me: event.name, users: event.users };
    case 'user_joined':
      return note({ ...state, users: added(state.users, event.name) }, `${event.name} joined`, now);
    case 'user_left':
      return note({ ...state, users: state.users.filter((name) => name !== event.name) }, `${event.name} left`, now);
    case 'message':
      return message(state, event);
    case 'error':
      return refused(state, event);
    default:
      return state; // a newer server may say more than we know
  }
}
// ANCHOR_END: receive

/** Names in the order people expect, without a second `name`. */
export function added(names, name) {
  return [...names.filter((other) => other !== name), name].sort((a, b) => a.localeCompare(b));
}

function message(state, { id, from, text, at }) {
  const entry = { kind: 'message', id, from, text, at, own: from === state.me };
  const first = startsGroup(state.log.at(-1), entry);
  return append(state, { ...entry, first });
}

/** Messages by one sender, shortly after one another, stand under one name. */
export function startsGroup(previous, { from, at }) {
  return previous?.kind !== 'message' || previous.from !== from || at - previous.at > GROUP_PAUSE;
}

function note(state, text, at) {
  return append(state, { kind: 'note', text, at });
}

/** Each entry gets the next number, so that the view sees which ones are new. */
function append(state, entry) {
  const log = [...state.log, { ...entry, key: state.entries }].slice(-MAX_LOG);
  return { ...state, log, entries: state.entries + 1 };
}

function refused(state, { code, message: sentence }) {
  if (state.status === 'connecting' || NAME_ERRORS.includes(code)) {
    return { ...state, status: 'out', nameError: sentence };
  }
  return { ...state, textError: sentence };
}

function closed(state, { code, reason }) {
  // Before the welcome there is no chat to show: the way in says what went wrong.
  if (state.me === null) return { ...state, status: 'out', nameError: closeMeaning(code) };
  return { ...state, status: 'closed', close: { code, reason }, users: [] };
}

/** What is wrong with a text, or `null`. The server checks again: this only saves the way. */
export function textProblem(text) {
  const length = [...text.trim()].length;
  if (length === 0) return 'There is nothing to send.';
  if (length > MAX_TEXT) return `That is ${length} characters. ${MAX_TEXT} can be sent at once.`;
  return null;
}
// ANCHOR_END: all
