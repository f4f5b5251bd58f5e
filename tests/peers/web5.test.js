// The parts of milestone 5's browser client that need no browser: who is signed in, what that means
// for what waits to be sent, and searching. What is as in milestone 4 is tested in web4.test.js, and
// the model at the end once more: sessions end in it as well.

import assert from 'node:assert/strict';
import { readFile, readdir } from 'node:fs/promises';
import { test } from 'node:test';
import { formProblem, initialAccount, nextSecond, reduceAccount, secondsLeft } from '../../client/web/step05/account.js';
import { answerOf } from '../../client/web/step05/api.js';
import { connectFallback } from '../../client/web/step05/fallback.js';
import { createKeeper } from '../../client/web/step05/keeper.js';
import * as link from '../../client/web/step05/reconnect.js';
import { PAGE, initialSearch, oldest, pieces, reduceSearch, searchSentence } from '../../client/web/step05/search.js';
import { initialState, isCatchingUp, isExpired, nextTick, pendingIn, reduce, toJoin, toSend } from '../../client/web/step05/state.js';
import { openStorage, ownerOf } from '../../client/web/step05/storage.js';

const WEB = new URL('../../client/web/', import.meta.url);
const EPOCH = '6ad14a5e-9f3c-4c1b-8f3c-0d6a3f0d9a11';

// The code

test('what can stay the same from step 4 to step 5 is the same', async () => {
  for (const file of ['connection.js', 'cursor.js', 'icon.svg', 'outbox.js']) {
    const [before, now] = await Promise.all(['step04', 'step05'].map((step) => readFile(new URL(`${step}/${file}`, WEB))));
    assert.ok(before.equals(now), `${file} differs`);
  }
});

test('text gets into the page of step 5 as text only, and no code or style is inline', async () => {
  const folder = new URL('step05/', WEB);
  for (const file of await readdir(folder)) {
    const source = (await readFile(new URL(file, folder), 'utf8')).replaceAll('never `innerHTML`', '');
    assert.doesNotMatch(source, /innerHTML|outerHTML|insertAdjacentHTML|document\.write/, file);
    if (file.endsWith('.html')) assert.doesNotMatch(source, /<style|<script(?![^>]*src=)|\s(on\w+|style)=/, file);
  }
});

test('no password and no token is kept, and none gets into an address', async () => {
  const folder = new URL('step05/', WEB);
  for (const file of await readdir(folder)) {
    const source = await readFile(new URL(file, folder), 'utf8');
    assert.doesNotMatch(source, /document\.cookie|Bearer|localStorage|\btoken\b/i, file);
  }
});

// Requests

test('an answer is a body or a problem, and never neither', () => {
  assert.deepEqual(answerOf(201, '{"name":"ada"}'), { status: 201, body: { name: 'ada' } });
  assert.deepEqual(answerOf(204, ''), { status: 204, body: {} });
  const taken = { type: 'error', code: 'name_taken', message: 'Taken.' };
  assert.deepEqual(answerOf(409, JSON.stringify(taken)), { status: 409, problem: taken });
  for (const text of ['', '<h1>Bad Gateway</h1>', 'null', '{"type":"welcome"}']) {
    assert.deepEqual(answerOf(502, text).problem, { code: 'unavailable', message: 'The server answered with 502.' });
  }
});

// Signing in

/** The form after the server has refused it. */
function refused(code, more = {}) {
  const problem = { code, message: 'A sentence.', ...more };
  return [{ type: 'form sent' }, { type: 'form refused', problem, now: 1000 }].reduce(reduceAccount, { ...initialAccount, isKnown: true });
}

test('an error is shown at its field, and the form can be sent again', () => {
  const places = ({ nameError, passwordError, formError }) => [nameError, passwordError, formError].map((error) => error !== null);
  for (const code of ['bad_name', 'name_taken']) assert.deepEqual(places(refused(code)), [true, false, false], code);
  for (const code of ['bad_password', 'unauthorized']) assert.deepEqual(places(refused(code)), [false, true, false], code);
  for (const code of ['rate_limited', 'unavailable', 'forbidden', 'no_answer', 'anything']) assert.deepEqual(places(refused(code)), [false, false, true], code);
  assert.equal(refused('name_taken').isBusy, false);
  assert.equal(refused('name_taken').nameError, 'A sentence.');
});

