// ANCHOR: all
// The only module that touches the DOM: it shows the state, and reports what people do.
//
// Hooks for tests, stable from milestone to milestone:
//   #status            the connection in words; data-status = out | connecting | connected | closed
//                      and, new in milestone 4, waiting | offline; data-way = socket | fallback
//   #entry             the way in: #name, #room, #namespace, #join (the button), #name-error; from
//                      milestone 5 on also over the chat, when somebody has to sign in again
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
// New in milestone 4:
//   .message           data-state = waiting | sending | sent | failed on one's own; those that are not in
//                      the room's log yet have .pending, and .retry and .discard once they have failed
//   #degraded, #unsafe notes: messages can't be stored, by the server or by this browser
//   #spoken            the connection in words for screen readers, without the countdown
// New in milestone 5:
//   #enter             data-mode = sign in | sign up; #mode changes it; #password, #show-password,
//                      #password-error, #enter-error (of the whole form), #entry-reason
//   #leave             signs out; #leave-error
//   #find              opens #search: #search-text, #search-status, #search-close;
//                      #results > li (data-seq, mark), #older

import { secondsLeft } from './account.js';
import { nameKey } from './cursor.js';
import { waitingCount } from './outbox.js';
import { linkSentence, needsSignIn, whyClosed } from './reconnect.js';
import { pieces, searchSentence } from './search.js';
import { isExpired, otherRooms, pendingIn, startsGroup, typingSentence, unreadTotal } from './state.js';

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
  listenToForm(actions);
  listenToSearch(actions);

  return {
    /** What the address asks for. */
    fill({ name, room, namespace }) {
      find('name').value = name;
      find('room').value = room;
      find('namespace').value = namespace;
    },

    /** A password is not kept longer than it is needed. */
    forgetPassword,

    /** Shows a state. Only what changed since the last one is touched. */
    render(state) {
      showStatus(state);
      if (shown.me && nameKey(state.me ?? '') !== nameKey(shown.me)) forgetTyped();
      showForm(state, shown);
      showPlace(state, shown);
      if (['conversations', 'current', 'rooms', 'outbox', 'me'].some((part) => state[part] !== shown[part])) {
        showSidebar(state, actions);
        showConversation(state, actions);
        if (state.current !== null && !shown.current && isIdle()) focusOn('text');
      }
      if (state.search !== shown.search) showSearch(state, shown);
      if (state.roomError !== shown.roomError) showError('new-room-name', 'room', state.roomError);
      if (state.textError !== shown.textError) showError('text', 'text', state.textError);
      shown = state;
    },
  };
}

