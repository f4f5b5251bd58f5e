import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Client, start } from './harness.js';

async function enter(t, url, name) {
  const client = await Client.open(t, url);
  const welcome = await client.ask({ type: 'hello', name });
  assert.equal(welcome.type, 'welcome');
  return client;
}

async function enterRoom(t, url, name, room) {
  const client = await enter(t, url, name);
  const joined = await client.ask({ type: 'join', room });
  assert.equal(joined.type, 'joined');
  return client;
}

for (const [step, script, path] of [[1, 'step01.js', ''], [2, 'step02.js', '/ws'], [3, 'step03.js', '/ws']]) {
  test(`step ${step} says where it listens and leaves with 1001`, async (t) => {
    const server = await start(t, script);
    assert.match(server.line, step === 1 ? /^listening on ws:\/\/127/ : /^listening on http:\/\/127/);
    const client = await Client.open(t, server.ws + path);
    const exit = server.stop();
    assert.equal(await client.closeCode(), 1001);
    assert.equal(await exit, 0);
  });

  test(`step ${step} closes a message that is too big with 1009 and broken text with 1007`, async (t) => {
    const server = await start(t, script);
    const big = await Client.open(t, server.ws + path);
    big.ws.send('x'.repeat(64 * 1024 + 1));
    assert.equal(await big.closeCode(), 1009);
    const broken = await Client.open(t, server.ws + path);
    broken.ws.send(Buffer.from([0xff, 0xfe]), { binary: false });
    assert.equal(await broken.closeCode(), 1007);
  });

  test(`step ${step} has room for MAX_CONNECTIONS and no more`, async (t) => {
    const server = await start(t, script, { MAX_CONNECTIONS: '1' });
    await Client.open(t, server.ws + path);
    assert.equal(await Client.refused(t, server.ws + path), 503);
  });
}

test('step 1 echoes text and binary as they came', async (t) => {
  const server = await start(t, 'step01.js');
  const client = await Client.open(t, server.ws);
  client.ws.send('grüße');
  const text = await client.frame();
  assert.deepEqual([text.data.toString(), text.isBinary], ['grüße', false]);
  client.ws.send(Buffer.from([0, 255]));
  const binary = await client.frame();
  assert.deepEqual([[...binary.data], binary.isBinary], [[0, 255], true]);
});

test('steps 2 and 3 let in their own page and listed origins only', async (t) => {
  for (const script of ['step02.js', 'step03.js']) {
    const server = await start(t, script, { ALLOWED_ORIGINS: 'http://127.0.0.1:3000, https://chat.example' });
    for (const origin of [server.http, 'http://127.0.0.1:3000', 'https://chat.example']) {
      await Client.open(t, `${server.ws}/ws`, { origin });
    }
    for (const origin of ['null', 'https://evil.example', `${server.http}.evil.example`]) {
      assert.equal(await Client.refused(t, `${server.ws}/ws`, { origin }), 403);
    }
    assert.equal(await Client.refused(t, `${server.ws}/nothing-here`), 404);
  }
});

test('steps 2 and 3 serve their page without inline code and nothing outside its folder', async (t) => {
  for (const script of ['step02.js', 'step03.js']) {
    const server = await start(t, script, { ALLOWED_ORIGINS: 'http://127.0.0.1:3000' });
    const page = await fetch(server.http);
    assert.equal(page.status, 200);
    const policy = page.headers.get('content-security-policy');
    assert.match(policy, /default-src 'self'/);
    assert.match(policy, /frame-ancestors 'self' http:\/\/127\.0\.0\.1:3000/);
    assert.equal(page.headers.get('x-content-type-options'), 'nosniff');
    assert.equal((await fetch(`${server.http}/..%2fstep01%2findex.html`)).status, 404);
    assert.equal((await fetch(`${server.http}/nothing.js`)).status, 404);
  }
});

test('step 2: everyone hears everyone, the sender included', async (t) => {
  const server = await start(t, 'step02.js');
  const ada = await enter(t, `${server.ws}/ws`, 'ada');
  const grace = await Client.open(t, `${server.ws}/ws`);
  const welcome = await grace.ask({ type: 'hello', name: 'grace' });
  assert.deepEqual(welcome.users, ['ada', 'grace']);
  assert.deepEqual(await ada.next(), { type: 'user_joined', name: 'grace' });
  const heard = await grace.ask({ type: 'message', text: '  hi  ' });
  assert.equal(heard.text, 'hi');
  assert.equal(heard.from, 'grace');
  assert.deepEqual(await ada.next(), heard);
  grace.ws.close();
  assert.deepEqual(await ada.next(), { type: 'user_left', name: 'grace' });
});

test('step 2 refuses with a code and keeps the connection open', async (t) => {
  const server = await start(t, 'step02.js');
  const client = await Client.open(t, `${server.ws}/ws`);
  const code = async (frame) => {
    client.ws.send(typeof frame === 'object' && !Buffer.isBuffer(frame) ? JSON.stringify(frame) : frame);
    return (await client.next()).code;
  };
  assert.equal(await code({ type: 'message', text: 'hi' }), 'hello_first');
  assert.equal(await code('no json'), 'bad_json');
  assert.equal(await code('null'), 'bad_json');
  assert.equal(await code({ type: 'hello' }), 'bad_json');
  assert.equal(await code(Buffer.from('{}')), 'bad_json');
  assert.equal(await code({ type: 'toString' }), 'unknown_type');
  for (const name of ['', 'a b', 'x'.repeat(33), '<b>']) assert.equal(await code({ type: 'hello', name }), 'bad_name');
  assert.equal((await client.ask({ type: 'hello', name: 'Ａda' })).name, 'Ada');
  assert.equal(await code({ type: 'hello', name: 'ada' }), 'forbidden');
  assert.equal(await code({ type: 'message', text: ' \n ' }), 'empty_text');
  assert.equal(await code({ type: 'message', text: '😀'.repeat(2001) }), 'text_too_long');
  assert.equal((await client.ask({ type: 'message', text: '😀'.repeat(2000) })).type, 'message');
  const other = await Client.open(t, `${server.ws}/ws`);
  assert.equal((await other.ask({ type: 'hello', name: 'aDA' })).code, 'name_taken');
});

