// The parts of milestone 4's browser client that need no browser: when it connects, what it sends,
// and that what it shows is what the server has, whatever happens on the way.

import assert from 'node:assert/strict';
import { readFile, readdir } from 'node:fs/promises';
import { test } from 'node:test';
import { catchUp, judge, otherOne, roomOfTwo } from '../../client/web/step04/cursor.js';
import { placesText } from '../../client/web/step04/fallback.js';
import * as outbox from '../../client/web/step04/outbox.js';
import * as link from '../../client/web/step04/reconnect.js';
import { initialState, isCatchingUp, nextTick, pendingIn, reduce, toJoin, toKeep, toSend, unreadTotal } from '../../client/web/step04/state.js';
import { claim, openStorage, ownerOf } from '../../client/web/step04/storage.js';

const WEB = new URL('../../client/web/', import.meta.url);
const EPOCH = '6ad14a5e-9f3c-4c1b-8f3c-0d6a3f0d9a11';

// The code

test('what can stay the same from step 3 to step 4 is the same', async () => {
  for (const file of ['connection.js', 'icon.svg']) {
    const [before, now] = await Promise.all(['step03', 'step04'].map((step) => readFile(new URL(`${step}/${file}`, WEB))));
    assert.ok(before.equals(now), `${file} differs`);
  }
});

test('text gets into the page of step 4 as text only, and no code or style is inline', async () => {
  const folder = new URL('step04/', WEB);
  for (const file of await readdir(folder)) {
    const source = (await readFile(new URL(file, folder), 'utf8')).replaceAll('never `innerHTML`', '');
    assert.doesNotMatch(source, /innerHTML|outerHTML|insertAdjacentHTML|document\.write/, file);
    if (file.endsWith('.html')) assert.doesNotMatch(source, /<style|<script(?![^>]*src=)|\s(on\w+|style)=/, file);
  }
});

// Delays

test('a delay is never zero, grows, and has an end', () => {
  for (let attempt = 0; attempt < 2000; attempt += 1) {
    const longest = link.nextDelay(attempt, 0.999999);
    assert.equal(link.nextDelay(attempt, 0), link.FLOOR);
    assert.ok(longest >= link.FLOOR && longest <= link.CAP, `${longest} after ${attempt}`);
    assert.ok(longest >= link.nextDelay(Math.max(0, attempt - 1), 0.999999));
  }
  assert.equal(link.nextDelay(50, 0.999999), link.CAP);
});

test('delays are spread over the whole range', () => {
  const delays = Array.from({ length: 1000 }, () => link.nextDelay(3, Math.random()));
  for (const tenth of [0, 3, 6, 9]) {
    const [from, to] = [tenth, tenth + 1].map((n) => link.FLOOR + (n / 10) * (8000 - link.FLOOR));
    const within = delays.filter((delay) => delay >= from && delay <= to).length;
    assert.ok(within > 50 && within < 200, `${within} of 1000 in ${from} to ${to}`);
  }
});

// The connection

/** The connection after these actions; each may be a function of the state before. */
function linkAfter(...actions) {
  return actions.reduce((state, action) => {
    const next = typeof action === 'function' ? action(state) : action;
    return link.reduceLink(state, { now: 0, random: 0, ...next });
  }, link.initialLink);
}

const start = { type: 'start' };
const welcome = (now = 0) => ({ type: 'received', now, event: { type: 'welcome', name: 'ada', session: EPOCH } });
const closed = (code, now = 0) => ({ type: 'closed', code, reason: '', now });
const due = ({ until }) => ({ type: 'ticked', now: until });

test('a cut is followed by a wait, and the wait by another attempt', () => {
  const waiting = linkAfter(start, welcome(), closed(1006, 60_000));
  assert.deepEqual([waiting.phase, waiting.until], ['waiting', 60_000 + link.FLOOR]);
  const trying = link.reduceLink(waiting, { type: 'ticked', now: waiting.until, random: 0 });
  assert.deepEqual([trying.phase, trying.way, trying.opened], ['connecting', 'socket', 2]);
});

test('the bands of close codes say who comes back', () => {
  for (const code of [1001, 1005, 1006, 1008, 1011, 1012, 1013, 4000, 4008, 4029, 4499]) {
    assert.equal(linkAfter(start, welcome(), closed(code)).phase, 'waiting', String(code));
  }
  for (const code of [1002, 1007, 1009, 4500, 4501, 4999]) {
    assert.equal(linkAfter(start, welcome(), closed(code)).phase, 'stopped', String(code));
  }
});

