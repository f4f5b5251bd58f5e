// ANCHOR: all
//! Clients that come by single requests: for each a task that does what a connection does for the
//! others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::select;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use warp::sse::Event;

use crate::accounts::Live;
use crate::client::{Client, Notices};
use crate::connection::Guest;
use crate::drain::Drain;
use crate::events;
use crate::hub::{Hub, Place};
use crate::letter::Letter;
use crate::limits::{Meter, TooMuch};
use crate::names;
use crate::outbox::{Close, Item, Outbox};
use crate::places::Places;
use crate::protocol::{ClientEvent, ErrorCode};
use crate::seats::Seat;
use crate::telemetry;

/// How long a session stays without a stream and without a request.
const GRACE: Duration = Duration::from_secs(30);

/// How long a stream may take to end.
const GOODBYE: Duration = Duration::from_secs(10);

/// How many requests may wait for a session.
const INBOX: usize = 16;

/// What this transport is called in the metrics.
const TRANSPORT: &str = "fallback";

// ANCHOR: sessions
/// The sessions of one namespace.
pub struct Sessions {
    hub: Arc<Hub>,
    open: Mutex<HashMap<Uuid, Open>>,
}

/// One of them. Clones reach the same one.
#[derive(Clone)]
pub struct Open {
    requests: Sender<Request>,
    /// The user to whom it belongs, by [`names::key`].
    owner: String,
    begun: Instant,
    meter: Arc<Meter>,
    /// Cancelled to end it because it does not care about its limits.
    flooding: CancellationToken,
}

/// What a session is asked for.
pub enum Request {
    /// Send everything there from now on.
    Listen {
        /// The rooms, and how far the client has seen them.
        places: Places,
        /// The stream.
        events: Sender<Event>,
        /// What the stream begins with, if the session began with it.
        welcome: Option<Letter>,
    },
    /// Do this.
    Say {
        /// What.
        event: ClientEvent,
        /// Where the answer goes.
        reply: Outbox,
    },
}

