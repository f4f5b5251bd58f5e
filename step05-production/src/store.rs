// ANCHOR: all
//! The messages of the log on disk, which is one SQLite file.

use std::path::Path;
use std::time::Duration;

use rusqlite::{
    CachedStatement, Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params,
};
use uuid::Uuid;

use crate::log::{Draft, KEPT, REPEATABLE};
use crate::names;
use crate::protocol::{Said, millis, now};
use crate::schema::{self, OpenError};

/// How often a room drops messages that nobody can ask for any more: once in so many messages.
const PRUNE_EVERY: u64 = 256;

/// How many messages it drops at once. More than have come since, so that it gets ahead; and few,
/// so that nobody's ack waits long for it.
const PRUNE: u64 = 2 * PRUNE_EVERY;

/// How much one read gives, in bytes, so that one client's long absence does not fill the memory.
const PAGE: usize = 4 * 1024 * 1024;

/// What a message costs beside its text.
const OVERHEAD: usize = 256;

/// How long a statement waits for another program that has locked the file.
const BUSY: Duration = Duration::from_secs(1);

// ANCHOR: sql
// ANCHOR: insert
/// The next number and the message in one statement. The last number of a room is that of its
/// newest message or, if that one was too old to keep, is among the tops.
const INSERT: &str = "
    INSERT INTO messages (namespace, room, seq, sender, id, name, text, at)
    VALUES (?1, ?2, 1 + max(
        ifnull((SELECT max(seq) FROM messages WHERE namespace = ?1 AND room = ?2), 0),
        ifnull((SELECT seq FROM tops WHERE namespace = ?1 AND room = ?2), 0)
    ), ?3, ?4, ?5, ?6, ?7)
    ON CONFLICT (namespace, sender, id) DO NOTHING
    RETURNING seq";
// ANCHOR_END: insert

const FIND: &str = "
    SELECT room, seq, text FROM messages WHERE namespace = ?1 AND sender = ?2 AND id = ?3";

const LAST_SEQ: &str = "
    SELECT max(
        ifnull((SELECT max(seq) FROM messages WHERE namespace = ?1 AND room = ?2), 0),
        ifnull((SELECT seq FROM tops WHERE namespace = ?1 AND room = ?2), 0))";

const TAIL: &str = "
    SELECT room, seq, id, name, text, at FROM messages
    WHERE namespace = ?1 AND room = ?2 ORDER BY seq DESC LIMIT ?3";

const READ: &str = "
    SELECT room, seq, id, name, text, at FROM messages
    WHERE namespace = ?1 AND room = ?2 AND seq > ?3 AND seq <= ?4 ORDER BY seq";

const PRUNE_SQL: &str = "
    DELETE FROM messages WHERE at < ?4 AND number IN (
        SELECT number FROM messages WHERE namespace = ?1 AND room = ?2 AND seq <= ?3
        ORDER BY seq LIMIT ?5)";

/// The oldest messages of all rooms.
const EXPIRED: &str = "SELECT number FROM messages WHERE at < ?1 ORDER BY at, number LIMIT ?2";

/// Notes the number of a message if it is the last one of its room.
const NOTE_TOP: &str = "
    INSERT INTO tops SELECT namespace, room, seq FROM messages AS last
    WHERE number = ?1 AND NOT EXISTS (
        SELECT 1 FROM messages
        WHERE namespace = last.namespace AND room = last.room AND seq > last.seq)
    ON CONFLICT (namespace, room) DO UPDATE SET seq = max(seq, excluded.seq)";
// ANCHOR_END: sql

/// What became of a draft in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// It is stored.
    Stored(Said),
    /// It has been stored before, with this number.
    Repeated(u64),
    /// Its sender has used the id for another message.
    Conflict,
}

/// A connection to the file.
pub struct Store {
    pub(crate) db: Connection,
}

// ANCHOR: open
impl Store {
    // ANCHOR: pragma
    /// Opens the file, and makes it if it is missing.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(file: &Path) -> Result<Self, OpenError> {
        let mut db = Connection::open(file)?;
        db.busy_timeout(BUSY)?;
        // WAL lets others read while one writes. FULL brings each commit to the disk before it
        // returns: only then it outlives a power cut, and only then we may send an ack.
        db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
        schema::migrate(&mut db)?;
        Ok(Self { db })
    }
    // ANCHOR_END: pragma

    /// Which life of the log this is.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn epoch(&self) -> rusqlite::Result<Uuid> {
        self.db.query_row("SELECT epoch FROM log", [], |row| row.get(0))
    }
}
// ANCHOR_END: open