test('a server that accepts and closes at once is asked more and more seldom', () => {
  const round = [(state) => welcome(state.since), (state) => ({ ...closed(4008, state.since + 10), random: 0.999999 }), due];
  const state = linkAfter(start, ...round, ...round, ...round, ...round, ...round.slice(0, 2));
  assert.ok(state.until - state.since > 15_000);
});

test('the server says when to come back, and nobody comes before', () => {
  const hint = { type: 'received', now: 1000, event: { type: 'reconnect', after: 1800 } };
  assert.equal(linkAfter(start, welcome(), hint, closed(1012, 1500)).until, 2800 + link.FLOOR);
  assert.equal(linkAfter(start, welcome(), hint, closed(1012, 5000)).until, 5000 + link.FLOOR);
});

test('after two failed sockets comes the fallback, which is kept for ten minutes', () => {
  const failing = [start, closed(1006), due, closed(1006), due];
  assert.equal(linkAfter(...failing).way, 'fallback');
  const connected = linkAfter(...failing, (state) => welcome(state.since));
  assert.equal(connected.until - connected.since, link.REMEMBERED);
  const again = linkAfter(...failing, (state) => welcome(state.since), (state) => closed(1006, state.since + 60_000), due);
  assert.equal(again.way, 'fallback');
  const later = linkAfter(...failing, (state) => welcome(state.since), due);
  assert.deepEqual([later.phase, later.way], ['connecting', 'socket']);
  const back = linkAfter(...failing, (state) => welcome(state.since), due, due, due);
  assert.deepEqual([back.phase, back.way], ['connecting', 'fallback']);
});

test('a hung socket is a failed one', () => {
  const state = linkAfter(start, { type: 'ticked', now: link.HUNG - 1 });
  assert.equal(state.phase, 'connecting');
  assert.equal(link.reduceLink(state, { type: 'ticked', now: link.HUNG, random: 0 }).failures, 1);
});

test('if neither way works, both are tried in turn', () => {
  const fail = [(state) => closed(1006, state.since), due];
  const ways = Array.from({ length: 6 }, (_, n) => linkAfter(start, ...Array.from({ length: n }, () => fail).flat()).way);
  assert.deepEqual(ways, ['socket', 'socket', 'fallback', 'socket', 'fallback', 'socket']);
});

test('where a socket has worked before, the fallback is left again soon', () => {
  const outage = [closed(1006), due, closed(1006), due, closed(1006), due];
  const state = linkAfter(start, welcome(), ...outage, (before) => welcome(before.since));
  assert.deepEqual([state.way, state.until - state.since], ['fallback', link.SHORTLY]);
});

test('silence is asked first, and is death only without an answer', () => {
  const connected = linkAfter(start, welcome());
  const ticked = (state, now) => link.reduceLink(state, { type: 'ticked', now, random: 0 });
  assert.equal(link.nextDue(connected), link.QUIET);
  const asked = ticked(connected, link.QUIET);
  assert.deepEqual([asked.phase, asked.deadAt], ['connected', link.QUIET + link.PATIENCE]);
  assert.equal(link.QUIET + link.PATIENCE, 45_000);
  assert.equal(ticked(asked, asked.deadAt).phase, 'waiting');
  const answered = link.reduceLink(asked, { type: 'received', now: 40_000, event: { type: 'joined' } });
  assert.deepEqual([answered.deadAt, ticked(answered, 45_000).phase], [null, 'connected']);
  // A computer that slept for an hour finds a connection to ask, not a dead one.
  assert.equal(ticked(connected, 3_600_000).phase, 'connected');
});

test('a long history on a slow wire gets more time', () => {
  const connected = linkAfter(start, welcome());
  const ticked = (now) => link.reduceLink(connected, { type: 'ticked', now, random: 0, catchingUp: true });
  assert.equal(link.nextDue(connected, true), link.QUIET_HISTORY);
  assert.equal(ticked(link.QUIET_HISTORY - 1).deadAt, null);
  assert.equal(ticked(link.QUIET_HISTORY).deadAt, link.QUIET_HISTORY + link.PATIENCE);
});