test('a wrong password does not say that the name is right', () => {
  assert.equal(refused('unauthorized').passwordError, refused('unauthorized', { message: 'No such name.' }).passwordError);
});

test('too many tries: the form says how long, and the seconds pass', () => {
  const account = refused('rate_limited', { retry_after: 5400 });
  assert.match(account.formError, /Too many tries\. Wait 6 s\./);
  assert.deepEqual([1000, 1400, 1401, 6399, 6400, 9000].map((now) => secondsLeft(account, now)), [6, 5, 5, 1, 0, 0]);
  const seen = [];
  for (let now = 1000; now !== null; now = nextSecond(account, now)) seen.push(secondsLeft(account, now));
  assert.deepEqual(seen, [6, 5, 4, 3, 2, 1, 0]);
});

test('the other mode begins without the errors of the one before', () => {
  const account = reduceAccount(refused('unauthorized'), { type: 'mode chosen', mode: 'sign up' });
  assert.deepEqual([account.mode, account.passwordError], ['sign up', null]);
});

test('a form is checked before it travels; a password that is too short only where one is made', () => {
  const problem = (mode, name, password) => formProblem(mode, { name, password })?.code ?? null;
  assert.equal(problem('sign in', '', 'x'), 'bad_name');
  assert.equal(problem('sign in', 'ada', ''), 'bad_password');
  assert.equal(problem('sign in', 'ada', 'x'), null);
  assert.equal(problem('sign up', 'ada', 'x'.repeat(7)), 'bad_password');
  assert.equal(problem('sign up', 'ada', '🦀'.repeat(8)), null);
  assert.equal(problem('sign up', 'ada', 'x'.repeat(256)), null);
  assert.equal(problem('sign up', 'ada', 'x'.repeat(257)), 'bad_password');
});

// The connection

const start = { type: 'start' };
const welcome = (now = 0, name = 'ada') => ({ type: 'received', now, event: { type: 'welcome', name, session: EPOCH } });
const closed = (code, now = 0) => ({ type: 'closed', code, reason: '', now });

/** The connection after these actions. */
function linkAfter(...actions) {
  return actions.reduce((state, action) => link.reduceLink(state, { now: 0, random: 0, ...action }), link.initialLink);
}

test('a server with too much to do is left alone for as long as it says', () => {
  const waiting = linkAfter(start, closed(1006, 100));
  assert.equal(waiting.until, 100 + link.FLOOR);
  const putOff = link.reduceLink(waiting, { type: 'put off', after: 5000, now: 200, random: 0 });
  assert.equal(putOff.until, 5200 + link.FLOOR);
  const sooner = link.reduceLink(putOff, { type: 'network', online: true, now: 300, random: 0 });
  assert.ok(sooner.until >= 5200);
  assert.equal(link.reduceLink(linkAfter(start, welcome()), { type: 'put off', after: 5000, now: 0, random: 0 }).phase, 'connected');
});

test('flooding and a session that has ended are said in words', () => {
  assert.match(link.whyClosed({ code: 4029, reason: '' }), /more than the server takes/);
  assert.equal(linkAfter(start, welcome(), closed(4029)).phase, 'waiting');
  const ended = linkAfter(start, welcome(), closed(4501));
  assert.deepEqual([ended.phase, link.needsSignIn(ended)], ['stopped', true]);
  assert.equal(link.linkSentence(ended, { me: 'ada', waiting: 2, now: 0 }), 'Signed out: 2 messages waiting');
  assert.equal(link.needsSignIn(linkAfter(start, welcome(), closed(4500))), false);
});

/** What the fallback reports, and what it asked for, if the server gives these answers one after the other. */
async function fallbackAfter(known, ...answers) {
  const { fetch, EventSource } = globalThis;
  const [asked, reports] = [[], []];
  globalThis.fetch = async (url, { body }) => {
    asked.push([url, JSON.parse(body)]);
    const [status, answer] = answers.shift();
    return new Response(JSON.stringify(answer), { status });
  };
  globalThis.EventSource = class extends EventTarget {
    constructor(url) {
      super();
      asked.push(['stream', new URL(url, 'http://here').searchParams.get('session')]);
    }
    close() {}
  };
  const connection = connectFallback('staff', known, () => [], {
    onOpen: () => reports.push('open'), onEvent: ({ type }) => reports.push(type), onReopen() {}, onClose: ({ code }) => reports.push(code),
  });
  await new Promise((resolve) => { setTimeout(resolve, 20); });
  connection.close();
  Object.assign(globalThis, { fetch, EventSource });
  return { asked, reports };
}

