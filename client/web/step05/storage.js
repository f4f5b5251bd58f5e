// ANCHOR: all
// What outlives the page: the messages that wait, the rooms as far as they were read, the session.
// In IndexedDB, where a write is on the disk or is not, and which all tabs of the browser share.

/** A database that does not open within this time is one that won't (ms). */
const PATIENCE = 3000;

const STORES = ['outbox', 'rooms', 'facts'];

// ANCHOR: open
/**
 * Opens the storage. Where the browser has none for us (private windows, policies), it is the
 * memory of this page, and `lasts` is false.
 *
 * @param {() => void} onTrouble called when something could not be written
 */
export async function openStorage(onTrouble) {
  try {
    return storage(new Disk(await openDatabase(), onTrouble), true);
  } catch {
    return storage(new Memory(), false);
  }
}

function openDatabase() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open('chat-step05', 1);
    request.onupgradeneeded = () => STORES.forEach((name) => request.result.createObjectStore(name));
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    setTimeout(reject, PATIENCE, new Error('The database does not open.'));
  });
}
// ANCHOR_END: open

// ANCHOR: what
/** What a name in a namespace owns. Names that differ only in case are the same. */
export function ownerOf(namespace, name) {
  return `${namespace}/${name.trim().normalize('NFKC').toLowerCase()}`;
}

/** The same words for both kinds. Keys are `[owner, id]`, so that the things of one owner stand together. */
function storage(shelf, lasts) {
  return {
    lasts,

    /** Everything that one owner has left here. */
    async load(owner) {
      const [outbox, rooms, session] = await Promise.all([
        shelf.all('outbox', owner), shelf.all('rooms', owner), shelf.get('facts', [owner, 'session']),
      ]);
      return { outbox: outbox.sort((a, b) => a.turn - b.turn || a.at - b.at), rooms, session: session ?? null };
    },

    keepEntry: (owner, entry) => shelf.put('outbox', [owner, entry.id], entry),
    dropEntry: (owner, id) => shelf.delete('outbox', [owner, id]),
    /** A room with its cursor and its messages in one piece: they always fit each other. */
    keepRoom: (owner, room) => shelf.put('rooms', [owner, room.room], room),
    dropRoom: (owner, room) => shelf.delete('rooms', [owner, room]),
    keepSession: (owner, session) => shelf.put('facts', [owner, 'session'], session),
    keepFact: (name, value) => shelf.put('facts', ['', name], value),
    fact: (name) => shelf.get('facts', ['', name]),
  };
}
// ANCHOR_END: what

// ANCHOR: disk
class Disk {
  #database;
  #onTrouble;

  constructor(database, onTrouble) {
    this.#database = database;
    this.#onTrouble = onTrouble;
    // Somebody clears the data of this site, or a newer page needs another layout.
    database.onversionchange = () => database.close();
    database.onclose = onTrouble;
  }

  #write(store, work) {
    try {
      const transaction = this.#database.transaction(store, 'readwrite');
      transaction.onabort = this.#onTrouble;
      work(transaction.objectStore(store));
      // Now, and not when the answer is here: by then the page may be gone.
      transaction.commit();
    } catch {
      this.#onTrouble();
    }
  }

  put(store, key, value) {
    this.#write(store, (shelf) => shelf.put(value, key));
  }

  delete(store, key) {
    this.#write(store, (shelf) => shelf.delete(key));
  }

  async get(store, key) {
    return answer(this.#database.transaction(store).objectStore(store).get(key));
  }

  async all(store, owner) {
    // An array comes after every string: the range holds all keys that begin with the owner.
    const range = IDBKeyRange.bound([owner], [owner, []]);
    return answer(this.#database.transaction(store).objectStore(store).getAll(range));
  }
}

function answer(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
// ANCHOR_END: disk

// ANCHOR: memory
class Memory {
  #values = new Map();

  put(store, key, value) {
    this.#values.set(JSON.stringify([store, ...key]), value);
  }

  delete(store, key) {
    this.#values.delete(JSON.stringify([store, ...key]));
  }

  async get(store, key) {
    return this.#values.get(JSON.stringify([store, ...key]));
  }

  async all(store, owner) {
    const prefix = JSON.stringify([store, owner]).slice(0, -1);
    return [...this.#values].filter(([key]) => key.startsWith(`${prefix},`)).map(([, value]) => value);
  }
}
// ANCHOR_END: memory

// ANCHOR: claim
/** How long the page before this one may take to let go of a name after a reload (ms). */
const LET_GO = 1000;

/**
 * Claims an owner's things for this tab, so that no two tabs send them. Gives a function that lets
 * go of them, or `null` if another tab has them. A tab that is closed, or crashes, lets go.
 *
 * Without locks (they are there on https and localhost only) every tab may have them. The server
 * still knows a repeated message by its id.
 */
export async function claim(owner, locks = globalThis.navigator?.locks) {
  if (!locks) return () => {};
  return new Promise((resolve) => {
    const options = { signal: AbortSignal.timeout(LET_GO) };
    const held = () => new Promise((letGo) => { resolve(letGo); });
    locks.request(`chat-step05:${owner}`, options, held).catch(() => resolve(null));
  });
}
// ANCHOR_END: claim
// ANCHOR_END: all