test('what the fallback answers to requests is no sign of life of its stream', () => {
  const fallback = linkAfter(start, closed(1006), due, closed(1006), due, (state) => welcome(state.since));
  const hear = (type) => link.reduceLink(fallback, { type: 'received', now: fallback.since + 9, event: { type } }).heardAt - fallback.since;
  assert.deepEqual(['ack', 'rooms', 'error', 'message', 'joined'].map(hear), [0, 0, 0, 9, 9]);
});

test('without a network nothing is tried, until it is back or the browser may be wrong', () => {
  const offline = linkAfter({ type: 'network', online: false }, start, closed(1006, 1000));
  assert.deepEqual([offline.phase, offline.until], ['offline', 1000 + link.CAP]);
  const back = link.reduceLink(offline, { type: 'network', online: true, now: 2000, random: 0 });
  assert.deepEqual([back.phase, back.until], ['waiting', 2000 + link.FLOOR]);
  const open = linkAfter(start, welcome(), { type: 'network', online: false, now: 5 });
  assert.deepEqual([open.phase, open.deadAt], ['connected', 5 + link.DOUBT]);
});

test('the connection in words', () => {
  const words = (state, waiting = 0, now = 0) => link.linkSentence(state, { me: 'ada', waiting, now });
  const waiting = { ...linkAfter(start, welcome(), closed(1006)), until: 2500 };
  assert.match(words(waiting), /reconnecting in 3 s$/);
  assert.match(words({ ...waiting, phase: 'offline' }, 2), /offline: 2 messages waiting/);
  assert.match(words({ ...waiting, phase: 'offline' }, 1), /offline: 1 message waiting/);
  assert.match(link.whyClosed({ code: 4500, reason: '' }), /another window/);
});

// The outbox

function filled(...rooms) {
  return rooms.reduce((box, room, n) => outbox.add(box, { id: `id${n}`, room, text: `text ${n}`, at: 0 }), []);
}

test('of each room one message is on its way, and the next one follows its ack', () => {
  let box = filled('rust', 'rust', 'tea');
  const ids = () => outbox.toSend(box, () => true, 0).map(({ id }) => id);
  assert.deepEqual(ids(), ['id0', 'id2']);
  for (const id of ids()) box = outbox.sending(box, id, 0);
  assert.deepEqual(ids(), []);
  box = outbox.acked(box, 'id0', 1);
  assert.deepEqual(ids(), ['id1']);
});

test('nothing goes out before the room is joined', () => {
  assert.deepEqual(outbox.toSend(filled('rust', 'tea'), (room) => room === 'tea', 0).map(({ id }) => id), ['id1']);
});

test('what was on its way goes out again after a cut, before what came later', () => {
  const box = outbox.cutOff(outbox.sending(filled('rust', 'rust'), 'id0', 0));
  assert.deepEqual(outbox.toSend(box, () => true, 0).map(({ id }) => id), ['id0']);
});

test('"not now" waits as long as the server says, and holds back what comes after', () => {
  const box = outbox.refused(outbox.sending(filled('rust', 'rust'), 'id0', 0), { id: 'id0', code: 'unavailable', retry_after: 500 }, 100);
  assert.deepEqual(outbox.toSend(box, () => true, 599), []);
  assert.equal(outbox.nextSend(box, 100), 600);
  assert.deepEqual(outbox.toSend(box, () => true, 600).map(({ id }) => id), ['id0']);
});

test('a refusal for good fails the message, holds nothing back, and is a person\'s to decide', () => {
  for (const code of ['id_conflict', 'forbidden', 'text_too_long', 'empty_text', 'bad_json']) {
    const box = outbox.refused(filled('rust', 'rust'), { id: 'id0', code, message: 'No.' }, 0);
    assert.deepEqual([box[0].status, box[0].problem, outbox.waitingCount(box)], ['failed', 'No.', 1]);
    assert.deepEqual(outbox.toSend(box, () => true, 0).map(({ id }) => id), ['id1']);
    assert.deepEqual(outbox.retried(box, 'id0', 'fresh', 5).map(({ id, status }) => [id, status]), [['id1', 'waiting'], ['fresh', 'waiting']]);
    assert.deepEqual(outbox.discarded(box, 'id0').map(({ id }) => id), ['id1']);
  }
});

