// ANCHOR: all
// Wires the parts up: what people do goes out by the connection, what comes in changes the state,
// and the view shows the state. In the order a message travels: main.js, connection.js, state.js, view.js.

import { connect, socketUrl } from './connection.js';
import { initialState, reduce, textProblem } from './state.js';
import { createView } from './view.js';

// ANCHOR: wiring
let state = initialState;
let connection = null;

const view = createView({ enter, say, leave, edit, again: () => enter(state.name) });

/** The only way the state changes. */
function dispatch(action) {
  state = reduce(state, action);
  view.render(state);
}
// ANCHOR_END: wiring

// ANCHOR: actions
function enter(name) {
  connection?.close();
  dispatch({ type: 'connecting', name });
  connection = connect(socketUrl(location, '/ws'), {
    onOpen: () => connection.send({ type: 'hello', name }),
    onEvent: receive,
    onClose: ({ code, reason }) => dispatch({ type: 'closed', code, reason }),
  });
}

function receive(event) {
  dispatch({ type: 'received', event, now: Date.now() });
  // The server did not take the name: the next try is a new connection.
  if (state.status === 'out') connection.close();
}

/** Sends a message. `true` if it went out, so that the text field can be emptied. */
function say(text) {
  const problem = textProblem(text);
  dispatch({ type: 'checked', problem });
  return problem === null && connection.send({ type: 'message', text });
}

function edit() {
  dispatch({ type: 'checked', problem: null });
}

function leave() {
  connection.close();
  dispatch({ type: 'closed', code: 1000, reason: '' });
}
// ANCHOR_END: actions

const query = new URLSearchParams(location.search);
const name = query.get('name') ?? '';
view.fill({ name });
view.render(state);
if (query.get('join') === '1' && name !== '') enter(name);
// ANCHOR_END: all
