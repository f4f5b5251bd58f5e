// ANCHOR: all
//! Accounts and sessions on disk.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rusqlite::{OptionalExtension, TransactionBehavior, params};

use crate::directory::{Account, Directory, MAX_SESSIONS, Newcomer, Session, SessionKey};
use crate::embedded::Embedded;
use crate::log::Answer;
use crate::store::Store;
use crate::users::Users;

// ANCHOR: directory
impl Directory for Embedded {
    fn is_taken<'a>(&'a self, key: &'a str, looks: &'a [String; 2]) -> BoxFuture<'a, Answer<bool>> {
        let (key, looks) = (key.to_owned(), looks.clone());
        self.ask(move |store| store.is_taken(&key, &looks)).boxed()
    }

    fn add_account(&self, newcomer: Newcomer, now: u64) -> BoxFuture<'_, Answer<bool>> {
        self.write(move |store| store.add_account(&newcomer, now)).boxed()
    }

    fn account<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Answer<Option<Account>>> {
        let key = key.to_owned();
        self.ask(move |store| store.account(&key)).boxed()
    }

    fn begin_session<'a>(
        &'a self,
        session: SessionKey,
        account: &'a str,
        now: u64,
    ) -> BoxFuture<'a, Answer<Vec<SessionKey>>> {
        let account = account.to_owned();
        self.write(move |store| store.begin_session(&session, &account, now)).boxed()
    }

    fn session(&self, session: SessionKey) -> BoxFuture<'_, Answer<Option<Session>>> {
        self.ask(move |store| store.session(&session)).boxed()
    }

    fn touch(&self, sessions: Vec<SessionKey>, now: u64) -> BoxFuture<'_, Answer<Vec<SessionKey>>> {
        self.write(move |store| store.touch(&sessions, now)).boxed()
    }

    fn end_session(&self, session: SessionKey) -> BoxFuture<'_, Answer<()>> {
        self.write(move |store| store.end_session(&session)).boxed()
    }

    fn delete_sessions(&self, began: u64, used: u64) -> BoxFuture<'_, Answer<usize>> {
        self.write(move |store| store.delete_sessions(began, used)).boxed()
    }
}
// ANCHOR_END: directory

/// One server alone.
impl Users for Embedded {}

impl Store {
    /// Whether a name, or one that looks like it, is taken.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn is_taken(&self, key: &str, looks: &[String; 2]) -> rusqlite::Result<bool> {
        const TAKEN: &str = "
            SELECT EXISTS (SELECT 1 FROM accounts WHERE key = ?1)
                OR EXISTS (SELECT 1 FROM looks WHERE look IN (?2, ?3))";
        let [small, capital] = looks;
        self.db.prepare_cached(TAKEN)?.query_row([key, small, capital], |row| row.get(0))
    }

    /// Makes an account, unless its name is taken. Tells whether it did.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn add_account(&mut self, newcomer: &Newcomer, now: u64) -> rusqlite::Result<bool> {
        let Newcomer { key, name, looks, password } = newcomer;
        if self.is_taken(key, looks)? {
            return Ok(false);
        }
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute(
            "INSERT INTO accounts (key, name, password, created) VALUES (?1, ?2, ?3, ?4)",
            params![key, name, password, now],
        )?;
        for look in looks {
            // Both looks are often the same.
            let insert = "INSERT INTO looks (look, account) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
            transaction.execute(insert, [look, key])?;
        }
        transaction.commit()?;
        Ok(true)
    }

    /// Finds an account.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn account(&self, key: &str) -> rusqlite::Result<Option<Account>> {
        let mut select =
            self.db.prepare_cached("SELECT name, password FROM accounts WHERE key = ?1")?;
        let account =
            |row: &rusqlite::Row| Ok(Account { name: row.get(0)?, password: row.get(1)? });
        select.query_row([key], account).optional()
    }
}