const noSession = [401, { type: 'error', code: 'unauthorized', message: 'No.' }];
const limited = [429, { type: 'error', code: 'rate_limited', message: 'Later.', retry_after: 900 }];
const skip = AbortSignal.any ? false : 'this Node is too old for AbortSignal.any';

test('the fallback says hello by itself, with the session it had, and begins a stream', { skip }, async () => {
  const { asked, reports } = await fallbackAfter('old', [200, { type: 'welcome', name: 'ada', session: 'old' }]);
  assert.deepEqual(asked, [['/hello/staff', { type: 'hello', session: 'old' }], ['stream', 'old']]);
  assert.deepEqual(reports, ['open']);
});

test('a session that the server has forgotten is not a person that it has forgotten', { skip }, async () => {
  const { asked, reports } = await fallbackAfter('old', noSession, [200, { type: 'welcome', name: 'ada', session: 'new' }]);
  assert.deepEqual(asked.map(([, what]) => what.session ?? what), ['old', { type: 'hello' }, 'new']);
  assert.deepEqual(reports, ['open']);
});

test('refusals of the fallback end it with the codes of a WebSocket', { skip }, async () => {
  assert.deepEqual((await fallbackAfter(null, noSession)).reports, [4501]);
  assert.deepEqual((await fallbackAfter(null, limited)).reports, ['reconnect', 1013]);
});

// Searching

const hits = (from, count) => Array.from({ length: count }, (_, n) => ({ seq: from - n, id: `${from - n}`, from: 'grace', text: 'tea', at: 0 }));
const searched = (...actions) => actions.reduce(reduceSearch, initialSearch);
const asked = { type: 'searched', turn: 1, text: 'tea' };

test('a search asks, finds, and says how many', () => {
  assert.equal(searchSentence(searched({ type: 'search opened' })), '');
  assert.equal(searchSentence(searched(asked)), 'Searching…');
  const found = (count) => searched(asked, { type: 'found', turn: 1, messages: hits(90, count) });
  assert.equal(searchSentence(found(0)), 'Nothing found for “tea”.');
  assert.equal(searchSentence(found(1)), '1 message found');
  assert.equal(searchSentence(found(2)), '2 messages found');
  assert.deepEqual([found(PAGE - 1).hasOlder, found(PAGE).hasOlder], [false, true]);
});

test('older results come after the newer ones, each once', () => {
  const first = searched(asked, { type: 'found', turn: 1, messages: hits(90, PAGE) });
  assert.equal(oldest(first), 41);
  const further = [{ type: 'searched further', turn: 2 }, { type: 'found', turn: 2, messages: hits(41, 3) }].reduce(reduceSearch, first);
  assert.deepEqual([further.results.length, oldest(further), further.hasOlder], [PAGE + 2, 39, false]);
});

test('a late answer to an older search changes nothing', () => {
  const again = searched(asked, { type: 'searched', turn: 2, text: 'milk' });
  for (const late of [{ type: 'found', turn: 1, messages: hits(9, 2) }, { type: 'not found', turn: 1, problem: { code: 'x', message: 'No.' } }]) {
    assert.equal(reduceSearch(again, late), again);
    assert.equal(searched(asked, { type: 'search closed' }, late).isOpen, false);
  }
});

test('what can\'t be searched now says why, and what was found stays', () => {
  const first = searched(asked, { type: 'found', turn: 1, messages: hits(90, PAGE) }, { type: 'searched further', turn: 2 });
  const failed = reduceSearch(first, { type: 'not found', turn: 2, problem: { code: 'rate_limited', message: 'No.', retry_after: 1200 } });
  assert.deepEqual([searchSentence(failed), failed.results.length, failed.hasOlder], ['Too many searches. Try again in 2 s.', PAGE, true]);
});

