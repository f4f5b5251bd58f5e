// ANCHOR: all
// The only module that touches the DOM: it shows the state, and reports what people do.
//
// Hooks for tests, stable from milestone to milestone:
//   #status            the connection in words; data-status = out | connecting | connected | closed
//   #entry             the way in: #name, #room, #namespace, #join (the button), #name-error
//   #chat              the chat: #log, #text, #send, #text-error, #people, #leave
//   #entries > li      one each; .message (data-id, data-from; .own, .first), .note or .separator
//   #newer             jumps to new messages when the log is scrolled up
//   #closed            shown when the connection ended: #closed-reason, #again
// New in milestone 3:
//   #rooms             rooms we are in: [data-room] (aria-current, .unread with the count)
//   #open-rooms        rooms we are not in: [data-room]
//   #directs           direct conversations: [data-direct]
//   #new-room          the form: #new-room-name, #join-room, #room-error
//   #title             the open conversation; #leave-room, #typing; data-conversation on #log
//   #people            members: [data-name], a button that opens a direct conversation
//   #menu, #members    on a phone: fold #sidebar and #aside out and in

import { closeMeaning } from './connection.js';
import { otherRooms, typingSentence, unreadTotal } from './state.js';

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
  listenToRooms(actions);

  return {
    /** What the address asks for. */
    fill({ name, room, namespace }) {
      find('name').value = name;
      find('room').value = room;
      find('namespace').value = namespace;
    },

    /** Shows a state. Only what changed since the last one is touched. */
    render(state) {
      showStatus(state);
      showPlace(state, shown);
      if (state.conversations !== shown.conversations || state.current !== shown.current || state.rooms !== shown.rooms) {
        showSidebar(state, actions);
        showConversation(state, actions);
      }
      if (state.nameError !== shown.nameError) showError('name', 'name', state.nameError);
      if (state.roomError !== shown.roomError) showError('new-room-name', 'room', state.roomError);
      if (state.textError !== shown.textError) showError('text', 'text', state.textError);
      shown = state;
    },
  };
}

