import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { start } from './harness.js';

const CLIENT = fileURLToPath(new URL('socketio/client.js', import.meta.url));

test('Socket.IO: rooms, replies and namespaces, as the client prints them', async (t) => {
  const server = await start(t, 'socketio/server.js');
  const { stdout } = await promisify(execFile)(process.execPath, [CLIENT, server.http], { timeout: 10_000 });
  const lines = stdout.trim().split('\n').map((line) => line.replace(/"at":\d+/, '"at":0'));
  // The two have a connection each, so that only each one's own order is certain.
  const of = (name) => lines.filter((line) => line.startsWith(name));
  assert.deepEqual(of('ada'), [
    'ada came by polling and goes on by websocket',
    'ada gets a reply to join: {"members":["ada"]}',
    'ada hears member_joined: {"room":"rust","name":"grace"}',
    'ada hears message: {"room":"rust","from":"grace","text":"hi","at":0}',
    'ada hears notice: "staff only: nothing you say here is heard outside"',
    'ada uses one connection for both namespaces: true',
  ]);
  assert.deepEqual(of('grace'), [
    'grace came by polling and goes on by websocket',
    'grace gets a reply to join: {"members":["ada","grace"]}',
    'grace hears message: {"room":"rust","from":"grace","text":"hi","at":0}',
    'grace gets a reply to message: {"ok":true}',
    'grace gets a reply to message: {"error":"not_in_room"}',
  ]);
  assert.equal(await server.stop(), 0);
});
