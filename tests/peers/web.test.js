// The parts of the browser clients that need no browser.

import assert from 'node:assert/strict';
import { readFile, readdir } from 'node:fs/promises';
import { test } from 'node:test';
import { closeMeaning, parse, socketUrl } from '../../client/web/step03/connection.js';
import * as step02 from '../../client/web/step02/state.js';
import * as step03 from '../../client/web/step03/state.js';

const WEB = new URL('../../client/web/', import.meta.url);
const MINUTE = 60_000;

/** The state after these events from the server, in this order. */
function after({ reduce, initialState }, ...events) {
  const connecting = reduce(initialState, { type: 'connecting', name: 'ada' });
  return events.reduce((state, event) => reduce(state, { type: 'received', event, now: 1000 }), connecting);
}

const welcome = { type: 'welcome', id: '1', name: 'ada', users: ['ada'] };

function said(from, text, at = 0, room = undefined) {
  return { type: 'message', room, id: `${from}-${text}`, from, text, at };
}

function joined(room, members = ['ada'], history = []) {
  return { type: 'joined', room, members, history };
}

function texts(log) {
  return log.map(({ text }) => text);
}

test('the socket is on the page\'s own server, encrypted if the page is', () => {
  assert.equal(socketUrl({ protocol: 'http:', host: '127.0.0.1:3002' }, '/ws'), 'ws://127.0.0.1:3002/ws');
  assert.equal(socketUrl({ protocol: 'https:', host: 'chat.example' }, '/ws/staff'), 'wss://chat.example/ws/staff');
});

test('a broken frame is no event', () => {
  for (const data of ['', '{', 'null', '5', '[]', '{"type":1}']) assert.equal(parse(data), null);
  assert.deepEqual(parse('{"type":"rooms"}'), { type: 'rooms' });
});

test('every close code has words, known or not', () => {
  assert.match(closeMeaning(4008), /too slow/);
  assert.match(closeMeaning(4999), /closed/);
});

test('what can stay the same from step 2 to step 3 is the same', async () => {
  for (const file of ['connection.js', 'icon.svg']) {
    const [before, now] = await Promise.all(['step02', 'step03'].map((step) => readFile(new URL(`${step}/${file}`, WEB))));
    assert.ok(before.equals(now), `${file} differs`);
  }
});

test('text gets into the pages as text only, and no code or style is inline', async () => {
  for (const step of ['step01', 'step02', 'step03']) {
    const folder = new URL(`${step}/`, WEB);
    for (const file of await readdir(folder)) {
      const source = (await readFile(new URL(file, folder), 'utf8')).replaceAll('never `innerHTML`', '');
      assert.doesNotMatch(source, /innerHTML|outerHTML|insertAdjacentHTML|document\.write/, `${step}/${file}`);
      if (file.endsWith('.html')) assert.doesNotMatch(source, /<style|<script(?![^>]*src=)|\s(on\w+|style)=/, `${step}/${file}`);
    }
  }
});

for (const [name, step] of [['step 2', step02], ['step 3', step03]]) {
  test(`${name}: a refused name keeps the way in open and says why`, () => {
    const state = after(step, { type: 'error', code: 'name_taken', message: 'Somebody has it.' });
    assert.deepEqual([state.status, state.nameError], ['out', 'Somebody has it.']);
  });

  test(`${name}: a server that is not there is said at the name`, () => {
    const state = step.reduce(after(step), { type: 'closed', code: 1006, reason: '' });
    assert.equal(state.status, 'out');
    assert.match(state.nameError, /no server/);
  });

  test(`${name}: an event nobody knows changes nothing`, () => {
    const before = after(step, welcome);
    assert.equal(step.reduce(before, { type: 'received', event: { type: 'news' }, now: 0 }), before);
  });

  test(`${name}: a text is checked before it travels`, () => {
    assert.equal(step.textProblem('hi'), null);
    assert.equal(step.textProblem('🦀'.repeat(2000)), null);
    assert.match(step.textProblem(' \n'), /nothing/);
    assert.match(step.textProblem('x'.repeat(2001)), /2001/);
  });

  test(`${name}: messages are grouped by sender until a pause`, () => {
    const message = (from, at) => ({ kind: 'message', from, at });
    assert.ok(step.startsGroup(undefined, message('ada', 0)));
    assert.ok(!step.startsGroup(message('ada', 0), message('ada', MINUTE)));
    assert.ok(step.startsGroup(message('ada', 0), message('grace', MINUTE)));
    assert.ok(step.startsGroup(message('ada', 0), message('ada', 6 * MINUTE)));
    assert.ok(step.startsGroup({ kind: 'note', at: 0 }, message('ada', 1)));
  });
}

test('step 2: people come and go, and the log says so', () => {
  const state = after(step02, welcome, { type: 'user_joined', name: 'Grace' }, said('Grace', 'hi'), { type: 'user_left', name: 'Grace' });
  assert.deepEqual(state.users, ['ada']);
  assert.deepEqual(texts(state.log), ['Grace joined', 'hi', 'Grace left']);
});

test('step 2: one\'s own messages are marked, and the log has an end', () => {
  const many = Array.from({ length: 501 }, (_, n) => said('ada', `message ${n}`));
  const { log } = after(step02, welcome, ...many);
  assert.equal(log.length, 500);
  assert.equal(log[0].text, 'message 1');
  assert.ok(log.every(({ own }) => own));
});

