// Many clients of server.js in one process, which print what they send, see and lose, one JSON object a line:
//   URL=http://127.0.0.1:3011 CLIENTS=12 ROOMS=3 RATE=60 node socketio-redis/clients.js
// "quiet" on stdin ends the sending, "stop" ends the program.

import { randomUUID } from 'node:crypto';
import { createInterface } from 'node:readline';
import { io } from 'socket.io-client';

const { URL: url = 'http://127.0.0.1:3011' } = process.env;
const CLIENTS = number('CLIENTS', 12);
const ROOMS = number('ROOMS', 3);
const RATE = number('RATE', 60); // messages per second, of all clients together

/** How often messages are sent and lines written (ms). */
const TICK = 20;

/** A try without a reply fails after this time (ms); a message has eleven. */
const ACK_TIMEOUT = 2_000;
const RETRIES = 10;

function number(name, fallback) {
  const value = Number(process.env[name] ?? fallback);
  if (Number.isInteger(value) && value > 0) return value;
  console.error(`${name} must be a whole number from 1, but it is "${process.env[name]}".`);
  return process.exit(1);
}

const counts = { sent: 0, acked: 0, failed: 0 };
let lines = [];
let sending = true;
let onSettled = null;

const print = (line) => lines.push(JSON.stringify(line));

/** Writes what has gathered: one system call a tick, not one a line. */
function flush(done) {
  if (lines.length === 0) return done?.();
  const text = `${lines.join('\n')}\n`;
  lines = [];
  process.stdout.write(text, done);
}

/** A client that stays in one room as long as the program runs. */
function join(client) {
  // Neighbors share a room: a load balancer that goes round the nodes spreads each room over all of them.
  const room = `room${Math.floor((client * ROOMS) / CLIENTS)}`;
  const socket = io(url, {
    auth: { name: `client${client}`, rooms: [room] },
    transports: ['websocket'],
    forceNew: true, // a connection of its own
    retries: RETRIES,
    ackTimeout: ACK_TIMEOUT,
  });
  const member = { client, room, socket, met: false };
  socket.on('connect', () => {
    member.met = true;
    print({ client, connected: true, recovered: Boolean(socket.recovered), room });
    settle();
  });
  socket.on('disconnect', (reason) => print({ client, disconnected: reason }));
  // Everything that comes is printed, even twice: what a client could hide is part of what is measured.
  socket.on('message', ({ id, room: where }) => print({ client, seen: id, room: where }));
  return member;
}

function send({ client, room, socket }) {
  const id = randomUUID();
  counts.sent += 1;
  socket.emit('message', { id, room, text: `hello from ${client}` }, (error, reply) => {
    const outcome = error || reply.error ? 'failed' : 'acked';
    counts[outcome] += 1;
    print({ client, [outcome]: id, room });
    settle();
  });
}

/** Quiet is when no message is in doubt and everybody is there to hear the last ones. */
function settle() {
  const open = counts.sent - counts.acked - counts.failed;
  if (!onSettled || open > 0 || !members.every(({ socket }) => socket.connected)) return;
  onSettled();
  onSettled = null;
}

const members = Array.from({ length: CLIENTS }, (_, client) => join(client));
let due = 0;
let turn = 0;
let last = performance.now();

const ticking = setInterval(() => {
  const now = performance.now();
  const passed = now - last;
  last = now;
  // Nobody speaks before everybody is in, so that each message is for all members of its room.
  if (sending && members.every(({ met }) => met)) {
    for (due += (passed * RATE) / 1000; due >= 1; due -= 1) {
      send(members[turn % CLIENTS]);
      turn += 1;
    }
  }
  flush();
}, TICK);

function quiet() {
  sending = false;
  onSettled = () => print({ quiet: true });
  settle();
}

function stop() {
  clearInterval(ticking);
  for (const { socket } of members) socket.off().disconnect();
  print({ stopped: true, ...counts });
  flush(() => process.exit(0));
}

const input = createInterface(process.stdin);
input.on('line', (line) => {
  if (line === 'quiet') quiet();
  if (line === 'stop') stop();
});
// Whoever started this is gone, so that nobody would ever say "stop".
input.on('close', stop);