impl Store {
    /// Begins a session, and ends the oldest ones of the account if it has too many. Gives these.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn begin_session(
        &mut self,
        session: &SessionKey,
        account: &str,
        now: u64,
    ) -> rusqlite::Result<Vec<SessionKey>> {
        const SURPLUS: &str = "
            DELETE FROM sessions WHERE hash IN (
                SELECT hash FROM sessions WHERE account = ?1
                ORDER BY created DESC, hash = ?2 DESC LIMIT -1 OFFSET ?3)
            RETURNING hash";
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute(
            "INSERT INTO sessions (hash, account, created, used) VALUES (?1, ?2, ?3, ?3)",
            params![session, account, now],
        )?;
        let ended: Vec<SessionKey> = transaction
            .prepare_cached(SURPLUS)?
            .query_map(params![account, session, MAX_SESSIONS], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        transaction.commit()?;
        Ok(ended)
    }

    /// Finds a session.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn session(&self, session: &SessionKey) -> rusqlite::Result<Option<Session>> {
        const FIND: &str = "
            SELECT name, sessions.created, used FROM sessions JOIN accounts ON key = account
            WHERE hash = ?1";
        let mut select = self.db.prepare_cached(FIND)?;
        let found = |row: &rusqlite::Row| {
            Ok(Session { name: row.get(0)?, created: row.get(1)?, used: row.get(2)? })
        };
        select.query_row([session], found).optional()
    }

    /// Notes that sessions are in use. Gives those that are not there any more.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn touch(
        &mut self,
        sessions: &[SessionKey],
        now: u64,
    ) -> rusqlite::Result<Vec<SessionKey>> {
        let mut gone = Vec::new();
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for session in sessions {
            let rows = transaction
                .prepare_cached("UPDATE sessions SET used = ?2 WHERE hash = ?1")?
                .execute(params![session, now])?;
            if rows == 0 {
                gone.push(*session);
            }
        }
        transaction.commit()?;
        Ok(gone)
    }

    /// Ends a session.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn end_session(&mut self, session: &SessionKey) -> rusqlite::Result<()> {
        self.db.execute("DELETE FROM sessions WHERE hash = ?1", [session]).map(|_rows| ())
    }

    /// Deletes the sessions that began, or were used last, before these times.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn delete_sessions(&mut self, began: u64, used: u64) -> rusqlite::Result<usize> {
        self.db.execute("DELETE FROM sessions WHERE created <= ?1 OR used <= ?2", [began, used])
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{lookalikes, names};

    fn store() -> Store {
        Store::open(Path::new(":memory:")).unwrap()
    }

    fn newcomer(name: &str) -> Newcomer {
        let (key, looks) = (names::key(name), lookalikes::looks(name));
        Newcomer { key, name: name.to_owned(), looks, password: "hash".to_owned() }
    }

    #[test]
    fn a_name_is_given_once_and_so_is_what_it_looks_like() {
        let mut store = store();
        assert!(store.add_account(&newcomer("Max"), 1).unwrap());
        for taken in ["Max", "max", "rnax", "mах", "МАХ"] {
            assert!(!store.add_account(&newcomer(taken), 1).unwrap(), "{taken}");
        }
        assert!(store.add_account(&newcomer("Maxi"), 1).unwrap());
        assert_eq!(store.account("max").unwrap().unwrap().name, "Max");
        assert!(store.account("rnax").unwrap().is_none());
    }

    #[test]
    fn the_oldest_of_too_many_sessions_ends_and_others_are_left_alone() {
        let mut store = store();
        for name in ["ada", "bob"] {
            store.add_account(&newcomer(name), 1).unwrap();
        }
        store.begin_session(&[255; 32], "bob", 0).unwrap();
        for n in 0..50 {
            assert!(store.begin_session(&[n; 32], "ada", 7).unwrap().is_empty());
        }
        let ended = store.begin_session(&[100; 32], "ada", 7).unwrap();
        assert_eq!(ended.len(), 1);
        assert_ne!(ended, [[100; 32]]);
        let ended = store.begin_session(&[101; 32], "ada", 8).unwrap();
        assert_eq!(ended.len(), 1);
        assert!(store.session(&[255; 32]).unwrap().is_some());
        assert!(store.session(&[101; 32]).unwrap().is_some());
    }

    #[test]
    fn sessions_are_used_and_end() {
        let mut store = store();
        store.add_account(&newcomer("Ada"), 1).unwrap();
        store.begin_session(&[1; 32], "ada", 10).unwrap();
        store.begin_session(&[2; 32], "ada", 20).unwrap();
        assert_eq!(store.touch(&[[1; 32], [9; 32]], 30).unwrap(), [[9; 32]]);
        let session = Session { name: "Ada".to_owned(), created: 10, used: 30 };
        assert_eq!(store.session(&[1; 32]).unwrap(), Some(session));
        assert_eq!(store.delete_sessions(9, 20).unwrap(), 1);
        assert_eq!(store.session(&[2; 32]).unwrap(), None);
        store.end_session(&[1; 32]).unwrap();
        assert_eq!(store.session(&[1; 32]).unwrap(), None);
    }
}
// ANCHOR_END: all
