// ANCHOR: all
'use strict';

// Hooks for tests: #url #connect #disconnect, #state (data-state = readyState), #code #reason #clean,
// #frames li (data-direction = sent | received | event, data-kind = text | binary | open | error | close),
// #text #send-text #send-binary #clear.

const STATES = ['CONNECTING', 'OPEN', 'CLOSING', 'CLOSED'];
const ARROWS = { sent: '↑', received: '↓', event: '•' };
const MAX_ROWS = 500;

const find = (id) => document.getElementById(id);
const rows = find('frames').querySelector('ol');
let socket = null;

function connect(url) {
  find('code').textContent = find('reason').textContent = find('clean').textContent = '–';
  try {
    socket = new WebSocket(url);
  } catch (error) {
    addRow('event', 'error', error.message);
    return;
  }
  socket.binaryType = 'arraybuffer';
  socket.addEventListener('open', () => { addRow('event', 'open', socket.url); showState(); });
  socket.addEventListener('message', ({ data }) => addFrame('received', data));
  socket.addEventListener('error', () => addRow('event', 'error', 'The browser gives no reason.'));
  socket.addEventListener('close', showClose);
  showState();
}

function disconnect() {
  socket.close(1000, 'bye');
  showState();
}

function send(data) {
  socket.send(data);
  addFrame('sent', data);
  find('text').select();
}

// ANCHOR: show
function addFrame(direction, data) {
  if (typeof data === 'string') return addRow(direction, 'text', data, new TextEncoder().encode(data).length);
  const bytes = new Uint8Array(data);
  return addRow(direction, 'binary', hex(bytes), bytes.length);
}

/** The first bytes as hexadecimal numbers. */
function hex(bytes) {
  const shown = Array.from(bytes.subarray(0, 64), (byte) => byte.toString(16).padStart(2, '0'));
  return shown.join(' ') + (bytes.length > 64 ? ' …' : '');
}

function addRow(direction, kind, text, size) {
  const log = find('frames');
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const row = document.createElement('li');
  row.dataset.direction = direction;
  row.dataset.kind = kind;
  row.append(
    cell('arrow', ARROWS[direction]),
    cell('direction', direction === 'event' ? '' : direction),
    cell('kind', kind),
    cell('size', size === undefined ? '' : `${size} B`),
    cell('data', text),
    cell('time', new Date().toTimeString().slice(0, 8)),
  );
  row.querySelector('.arrow').ariaHidden = 'true';
  rows.append(row);
  if (rows.children.length > MAX_ROWS) rows.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

/** Always textContent: what comes over the network is text, never HTML. */
function cell(name, text) {
  const element = document.createElement('span');
  element.className = name;
  element.textContent = text;
  return element;
}
// ANCHOR_END: show

function showState() {
  const state = socket?.readyState ?? WebSocket.CLOSED;
  const isOpen = state === WebSocket.OPEN;
  find('state').textContent = `${state} ${STATES[state]}`;
  find('state').dataset.state = state;
  find('connect').disabled = find('url').readOnly = state !== WebSocket.CLOSED;
  find('disconnect').disabled = state > WebSocket.OPEN;
  find('send-text').disabled = find('send-binary').disabled = !isOpen;
}

function showClose({ code, reason, wasClean }) {
  find('code').textContent = code;
  find('reason').textContent = reason || '(none)';
  find('clean').textContent = wasClean ? 'yes' : 'no';
  addRow('event', 'close', [code, reason].filter(Boolean).join(' '));
  showState();
}

find('connection').addEventListener('submit', (event) => {
  event.preventDefault();
  connect(find('url').value);
});
find('message').addEventListener('submit', (event) => {
  event.preventDefault();
  send(find('text').value);
});
find('send-binary').addEventListener('click', () => send(new TextEncoder().encode(find('text').value).buffer));
find('disconnect').addEventListener('click', disconnect);
find('clear').addEventListener('click', () => rows.replaceChildren());

find('url').value = new URLSearchParams(location.search).get('url') ?? 'ws://127.0.0.1:3001';
connect(find('url').value);
// A page inside another page leaves the focus where it is.
if (document.hasFocus()) find('text').focus();
// ANCHOR_END: all
