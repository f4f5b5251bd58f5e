// ANCHOR: all
//! The tables of the log, and how a file of an earlier milestone gets them.

use rusqlite::{Connection, TransactionBehavior};
use thiserror::Error;
use uuid::Uuid;

/// Why the log could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// A program of the future wrote it.
    #[error("its schema has version {found}, and this program knows versions up to {known}")]
    Newer {
        /// The version of the file.
        found: usize,
        /// Ours.
        known: usize,
    },
    /// Not a database, no permission, a full disk, and whatever else SQLite reports.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

// ANCHOR: steps
/// The steps from an empty file to the tables of today. The version of a file is the number of
/// steps that it has taken, so one that is released must never change: add another.
const STEPS: [&str; 2] = [MILESTONE_4, MILESTONE_5];

/// Takes the steps that a file has not taken yet: all of them, or none.
///
/// # Errors
/// [`OpenError`].
pub fn migrate(db: &mut Connection) -> Result<(), OpenError> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: usize = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let Some(steps) = STEPS.get(version..) else {
        return Err(OpenError::Newer { found: version, known: STEPS.len() });
    };
    for step in steps {
        transaction.execute_batch(step)?;
    }
    if version == 0 {
        transaction.execute("INSERT INTO log VALUES (?1, x'')", [Uuid::new_v4()])?;
    }
    if !steps.is_empty() {
        transaction.pragma_update(None, "user_version", STEPS.len())?;
    }
    Ok(transaction.commit()?)
}
// ANCHOR_END: steps

/// What milestone 4 has.
const MILESTONE_4: &str = "
    -- One row. The epoch names this log: the numbers of its messages are counted in it and in no
    -- other. The probe is written to find out whether writing works.
    CREATE TABLE log (epoch BLOB NOT NULL, probe BLOB NOT NULL) STRICT;

    CREATE TABLE messages (
        namespace TEXT NOT NULL,
        room TEXT NOT NULL,
        seq INTEGER NOT NULL,
        sender TEXT NOT NULL,  -- the name in lower case
        id BLOB NOT NULL,      -- the sender's choice
        name TEXT NOT NULL,    -- the name as everyone sees it
        text TEXT NOT NULL,
        at INTEGER NOT NULL,   -- milliseconds since 1970
        PRIMARY KEY (namespace, room, seq)
    ) STRICT, WITHOUT ROWID;

    -- Who sends the same message twice has sent it once.
    CREATE UNIQUE INDEX sent ON messages (namespace, sender, id);
";

