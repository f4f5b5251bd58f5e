// ANCHOR: all
//! The log: what is in it is never lost. Here stands what a room asks of it; [`embedded`](crate::embedded)
//! answers with a file of this server's own, [`shared`](crate::shared) with a Redis that many servers
//! share.

use std::time::Duration;

use futures_util::future::BoxFuture;
use thiserror::Error;
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use crate::feed::Feed;
use crate::protocol::{RoomInfo, Said};
use crate::search::Search;

/// How many of the last messages of a room can be resumed.
pub const KEPT: u64 = 10_000;

/// For how long the log knows a message's id at least: as long as clients may send it again.
pub const REPEATABLE: Duration = Duration::from_secs(24 * 60 * 60);

/// How many messages [`Log::look`] gives.
pub const TAIL: usize = 512;

/// The log is away: nothing was stored, or it is not known whether.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the log is away")]
pub struct Unavailable;

/// What the log answers.
pub type Answer<T> = Result<T, Unavailable>;

// ANCHOR: words
/// A room, in whichever namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RoomId {
    /// The namespace.
    pub namespace: &'static str,
    /// The name of the room.
    pub room: String,
}

/// A message that somebody wants to have stored.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The namespace of the room and the sender.
    pub namespace: &'static str,
    /// Which room.
    pub room: String,
    /// The sender's id for it.
    pub id: Uuid,
    /// The sender.
    pub from: String,
    /// What they say.
    pub text: String,
}

/// What became of a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is stored, with this number.
    Stored(u64),
    /// It has been stored before, with this number.
    Repeated(u64),
    /// Its sender has used the id for another message.
    Conflict,
    /// Its sender has sent too many, on this server and others. After this time it would be stored.
    TooMuch(Duration),
}

/// How far a room has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Which count the number belongs to.
    pub epoch: Uuid,
    /// The last number that was given, or 0. The message may be too old to be there.
    pub seq: u64,
}

/// The last message that a server has of a room. A log that does not have it has lost something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// How far the server has come.
    pub position: Position,
    /// The id of the message with that number, if it is known.
    pub id: Option<Uuid>,
}
// ANCHOR_END: words

// ANCHOR: log
/// A log of all rooms, with a live feed of each.
///
/// A trait can be a type, as in `Arc<dyn Log>`: one of several, and which one shows at run time. For
/// that its functions can't be `async`; they return the future in a box instead.
pub trait Log: Send + Sync {
    /// Begins the live feed of a room: from here on it brings whatever happens there, on whichever
    /// server. One feed a room and server.
    fn follow<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, Answer<Feed>>;

    /// How far a room has come, with its last [`TAIL`] messages, oldest first.
    fn look<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, Answer<(Position, Vec<Said>)>>;

    /// How far a room has come. If the log does not have what the server has, it is another epoch
    /// from here on.
    fn check<'a>(&'a self, room: &'a RoomId, held: Held) -> BoxFuture<'a, Answer<Position>>;

    /// How often to [`Log::check`] a room of which nothing is heard; `None` if its feed loses nothing.
    fn check_every(&self) -> Option<Duration>;

    /// Reads the messages of a room that come after `after`, `last` included: all of them, or the
    /// first page.
    fn read<'a>(
        &'a self,
        room: &'a RoomId,
        after: u64,
        last: u64,
    ) -> BoxFuture<'a, Answer<Vec<Said>>>;

    // ANCHOR: append
    /// Takes a message to store. The answer comes when it is safe; drafts of one room are stored, and
    /// answered, in the order in which they were handed over.
    fn append(&self, draft: Draft) -> BoxFuture<'_, oneshot::Receiver<Answer<Appended>>>;
    // ANCHOR_END: append

    /// A user is in a room from now on, on this server.
    fn enter(&self, room: &RoomId, name: &str);

    /// A user is in a room no longer, on this server.
    fn leave(&self, room: &RoomId, name: &str);

    /// Who is in a room on other servers, as far as it is known here.
    fn elsewhere(&self, room: &RoomId) -> Vec<String>;

    /// The rooms of a namespace that have members, the largest ones first; `None` if all of them are
    /// on this server.
    fn rooms(&self, namespace: &'static str) -> BoxFuture<'_, Answer<Option<Vec<RoomInfo>>>>;

    /// Tells everybody in a room that somebody is typing. It may get lost.
    fn typing(&self, room: &RoomId, name: &str);

    /// The newest messages that match, newest first.
    fn search(&self, search: Search) -> BoxFuture<'_, Answer<Vec<Said>>>;

    /// Messages from before this time, in milliseconds since 1970, are too old to be shown.
    fn horizon(&self) -> u64;

    /// Tells whether the log is away, and when that changes.
    fn degraded(&self) -> watch::Receiver<bool>;

    /// Ends, when everything handed over has been stored.
    fn close(&self) -> BoxFuture<'_, ()>;
}
// ANCHOR_END: log
// ANCHOR_END: all
