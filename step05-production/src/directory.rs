// ANCHOR: all
//! Accounts and sessions, wherever they are kept.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::log::Answer;

/// How many sessions an account may have. When one more begins, the oldest ends.
pub const MAX_SESSIONS: usize = 50;

/// What a session is found by: the SHA-256 of its token.
pub type SessionKey = [u8; 32];

/// Somebody who registers.
#[derive(Clone)]
pub struct Newcomer {
    /// By [`names::key`](crate::names::key).
    pub key: String,
    /// The name, as everyone will see it.
    pub name: String,
    /// What it looks like, by [`lookalikes`](crate::lookalikes).
    pub looks: [String; 2],
    /// The hash of the password.
    pub password: String,
}

/// An account.
pub struct Account {
    /// The name, as everyone sees it.
    pub name: String,
    /// The hash of the password.
    pub password: String,
}

/// A session.
#[derive(Debug, PartialEq, Eq)]
pub struct Session {
    /// The name of its account, as everyone sees it.
    pub name: String,
    /// When it began, in milliseconds since 1970.
    pub created: u64,
    /// When it was last used, more or less.
    pub used: u64,
}

/// Where accounts and sessions are kept. Each function is atomic: two servers that call it at once
/// find one order. They all fail with [`Unavailable`](crate::log::Unavailable) only.
pub trait Directory: Send + Sync {
    /// Whether a name, or one that looks like it, is taken.
    fn is_taken<'a>(&'a self, key: &'a str, looks: &'a [String; 2]) -> BoxFuture<'a, Answer<bool>>;

    /// Makes an account, unless its name is taken. Tells whether it did.
    fn add_account(&self, newcomer: Newcomer, now: u64) -> BoxFuture<'_, Answer<bool>>;

    /// Finds an account.
    fn account<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Answer<Option<Account>>>;

    /// Begins a session, and ends the oldest ones of the account if it has too many. Gives these.
    fn begin_session<'a>(
        &'a self,
        session: SessionKey,
        account: &'a str,
        now: u64,
    ) -> BoxFuture<'a, Answer<Vec<SessionKey>>>;

    /// Finds a session.
    fn session(&self, session: SessionKey) -> BoxFuture<'_, Answer<Option<Session>>>;

    /// Notes that sessions are in use. Gives those that are not there any more.
    fn touch(&self, sessions: Vec<SessionKey>, now: u64) -> BoxFuture<'_, Answer<Vec<SessionKey>>>;

    /// How often to [`Directory::touch`] sessions to find out whether they are still there; `None` if
    /// they end on this server only.
    fn check_every(&self) -> Option<Duration> {
        None
    }

    /// Ends a session.
    fn end_session(&self, session: SessionKey) -> BoxFuture<'_, Answer<()>>;

    /// Deletes the sessions that began, or were used last, before these times. Tells how many.
    fn delete_sessions(&self, began: u64, used: u64) -> BoxFuture<'_, Answer<usize>>;
}
// ANCHOR_END: all