test('what was first sent a day ago does not go out by itself', () => {
  const box = outbox.cutOff(outbox.sending(filled('rust', 'rust'), 'id0', 0));
  assert.deepEqual(outbox.expired(box, outbox.REPEATABLE).map(({ status }) => status), ['waiting', 'waiting']);
  assert.deepEqual(outbox.expired(box, outbox.REPEATABLE + 1).map(({ status }) => status), ['failed', 'waiting']);
});

test('what is kept is what is not safe, as if it had not been sent', () => {
  const box = outbox.acked(outbox.sending(filled('a', 'b', 'c'), 'id1', 7), 'id0', 1);
  assert.deepEqual(outbox.toKeep(box).map(({ id, status, triedAt }) => [id, status, triedAt]), [['id1', 'waiting', 7], ['id2', 'waiting', null]]);
});

test('an id is a UUID, with and without randomUUID', () => {
  const plain = { getRandomValues: (bytes) => crypto.getRandomValues(bytes) };
  for (const source of [crypto, plain]) {
    const ids = new Set(Array.from({ length: 100 }, () => outbox.newId(source)));
    assert.equal(ids.size, 100);
    for (const id of ids) assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  }
});

// Cursors and rooms of two

test('only the next message is taken, the ones before are dropped, a hole is seen', () => {
  assert.deepEqual([41, 42, 43, 44].map((seq) => judge({ have: 42 }, seq)), ['old', 'old', 'next', 'hole']);
  assert.equal(judge({ have: null }, 1), 'hole');
});

test('a joined is taken if it follows what we have, starts afresh after a gap, and is asked again otherwise', () => {
  const joined = (from, to, more) => ({ epoch: EPOCH, seq: to, gap: false, history: Array.from({ length: to - from + 1 }, (_, n) => ({ seq: from + n })), ...more });
  const at = (have) => ({ epoch: EPOCH, have });
  const count = (news) => news && [news.fresh.length, news.isReset];
  assert.deepEqual(count(catchUp(at(null), joined(8, 57))), [50, false]);
  assert.deepEqual(count(catchUp(at(10), joined(11, 20))), [10, false]);
  assert.deepEqual(count(catchUp(at(10), joined(5, 20))), [10, false]);
  assert.deepEqual(count(catchUp(at(10), joined(11, 10))), [0, false]);
  assert.deepEqual(count(catchUp(at(10), joined(51, 100))), null);
  assert.deepEqual(count(catchUp(at(10), joined(1, 5))), null);
  assert.deepEqual(count(catchUp(at(10), joined(51, 100, { gap: true }))), [50, true]);
  assert.deepEqual(count(catchUp(at(10), joined(1, 20, { epoch: 'other' }))), [20, true]);
});

test('two people share a room, whoever begins', () => {
  assert.equal(roomOfTwo('Grace', 'ada'), 'dm:ada:grace');
  assert.equal(roomOfTwo('ada', 'ada'), 'dm:ada:ada');
  assert.equal(roomOfTwo('ada', 'ad'), 'dm:ad:ada');
  assert.equal(roomOfTwo('\u{FF5E}a', '\u{20000}'), roomOfTwo('\u{20000}', '\u{FF5E}a'));
  assert.deepEqual([otherOne('dm:ada:grace', 'Ada'), otherOne('dm:ada:grace', 'grace'), otherOne('rust', 'ada')], ['grace', 'ada', null]);
});

test('the places of a stream are as the server reads them', () => {
  assert.equal(placesText([{ room: 'rust', epoch: EPOCH, after: 42 }, { room: 'lobby' }]), `rust/${EPOCH}/42,lobby`);
  assert.equal(decodeURIComponent(placesText([{ room: 'dm:ada:яд' }])), 'dm:ada:яд');
});

// Storage

test('without a database everything is in memory, and says so', async () => {
  const storage = await openStorage(() => {});
  assert.equal(storage.lasts, false);
  const [ada, grace] = [ownerOf('', ' Ada'), ownerOf('staff', 'ada')];
  for (const entry of filled('rust', 'rust').reverse()) storage.keepEntry(ada, entry);
  storage.keepSession(ada, { id: EPOCH, name: 'Ada' });
  storage.keepRoom(ada, { room: 'rust', have: 3 });
  const kept = await storage.load(ownerOf('', 'ADA'));
  assert.deepEqual(kept.outbox.map(({ id }) => id), ['id0', 'id1']);
  assert.deepEqual([kept.rooms.length, kept.session.id], [1, EPOCH]);
  assert.deepEqual(await storage.load(grace), { outbox: [], rooms: [], session: null });
  storage.dropEntry(ada, 'id0');
  assert.equal((await storage.load(ada)).outbox.length, 1);
});

