// ANCHOR: all
//! Clients that come by single requests: for each a task that does what a connection does for the
//! others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::select;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use warp::sse::Event;

use crate::client::{Client, Notices};
use crate::drain::Drain;
use crate::events;
use crate::hub::{Hub, Place};
use crate::outbox::{Close, Letter, Outbox, Waiting};
use crate::places::Places;
use crate::protocol::{ClientEvent, ErrorCode};

/// How long a session stays without a stream and without a request.
const GRACE: Duration = Duration::from_secs(30);

/// How long a stream may take to end.
const GOODBYE: Duration = Duration::from_secs(10);

/// How many requests may wait for a session.
const INBOX: usize = 16;

// ANCHOR: sessions
/// The sessions of one namespace.
pub struct Sessions {
    hub: Arc<Hub>,
    open: Mutex<HashMap<Uuid, Sender<Request>>>,
}

/// What a session is asked for.
pub enum Request {
    /// Send everything there from now on.
    Listen {
        /// The rooms, and how far the client has seen them.
        places: Places,
        /// The stream.
        events: Sender<Event>,
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

    /// Begins a session, and gives its welcome.
    ///
    /// # Errors
    /// As [`Hub::enter`].
    pub fn begin(
        self: &Arc<Self>,
        name: &str,
        session: Option<Uuid>,
        slot: OwnedSemaphorePermit,
        drain: Drain,
    ) -> Result<Letter, ErrorCode> {
        let place = self.hub.enter(name, session)?;
        let Place { session, replaced, .. } = &place;
        let (session, replaced) = (*session, replaced.clone());
        let (outbox, mut waiting) = Outbox::new();
        let (client, notices) = Client::new(place, Arc::clone(&self.hub), outbox);
        // Nothing but the welcome is in the outbox yet.
        let welcome = waiting.try_recv().ok().and_then(Waiting::into_letter);
        let welcome = welcome.ok_or(ErrorCode::Unavailable)?;

        let (sender, requests) = mpsc::channel(INBOX);
        self.lock().insert(session, sender.clone());
        let ended = CancellationToken::new();
        ended.cancel();
        let remote = Remote { client, notices, requests, ended };
        let sessions = Arc::clone(self);
        tokio::spawn(async move {
            remote.run(replaced, drain).await;
            sessions.forget(session, &sender);
            drop(slot);
        });
        Ok(welcome)
    }

    /// Asks a session for something.
    ///
    /// # Errors
    /// `unauthorized`, if there is no such session.
    pub async fn ask(&self, session: Option<Uuid>, request: Request) -> Result<(), ErrorCode> {
        let sender = session.and_then(|session| self.lock().get(&session).cloned());
        let sender = sender.ok_or(ErrorCode::Unauthorized)?;
        sender.send(request).await.map_err(|_| ErrorCode::Unauthorized)
    }

    /// Takes a session off the list, unless it was begun again meanwhile.
    fn forget(&self, session: Uuid, sender: &Sender<Request>) {
        let mut open = self.lock();
        if open.get(&session).is_some_and(|other| other.same_channel(sender)) {
            open.remove(&session);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Sender<Request>>> {
        // As in the hub: a map that lost one update is better than a chat that has ended.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
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
}

impl Remote {
    /// Serves a client until it stays away, comes back elsewhere, or the server stops.
    async fn run(mut self, replaced: CancellationToken, drain: Drain) {
        let close = match drain.stop.run_until_cancelled(self.serve(&replaced)).await {
            Some(close) => close,
            None => {
                let after = drain.announce(self.client.outbox());
                timeout(after, self.serve(&replaced)).await.unwrap_or(Some(Close::RESTARTING))
            }
        };
        let Self { client, ended, .. } = self;
        tracing::info!(id = %client.who().connection, name = client.who().name, ?close, "gone");
        if let Some(close) = close {
            client.outbox().close(close);
        }
        client.leave().await;
        let _ = timeout(GOODBYE, ended.cancelled()).await;
    }

    /// Does what the client asks for. The result tells the client why it ends, if it is still there.
    async fn serve(&mut self, replaced: &CancellationToken) -> Option<Close> {
        let requests = replaced.run_until_cancelled(self.take_requests());
        requests.await.map_or(Some(Close::REPLACED), |()| None)
    }

    /// Takes whatever comes next: a request or a notice.
    async fn take_requests(&mut self) {
        loop {
            select! {
                request = self.requests.recv() => match request {
                    Some(Request::Listen { places, events }) => self.listen(places, events).await,
                    Some(Request::Say { event, reply }) => self.client.handle(event, &reply).await,
                    None => return,
                },
                Some(notice) = self.notices.next() => self.client.heed(notice).await,
                () = abandoned(&self.ended) => return,
            }
        }
    }

    /// Begins a stream, and ends the one before.
    async fn listen(&mut self, places: Places, events: Sender<Event>) {
        self.client.outbox().close(Close::REPLACED);
        let (outbox, ended) = events::write(places.clone(), events);
        self.ended = ended;
        self.notices.tell_status(&outbox);
        self.client.move_to(outbox, &places).await;
        for (room, cursor) in places.0 {
            if let Err(code) = self.client.join(room, cursor).await {
                self.client.outbox().tell(code);
            }
        }
    }
}

/// Waits until there has been no stream for a while.
async fn abandoned(ended: &CancellationToken) {
    ended.cancelled().await;
    sleep(GRACE).await;
}
// ANCHOR_END: remote
// ANCHOR_END: all
