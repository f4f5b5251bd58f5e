import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { inversions, summarize } from './summary.js';

const room = 'tea';
const here = (client, recovered = false) => ({ client, connected: true, recovered, room });
const seen = (client, ...ids) => ids.map((id) => ({ client, seen: id, room }));
const acked = (client, ...ids) => ids.map((id) => ({ client, acked: id, room }));
const faults = ({ lost, twice, disorder }) => ({ lost, twice, disorder });

test('a run without faults counts its messages and deliveries', () => {
  const result = summarize([here(0), here(1), ...acked(0, 'a', 'b'), ...seen(0, 'a', 'b'), ...seen(1, 'a', 'b')]);
  assert.deepEqual(result, {
    acked: 2,
    deliveries: 4,
    lost: 0,
    twice: 0,
    disorder: 0,
    failed: 0,
    recovered: 0,
    unrecovered: 0,
    rooms: { tea: { acked: 2, deliveries: 4, lost: 0, twice: 0, disorder: 0 } },
  });
});

test('an acknowledged message is lost once for each member who never saw it', () => {
  const lines = [here(0), here(1), here(2), ...acked(0, 'a', 'b'), ...seen(0, 'a', 'b'), ...seen(1, 'b')];
  assert.deepEqual(faults(summarize(lines)), { lost: 3, twice: 0, disorder: 0 });
});

test('a message seen before its acknowledgement, or by the last line, is not lost', () => {
  const lines = [here(0), here(1), ...seen(0, 'a'), ...acked(0, 'a'), ...seen(1, 'a')];
  assert.equal(summarize(lines).lost, 0);
});

test('a message that was never acknowledged may be missing, and counts as failed', () => {
  const result = summarize([here(0), here(1), { client: 0, failed: 'a', room }, ...seen(1, 'a')]);
  assert.equal(result.lost, 0);
  assert.equal(result.failed, 1);
});

test('each further sight of a message is one too many, and its first place is what counts for order', () => {
  const lines = [here(0), here(1), ...acked(0, 'a', 'b'), ...seen(0, 'a', 'b', 'a', 'a'), ...seen(1, 'a', 'b')];
  assert.deepEqual(faults(summarize(lines)), { lost: 0, twice: 2, disorder: 0 });
});

test('disorder is each pair of messages that some two members saw in opposite orders', () => {
  const orders = [...seen(0, 'a', 'b', 'c'), ...seen(1, 'b', 'a', 'c')];
  assert.equal(summarize(orders).disorder, 1);
  assert.equal(summarize([...orders, ...seen(2, 'a', 'b', 'c')]).disorder, 1);
  assert.equal(summarize([...orders, ...seen(2, 'c', 'b', 'a')]).disorder, 3);
});

test('a hole in what one member saw is no disorder', () => {
  assert.equal(summarize([...seen(0, 'a', 'b', 'c'), ...seen(1, 'a', 'c')]).disorder, 0);
});

test('rooms are judged apart', () => {
  const result = summarize([
    here(0), ...acked(0, 'a'), ...seen(0, 'a'),
    { client: 1, connected: true, recovered: false, room: 'rust' }, { client: 1, acked: 'b', room: 'rust' },
  ]);
  assert.equal(result.rooms.tea.lost, 0);
  assert.equal(result.rooms.rust.lost, 1);
});

test('comebacks are counted by whether the state came back too; the first connection is none', () => {
  const result = summarize([here(0), here(1), { client: 0, disconnected: 'transport close' }, here(0), here(1, true)]);
  assert.equal(result.recovered, 1);
  assert.equal(result.unrecovered, 1);
});

test('other lines change nothing', () => {
  assert.deepEqual(summarize([{ quiet: true }, { stopped: true, sent: 2, acked: 1, failed: 1 }]), summarize([]));
});

test('inversions are what comparing each pair finds', () => {
  const numbers = Array.from({ length: 100 }, (_, i) => (i * 37) % 101);
  const compared = numbers.flatMap((n, i) => numbers.slice(i + 1).filter((later) => later < n).map((later) => [n, later]));
  const found = [];
  const sorted = inversions(numbers, (...pair) => found.push(pair));
  assert.deepEqual(found.sort(), compared.sort());
  assert.deepEqual(sorted, [...numbers].sort((a, b) => a - b));
});

test('the program reads lines and prints one object', () => {
  const input = [here(0), ...acked(0, 'a')].map((line) => `${JSON.stringify(line)}\n`).join('');
  const path = fileURLToPath(new URL('summary.js', import.meta.url));
  const { stdout, status } = spawnSync(process.execPath, [path], { input, encoding: 'utf8' });
  assert.equal(status, 0);
  assert.equal(JSON.parse(stdout).lost, 1);
});