// ANCHOR: listen
function listen({ enter, say, leave, edit, again }) {
  find('enter').addEventListener('submit', (event) => {
    event.preventDefault();
    enter(find('name').value.trim(), find('room').value.trim(), find('namespace').value);
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
  find('text').addEventListener('input', () => edit(find('text').value));
  find('leave').addEventListener('click', leave);
  find('again').addEventListener('click', again);
  find('newer').addEventListener('click', () => { scrollToEnd(); find('text').focus(); });
  find('log').addEventListener('scroll', noteScroll);
  new ResizeObserver(() => { if (following) scrollToEnd(); }).observe(find('log'));
}
// ANCHOR_END: listen

// ANCHOR: listen-rooms
function listenToRooms({ joinRoom, leaveRoom }) {
  find('new-room').addEventListener('submit', (event) => {
    event.preventDefault();
    joinRoom(find('new-room-name').value.trim());
  });
  find('leave-room').addEventListener('click', leaveRoom);
  find('menu').addEventListener('click', () => fold('menu', 'toggle'));
  find('members').addEventListener('click', () => fold('members', 'toggle'));
  document.addEventListener('keydown', ({ key }) => {
    if (key === 'Escape') ['menu', 'members'].forEach((button) => fold(button, false));
  });
}

/** Folds the panel of a button out or in. On a wide screen, CSS shows the panels whatever this says. */
function fold(button, open) {
  const isOpen = find(button).ariaExpanded === 'true';
  find(button).ariaExpanded = String(open === 'toggle' ? !isOpen : open);
}
// ANCHOR_END: listen-rooms

// ANCHOR: focus
/** A page inside another page must not pull the focus, and the scroll position, to itself. */
function focusOn(id) {
  if (document.hasFocus()) find(id).focus({ preventScroll: true });
}

/** The way in before the welcome, the chat after it, and the focus where typing goes. */
function showPlace({ status, me }, shown) {
  const inChat = me !== null && status !== 'out';
  find('entry').hidden = inChat;
  find('chat').hidden = !inChat;
  find('menu').hidden = !inChat;
  find('join').disabled = status === 'connecting';
  if (status === shown.status) return;
  if (status === 'out') focusOn('name');
  if (status === 'connected') focusOn('text');
  // Whoever is typing goes on typing; whoever pressed a button that is gone now finds the next one.
  if (status === 'closed' && document.activeElement !== find('text')) focusOn('again');
}
// ANCHOR_END: focus

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
  find('send').disabled = find('join-room').disabled = find('leave-room').disabled = status !== 'connected';
  find('leave').hidden = status !== 'connected';
  find('closed').hidden = status !== 'closed';
  if (close) find('closed-reason').textContent = closeSentence(close);
}

function closeSentence({ code, reason }) {
  return `${closeMeaning(code)} (${reason ? `${code}, “${reason}”` : code})`;
}

// ANCHOR: sidebar
function showSidebar(state, actions) {
  const conversations = Object.entries(state.conversations);
  const of = (wanted) => conversations.filter(([, { kind }]) => kind === wanted);
  const row = ([key, { kind, title, unread }]) => ({
    hook: kind, name: title, label: kind === 'room' ? `# ${title}` : title, unread, isCurrent: key === state.current, pick: () => actions.open(key),
  });
  fill('rooms', of('room').map(row));
  fill('directs', of('direct').map(row));
  fill('open-rooms', otherRooms(state).map(({ name, members }) => ({
    hook: 'room', name, label: `# ${name}`, count: members, pick: () => actions.joinRoom(name),
  })));
  find('direct').hidden = of('direct').length === 0;
  find('open').hidden = otherRooms(state).length === 0;
  const unread = unreadTotal(state);
  find('menu-unread').textContent = unread || '';
  document.title = unread > 0 ? `(${unread}) Chat` : 'Chat';
}

/** Fills a list of buttons, if it changed. Who had the focus in it keeps it. */
function fill(id, rows) {
  const list = find(id);
  const content = JSON.stringify(rows);
  if (list.dataset.content === content) return;
  list.dataset.content = content;
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.row : null;
  list.replaceChildren(...rows.map(rowElement));
  if (focused !== null) list.querySelector(`[data-row="${CSS.escape(focused)}"]`)?.focus();
}

function rowElement({ hook, name, label, unread, count, isCurrent, pick }) {
  const button = textElement('button', '', '');
  button.type = 'button';
  button.dataset[hook] = button.dataset.row = name;
  if (isCurrent) button.ariaCurrent = 'true';
  button.append(textElement('span', 'row-name', label));
  if (unread > 0) button.append(badge('unread', unread, 'unread'));
  if (count !== undefined) button.append(badge('count', count, count === 1 ? 'person' : 'people'));
  button.addEventListener('click', () => {
    fold('menu', false);
    pick();
    focusOn('text');
  });
  const item = document.createElement('li');
  item.append(button);
  return item;
}

/** A number with what it counts, for those who hear the page. */
function badge(className, number, what) {
  const element = textElement('span', className, String(number));
  element.append(textElement('span', 'visually-hidden', ` ${what}`));
  return element;
}
// ANCHOR_END: sidebar

// ANCHOR: conversation
function showConversation({ conversations, current, me }, actions) {
  const open = conversations[current];
  const isRoom = open?.kind === 'room';
  find('title').textContent = isRoom ? `# ${open.title}` : open?.title ?? 'No room';
  find('leave-room').hidden = find('members').hidden = find('aside').hidden = !isRoom;
  find('compose').hidden = !open;
  find('typing').textContent = typingSentence(open?.typing.map(({ name }) => name) ?? []);
  find('empty').textContent = emptySentence(open);
  if (isRoom && find('new-room-name').value.trim() === open.title) endNewRoom();
  showPeople(open?.members ?? [], me, actions);
  showLog(current, open?.log ?? []);
}

/** The room that was asked for is open: on to typing. */
function endNewRoom() {
  find('new-room-name').value = '';
  fold('menu', false);
  focusOn('text');
}

function emptySentence(open) {
  if (!open) return 'Join a room in the list, or start one.';
  if (open.kind === 'direct') return `Only you and ${open.title} can read what is written here.`;
  return 'Nobody has said anything yet. Say hello.';
}

function showPeople(names, me, { writeTo }) {
  fill('people', names.map((name) => ({
    hook: 'name', name, label: name === me ? `${name} (you)` : name, pick: () => { fold('members', false); writeTo(name); },
  })));
  const count = names.length > 0 ? ` (${names.length})` : '';
  find('people-title').textContent = `In this room${count}`;
  find('members').textContent = `People${count}`;
}
// ANCHOR_END: conversation

// ANCHOR: log
/** Adds the new entries at the end and drops those that fell off, so that a screen reader hears only news. */
function showLog(conversation, log) {
  const entries = find('entries');
  if (find('log').dataset.conversation !== String(conversation)) startLog(conversation);
  const lastShown = Number(entries.lastElementChild?.dataset.key ?? -1);
  const fresh = log.filter(({ key }) => key > lastShown);
  entries.append(...fresh.map(entryElement));
  while (entries.children.length > log.length) entries.firstElementChild.remove();
  if (fresh.length === 0) return;
  if (following || log.at(-1).own) scrollToEnd();
  else find('newer').hidden = false;
}

/** Another conversation: an empty log that starts at its end. */
function startLog(conversation) {
  find('log').dataset.conversation = String(conversation);
  find('entries').replaceChildren();
  find('newer').hidden = true;
  following = true;
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

// ANCHOR: text
/** `textContent` and never `innerHTML`: what people write is text, whatever it looks like. */
function textElement(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.textContent = text;
  return element;
}
// ANCHOR_END: text
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

/** Shows an error at its field, for the eye and for a screen reader. */
function showError(field, place, sentence) {
  find(`${place}-error`).textContent = sentence ?? '';
  find(field).ariaInvalid = sentence ? 'true' : null;
}
// ANCHOR_END: all