test('the words are marked in the text, whatever their case and accents, and nothing of the text is lost', () => {
  const marked = (text, words) => pieces(text, words).map(({ text: piece, isHit }) => (isHit ? `[${piece}]` : piece)).join('');
  assert.equal(marked('Tea, or tea? Steal a TEAPOT.', 'tea'), '[Tea], or [tea]? Steal a [TEAPOT].');
  assert.equal(marked('Teapots for tea', 'tea for'), 'Teapots [for] [tea]');
  assert.equal(marked('Café au lait', 'cafe LAIT'), '[Café] au [lait]');
  assert.equal(marked('<img src=x onerror=alert(1)>', 'img'), '<[img] src=x onerror=alert(1)>');
  for (const words of ['', ' ', '"*', '(a', '\u0301', 'x']) {
    const text = 'a (b) "c"* \u0301 🦀 Яблоко';
    assert.equal(pieces(text, words).map((piece) => piece.text).join(''), text);
    assert.ok(words === 'x' || words === '(a' || pieces(text, words).every(({ isHit }) => !isHit), words);
  }
});

// The whole state

const nothing = { outbox: [], rooms: [], session: null };

function stateAfter(...actions) {
  const first = [{ type: 'entered', name: 'ada', room: 'rust', kept: nothing }, start, welcome()];
  return then(initialState, ...first, ...actions);
}

function then(state, ...actions) {
  return actions.reduce((before, action) => reduce(before, { now: 0, random: 0, ...action }), state);
}

const received = (event) => ({ type: 'received', event });
const said = (seq, text = `m${seq}`, from = 'grace', room = 'rust') => ({ type: 'message', room, seq, id: `${from}${text}`, from, text, at: 0 });
const joinedRoom = (history = [], more = {}) => received({ type: 'joined', room: 'rust', epoch: EPOCH, seq: history.at(-1)?.seq ?? 0, members: ['ada'], history, gap: false, ...more });
const texts = (state, room = 'rust') => state.conversations[room].log.map(({ text }) => text);
const typed = { type: 'typed', id: 'x', room: 'rust', text: 'hi' };
const sending = { type: 'sending', id: 'x' };
const statuses = (state) => pendingIn(state, 'rust').map(({ status }) => status);

test('a session that ends keeps the conversation and the outbox, and what is typed meanwhile waits', () => {
  for (const end of [[closed(4501)], [closed(1006), { type: 'recognized', name: null }]]) {
    const state = stateAfter(joinedRoom([said(1)]), typed, sending, ...end, { ...typed, id: 'y' });
    assert.ok(isExpired(state));
    assert.deepEqual([state.isIn, state.me, texts(state), statuses(state)], [true, 'ada', ['m1'], ['waiting', 'waiting']]);
    const again = then(state, start, welcome(), joinedRoom([], { seq: 1 }));
    assert.deepEqual([isExpired(again), toSend(again, 0).map(({ id }) => id)], [false, ['x']]);
  }
});

test('after signing in again a room is asked for from where it was read', () => {
  const state = stateAfter(joinedRoom([said(1)]), closed(4501), start, welcome());
  assert.deepEqual(toJoin(state), [{ room: 'rust', epoch: EPOCH, after: 1 }]);
});

test('a refused upgrade is only the end of the session if the server says so', () => {
  const cut = stateAfter(joinedRoom(), closed(1006));
  assert.equal(then(cut, { type: 'recognized', name: 'Ada' }).link.phase, 'waiting');
  assert.ok(isExpired(then(cut, { type: 'recognized', name: null })));
  const connected = stateAfter(joinedRoom());
  assert.equal(then(connected, { type: 'recognized', name: null }).link.phase, 'connected');
});

test('a connection for another person sends nothing of this one', () => {
  const other = then(stateAfter(joinedRoom(), typed, closed(1006), { type: 'ticked', now: 60_000 }), welcome(60_000, 'grace'));
  assert.ok(isExpired(other));
  assert.deepEqual([other.me, other.account.somebody, toSend(other, 60_000), statuses(other)], ['ada', 'grace', [], ['waiting']]);
  const cookie = then(stateAfter(joinedRoom(), typed, closed(1006)), { type: 'recognized', name: 'grace' });
  assert.deepEqual([isExpired(cookie), cookie.account.somebody], [true, 'grace']);
});

