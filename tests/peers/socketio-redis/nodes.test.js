import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { start } from '../harness.js';
import { Tally } from './summary.js';

const CLIENTS = fileURLToPath(new URL('clients.js', import.meta.url));
const missing = spawnSync('redis-server', ['--version']).error && 'redis-server is not installed';

/** A check that never ran must not look like one that passed. */
const skip = process.env.CI === 'true' ? false : missing;

test('three nodes survive the kill of one of them and of Redis, and every message is answered', { skip, timeout: 60_000 }, async (t) => {
  assert.ok(!missing, missing);
  const redis = await Redis.start(t);
  const env = { REDIS_URL: redis.url };
  const nodes = await Promise.all([1, 2, 3].map(() => start(t, 'socketio-redis/server.js', env)));
  const clients = new Clients(t, await balancer(t, nodes));
  await clients.until(({ acked }) => acked);

  nodes[0].kill();
  await clients.until(({ disconnected }) => disconnected);
  // Nobody stored the state of the dead node's clients.
  await clients.until(({ connected, recovered }) => connected && !recovered);

  await redis.restart();
  const quiet = clients.until((line) => line.quiet);
  clients.say('quiet');
  await quiet;
  const stopped = clients.until((line) => line.stopped);
  clients.say('stop');
  const { sent, acked, failed } = await stopped;

  assert.ok(sent > 0);
  assert.deepEqual([acked, failed], [sent, 0]);
  const result = clients.tally.result();
  assert.equal(result.acked, acked);
  assert.equal(result.unrecovered, 2);
  assert.equal(await clients.code, 0);
  assert.deepEqual(await Promise.all([nodes[1].stop(), nodes[2].stop()]), [0, 0]);
});

/** A Redis of the test's own, which keeps what it acknowledged. */
class Redis {
  static async start(t) {
    const redis = new Redis();
    redis.folder = await mkdtemp(join(tmpdir(), 'peers-redis-'));
    redis.port = await freePort();
    redis.url = `redis://127.0.0.1:${redis.port}`;
    t.after(async () => {
      await redis.kill();
      await rm(redis.folder, { recursive: true });
    });
    await redis.run();
    return redis;
  }

  async run() {
    const args = ['--port', this.port, '--bind', '127.0.0.1', '--dir', this.folder, '--save', ''];
    this.child = spawn('redis-server', [...args, '--appendonly', 'yes', '--appendfsync', 'always']);
    this.ended = once(this.child, 'exit');
    for await (const line of createInterface(this.child.stdout)) if (line.includes('Ready to accept')) break;
    this.child.stdout.resume();
  }

  async kill() {
    this.child.kill('SIGKILL');
    await this.ended;
  }

  async restart() {
    await this.kill();
    await this.run();
  }
}

/** clients.js, two on each node, and the lines it prints. */
class Clients {
  tally = new Tally();
  #waiting = new Set();

  constructor(t, url) {
    const env = { ...process.env, URL: url, CLIENTS: '6', ROOMS: '2', RATE: '60' };
    this.child = spawn(process.execPath, [CLIENTS], { env, stdio: ['pipe', 'pipe', 'inherit'] });
    this.code = once(this.child, 'exit').then(([code]) => code);
    t.after(() => this.child.kill('SIGKILL'));
    createInterface(this.child.stdout).on('line', (text) => {
      const line = JSON.parse(text);
      this.tally.add(line);
      for (const check of this.#waiting) check(line);
    });
  }

  /** The next line that `wanted` likes. The test's own timeout ends a vain wait. */
  until(wanted) {
    return new Promise((resolve) => {
      const check = (line) => {
        if (!wanted(line)) return;
        this.#waiting.delete(check);
        resolve(line);
      };
      this.#waiting.add(check);
    });
  }

  say(word) {
    this.child.stdin.write(`${word}\n`);
  }
}

/** Sends each connection to the next node that answers. */
async function balancer(t, nodes) {
  let turn = 0;
  const server = createServer((client) => {
    client.on('error', () => client.destroy());
    const attempt = (left) => {
      const node = connect(new URL(nodes[turn++ % nodes.length].http).port, '127.0.0.1');
      const refused = () => (left > 1 ? attempt(left - 1) : client.destroy());
      node.once('error', refused);
      node.once('connect', () => {
        node.off('error', refused).on('error', () => client.destroy());
        client.pipe(node).pipe(client);
        client.once('close', () => node.destroy());
        node.once('close', () => client.destroy());
      });
    };
    attempt(nodes.length);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return `http://127.0.0.1:${server.address().port}`;
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return String(port);
}