// ANCHOR: append
impl Store {
    /// Stores all of the drafts or, if there is an error, none. When it returns, they are safe.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn append(&mut self, drafts: &[Draft]) -> rusqlite::Result<Vec<Kept>> {
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let appended: Result<Vec<_>, _> =
            drafts.iter().map(|draft| insert(&transaction, draft)).collect();
        // `?` leaves at the first error, and a transaction that was not committed is rolled back.
        let appended = appended?;
        transaction.commit()?;
        Ok(appended)
    }

    /// Finds out whether writing works, by writing: as much as several of the longest messages take,
    /// or a disk with room for a few bytes would pass for one that is well again.
    ///
    /// # Errors
    /// What SQLite reports: writing does not work.
    pub fn probe(&self) -> rusqlite::Result<()> {
        self.db.execute("UPDATE log SET probe = randomblob(65536)", []).map(|_rows| ())
    }

    /// Brings everything from the WAL into the file itself, so that it can be copied alone. Only
    /// good for tidiness: the WAL is as safe.
    pub fn tidy(&self) {
        let _ = self.db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
    }
}

fn insert(transaction: &Transaction, draft: &Draft) -> rusqlite::Result<Kept> {
    let Draft { namespace, room, id, from, text } = draft;
    let (sender, at) = (names::key(from), now());
    let seq = transaction
        .prepare_cached(INSERT)?
        .query_row(params![namespace, room, sender, id, from, text, at], |row| row.get(0))
        .optional()?;
    let Some(seq) = seq else { return find(transaction, draft, &sender) };
    if seq % PRUNE_EVERY == 0 {
        prune(transaction, draft, seq, at)?;
    }
    let (room, from, text) = (room.clone(), from.clone(), text.clone());
    Ok(Kept::Stored(Said { room, seq, id: *id, from, text, at }))
}

/// Compares a draft with the message that its sender has sent with the same id.
fn find(transaction: &Transaction, draft: &Draft, sender: &str) -> rusqlite::Result<Kept> {
    let stored = transaction.prepare_cached(FIND)?.query_row(
        params![draft.namespace, sender, draft.id],
        |row| {
            let same =
                row.get::<_, String>(0)? == draft.room && row.get::<_, String>(2)? == draft.text;
            Ok((same, row.get(1)?))
        },
    )?;
    Ok(match stored {
        (true, seq) => Kept::Repeated(seq),
        (false, _) => Kept::Conflict,
    })
}

/// Deletes a few of the oldest messages of a room.
fn prune(transaction: &Transaction, draft: &Draft, seq: u64, now: u64) -> rusqlite::Result<()> {
    let (last, before) = (seq.saturating_sub(KEPT), now.saturating_sub(millis(REPEATABLE)));
    let mut delete = transaction.prepare_cached(PRUNE_SQL)?;
    delete.execute(params![draft.namespace, draft.room, last, before, PRUNE]).map(|_rows| ())
}
// ANCHOR_END: append

// ANCHOR: expire
impl Store {
    /// Deletes messages that were stored before `before`, in milliseconds since 1970: the oldest
    /// ones, and so many at most. Gives how many it were.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn expire(&mut self, before: u64, most: usize) -> rusqlite::Result<usize> {
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let expired: Vec<i64> = transaction
            .prepare_cached(EXPIRED)?
            .query_map(params![before, most], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for number in &expired {
            transaction.prepare_cached(NOTE_TOP)?.execute([number])?;
            let mut delete =
                transaction.prepare_cached("DELETE FROM messages WHERE number = ?1")?;
            delete.execute([number])?;
        }
        transaction.commit()?;
        Ok(expired.len())
    }
}
// ANCHOR_END: expire