// ANCHOR: listen
function listen({ say, leave, edit, again }) {
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

// ANCHOR: form
function listenToForm({ submit, chooseMode }) {
  find('enter').addEventListener('submit', (event) => {
    event.preventDefault();
    submit({ name: find('name').value.trim(), password: find('password').value, room: find('room').value.trim(), namespace: find('namespace').value });
  });
  find('mode').addEventListener('click', () => {
    chooseMode(find('enter').dataset.mode === 'sign in' ? 'sign up' : 'sign in');
    find('name').focus();
  });
  find('show-password').addEventListener('click', () => showPassword(find('password').type === 'password'));
}

function showPassword(isVisible) {
  find('password').type = isVisible ? 'text' : 'password';
  find('show-password').ariaPressed = String(isVisible);
}

function forgetPassword() {
  find('password').value = '';
  showPassword(false);
}

/** What one person has typed and not sent is nothing for the next one. */
function forgetTyped() {
  for (const id of ['text', 'new-room-name', 'search-text']) find(id).value = '';
  for (const button of ['menu', 'members']) fold(button, false);
  forgetPassword();
}

const TITLES = { 'sign in': 'Sign in', 'sign up': 'Sign up' };

function showForm(state, shown) {
  const { account, now } = state;
  const isOver = isExpired(state);
  const isNew = account.mode === 'sign up';
  if (isOver && !isExpired(shown)) find('name').value = state.me;
  find('enter').dataset.mode = account.mode;
  setText('entry-title', isOver ? 'Sign in again' : TITLES[account.mode]);
  setText('entry-reason', isOver ? reasonSentence(state) : '');
  find('name-hint').hidden = find('password-hint').hidden = !isNew;
  find('password').autocomplete = isNew ? 'new-password' : 'current-password';
  find('where').hidden = find('other-mode').hidden = isOver;
  setText('mode-question', isNew ? 'You have a name here?' : 'New here?');
  setText('mode', isNew ? TITLES['sign in'] : TITLES['sign up']);
  showSubmit(account, secondsLeft(account, now));
  if (account !== shown.account) showFormErrors(account);
}

function reasonSentence({ me, account: { somebody } }) {
  const kept = 'What you write waits until then.';
  if (somebody === null) return `You are signed out. Sign in to go on as ${me}. ${kept}`;
  return `In this browser, ${somebody} is signed in now. Sign in to go on here as ${me}. ${kept}`;
}

/** Not `disabled`: that would take the focus away from whoever has pressed it. */
function showSubmit({ mode, isBusy }, left) {
  find('join').ariaDisabled = isBusy || left > 0 ? 'true' : null;
  if (isBusy) return setText('join', 'One moment…');
  return setText('join', left > 0 ? `${TITLES[mode]} (in ${left} s)` : TITLES[mode]);
}

/** The errors, each at its field, and the focus at the first of them. */
function showFormErrors(account) {
  const { nameError, passwordError, formError } = account;
  showError('name', 'name', nameError);
  showError('password', 'password', passwordError);
  setText('enter-error', formError ?? '');
  setText('leave-error', account.leaveError ?? '');
  if (nameError !== null) focusOn('name');
  else if (passwordError !== null) focusOn('password');
}
// ANCHOR_END: form

// ANCHOR: search
function listenToSearch({ openSearch, closeSearch, search, searchOlder }) {
  find('find').addEventListener('click', () => (find('search').hidden ? openSearch() : closeSearch()));
  find('search-close').addEventListener('click', closeSearch);
  find('search-form').addEventListener('submit', (event) => {
    event.preventDefault();
    search(find('search-text').value.trim());
  });
  find('search').addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || event.isComposing) return;
    event.preventDefault();
    closeSearch();
  });
  find('older').addEventListener('click', searchOlder);
}

function showSearch({ search, me }, shown) {
  const wasOpen = shown.search?.isOpen ?? false;
  const hadFocus = find('search').contains(document.activeElement);
  find('search').hidden = !search.isOpen;
  find('find').ariaExpanded = String(search.isOpen);
  setText('search-status', searchSentence(search));
  showResults(search, shown.search?.results ?? [], me);
  if (search.isOpen && !wasOpen) focusOn('search-text');
  if (wasOpen && !search.isOpen) find('search-text').value = '';
  if (wasOpen && !search.isOpen && hadFocus) focusOn('find');
}

/** Results that follow those on the page are added to them; others replace them. */
function showResults({ results, text, hasOlder }, before, me) {
  const goesOn = before.length > 0 && before[0] === results[0];
  if (!goesOn) find('results').replaceChildren();
  find('results').append(...results.slice(goesOn ? before.length : 0).map((one) => resultElement(one, text, me)));
  find('found').hidden = results.length === 0;
  const hadFocus = document.activeElement === find('older');
  find('older').hidden = !hasOlder;
  if (hadFocus && !hasOlder) focusOn('found');
}

function resultElement({ seq, from, text, at }, asked, me) {
  const head = textElement('p', 'head', '');
  const time = timeElement(at);
  time.textContent = dayAndTime.format(new Date(at));
  head.append(textElement('span', 'from', nameKey(from) === nameKey(me) ? 'You' : from), ' ', time);
  const body = textElement('p', 'text', '');
  body.append(...pieces(text, asked).map(({ text: piece, isHit }) => (isHit ? textElement('mark', '', piece) : piece)));
  const item = document.createElement('li');
  item.dataset.seq = seq;
  item.append(head, body);
  return item;
}
// ANCHOR_END: search

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