// ANCHOR: milestone5
/// What this milestone adds: accounts, and an index of the words in the messages.
const MILESTONE_5: &str = "
    ALTER TABLE messages RENAME TO before;

    -- As before, with a number of its own for each message, by which the index of words names it.
    CREATE TABLE messages (
        number INTEGER PRIMARY KEY,
        namespace TEXT NOT NULL,
        room TEXT NOT NULL,
        seq INTEGER NOT NULL,
        sender TEXT NOT NULL,
        id BLOB NOT NULL,
        name TEXT NOT NULL,
        text TEXT NOT NULL,
        at INTEGER NOT NULL,
        -- The room as one word, so that a search within it does not look through all others.
        place TEXT GENERATED ALWAYS AS ('p' || hex(namespace || '/' || room)) VIRTUAL,
        UNIQUE (namespace, room, seq)
    ) STRICT;

    INSERT INTO messages (namespace, room, seq, sender, id, name, text, at)
    SELECT namespace, room, seq, sender, id, name, text, at FROM before
    ORDER BY namespace, room, seq;
    DROP TABLE before;
    CREATE UNIQUE INDEX sent ON messages (namespace, sender, id);
    CREATE INDEX aged ON messages (at);

    -- The last number of a room whose last message was deleted: it is not given again.
    CREATE TABLE tops (
        namespace TEXT NOT NULL,
        room TEXT NOT NULL,
        seq INTEGER NOT NULL,
        PRIMARY KEY (namespace, room)
    ) STRICT, WITHOUT ROWID;

    -- Which words are in which messages. The text itself stays where it is.
    CREATE VIRTUAL TABLE words USING fts5 (
        place, text, content = 'messages', content_rowid = 'number', columnsize = 0,
        tokenize = 'unicode61 remove_diacritics 2'
    );
    INSERT INTO words (words) VALUES ('rebuild');
    CREATE TRIGGER message_stored AFTER INSERT ON messages BEGIN
        INSERT INTO words (rowid, place, text) VALUES (new.number, new.place, new.text);
    END;
    CREATE TRIGGER message_deleted AFTER DELETE ON messages BEGIN
        INSERT INTO words (words, rowid, place, text)
        VALUES ('delete', old.number, old.place, old.text);
    END;

    CREATE TABLE accounts (
        key TEXT PRIMARY KEY,    -- the name in lower case
        name TEXT NOT NULL,      -- the name as everyone sees it
        password TEXT NOT NULL,  -- only its hash
        created INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    -- What the names look like: a name that looks like one of them is taken.
    CREATE TABLE looks (
        look TEXT PRIMARY KEY,
        account TEXT NOT NULL REFERENCES accounts
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE sessions (
        hash BLOB PRIMARY KEY,  -- of the token; who reads this file can't sign in with it
        account TEXT NOT NULL REFERENCES accounts,
        created INTEGER NOT NULL,
        used INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX sessions_of ON sessions (account, created);
";
// ANCHOR_END: milestone5

#[cfg(test)]
mod tests {
    use rusqlite::params;

    use super::*;

    /// A file as milestone 4 left it.
    fn milestone_4(epoch: Uuid) -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(MILESTONE_4).unwrap();
        db.execute("INSERT INTO log VALUES (?1, x'')", [epoch]).unwrap();
        db.pragma_update(None, "user_version", 1).unwrap();
        for (namespace, room, seq) in [("", "rust", 1), ("", "rust", 2), ("staff", "rust", 1)] {
            let text = format!("message {seq} of {namespace}/{room}");
            db.execute(
                "INSERT INTO messages VALUES (?1, ?2, ?3, 'ada', ?4, 'Ada', ?5, 7)",
                params![namespace, room, seq, Uuid::new_v4(), text],
            )
            .unwrap();
        }
        db
    }

    fn count(db: &Connection, select: &str) -> u64 {
        db.query_row(select, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_file_of_milestone_4_keeps_its_messages_and_its_epoch() {
        let epoch = Uuid::new_v4();
        let mut db = milestone_4(epoch);
        migrate(&mut db).unwrap();
        let found: Uuid = db.query_row("SELECT epoch FROM log", [], |row| row.get(0)).unwrap();
        assert_eq!(found, epoch);
        assert_eq!(count(&db, "SELECT count(*) FROM messages WHERE name = 'Ada' AND at = 7"), 3);
        assert_eq!(count(&db, "SELECT count(*) FROM words WHERE words MATCH 'text:2'"), 1);
        assert_eq!(count(&db, "PRAGMA user_version"), 2);
    }

    #[test]
    fn what_has_taken_all_steps_is_left_alone() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db).unwrap();
        let epoch = |db: &Connection| -> Uuid {
            db.query_row("SELECT epoch FROM log", [], |row| row.get(0)).unwrap()
        };
        let before = epoch(&db);
        migrate(&mut db).unwrap();
        assert_eq!(epoch(&db), before);
    }

    #[test]
    fn a_step_that_fails_leaves_the_file_as_it_was() {
        let mut db = milestone_4(Uuid::new_v4());
        db.execute_batch("CREATE TABLE accounts (other)").unwrap();
        assert!(matches!(migrate(&mut db), Err(OpenError::Sqlite(_))));
        assert_eq!(count(&db, "PRAGMA user_version"), 1);
        assert_eq!(count(&db, "SELECT count(*) FROM messages"), 3);
    }
}
// ANCHOR_END: all