// ANCHOR: read
impl Store {
    /// The last number that was given in a room, or 0.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn last_seq(&self, namespace: &str, room: &str) -> rusqlite::Result<u64> {
        self.db.prepare_cached(LAST_SEQ)?.query_row([namespace, room], |row| row.get(0))
    }

    /// The last `count` messages of a room, oldest first.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn tail(&self, namespace: &str, room: &str, count: usize) -> rusqlite::Result<Vec<Said>> {
        let mut select: CachedStatement = self.db.prepare_cached(TAIL)?;
        let rows = select.query_map(params![namespace, room, count], said)?;
        let mut messages: Vec<Said> = rows.collect::<Result<_, _>>()?;
        messages.reverse();
        Ok(messages)
    }

    /// The messages of a room that come after `after`, `last` included: all of them, or the first
    /// `PAGE`.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn read(
        &self,
        namespace: &str,
        room: &str,
        after: u64,
        last: u64,
    ) -> rusqlite::Result<Vec<Said>> {
        let mut select = self.db.prepare_cached(READ)?;
        let rows = select.query_map(params![namespace, room, after, last], said)?;
        let mut size = 0;
        let page = rows.take_while(|row| {
            let fits = size < PAGE;
            size += row.as_ref().map_or(0, |said| said.text.len() + OVERHEAD);
            fits
        });
        page.collect()
    }
}