/** The way in, the chat, or the way in over the chat, and the focus where typing goes. */
function showPlace(state, shown) {
  const [wasIn, wasKnown] = [Boolean(shown.isIn), shown.account?.isKnown];
  const isOver = isExpired(state);
  find('entry').hidden = state.isIn ? !isOver : !state.account.isKnown;
  find('entry').role = isOver ? 'region' : 'main';
  find('chat').hidden = !state.isIn;
  find('menu').hidden = !state.isIn;
  if (shown.link && wasIn === state.isIn && wasKnown === state.account.isKnown && state.link.phase === shown.link.phase) return;
  if (!state.isIn && !find('entry').contains(document.activeElement)) focusOn(find('name').value === '' ? 'name' : 'password');
  // Whoever is typing goes on typing, whatever the connection does.
  if (state.isIn && !isOver && isIdle()) focusOn('text');
}

/** Whether the focus is nowhere, or in the form that has just gone. */
function isIdle() {
  const { activeElement } = document;
  return activeElement === document.body || (find('entry').hidden && find('entry').contains(activeElement));
}
// ANCHOR_END: focus

// ANCHOR: status
const STATUS = { off: 'out', stopped: 'closed' };

function showStatus(state) {
  const { link: { phase, way, close }, account, isIn, me, outbox, now, degraded, lasts } = state;
  const waiting = waitingCount(outbox);
  const element = find('status');
  element.dataset.status = STATUS[phase] ?? phase;
  element.dataset.way = way;
  setText('status', isIn ? linkSentence(state.link, { me, waiting, now }) : account.isKnown ? '' : 'One moment…');
  setText('spoken', isIn ? spoken(state.link, { me, waiting, now }) : '');
  find('join-room').disabled = find('leave-room').disabled = phase !== 'connected';
  find('closed').hidden = !['waiting', 'offline', 'stopped'].includes(phase) || needsSignIn(state.link);
  setText('again', phase === 'stopped' ? 'Connect again' : 'Connect now');
  setText('closed-reason', close ? whyClosed(close) : 'There is no network.');
  find('degraded').hidden = !degraded;
  find('unsafe').hidden = lasts;
}

/** Nobody wants to hear every second how many are left, nor of each message that is on its way. */
function spoken(link, { me, waiting, now }) {
  if (link.phase === 'connected') return `Connected as ${me}`;
  if (link.phase === 'waiting') return 'Not connected, reconnecting';
  return linkSentence(link, { me, waiting, now });
}

