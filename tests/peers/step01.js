// Milestone 1 for Node: an echo server with `ws`.

import { WebSocketServer } from 'ws';
import { CLOSE_TIMEOUT, httpServer, listen, number, upgrade } from './serve.js';

/** Unsent bytes for one client above which we stop reading what it sends. */
const MAX_UNSENT = 1024 * 1024;

// ANCHOR: server
const sockets = new WebSocketServer({
  noServer: true,
  maxPayload: number('MAX_MESSAGE_BYTES', 64 * 1024), // larger: ws closes with 1009
  closeTimeout: CLOSE_TIMEOUT,
});

sockets.on('connection', (ws) => {
  ws.on('message', (data, isBinary) => {
    ws.send(data, { binary: isBinary }, () => ws.resume());
    // send() never waits. Without this line a client that sends and never reads fills our memory.
    if (ws.bufferedAmount > MAX_UNSENT) ws.pause();
  });
  // ws has sent the close code (1002, 1007, 1009) by now. Without a listener the process would end.
  ws.on('error', (error) => console.error(`closed: ${error.message}`));
});
// ANCHOR_END: server

const server = httpServer((_request, response) => {
  response.writeHead(426, { Upgrade: 'websocket', 'Content-Type': 'text/plain' });
  response.end('This is a WebSocket server.\n');
});
upgrade(server, () => sockets, { anyOrigin: true });
listen(server, [sockets], 'ws', 3001);
