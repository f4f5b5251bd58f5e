// What stands around every twin's sockets: settings, the page, the check at the door, a clean end.
// None of it is about chat, so the book shows the files that import it instead.

import { readFile } from 'node:fs/promises';
import { createServer, STATUS_CODES } from 'node:http';
import { extname } from 'node:path';

/** A client that does not finish its handshake in this time is cut off (ms). */
const HANDSHAKE_TIMEOUT = 10_000;

/** How long a client may take to answer our close frame before the socket is destroyed (ms). */
export const CLOSE_TIMEOUT = 4_000;

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** Ends the program the way every milestone does: one sentence on stderr, exit code 1. */
export function fail(sentence) {
  console.error(sentence);
  process.exit(1);
}

/** A whole number from the environment. */
export function number(name, fallback, max = Number.MAX_SAFE_INTEGER) {
  const text = process.env[name] ?? String(fallback);
  const value = Number(text);
  if (/^\d+$/.test(text) && value <= max) return value;
  return fail(`${name} must be a whole number from 0 to ${max}, but it is "${text}".`);
}

/** The origins in ALLOWED_ORIGINS, which may connect and frame the page besides our own. */
function allowedOrigins() {
  const origins = (process.env.ALLOWED_ORIGINS ?? '').split(',').map((item) => item.trim()).filter(Boolean);
  for (const origin of origins) {
    if (!URL.canParse(origin) || new URL(origin).origin !== origin) {
      fail(`ALLOWED_ORIGINS must hold origins such as https://chat.example, but it holds "${origin}".`);
    }
  }
  return origins;
}

const ALLOWED = allowedOrigins();

/** Browsers always say where a page comes from; other programs send no Origin and pass. */
function isFromHere({ headers: { origin, host } }) {
  if (origin === undefined || ALLOWED.includes(origin)) return true;
  return URL.canParse(origin) && new URL(origin).host === host;
}

/** Answers an upgrade that will not happen with a plain HTTP status. */
function refuse(socket, status) {
  const lines = [`HTTP/1.1 ${status} ${STATUS_CODES[status]}`, 'Connection: close', 'Content-Length: 0'];
  socket.end(`${lines.join('\r\n')}\r\n\r\n`);
}

/** An HTTP server that drops whoever is slow to say what they want. */
export function httpServer(onRequest) {
  const limits = {
    headersTimeout: HANDSHAKE_TIMEOUT,
    requestTimeout: HANDSHAKE_TIMEOUT,
    connectionsCheckingInterval: 1_000,
  };
  return createServer(limits, onRequest);
}

/** Hands out the files of one folder, with headers that allow nothing the page does not need. */
export function page(folder) {
  const headers = {
    'Content-Security-Policy':
      "default-src 'self'; base-uri 'none'; form-action 'self'; object-src 'none'; " +
      ["frame-ancestors 'self'", ...ALLOWED].join(' '),
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
  };
  return async (request, response) => {
    const answer = (status, type, body) =>
      response.writeHead(status, { ...headers, 'Content-Type': type }).end(body);
    if (request.method !== 'GET' && request.method !== 'HEAD') return answer(405, 'text/plain', 'Method not allowed');
    const path = request.url.split('?', 1)[0];
    const name = path === '/' ? 'index.html' : path.slice(1);
    // One level, no dots in front: nothing outside the folder can be named.
    if (!/^\w[\w-]*(\.[\w-]+)*$/.test(name)) return answer(404, 'text/plain', 'Not found');
    try {
      answer(200, TYPES[extname(name)] ?? 'application/octet-stream', await readFile(new URL(name, folder)));
    } catch {
      answer(404, 'text/plain', 'Not found');
    }
  };
}

/**
 * Upgrades requests to WebSockets. `find(path)` says which WebSocketServer is in charge;
 * `undefined` is a 404. Everything is refused before the upgrade, while HTTP still has words for it.
 * Step 1 takes `anyOrigin`, since its page may come from a file on disk.
 */
export function upgrade(server, find, { anyOrigin = false } = {}) {
  const most = number('MAX_CONNECTIONS', 1000);
  let open = 0;
  server.on('upgrade', (request, socket, head) => {
    socket.on('error', () => socket.destroy());
    const sockets = find(request.url.split('?', 1)[0]);
    if (!sockets) return refuse(socket, 404);
    if (!anyOrigin && !isFromHere(request)) return refuse(socket, 403);
    if (open >= most) return refuse(socket, 503);
    open += 1;
    socket.on('close', () => { open -= 1; });
    sockets.handleUpgrade(request, socket, head, (ws) => sockets.emit('connection', ws, request));
  });
}

/** Listens where HOST and PORT say, prints where that is, and stops on Ctrl-C and SIGTERM. */
export function listen(server, allSockets, scheme, defaultPort) {
  const host = process.env.HOST ?? '127.0.0.1';
  const port = number('PORT', defaultPort, 65_535);
  server.on('error', (error) => {
    const taken = `Port ${port} on ${host} is taken. Stop what uses it, or set PORT to another one.`;
    fail(error.code === 'EADDRINUSE' ? taken : `Cannot listen on ${host}:${port}: ${error.message}.`);
  });
  server.listen(port, host, () => {
    const { address, family, port: actual } = server.address();
    console.log(`listening on ${scheme}://${family === 'IPv6' ? `[${address}]` : address}:${actual}`);
  });
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => stop(server, allSockets));
}

/** Tells every client goodbye; `closeTimeout` ends those that do not answer. */
async function stop(server, allSockets) {
  server.close();
  const clients = allSockets.flatMap((sockets) => [...sockets.clients]);
  const closed = clients.map((ws) => new Promise((resolve) => ws.once('close', resolve)));
  for (const ws of clients) ws.close(1001, 'the server is going away');
  await Promise.all(closed);
  process.exit(0);
}