test('where there are no locks, every tab may go on', async () => {
  assert.equal(typeof await claim('/ada', null), 'function');
});

// The whole state

const nothing = { outbox: [], rooms: [], session: null };

function stateAfter(...actions) {
  const first = [{ type: 'entered', name: 'ada', room: 'rust', kept: nothing }, start, welcome()];
  return [...first, ...actions].reduce((state, action) => reduce(state, { now: 0, random: 0, ...action }), initialState);
}

const received = (event) => ({ type: 'received', event });
const said = (seq, text = `m${seq}`, from = 'grace', room = 'rust') => ({ type: 'message', room, seq, id: `${from}${text}`, from, text, at: 0 });
const joinedRoom = (history = [], more = {}) => received({ type: 'joined', room: 'rust', epoch: EPOCH, seq: history.at(-1)?.seq ?? 0, members: ['ada'], history, gap: false, ...more });
const texts = (state, room = 'rust') => state.conversations[room].log.map(({ text }) => text);

test('a pending message is replaced by its echo, before or after the ack', () => {
  const typed = { type: 'typed', id: 'x', room: 'rust', text: 'hi' };
  const echo = received({ ...said(1, 'hi', 'ada'), id: 'x' });
  const ack = received({ type: 'ack', id: 'x', room: 'rust', seq: 1 });
  for (const order of [[ack, echo], [echo, ack], [echo], [ack, ack, echo, echo]]) {
    const state = stateAfter(joinedRoom(), typed, { type: 'sending', id: 'x' }, ...order);
    assert.deepEqual([texts(state), pendingIn(state, 'rust')], [['hi'], []]);
  }
  const acked = stateAfter(joinedRoom(), typed, ack);
  assert.deepEqual(pendingIn(acked, 'rust').map(({ status }) => status), ['sent']);
});

test('another one\'s message with the same id is another message', () => {
  const typed = { type: 'typed', id: 'x', room: 'rust', text: 'hi' };
  const state = stateAfter(joinedRoom(), typed, received({ ...said(1, 'hello'), id: 'x' }));
  assert.deepEqual([texts(state), pendingIn(state, 'rust').length], [['hello'], 1]);
});

test('a hole is not shown but asked for, from where we are', () => {
  const state = stateAfter(joinedRoom([said(1)]), received(said(3)), received(said(4)));
  assert.deepEqual(texts(state), ['m1']);
  assert.deepEqual(toJoin(state), [{ room: 'rust', epoch: EPOCH, after: 1 }]);
  const healed = reduce(state, { now: 0, random: 0, ...joinedRoom([said(2), said(3), said(4)]) });
  assert.deepEqual([texts(healed), toJoin(healed)], [['m1', 'm2', 'm3', 'm4'], []]);
});

test('a history in several pieces is one history', () => {
  const state = stateAfter(joinedRoom([said(1)]), closed(1006), joinedRoom([said(2), said(3)]), joinedRoom([said(4)]), received(said(5)));
  assert.deepEqual(texts(state), ['m1', 'm2', 'm3', 'm4', 'm5']);
});

test('a gap starts the view afresh and says so', () => {
  const state = stateAfter(joinedRoom([said(1)]), joinedRoom([said(98), said(99)], { gap: true }), received(said(100)));
  assert.deepEqual(texts(state), ['Older messages are not loaded', 'm98', 'm99', 'm100']);
  assert.equal(state.conversations.rust.life, 1);
});

test('what a room keeps is what it comes back with', () => {
  const before = stateAfter(joinedRoom([said(1), said(2, 'mine', 'ada')]));
  const kept = { ...nothing, rooms: [structuredClone(toKeep('rust', before.conversations.rust))], session: { id: EPOCH, name: 'ada' } };
  const state = reduce(initialState, { type: 'entered', name: 'ada', room: '', kept, now: 0 });
  assert.deepEqual(texts(state), ['m1', 'mine']);
  assert.deepEqual(state.conversations.rust.log.map(({ own }) => own), [false, true]);
  assert.deepEqual([state.me, state.current, toJoin(state)], ['ada', 'rust', [{ room: 'rust', epoch: EPOCH, after: 2 }]]);
});