function setText(id, text) {
  const element = find(id);
  if (element.textContent !== text) element.textContent = text;
}
// ANCHOR_END: status

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
function showConversation(state, actions) {
  const { conversations, current, me } = state;
  const open = conversations[current];
  const isRoom = open?.kind === 'room';
  find('title').textContent = isRoom ? `# ${open.title}` : open?.title ?? 'No room';
  find('members').hidden = find('aside').hidden = !isRoom;
  find('leave-room').hidden = find('find').hidden = !open;
  find('compose').hidden = !open;
  find('typing').textContent = typingSentence(open?.typing.map(({ name }) => name) ?? []);
  find('empty').textContent = emptySentence(open);
  if (isRoom && find('new-room-name').value.trim() === open.title) endNewRoom();
  showPeople(open?.members ?? [], me, actions);
  showLog(`${current} ${open?.life}`, current, open?.log ?? []);
  showPending(pendingIn(state, current), open?.log.at(-1), me, actions);
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
/**
 * Adds the new entries after the old ones and drops those that fell off, so that a screen reader
 * hears only news. What waits to be sent stands below all of them.
 */
function showLog(life, conversation, log) {
  const entries = find('entries');
  if (find('log').dataset.life !== life) startLog(life, conversation);
  const known = () => entries.querySelectorAll(':scope > :not(.pending)');
  const lastShown = Number([...known()].at(-1)?.dataset.key ?? -1);
  const fresh = log.filter(({ key }) => key > lastShown);
  for (const entry of fresh) showEntry(entry);
  for (const old of [...known()].slice(0, -log.length || undefined)) old.remove();
  if (fresh.length === 0) return;
  if (following || log.at(-1).own) scrollToEnd();
  else find('newer').hidden = false;
}

/** Above what waits. An element that is in its place already is not moved, or it would be read out again. */
function showEntry(entry) {
  const place = find('entries').querySelector('.pending');
  const item = entryElement(entry);
  if (item !== place) find('entries').insertBefore(item, place);
}

/** Another conversation, or the same one afresh: an empty log that starts at its end. */
function startLog(life, conversation) {
  Object.assign(find('log').dataset, { life, conversation });
  find('entries').replaceChildren();
  find('newer').hidden = true;
  following = true;
}

/** The element for an entry: the one that waited, if it is the echo of a message of ours. */
function entryElement(entry) {
  const waited = entry.own ? find('entries').querySelector(`.pending[data-id="${CSS.escape(entry.id)}"]`) : null;
  const item = waited ?? document.createElement('li');
  item.dataset.key = entry.key;
  item.className = entry.kind;
  if (waited) markMessage(item, entry);
  else if (entry.kind === 'message') fillMessage(item, entry);
  else item.append(textElement('p', 'text', entry.text));
  if (entry.own) showDelivery(item, { status: 'sent' });
  return item;
}

function fillMessage(item, entry) {
  const head = textElement('p', 'head', '');
  head.append(textElement('span', 'from', entry.own ? 'You' : entry.from), ' ', timeElement(entry.at));
  item.append(head, textElement('p', 'text', entry.text));
  markMessage(item, entry);
}

/** Everything about a message but its sender and its text. */
function markMessage(item, { id, from, at, own, first }) {
  item.dataset.id = id;
  item.dataset.from = from;
  item.classList.toggle('own', own);
  item.classList.toggle('first', first);
  const [time, right] = [item.querySelector('time'), timeElement(at)];
  if (time.textContent !== right.textContent) time.replaceWith(right);
}

// ANCHOR_END: log

// ANCHOR: pending
/** What is not in the room's log yet stands at its end, in the order in which it will be sent. */
function showPending(outbox, last, me, actions) {
  const entries = find('entries');
  const ids = new Set(outbox.map(({ id }) => id));
  for (const item of entries.querySelectorAll('.pending')) if (!ids.has(item.dataset.id)) item.remove();
  let previous = last;
  for (const entry of outbox) {
    const message = { ...entry, kind: 'message', from: me, own: true };
    showOnePending({ ...message, first: startsGroup(previous, message) }, actions);
    previous = message;
  }
}

function showOnePending(entry, actions) {
  const shown = find('entries').querySelector(`.pending[data-id="${CSS.escape(entry.id)}"]`);
  const item = shown ?? document.createElement('li');
  if (!shown) {
    item.className = 'message pending';
    fillMessage(item, entry);
  }
  item.classList.toggle('first', entry.first);
  if (!shown || item.dataset.state !== entry.status) showDelivery(item, entry, actions);
  if (shown) return;
  find('entries').append(item);
  scrollToEnd();
}

const DELIVERY = { waiting: '◷ Waiting', sending: '◷ Sending…', sent: '✓ Sent', failed: '⚠ Not sent.' };

/** What has become of a message of ours, in a sign and in words. Only a failure is read out. */
function showDelivery(item, { id, status, problem }, actions) {
  item.dataset.state = status;
  item.querySelector('.delivery')?.remove();
  const delivery = textElement('p', 'delivery', status === 'failed' ? `${DELIVERY.failed} ${problem} ` : DELIVERY[status]);
  if (status === 'failed') {
    const choices = textElement('span', 'choices', '');
    choices.append(button('retry', 'Try again', () => actions.retry(id)), button('discard', 'Discard', () => actions.discard(id)));
    delivery.append(choices);
  }
  delivery.role = status === 'failed' ? 'alert' : null;
  delivery.ariaLive = status === 'failed' ? null : 'off';
  item.append(delivery);
}

function button(className, label, press) {
  const element = textElement('button', className, label);
  element.type = 'button';
  element.addEventListener('click', () => { press(); focusOn('text'); });
  return element;
}
// ANCHOR_END: pending

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
