// Reads what clients.js printed and counts what went wrong:
//   node socketio-redis/summary.js < lines

import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

/** What is known of the run so far. `add` takes the lines in the order in which they were printed. */
export class Tally {
  #rooms = new Map();
  #comebacks = { recovered: 0, unrecovered: 0 };
  #met = new Set();
  #failed = 0;

  add(line) {
    const { client, room, acked, failed, seen, connected, recovered } = line;
    if (client === undefined) return;
    if (connected && this.#met.has(client)) this.#comebacks[recovered ? 'recovered' : 'unrecovered'] += 1;
    if (connected) this.#met.add(client);
    if (failed !== undefined) this.#failed += 1;
    if (room === undefined) return;
    const { members, acked: ids } = this.#room(room);
    if (!members.has(client)) members.set(client, { order: [], times: new Map() });
    if (acked !== undefined) ids.add(acked);
    if (seen !== undefined) see(members.get(client), seen);
  }

  #room(name) {
    if (!this.#rooms.has(name)) this.#rooms.set(name, { members: new Map(), acked: new Set() });
    return this.#rooms.get(name);
  }

  result() {
    const rooms = [...this.#rooms].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, room]) => [name, judge(room)]);
    const total = (what) => rooms.reduce((sum, [, room]) => sum + room[what], 0);
    return {
      acked: total('acked'),
      deliveries: total('deliveries'),
      lost: total('lost'),
      twice: total('twice'),
      disorder: total('disorder'),
      failed: this.#failed,
      ...this.#comebacks,
      rooms: Object.fromEntries(rooms),
    };
  }
}

/** `order` holds each id where it was seen first. */
function see({ order, times }, id) {
  if (!times.has(id)) order.push(id);
  times.set(id, (times.get(id) ?? 0) + 1);
}

function judge({ members, acked }) {
  const all = [...members.values()];
  const seen = all.map(({ times }) => [...times.values()].reduce((sum, n) => sum + n, 0));
  const deliveries = seen.reduce((sum, n) => sum + n, 0);
  const first = all.reduce((sum, { order }) => sum + order.length, 0);
  const lost = all.reduce((sum, { times }) => sum + [...acked].filter((id) => !times.has(id)).length, 0);
  return { acked: acked.size, deliveries, lost, twice: deliveries - first, disorder: disagreements(all) };
}

/** The pairs of messages that some two members saw in opposite orders; each counts once, whoever disagrees. */
function disagreements(members) {
  const numbers = new Map([...new Set(members.flatMap(({ order }) => order))].map((id, number) => [id, number]));
  const orders = members.map(({ order }) => order.map((id) => numbers.get(id)));
  const pairs = new Set();
  for (const [i, one] of orders.entries()) {
    for (const other of orders.slice(i + 1)) {
      const place = new Map(other.map((number, at) => [number, at]));
      const places = one.filter((number) => place.has(number)).map((number) => place.get(number));
      inversions(places, (a, b) => pairs.add(pair(other[a], other[b], numbers.size)));
    }
  }
  return pairs.size;
}

/** One number for two, whichever comes first. */
function pair(a, b, size) {
  return Math.min(a, b) * size + Math.max(a, b);
}

/** Reports the pairs of which the greater number comes first, as a merge sort finds them; returns the sorted numbers. */
export function inversions(numbers, report) {
  if (numbers.length < 2) return numbers;
  const middle = numbers.length >> 1;
  const left = inversions(numbers.slice(0, middle), report);
  const right = inversions(numbers.slice(middle), report);
  const sorted = [];
  let next = 0;
  for (const number of right) {
    while (next < left.length && left[next] < number) sorted.push(left[next++]);
    for (let later = next; later < left.length; later += 1) report(left[later], number);
    sorted.push(number);
  }
  return sorted.concat(left.slice(next));
}

/** All lines at once. */
export function summarize(lines) {
  const tally = new Tally();
  for (const line of lines) tally.add(line);
  return tally.result();
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const tally = new Tally();
  for await (const line of createInterface(process.stdin)) if (line) tally.add(JSON.parse(line));
  console.log(JSON.stringify(tally.result()));
}
