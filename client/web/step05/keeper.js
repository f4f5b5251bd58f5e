// ANCHOR: all
// Writes what has to outlive the page into the storage, as the state changes.

import { toKeep as entriesToKeep } from './outbox.js';
import { toKeep as roomToKeep } from './state.js';

/** Rooms are written together, this long after the first change (ms). A lost write costs nothing but the same history once more. */
const TOGETHER = 250;

export function createKeeper() {
  let storage = null;
  let owner = null;
  let last = null;
  let entries = new Map();
  const rooms = new Set();
  let writing = 0;

  // ANCHOR: note
  /** A message is written at once: from the moment it is shown, it must not get lost. */
  function noteOutbox({ outbox }) {
    const now = new Map(entriesToKeep(outbox).map((entry) => [entry.id, entry]));
    for (const [id, entry] of now) if (!isSame(entry, entries.get(id))) storage.keepEntry(owner, entry);
    for (const id of entries.keys()) if (!now.has(id)) storage.dropEntry(owner, id);
    entries = now;
  }

  function isSame(entry, before) {
    return before && entry.status === before.status && entry.triedAt === before.triedAt;
  }

  function noteRooms({ conversations }) {
    for (const [room, one] of Object.entries(conversations)) {
      const before = last.conversations[room];
      const isOther = one.log !== before?.log || one.have !== before.have || one.unread !== before.unread || one.title !== before.title;
      if (isOther && one.have !== null) rooms.add(room);
    }
    for (const room of Object.keys(last.conversations)) if (!conversations[room]) storage.dropRoom(owner, room);
    if (rooms.size > 0 && writing === 0) writing = setTimeout(flush, TOGETHER);
  }
  // ANCHOR_END: note

  function flush() {
    clearTimeout(writing);
    writing = 0;
    for (const room of rooms) if (last.conversations[room]) storage.keepRoom(owner, roomToKeep(room, last.conversations[room]));
    rooms.clear();
  }

  return {
    /** From here on, what this owner has is written. */
    begin(newStorage, newOwner, state) {
      [storage, owner, last] = [newStorage, newOwner, state];
      entries = new Map(entriesToKeep(state.outbox).map((entry) => [entry.id, entry]));
    },

    /** From here on, nothing is written. */
    end() {
      if (owner !== null) flush();
      owner = null;
    },

    /** The state has changed. */
    note(state) {
      if (owner === null || !state.isIn) return;
      if (state.session !== last.session) storage.keepSession(owner, { id: state.session, name: state.me });
      if (state.outbox !== last.outbox) noteOutbox(state);
      if (state.conversations !== last.conversations) noteRooms(state);
      if (state.link.fallbackUntil !== last.link.fallbackUntil) storage.keepFact('fallbackUntil', state.link.fallbackUntil);
      last = state;
    },

    // ANCHOR: strip
    /**
     * Somebody signs out. What the server has as well does not stay on a computer that others may
     * use: of the rooms, only which they are. The outbox stays, for nobody else has it.
     */
    strip() {
      clearTimeout(writing);
      writing = 0;
      rooms.clear();
      const stripped = { epoch: null, have: null, unread: 0, log: [] };
      for (const [room, { title }] of Object.entries(last.conversations)) storage.keepRoom(owner, { room, title, ...stripped });
      owner = null;
    },
    // ANCHOR_END: strip

    flush: () => { if (owner !== null) flush(); },
  };
}
// ANCHOR_END: all
