// ANCHOR: all
//! The other servers. Clients without a WebSocket come by single requests, and each of these may reach
//! another server than the one that has their session.

use std::future::pending;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::embedded::Embedded;
use crate::log::Answer;

// ANCHOR: words
/// A session of the fallback, on whichever server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Its namespace.
    pub namespace: String,
    /// The user to whom it belongs, by [`names::key`](crate::names::key).
    pub owner: String,
    /// Its name.
    pub session: Uuid,
}

/// Why a server wants to have a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its client has said hello: it begins anew.
    Begin,
    /// Its client reads on from here: it goes on.
    Move,
}

/// A session that a server has got.
pub struct Claim {
    /// For as long as it has it.
    pub lease: Lease,
    /// Whoever had it before may leave its rooms when this is dropped, and not sooner.
    pub before: Option<Before>,
}

/// What is to be dropped once a session is in its rooms on its new server.
pub type Before = Box<dyn Send>;

/// The right to have a session, and to be asked for it.
pub struct Lease {
    /// Cancelled when another server has the session.
    pub moved: CancellationToken,
    /// Cancelled when that one is in the rooms of the session, so that this one may leave them.
    pub settled: CancellationToken,
    /// Gives the session back when it is dropped.
    pub place: Box<dyn Send>,
}

/// A server that has a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct There {
    /// Names the server.
    pub node: String,
    /// The session.
    pub ticket: Ticket,
}

/// An answer to a request, as one server gives it to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// After how many seconds to ask again, if that makes sense.
    pub wait: Option<u64>,
    /// The JSON; empty if there is none.
    pub json: String,
}

/// What came of asking another server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// It has done it, and this is the answer.
    Done(Reply),
    /// It does not have the session, or not yet.
    NotThere,
    /// There is no such server any more.
    Dead,
}

/// What another server asks for: that a session here takes the body of a request.
#[derive(Debug)]
pub struct Errand {
    /// Which session.
    pub ticket: Ticket,
    /// The body.
    pub body: String,
    /// Where the answer goes; `None` if the session is not here.
    pub reply: oneshot::Sender<Option<Reply>>,
}
// ANCHOR_END: words

// ANCHOR: peers
/// What a server knows of the others, and asks of them.
pub trait Peers: Send + Sync {
    /// Takes a session to this server. If another one has it, that one is told, and takes no more
    /// requests for it. `None` if it is somebody else's session.
    fn claim(&self, ticket: Ticket, why: Why) -> BoxFuture<'_, Answer<Option<Claim>>>;

    /// Finds a session of a user: the one that is named, or the newest. `None`: no other server is
    /// known to have one.
    fn seek<'a>(
        &'a self,
        namespace: &'a str,
        owner: &'a str,
        session: Option<Uuid>,
    ) -> BoxFuture<'a, Answer<Option<There>>>;

    /// Whether a server is this one.
    fn is_here(&self, _there: &There) -> bool {
        false
    }

    /// Has a session take the body of a request.
    fn ask(&self, there: There, body: String) -> BoxFuture<'_, Answer<Asked>>;

    /// Waits for what others ask of this server. If this is dropped while it waits, nothing is lost.
    fn errand(&self) -> BoxFuture<'_, Errand>;
}
// ANCHOR_END: peers

impl Lease {
    /// One that nobody can take away.
    pub fn forever() -> Self {
        let (moved, settled) = (CancellationToken::new(), CancellationToken::new());
        Self { moved, settled, place: Box::new(()) }
    }
}

// ANCHOR: embedded
/// There is nobody else.
impl Peers for Embedded {
    fn claim(&self, _ticket: Ticket, _why: Why) -> BoxFuture<'_, Answer<Option<Claim>>> {
        async { Ok(Some(Claim { lease: Lease::forever(), before: None })) }.boxed()
    }

    fn seek<'a>(
        &'a self,
        _namespace: &'a str,
        _owner: &'a str,
        _session: Option<Uuid>,
    ) -> BoxFuture<'a, Answer<Option<There>>> {
        async { Ok(None) }.boxed()
    }

    fn ask(&self, _there: There, _body: String) -> BoxFuture<'_, Answer<Asked>> {
        async { Ok(Asked::Dead) }.boxed()
    }

    fn errand(&self) -> BoxFuture<'_, Errand> {
        pending().boxed()
    }
}
// ANCHOR_END: embedded
// ANCHOR_END: all
