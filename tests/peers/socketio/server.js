// A chat with Socket.IO: names, rooms, a reply to each message, and a namespace for staff.

// ANCHOR: server
import { createServer } from 'node:http';
import { Server } from 'socket.io';

const server = createServer();
const io = new Server(server);

io.use((socket, next) => {
  socket.data.name = socket.handshake.auth.name;
  next(socket.data.name ? undefined : new Error('say who you are'));
});

io.on('connection', (socket) => {
  const { name } = socket.data;

  socket.on('join', async (room, reply) => {
    await socket.join(room);
    socket.to(room).emit('member_joined', { room, name });
    const members = await io.in(room).fetchSockets();
    reply({ members: members.map((member) => member.data.name).sort() });
  });

  socket.on('message', ({ room, text }, reply) => {
    if (!socket.rooms.has(room)) return reply({ error: 'not_in_room' });
    io.to(room).emit('message', { room, from: name, text, at: Date.now() });
    reply({ ok: true });
  });

  socket.on('disconnecting', () => {
    for (const room of socket.rooms) socket.to(room).emit('member_left', { room, name });
  });
});
// ANCHOR_END: server

// ANCHOR: namespace
io.of('/staff').on('connection', (socket) => {
  socket.emit('notice', 'staff only: nothing you say here is heard outside');
});
// ANCHOR_END: namespace

const { HOST = '127.0.0.1', PORT = '3010' } = process.env;
server.listen(Number(PORT), HOST, () => console.log(`listening on http://${HOST}:${server.address().port}`));
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => io.close(() => process.exit(0)));