test('step 2: after the close the messages stay and nobody is here', () => {
  const before = after(step02, welcome, said('ada', 'hi'));
  const state = step02.reduce(before, { type: 'closed', code: 1001, reason: '' });
  assert.deepEqual([state.status, state.users, texts(state.log)], ['closed', [], ['hi']]);
});

test('step 3: the first room opens, with what was said before and a line under it', () => {
  const history = [said('grace', 'one', 0, 'rust'), said('grace', 'two', 1, 'rust')];
  const state = after(step03, welcome, joined('rust', ['grace', 'ada'], history));
  const room = state.conversations['room:rust'];
  assert.equal(state.current, 'room:rust');
  assert.deepEqual(room.members, ['ada', 'grace']);
  assert.deepEqual(room.log.map(({ kind }) => kind), ['message', 'message', 'separator']);
});

test('step 3: joining again shows only what was missed', () => {
  const one = said('ada', 'one', 0, 'rust');
  const two = said('grace', 'two', 1, 'rust');
  const state = after(step03, welcome, joined('rust'), one, joined('rust', ['ada'], [one, two]), joined('rust', ['ada'], [one, two]));
  assert.deepEqual(texts(state.conversations['room:rust'].log), ['one', 'two', 'You joined here']);
});

test('step 3: messages elsewhere are counted until one looks', () => {
  const before = after(step03, welcome, joined('rust'), joined('tea'), said('grace', 'a', 0, 'rust'), said('grace', 'b', 1, 'rust'));
  assert.equal(before.current, 'room:tea');
  assert.equal(before.conversations['room:rust'].unread, 2);
  assert.equal(step03.unreadTotal(before), 2);
  const opened = step03.reduce(before, { type: 'opened', key: 'room:rust' });
  assert.equal(step03.unreadTotal(opened), 0);
});

test('step 3: a room that one left is gone, and another one opens', () => {
  const state = after(step03, welcome, joined('rust'), joined('tea'), { type: 'left', room: 'tea' });
  assert.deepEqual(Object.keys(state.conversations), ['room:rust']);
  assert.equal(state.current, 'room:rust');
  const none = step03.reduce(state, { type: 'received', event: { type: 'left', room: 'rust' }, now: 0 });
  assert.equal(none.current, null);
});

test('step 3: a direct message belongs to the conversation with the other one', () => {
  const direct = (from, to, text) => ({ type: 'direct', id: text, from, to, text, at: 0 });
  const state = after(step03, welcome, direct('Grace', 'ada', 'psst'), direct('ada', 'Grace', 'yes?'), direct('ada', 'ada', 'milk'));
  assert.deepEqual(texts(state.conversations['direct:grace'].log), ['psst', 'yes?']);
  assert.equal(state.conversations['direct:grace'].unread, 1);
  assert.deepEqual(texts(state.conversations['direct:ada'].log), ['milk']);
});

test('step 3: who types stops by time, by a message or by leaving', () => {
  const typing = (name) => ({ type: 'typing', room: 'rust', name });
  const names = (state) => state.conversations['room:rust'].typing.map(({ name }) => name);
  const state = after(step03, welcome, joined('rust'), typing('grace'), typing('hedy'), typing('grace'));
  assert.deepEqual(names(state), ['hedy', 'grace']);
  assert.equal(step03.nextTick(state), 1000 + step03.TYPING_FOR);
  const expired = step03.reduce(state, { type: 'ticked', now: 1000 + step03.TYPING_FOR });
  assert.deepEqual([names(expired), step03.nextTick(expired)], [[], null]);
  const more = (event) => step03.reduce(state, { type: 'received', event, now: 2000 });
  assert.deepEqual(names(more(said('grace', 'hi', 0, 'rust'))), ['hedy']);
  assert.deepEqual(names(more({ type: 'member_left', room: 'rust', name: 'hedy' })), ['grace']);
});

test('step 3: the room hears at most every 2.5 seconds that one types', () => {
  assert.ok(step03.mayTellTyping(null, 'rust', 0));
  assert.ok(!step03.mayTellTyping({ room: 'rust', at: 0 }, 'rust', 2499));
  assert.ok(step03.mayTellTyping({ room: 'rust', at: 0 }, 'rust', 2500));
  assert.ok(step03.mayTellTyping({ room: 'rust', at: 0 }, 'tea', 1));
});

test('step 3: typing in words', () => {
  assert.equal(step03.typingSentence([]), '');
  assert.equal(step03.typingSentence(['ada']), 'ada is typing…');
  assert.equal(step03.typingSentence(['ada', 'grace']), 'ada and grace are typing…');
  assert.equal(step03.typingSentence(['ada', 'grace', 'hedy']), 'Several people are typing…');
});

test('step 3: an error stands where it belongs', () => {
  const error = (code) => ({ type: 'error', code, message: code });
  const state = after(step03, welcome, error('bad_room'), error('no_such_user'));
  assert.deepEqual([state.status, state.roomError, state.textError], ['connected', 'bad_room', 'no_such_user']);
});

test('step 3: the list of rooms leaves out those one is in, and the lost ones are known', () => {
  const rooms = [{ name: 'rust', members: 1 }, { name: 'tea', members: 2 }];
  const state = after(step03, welcome, joined('rust'), { type: 'rooms', rooms });
  assert.deepEqual(step03.otherRooms(state), [rooms[1]]);
  assert.deepEqual(step03.joinedRooms(step03.reduce(state, { type: 'closed', code: 1006, reason: '' })), ['rust']);
});