test('a conversation that somebody else begins does not pull the view away', () => {
  const room = 'dm:ada:grace';
  const invited = received({ type: 'joined', room, epoch: EPOCH, seq: 1, members: ['ada', 'Grace'], history: [said(1, 'psst', 'Grace', room)], gap: false });
  const state = stateAfter(joinedRoom(), invited);
  assert.deepEqual([state.current, unreadTotal(state), state.conversations[room].title], ['rust', 1, 'Grace']);
});

test('a room that can\'t be read now is asked for again in time', () => {
  const state = stateAfter({ type: 'asked', rooms: ['rust'] }, received({ type: 'error', code: 'unavailable', retry_after: 700 }));
  assert.deepEqual([isCatchingUp(state), toJoin(state), nextTick(state)], [true, [], 700]);
  assert.deepEqual(toJoin(reduce(state, { type: 'ticked', now: 700 })), [{ room: 'rust' }]);
});

test('each tick does what it was for: none is due again at once', () => {
  const waiting = [joinedRoom(), { type: 'typed', id: 'x', room: 'rust', text: 'hi' }, { type: 'sending', id: 'x' }];
  const refusal = received({ type: 'error', code: 'unavailable', id: 'x', retry_after: 300 });
  const starts = [stateAfter(), stateAfter({ type: 'asked', rooms: ['rust'] }), stateAfter(...waiting, refusal), stateAfter(...waiting, closed(1006))];
  for (const begin of starts) {
    let state = begin;
    for (let n = 0; n < 200; n += 1) {
      const now = nextTick(state);
      if (now === null) break;
      assert.ok(now >= state.now, `${now} after ${state.now}`);
      state = reduce(state, { type: 'ticked', now, random: 0.5, catchingUp: isCatchingUp(state) });
    }
    assert.ok(state.now > 60_000, `200 ticks took until ${state.now}`);
  }
});

test('a name that somebody else has by now ends the reconnecting and says what waits', () => {
  const typed = { type: 'typed', id: 'x', room: 'rust', text: 'hi' };
  const state = stateAfter(joinedRoom(), closed(1006), typed, { type: 'ticked', now: 60_000 }, received({ type: 'error', code: 'name_taken', message: 'Taken.' }));
  assert.deepEqual([state.isIn, state.link.phase, state.outbox.length], [false, 'off', 1]);
  assert.match(state.nameError, /Taken\. .*1\./);
});

// The model: a server, a wire that does its worst, and the client's whole state.

/** Numbers that look random, and are the same in each run with the same seed. */
function dice(seed) {
  let x = seed * 2654435761 + 1;
  return (sides) => {
    x = Math.imul(x ^ (x >>> 15), 0x2c1b3c6d) + 0x9e3779b9 | 0;
    return ((x ^ (x >>> 13)) >>> 0) % sides;
  };
}

class World {
  state = initialState;
  log = [];
  epoch = 'epoch 1';
  isMember = false;
  wire = [];
  typed = [];
  now = 1000;

  constructor(roll, kept) {
    Object.assign(this, { roll, kept });
    this.act({ type: 'entered', name: 'ada', room: 'rust', kept: nothing });
    this.act({ type: 'start' });
  }

  act(action) {
    this.state = reduce(this.state, { now: this.now, random: this.roll(100) / 100, catchingUp: false, ...action });
  }

  say(id, from, text) {
    const message = { type: 'message', room: 'rust', seq: this.log.length + 1, id, from, text, at: this.now };
    this.log.push(message);
    if (this.isMember) this.wire.push(message);
    return message;
  }

  /** What the server does with an event of the client. */
  serve(event) {
    if (event.type === 'join') return this.join(event);
    if (!this.isMember) return this.wire.push({ type: 'error', code: 'not_in_room', id: event.id });
    if (this.roll(8) === 0) return this.wire.push({ type: 'error', code: 'unavailable', id: event.id, retry_after: 50 });
    const { seq } = this.log.find(({ id, from }) => id === event.id && from === 'ada') ?? this.say(event.id, 'ada', event.text);
    return this.wire.push({ type: 'ack', id: event.id, room: 'rust', seq });
  }