test('another person who signs in sees nothing of the first', () => {
  const first = stateAfter(joinedRoom([said(1, 'secret')]), typed, { type: 'search opened' }, closed(4501));
  const between = then(first, { type: 'signed out' });
  assert.deepEqual([between.isIn, between.me, between.outbox, between.conversations], [false, null, [], {}]);
  const second = then(between, { type: 'entered', name: 'grace', room: 'tea', kept: nothing }, start, welcome(0, 'grace'));
  assert.deepEqual([second.me, second.outbox, second.conversations, second.search], ['grace', [], {}, initialSearch]);
  assert.doesNotMatch(JSON.stringify(second), /secret|ada/);
});

test('"too fast" waits as long as the server says, and is sent again by itself', () => {
  const refusal = received({ type: 'error', code: 'rate_limited', id: 'x', message: 'Too fast.', retry_after: 1500 });
  const state = stateAfter(joinedRoom(), typed, { ...typed, id: 'y' }, sending, refusal);
  assert.deepEqual([statuses(state), toSend(state, 1499), nextTick(state)], [['waiting', 'waiting'], [], 1500]);
  assert.deepEqual(toSend(then(state, { type: 'ticked', now: 1500 }), 1500).map(({ id }) => id), ['x']);
});

test('a room that was asked for too fast is asked for again in time', () => {
  const state = stateAfter({ type: 'asked', rooms: ['rust'] }, received({ type: 'error', code: 'rate_limited', retry_after: 700 }));
  assert.deepEqual([isCatchingUp(state), toJoin(state), nextTick(state)], [true, [], 700]);
  assert.deepEqual(toJoin(then(state, { type: 'ticked', now: 700 })), [{ room: 'rust' }]);
});

test('what was found in one room is not shown in another', () => {
  const state = stateAfter(joinedRoom(), { type: 'search opened' }, { ...asked, turn: 7 });
  assert.equal(state.search.isOpen, true);
  assert.equal(then(state, { type: 'wrote to', name: 'grace', room: 'dm:ada:grace' }).search.isOpen, false);
  assert.equal(then(state, { type: 'opened conversation', room: 'rust' }).search.isOpen, true);
});

test('each tick of a form that waits does what it was for', () => {
  let state = then(initialState, { type: 'form refused', problem: { code: 'rate_limited', retry_after: 5400 } });
  const seen = [];
  for (let now = nextTick(state); now !== null; now = nextTick(state)) {
    assert.ok(now > state.now);
    state = then(state, { type: 'ticked', now });
    seen.push(secondsLeft(state.account, now));
  }
  assert.deepEqual(seen, [5, 4, 3, 2, 1, 0]);
});

test('signing out leaves the outbox and which rooms there were in the browser, and nothing that was said', async () => {
  const storage = await openStorage(() => {});
  const keeper = createKeeper();
  const owner = ownerOf('', 'ada');
  const before = stateAfter();
  keeper.begin(storage, owner, before);
  const state = then(before, joinedRoom([said(1, 'secret')]), typed);
  keeper.note(state);
  keeper.flush();
  assert.match(JSON.stringify(await storage.load(owner)), /secret/);
  keeper.strip();
  const kept = await storage.load(owner);
  assert.deepEqual([kept.outbox.map(({ id }) => id), kept.rooms.map(({ room }) => room)], [['x'], ['rust']]);
  assert.doesNotMatch(JSON.stringify(kept.rooms), /secret/);
  const back = then(initialState, { type: 'entered', name: 'ada', room: '', kept }, start, welcome());
  assert.deepEqual([toJoin(back), statuses(back)], [[{ room: 'rust' }], ['waiting']]);
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
    if (this.roll(8) === 0) return this.wire.push({ type: 'error', code: this.roll(2) ? 'unavailable' : 'rate_limited', id: event.id, retry_after: 50 });
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
    if (phase === 'stopped') return this.act(start); // signed in again
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
    switch (this.roll(7)) {
      case 0: return this.wire.splice(at, 1); // drop
      case 1: return this.wire.length && this.wire.splice(at, 0, this.wire[at]); // twice
      case 2: return this.wire.push(...this.wire.splice(at, 1)); // later
      case 3: return this.act(closed(1006, this.now)); // cut; what was on the wire is gone
      case 4: return this.roll(4) === 0 && this.restore();
      case 5: return this.act(closed(4501, this.now)); // the session has ended
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

test('drop, double, reorder, cut, restore, sign in again: the view ends as the server\'s log, and what was typed is in it once', () => {
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
