// For the tests: starts a program on a free port, and speaks to it one event at a time.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { WebSocket } from 'ws';

/** Nothing here takes seconds; what does has failed. */
const PATIENCE = 5_000;

function within(promise, what) {
  let timer;
  const late = new Promise((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${PATIENCE} ms for ${what}`)), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Starts `script` on a free port. The test's end stops it. */
export async function start(t, script, env = {}) {
  const path = fileURLToPath(new URL(script, import.meta.url));
  const child = spawn(process.execPath, [path], {
    env: { ...process.env, HOST: '127.0.0.1', PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  const exited = once(child, 'exit');
  const [line] = await within(once(createInterface(child.stdout), 'line'), `${script} to listen`);
  const url = new URL(line.replace('listening on ', ''));
  const stop = async () => {
    child.kill('SIGTERM');
    const [code] = await within(exited, `${script} to stop`);
    return code;
  };
  const kill = () => child.kill('SIGKILL');
  return { line, http: `http://${url.host}`, ws: `ws://${url.host}`, stop, kill };
}

/** One client. What comes in waits here until the test asks for it. */
export class Client {
  #inbox = [];
  #waiting = [];

  constructor(t, url, options) {
    this.ws = new WebSocket(url, options);
    this.closed = new Promise((resolve) => this.ws.once('close', resolve));
    this.ws.on('error', () => {});
    this.ws.on('message', (data, isBinary) => {
      const item = { data, isBinary };
      const waiter = this.#waiting.shift();
      if (waiter) waiter(item);
      else this.#inbox.push(item);
    });
    t.after(() => this.ws.terminate());
  }

  static async open(t, url, options) {
    const client = new Client(t, url, options);
    await within(once(client.ws, 'open'), 'the handshake');
    return client;
  }

  /** The HTTP status with which the upgrade was refused. */
  static async refused(t, url, options) {
    const client = new Client(t, url, options);
    const [, response] = await within(once(client.ws, 'unexpected-response'), 'a refusal');
    response.resume();
    return response.statusCode;
  }

  frame() {
    const item = this.#inbox.shift();
    if (item) return item;
    return within(new Promise((resolve) => this.#waiting.push(resolve)), 'a frame');
  }

  async next() {
    return JSON.parse((await this.frame()).data);
  }

  send(event) {
    this.ws.send(JSON.stringify(event));
  }

  async ask(event) {
    this.send(event);
    return this.next();
  }

  closeCode() {
    return within(this.closed, 'the close');
  }
}