test('step 2: a client that never reads is closed and the others hear it leave', { timeout: 30_000 }, async (t) => {
  const server = await start(t, 'step02.js');
  const frozen = await enter(t, `${server.ws}/ws`, 'frozen');
  frozen.ws.pause();
  const ada = await enter(t, `${server.ws}/ws`, 'ada');
  const text = '😀'.repeat(2000);
  let event = { type: 'none' };
  for (let sent = 0; sent < 20_000 && event.type !== 'user_left'; sent += 1) {
    event = await ada.ask({ type: 'message', text });
  }
  assert.deepEqual(event, { type: 'user_left', name: 'frozen' });
  frozen.ws.resume();
  assert.equal(await frozen.closeCode(), 4008);
});

test('step 3: a newcomer gets the members and the last 50 messages, oldest first', async (t) => {
  const server = await start(t, 'step03.js');
  const ada = await enterRoom(t, `${server.ws}/ws`, 'ada', 'rust');
  for (let n = 1; n <= 51; n += 1) await ada.ask({ type: 'message', room: 'rust', text: `message ${n}` });
  const grace = await enter(t, `${server.ws}/ws`, 'grace');
  const joined = await grace.ask({ type: 'join', room: 'rust' });
  assert.deepEqual(joined.members, ['ada', 'grace']);
  assert.equal(joined.history.length, 50);
  assert.equal(joined.history[0].text, 'message 2');
  assert.deepEqual(await ada.next(), { type: 'member_joined', room: 'rust', name: 'grace' });
});

test('step 3: rooms, typing and leaving stay inside the room', async (t) => {
  const server = await start(t, 'step03.js');
  const ada = await enterRoom(t, `${server.ws}/ws`, 'ada', 'rust');
  const grace = await enterRoom(t, `${server.ws}/ws`, 'grace', 'rust');
  await ada.next();
  await grace.ask({ type: 'join', room: 'tea' });
  grace.send({ type: 'message', room: 'tea', text: 'ada must not hear this' });
  grace.send({ type: 'typing', room: 'rust' });
  assert.deepEqual(await ada.next(), { type: 'typing', room: 'rust', name: 'grace' });
  assert.equal((await ada.ask({ type: 'message', room: 'tea', text: 'hi' })).code, 'not_in_room');
  assert.equal((await ada.ask({ type: 'join', room: 'Tea' })).code, 'bad_room');
  const list = await ada.ask({ type: 'rooms' });
  assert.deepEqual(list.rooms, [{ name: 'rust', members: 2 }, { name: 'tea', members: 1 }]);
  grace.ws.close();
  assert.deepEqual(await ada.next(), { type: 'member_left', room: 'rust', name: 'grace' });
  assert.deepEqual(await ada.ask({ type: 'leave', room: 'rust' }), { type: 'left', room: 'rust' });
  assert.deepEqual((await ada.ask({ type: 'rooms' })).rooms, []);
});

test('step 3: a direct message reaches both, and a note to oneself comes once', async (t) => {
  const server = await start(t, 'step03.js');
  const ada = await enter(t, `${server.ws}/ws`, 'ada');
  const grace = await enter(t, `${server.ws}/ws`, 'Grace');
  const sent = await ada.ask({ type: 'direct', to: 'grace', text: 'psst' });
  assert.deepEqual([sent.from, sent.to, sent.text], ['ada', 'Grace', 'psst']);
  assert.deepEqual(await grace.next(), sent);
  await ada.ask({ type: 'direct', to: 'ada', text: 'remember the milk' });
  assert.equal((await ada.ask({ type: 'direct', to: 'nobody', text: 'hi' })).code, 'no_such_user');
});

test('step 3: 64 rooms at once', async (t) => {
  const server = await start(t, 'step03.js');
  const ada = await enter(t, `${server.ws}/ws`, 'ada');
  for (let n = 0; n < 64; n += 1) assert.equal((await ada.ask({ type: 'join', room: `room-${n}` })).type, 'joined');
  assert.equal((await ada.ask({ type: 'join', room: 'one-more' })).code, 'too_many_rooms');
  assert.equal((await ada.ask({ type: 'join', room: 'room-0' })).type, 'joined');
});

test('step 3: namespaces share no names and no rooms', async (t) => {
  const server = await start(t, 'step03.js');
  const here = await enterRoom(t, `${server.ws}/ws/general`, 'ada', 'rust');
  const there = await enter(t, `${server.ws}/ws/staff`, 'ada');
  assert.deepEqual((await there.ask({ type: 'rooms' })).rooms, []);
  assert.equal((await here.ask({ type: 'direct', to: 'grace', text: 'hi' })).code, 'no_such_user');
  assert.equal(await Client.refused(t, `${server.ws}/ws/secret`), 404);
});

test('steps 2 and 3 close a connection that does not say hello with 1008', { timeout: 30_000 }, async (t) => {
  const waitForIt = async (script) => {
    const server = await start(t, script);
    const silent = await Client.open(t, `${server.ws}/ws`);
    const [data] = await once(silent.ws, 'message');
    assert.equal(JSON.parse(data).code, 'hello_first');
    assert.equal(await silent.closeCode(), 1008);
  };
  await Promise.all(['step02.js', 'step03.js'].map(waitForIt));
});
