// One node of a chat with Socket.IO on many nodes: rooms, a reply to each message, the Redis Streams adapter.
// The delivery features that Socket.IO's documentation recommends are on; there is no database.

import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { createAdapter } from '@socket.io/redis-streams-adapter';
import { createClient } from 'redis';
import { Server } from 'socket.io';

const { HOST = '127.0.0.1', PORT = '3011', REDIS_URL = 'redis://127.0.0.1:6379' } = process.env;

/** How long a message id is remembered (s). Longer than any client goes on trying. */
const REMEMBER = 600;

/** How long a stop waits for Redis, which keeps the sessions of those who come back (ms). */
const LAST_WORDS = 2_000;

const redis = createClient({ url: REDIS_URL, socket: { reconnectStrategy } });
let away = false;
redis.on('error', (error) => {
  if (!away) console.error(`Redis is away: ${error.message || error.code}`);
  away = true;
});
redis.on('ready', () => {
  if (away) console.error('Redis is back');
  away = false;
});

/** Never gives up; at most a second and a bit between attempts, and no two nodes at once. */
function reconnectStrategy(attempt) {
  return Math.min(50 * 2 ** attempt, 1_000) + Math.random() * 200;
}

// The adapter does not catch what fails when it stores a session or answers another node.
// Without this, a restart of Redis would end the process.
process.on('unhandledRejection', (error) => console.error(`not done: ${error?.message}`));

// Commands wait in the client while Redis is away. The adapter needs that: with `disableOfflineQueue` its
// reading loop would spin without ever giving way to anything else.
await redis.connect();

const server = createServer();
const io = new Server(server, {
  transports: ['websocket'],
  connectionStateRecovery: { maxDisconnectionDuration: 2 * 60 * 1000, skipMiddlewares: true },
  adapter: createAdapter(redis, { streamName: 'socket.io', maxLen: 10_000, readCount: 100 }),
});

io.use((socket, next) => {
  const { name, rooms } = socket.handshake.auth;
  if (typeof name !== 'string' || !Array.isArray(rooms)) return next(new Error('say who you are and which rooms you want'));
  socket.data.name = name;
  next();
});

io.on('connection', (socket) => {
  // The handshake names the rooms: with a "join" event, what is said between connecting and joining would be lost.
  if (!socket.recovered) socket.join(socket.handshake.auth.rooms);
  // A client can only ask for what it missed after an event it has seen, so each sees one at once.
  socket.emit('welcome', { name: socket.data.name });

  socket.on('message', async (message, reply) => {
    if (!socket.rooms.has(message?.room)) return reply({ error: 'not_in_room' });
    try {
      await publish(socket.data.name, message);
      reply({ ok: true });
    } catch (error) {
      // No reply: the client tries again, as it would with a node that is gone.
      console.error(`not published: ${error.message}`);
    }
  });
});

/**
 * Sends a message to its room once, however often the client asks.
 *
 * The mark has two values. "pending" says that a node began, and may have died or lost Redis before the message
 * was out; whoever finds it sends the message again, since twice is better than never.
 */
async function publish(name, { id, room, text }) {
  const mark = `chat:message:${name}:${id}`;
  const first = await redis.set(mark, 'pending', { NX: true, EX: REMEMBER });
  if (!first && (await redis.get(mark)) === 'emitted') return;
  io.to(room).emit('message', { id, room, from: name, text });
  // `emit` tells nobody whether Redis took the message. This command follows it on the same connection,
  // so its reply comes after the message's, and does not come if the connection broke before.
  await redis.set(mark, 'emitted', { EX: REMEMBER });
}

server.listen(Number(PORT), HOST, () => console.log(`listening on http://${HOST}:${server.address().port}`));

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, async () => {
    await Promise.race([io.close().then(() => redis.close()), sleep(LAST_WORDS)]);
    process.exit(0);
  });
}
