// ANCHOR: all
// The only module that touches the DOM: it shows the state, and reports what people do.
//
// Hooks for tests, stable from milestone to milestone:
//   #status            the connection in words; data-status = out | connecting | connected | closed
//   #entry             the way in: #name, #join (the button), #name-error
//   #chat              the chat: #log, #text, #send, #text-error, #people, #leave
//   #entries > li      one each; .message (data-id, data-from; .own, .first) or .note
//   #newer             jumps to new messages when the log is scrolled up
//   #closed            shown when the connection ended: #closed-reason, #again

import { closeMeaning } from './connection.js';

const find = (id) => document.getElementById(id);

const timeOfDay = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const dayAndTime = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });

/** Pixels from the end of the log within which it follows new messages. */
const NEAR_END = 60;

/** Whether the log follows new messages: not while somebody has scrolled up to read. */
let following = true;

export function createView(actions) {
  let shown = {};
  listen(actions);

  return {
    /** What the address asks for. */
    fill({ name }) {
      find('name').value = name;
    },

    /** Shows a state. Only what changed since the last one is touched. */
    render(state) {
      showStatus(state);
      showPlace(state, shown);
      if (state.log !== shown.log) showLog(state.log);
      if (state.users !== shown.users) showPeople(state);
      if (state.nameError !== shown.nameError) showError('name', state.nameError);
      if (state.textError !== shown.textError) showError('text', state.textError);
      shown = state;
    },
  };
}

// ANCHOR: listen
function listen({ enter, say, leave, edit, again }) {
  find('enter').addEventListener('submit', (event) => {
    event.preventDefault();
    enter(find('name').value.trim());
  });
  find('compose').addEventListener('submit', (event) => {
    event.preventDefault();
    if (say(find('text').value)) find('text').value = '';
    find('text').focus();
  });
  find('text').addEventListener('keydown', (event) => {
    // Enter that picks a word in an input method (isComposing) is not a "send".
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    find('compose').requestSubmit();
  });
  find('text').addEventListener('input', edit);
  find('leave').addEventListener('click', leave);
  find('again').addEventListener('click', again);
  find('newer').addEventListener('click', () => { scrollToEnd(); find('text').focus(); });
  find('log').addEventListener('scroll', noteScroll);
  new ResizeObserver(() => { if (following) scrollToEnd(); }).observe(find('log'));
}
// ANCHOR_END: listen

/** A page inside another page must not pull the focus, and the scroll position, to itself. */
function focusOn(id) {
  if (document.hasFocus()) find(id).focus({ preventScroll: true });
}

/** The way in before the welcome, the chat after it, and the focus where typing goes. */
function showPlace({ status, me }, shown) {
  const inChat = me !== null && status !== 'out';
  find('entry').hidden = inChat;
  find('chat').hidden = !inChat;
  find('join').disabled = status === 'connecting';
  if (status === shown.status) return;
  if (status === 'out') focusOn('name');
  if (status === 'connected') focusOn('text');
  // Whoever is typing goes on typing; whoever pressed a button that is gone now finds the next one.
  if (status === 'closed' && document.activeElement !== find('text')) focusOn('again');
}

function showStatus({ status, me, close }) {
  const words = {
    out: '',
    connecting: 'Connecting…',
    connected: `Connected as ${me}`,
    closed: `Closed (${close?.code})`,
  };
  const element = find('status');
  element.dataset.status = status;
  if (element.textContent !== words[status]) element.textContent = words[status];
  find('send').disabled = status !== 'connected';
  find('leave').hidden = status !== 'connected';
  find('closed').hidden = status !== 'closed';
  if (close) find('closed-reason').textContent = closeSentence(close);
}

function closeSentence({ code, reason }) {
  return `${closeMeaning(code)} (${reason ? `${code}, “${reason}”` : code})`;
}

// ANCHOR: log
/** Adds the new entries at the end and drops those that fell off, so that a screen reader hears only news. */
function showLog(log) {
  const entries = find('entries');
  const lastShown = Number(entries.lastElementChild?.dataset.key ?? -1);
  const fresh = log.filter(({ key }) => key > lastShown);
  entries.append(...fresh.map(entryElement));
  while (entries.children.length > log.length) entries.firstElementChild.remove();
  if (following || log.at(-1)?.own) scrollToEnd();
  else find('newer').hidden = fresh.length === 0;
}

function entryElement(entry) {
  const item = document.createElement('li');
  item.dataset.key = entry.key;
  item.className = entry.kind;
  if (entry.kind === 'message') fillMessage(item, entry);
  else item.append(textElement('p', 'text', entry.text));
  return item;
}

function fillMessage(item, { id, from, text, at, own, first }) {
  item.dataset.id = id;
  item.dataset.from = from;
  item.classList.toggle('own', own);
  item.classList.toggle('first', first);
  const head = textElement('p', 'head', '');
  head.append(textElement('span', 'from', own ? 'You' : from), ' ', timeElement(at));
  item.append(head, textElement('p', 'text', text));
}

function timeElement(at) {
  const date = new Date(at);
  const time = textElement('time', '', timeOfDay.format(date));
  time.dateTime = date.toISOString();
  time.title = dayAndTime.format(date);
  return time;
}

/** `textContent` and never `innerHTML`: what people write is text, whatever it looks like. */
function textElement(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.textContent = text;
  return element;
}
// ANCHOR_END: log

function noteScroll() {
  const { scrollHeight, scrollTop, clientHeight } = find('log');
  following = scrollHeight - scrollTop - clientHeight < NEAR_END;
  if (following) find('newer').hidden = true;
}

function scrollToEnd() {
  find('log').scrollTop = find('log').scrollHeight;
  find('newer').hidden = true;
}

function showPeople({ users, me }) {
  const items = users.map((name) => {
    const item = textElement('li', '', name);
    item.dataset.name = name;
    if (name === me) item.append(textElement('span', 'you', ' (you)'));
    return item;
  });
  find('people').replaceChildren(...items);
  find('people-title').textContent = users.length === 0 ? 'Here now' : `Here now (${users.length})`;
}

/** Shows an error at its field, for the eye and for a screen reader. */
function showError(field, sentence) {
  find(`${field}-error`).textContent = sentence ?? '';
  find(field).ariaInvalid = sentence ? 'true' : null;
}
// ANCHOR_END: all