/// The message in a row that begins with the columns of a read.
pub(crate) fn said(row: &Row) -> rusqlite::Result<Said> {
    Ok(Said {
        room: row.get(0)?,
        seq: row.get(1)?,
        id: row.get(2)?,
        from: row.get(3)?,
        text: row.get(4)?,
        at: row.get(5)?,
    })
}
// ANCHOR_END: read

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> Store {
        Store::open(Path::new(":memory:")).unwrap()
    }

    fn draft(from: &str, room: &str, text: &str) -> Draft {
        let (room, from, text) = (room.to_owned(), from.to_owned(), text.to_owned());
        Draft { namespace: "", room, id: Uuid::new_v4(), from, text }
    }

    fn append(store: &mut Store, draft: Draft) -> Kept {
        store.append(&[draft]).unwrap().remove(0)
    }

    fn seqs(messages: &[Said]) -> Vec<u64> {
        messages.iter().map(|said| said.seq).collect()
    }

    #[test]
    fn each_room_of_each_namespace_counts_from_one() {
        let mut store = store();
        let staff = Draft { namespace: "staff", ..draft("ada", "rust", "three") };
        let drafts = [draft("ada", "rust", "one"), draft("bob", "rust", "two"), staff];
        store.append(&drafts).unwrap();
        append(&mut store, draft("ada", "go", "one"));
        assert_eq!(seqs(&store.tail("", "rust", 9).unwrap()), [1, 2]);
        assert_eq!(seqs(&store.tail("staff", "rust", 9).unwrap()), [1]);
        assert_eq!(seqs(&store.tail("", "go", 9).unwrap()), [1]);
    }

    #[test]
    fn the_same_message_again_keeps_its_number_even_in_one_batch() {
        let mut store = store();
        let one = draft("ada", "rust", "one");
        let shouted = Draft { from: "ADA".to_owned(), ..one.clone() };
        let appended = store.append(&[one.clone(), one.clone()]).unwrap();
        assert!(matches!(appended.as_slice(), [Kept::Stored(_), Kept::Repeated(1)]));
        assert_eq!(append(&mut store, shouted), Kept::Repeated(1));
        assert_eq!(seqs(&store.tail("", "rust", 9).unwrap()), [1]);
    }

    #[test]
    fn another_message_with_a_used_id_is_a_conflict_but_for_other_senders() {
        let mut store = store();
        let one = draft("ada", "rust", "one");
        append(&mut store, one.clone());
        let text = Draft { text: "two".to_owned(), ..one.clone() };
        assert_eq!(append(&mut store, text), Kept::Conflict);
        let room = Draft { room: "go".to_owned(), ..one.clone() };
        assert_eq!(append(&mut store, room), Kept::Conflict);
        let sender = Draft { from: "bob".to_owned(), ..one };
        assert!(matches!(append(&mut store, sender), Kept::Stored(Said { seq: 2, .. })));
    }

    #[test]
    fn old_messages_go_and_the_last_ten_thousand_stay() {
        let mut store = store();
        let drafts: Vec<Draft> =
            (0..10_600).map(|n| draft("ada", "rust", &n.to_string())).collect();
        store.append(&drafts).unwrap();
        assert_eq!(store.tail("", "rust", 20_000).unwrap().len(), 10_600, "young ones stay");
        store.db.execute("UPDATE messages SET at = 0", []).unwrap();
        let drafts: Vec<Draft> = (0..512).map(|n| draft("ada", "rust", &n.to_string())).collect();
        store.append(&drafts).unwrap();
        let left = seqs(&store.tail("", "rust", 20_000).unwrap());
        let pruned_at = 11_112 / PRUNE_EVERY * PRUNE_EVERY;
        assert_eq!(left.first(), Some(&(pruned_at - KEPT + 1)));
        assert_eq!(left.last(), Some(&11_112));
    }

    #[test]
    fn what_is_too_old_goes_and_its_number_is_not_given_again() {
        let mut store = store();
        for n in 0..5 {
            append(&mut store, draft("ada", "rust", &n.to_string()));
        }
        append(&mut store, draft("ada", "go", "young"));
        store.db.execute("UPDATE messages SET at = 7 WHERE room = 'rust'", []).unwrap();
        assert_eq!(store.expire(7, 9).unwrap(), 0, "exactly that old stays");
        assert_eq!(store.expire(8, 3).unwrap(), 3);
        assert_eq!(seqs(&store.tail("", "rust", 9).unwrap()), [4, 5]);
        assert_eq!(store.expire(8, 3).unwrap(), 2);
        assert!(store.tail("", "rust", 9).unwrap().is_empty());
        assert_eq!(store.last_seq("", "rust").unwrap(), 5);
        assert_eq!(seqs(&store.tail("", "go", 9).unwrap()), [1]);
        append(&mut store, draft("ada", "rust", "six"));
        assert_eq!(seqs(&store.tail("", "rust", 9).unwrap()), [6]);
        assert_eq!(store.last_seq("", "rust").unwrap(), 6);
        assert_eq!(store.last_seq("", "never").unwrap(), 0);
    }

    #[test]
    fn a_clock_that_jumped_does_not_give_a_number_twice() {
        let mut store = store();
        append(&mut store, draft("ada", "rust", "one"));
        append(&mut store, draft("ada", "rust", "two"));
        store.db.execute("UPDATE messages SET at = 7 WHERE seq = 2", []).unwrap();
        assert_eq!(store.expire(8, 9).unwrap(), 1);
        append(&mut store, draft("ada", "rust", "three"));
        assert_eq!(seqs(&store.tail("", "rust", 9).unwrap()), [1, 3]);
    }

    #[test]
    fn a_long_read_comes_in_pages() {
        let mut store = store();
        let text = "x".repeat(PAGE / 4);
        let drafts: Vec<Draft> = (0..9).map(|_| draft("ada", "rust", &text)).collect();
        store.append(&drafts).unwrap();
        assert_eq!(seqs(&store.read("", "rust", 1, 8).unwrap()), [2, 3, 4, 5]);
        assert_eq!(seqs(&store.read("", "rust", 5, 8).unwrap()), [6, 7, 8]);
    }

    #[test]
    fn a_commit_reaches_the_disk_before_it_returns() {
        let file = std::env::temp_dir().join(format!("{}.db", Uuid::new_v4()));
        let store = Store::open(&file).unwrap();
        let setting = |name| -> String {
            let read = |row: &Row| row.get::<_, rusqlite::types::Value>(0);
            format!("{:?}", store.db.pragma_query_value(None, name, read).unwrap())
        };
        assert_eq!(setting("journal_mode"), "Text(\"wal\")");
        assert_eq!(setting("synchronous"), "Integer(2)", "2 is FULL");
        drop(store);
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn a_newer_file_is_refused_and_left_alone() {
        let file = std::env::temp_dir().join(format!("{}.db", Uuid::new_v4()));
        Store::open(&file).unwrap().db.pragma_update(None, "user_version", 7).unwrap();
        let error = Store::open(&file).err().unwrap();
        assert!(matches!(error, OpenError::Newer { found: 7, known: 2 }), "{error}");
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", file.display()));
        }
    }
}
// ANCHOR_END: all