  join({ epoch, after }) {
    const top = this.log.length;
    const fits = epoch === this.epoch && after <= top && after >= top - this.kept;
    const from = fits ? after : Math.max(0, top - 5);
    this.isMember = true;
    for (let at = from; ; at += 4) {
      const seq = Math.min(at + 4, top);
      const history = this.log.slice(at, seq);
      const gap = epoch !== undefined && !fits && at === from;
      if (gap) return this.wire.push(this.joined(top, this.log.slice(from), gap));
      this.wire.push(this.joined(seq, history, false));
      if (seq === top) return undefined;
    }
  }

  joined(seq, history, gap) {
    return { type: 'joined', room: 'rust', epoch: this.epoch, seq, members: ['ada'], history, gap };
  }

  /** What the driver does: connect when it is time, join, send. */
  drive(reaches = () => true) {
    const { phase } = this.state.link;
    if (phase === 'waiting' || phase === 'offline') return this.act({ type: 'ticked', now: this.now = this.state.link.until });
    if (phase === 'connecting') {
      [this.wire, this.isMember] = [[], false];
      return this.act(welcome(this.now));
    }
    this.act({ type: 'ticked' });
    if (this.state.link.phase !== 'connected') return undefined;
    for (const place of toJoin(this.state)) {
      this.act({ type: 'asked', rooms: [place.room] });
      if (reaches()) this.serve({ type: 'join', ...place });
    }
    for (const { id, text } of toSend(this.state, this.now)) {
      this.act({ type: 'sending', id });
      if (reaches()) this.serve({ type: 'message', id, text });
    }
    return undefined;
  }

  deliver() {
    const event = this.wire.shift();
    if (event && this.state.link.phase === 'connected') this.act(received(event));
  }

  fault() {
    const at = this.roll(this.wire.length || 1);
    switch (this.roll(6)) {
      case 0: return this.wire.splice(at, 1); // drop
      case 1: return this.wire.length && this.wire.splice(at, 0, this.wire[at]); // twice
      case 2: return this.wire.push(...this.wire.splice(at, 1)); // later
      case 3: return this.act(closed(1006, this.now)); // cut; what was on the wire is gone
      case 4: return this.roll(4) === 0 && this.restore();
      default: return this.act({ type: 'received', event: { type: 'status', degraded: this.roll(2) === 0 } });
    }
  }

  /** The server comes back with another log. What was acked stays in it: it was stored. */
  restore() {
    this.epoch = `${this.epoch}+`;
    this.act(closed(1012, this.now));
  }

  step() {
    this.now += this.roll(30);
    const what = this.roll(10);
    if (what < 2) this.say(`g${this.log.length}`, 'grace', `g${this.log.length}`);
    else if (what === 2 && this.typed.length < 40) this.type();
    else if (what === 3) this.fault();
    else if (what < 7) this.drive(() => this.roll(10) > 0);
    else this.deliver();
  }

  type() {
    const text = `a${this.typed.length}`;
    this.typed.push(text);
    this.act({ type: 'typed', id: `id ${text}`, room: 'rust', text });
  }

  /** From now on everything works: one cut, and then until nothing is left to do. */
  heal() {
    this.act(closed(1006, this.now));
    for (let n = 0; n < 2000; n += 1) {
      this.now += 20;
      this.drive();
      this.deliver();
    }
  }
}

test('drop, double, reorder, cut, restore: the view ends as the server\'s log, and what was typed is in it once', () => {
  for (let seed = 1; seed <= 400; seed += 1) {
    const world = new World(dice(seed), seed % 2 ? 1000 : 6);
    for (let n = 0; n < 400; n += 1) world.step();
    world.heal();
    const shown = world.state.conversations.rust.log.filter(({ kind }) => kind === 'message');
    const tail = shown.length > 0 ? world.log.slice(-shown.length) : world.log;
    assert.deepEqual(shown.map(({ seq, text }) => [seq, text]), tail.map(({ seq, text }) => [seq, text]), `seed ${seed}`);
    assert.deepEqual(world.log.filter(({ from }) => from === 'ada').map(({ text }) => text), world.typed, `seed ${seed}`);
    assert.deepEqual(world.state.outbox, [], `seed ${seed}`);
    const { log } = world.state.conversations.rust;
    if (shown[0]?.seq > 1) assert.ok(log[0].kind === 'separator' || world.log.length > 5, `seed ${seed}`);
  }
});