impl Sessions {
    /// Makes a namespace without sessions.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub, open: Mutex::default() }
    }

    /// The namespace.
    pub fn hub(&self) -> Arc<Hub> {
        Arc::clone(&self.hub)
    }

    /// Begins a session, and gives it with its welcome.
    ///
    /// # Errors
    /// None that a client could cause.
    pub fn begin(
        self: &Arc<Self>,
        guest: Guest,
        seat: Seat,
        drain: Drain,
    ) -> Result<(Open, Letter), ErrorCode> {
        let Guest { name, session, meter, live } = guest;
        let session = session.filter(|session| self.is_free_for(&name, *session));
        let place = self.hub.enter(&name, session);
        let Place { session, replaced, .. } = &place;
        let (session, replaced) = (*session, replaced.clone());
        let outbox = Outbox::for_stream();
        let (client, notices) = Client::new(place, Arc::clone(&self.hub), outbox.clone());
        // Nothing but the welcome is in the outbox yet.
        let Some(Ok((Item::Event(welcome), _))) = outbox.next().now_or_never() else {
            return Err(ErrorCode::Unavailable);
        };

        let (requests, taken) = mpsc::channel(INBOX);
        let (ended, flooding) = (CancellationToken::new(), CancellationToken::new());
        ended.cancel();
        let open = Open {
            requests,
            owner: names::key(&name),
            begun: Instant::now(),
            meter: Arc::new(meter),
            flooding: flooding.clone(),
        };
        self.lock().insert(session, open.clone());
        let remote = Remote { client, notices, requests: taken, ended, replaced, flooding, live };
        let (sessions, sender) = (Arc::clone(self), open.requests.clone());
        tokio::spawn(async move {
            remote.run(drain).await;
            sessions.forget(session, &sender);
            drop(seat);
        });
        Ok((open, welcome))
    }

    // ANCHOR: find
    /// Finds a session of a user: the one that is named, or the newest.
    ///
    /// # Errors
    /// `unauthorized`, if the user has no such session. Whether somebody else has it, they don't learn.
    pub fn find(&self, name: &str, session: Option<Uuid>) -> Result<Open, ErrorCode> {
        let (owner, open) = (names::key(name), self.lock());
        let found = match session {
            Some(session) => open.get(&session).filter(|open| open.owner == owner),
            None => open.values().filter(|open| open.owner == owner).max_by_key(|open| open.begun),
        };
        found.cloned().ok_or(ErrorCode::Unauthorized)
    }
    // ANCHOR_END: find

    /// Whether a user may come back with a session. Somebody else's they do not get, even if they
    /// know what it is called.
    fn is_free_for(&self, name: &str, session: Uuid) -> bool {
        self.lock().get(&session).is_none_or(|open| open.owner == names::key(name))
    }

    /// Takes a session off the list, unless it was begun again meanwhile.
    fn forget(&self, session: Uuid, sender: &Sender<Request>) {
        let mut open = self.lock();
        if open.get(&session).is_some_and(|other| other.requests.same_channel(sender)) {
            open.remove(&session);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Open>> {
        // As in the hub: a map that lost one update is better than a chat that has ended.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Asks a session for something.
    ///
    /// # Errors
    /// `unauthorized`, if it has ended.
    pub async fn ask(&self, request: Request) -> Result<(), ErrorCode> {
        self.requests.send(request).await.map_err(|_| ErrorCode::Unauthorized)
    }

    /// Counts an event.
    ///
    /// # Errors
    /// It is one too many. Who goes on like that has no session any more.
    pub fn count(&self) -> Result<(), TooMuch> {
        telemetry::event_came();
        let counted = self.meter.event();
        if counted.is_err_and(|too_much| too_much.is_flood) {
            self.flooding.cancel();
        }
        counted
    }
}
// ANCHOR_END: sessions

// ANCHOR: remote
/// One client with a session.
struct Remote {
    client: Client,
    notices: Notices,
    requests: Receiver<Request>,
    /// Cancelled when there is no stream.
    ended: CancellationToken,
    /// Cancelled when the client comes back elsewhere.
    replaced: CancellationToken,
    /// Cancelled when the client sends too much.
    flooding: CancellationToken,
    /// Tells when its user has to sign in again.
    live: Live,
}

impl Remote {
    /// Serves a client until it stays away, has to go, or the server stops.
    async fn run(mut self, drain: Drain) {
        telemetry::opened(TRANSPORT);
        let close = match drain.stop.clone().run_until_cancelled(self.serve()).await {
            Some(close) => close,
            None => {
                let after = drain.announce(self.client.outbox());
                timeout(after, self.serve()).await.unwrap_or(Some(Close::RESTARTING))
            }
        };
        let Self { client, ended, .. } = self;
        let (who, code) = (client.who(), close.map_or(0, |close| close.code));
        tracing::info!(id = %who.connection, name = who.name, code, "gone");
        match close {
            Some(close) => client.outbox().close(close),
            None => client.outbox().seal(None),
        }
        client.leave().await;
        let _ = timeout(GOODBYE, ended.cancelled()).await;
        telemetry::closed(TRANSPORT, code);
    }

    /// Does what the client asks for. The result tells the client why it ends, if it is still there.
    async fn serve(&mut self) -> Option<Close> {
        let Self { client, notices, requests, ended, replaced, flooding, live } = self;
        select! {
            () = take_requests(client, notices, requests, ended) => None,
            () = replaced.cancelled() => Some(Close::REPLACED),
            () = flooding.cancelled() => Some(Close::FLOODING),
            () = live.ended() => Some(Close::SIGNED_OUT),
        }
    }
}

/// Takes whatever comes next: a request or a notice.
async fn take_requests(
    client: &mut Client,
    notices: &mut Notices,
    requests: &mut Receiver<Request>,
    ended: &mut CancellationToken,
) {
    loop {
        select! {
            request = requests.recv() => match request {
                Some(Request::Listen { places, events, welcome }) => {
                    *ended = listen(client, notices, places, events, welcome).await;
                }
                Some(Request::Say { event, reply }) => client.handle(event, &reply).await,
                None => return,
            },
            Some(notice) = notices.next() => client.heed(notice).await,
            () = abandoned(ended) => return,
        }
    }
}

/// Begins a stream, and ends the one before. Gives what is cancelled when it has ended.
async fn listen(
    client: &mut Client,
    notices: &mut Notices,
    places: Places,
    events: Sender<Event>,
    welcome: Option<Letter>,
) -> CancellationToken {
    client.outbox().close(Close::REPLACED);
    let (outbox, ended) = events::write(places.clone(), events);
    welcome.into_iter().for_each(|welcome| outbox.push(&welcome.into()));
    notices.tell_status(&outbox);
    client.move_to(outbox, &places).await;
    for (room, cursor) in places.0 {
        if let Err(code) = client.join(room, cursor).await {
            client.outbox().tell(code);
        }
    }
    ended
}

/// Waits until there has been no stream for a while.
async fn abandoned(ended: &CancellationToken) {
    ended.cancelled().await;
    sleep(GRACE).await;
}
// ANCHOR_END: remote
// ANCHOR_END: all
