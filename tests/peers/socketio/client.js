// Two people use server.js, and the program prints what they see:
//   node socketio/client.js http://127.0.0.1:3010

import { once } from 'node:events';
import { io } from 'socket.io-client';

const url = process.argv[2] ?? 'http://127.0.0.1:3010';

// ANCHOR: client
function connect(name, namespace = '/') {
  const socket = io(new URL(namespace, url).href, { auth: { name } });
  socket.onAny((event, data) => console.log(`${name} hears ${event}: ${JSON.stringify(data)}`));
  return socket;
}

/** Waits until the first transport has been replaced by a WebSocket. */
async function ready(socket, name) {
  const { engine } = socket.io;
  const first = engine.transport.name;
  await Promise.all([once(socket, 'connect'), once(engine, 'upgrade')]);
  console.log(`${name} came by ${first} and goes on by ${engine.transport.name}`);
}

/** Sends an event and waits for the server's reply to that very event. */
async function ask(socket, name, event, data) {
  const reply = await socket.timeout(2_000).emitWithAck(event, data);
  console.log(`${name} gets a reply to ${event}: ${JSON.stringify(reply)}`);
}

const ada = connect('ada');
await ready(ada, 'ada');
await ask(ada, 'ada', 'join', 'rust');

const grace = connect('grace');
await ready(grace, 'grace');
const joined = once(ada, 'member_joined');
await ask(grace, 'grace', 'join', 'rust');
await joined;

const heard = once(ada, 'message');
await ask(grace, 'grace', 'message', { room: 'rust', text: 'hi' });
await heard;
await ask(grace, 'grace', 'message', { room: 'tea', text: 'nobody hears this' });

const staff = connect('ada', '/staff');
await once(staff, 'notice');
console.log(`ada uses one connection for both namespaces: ${staff.io === ada.io}`);
// ANCHOR_END: client

for (const socket of [ada, grace, staff]) socket.disconnect();
