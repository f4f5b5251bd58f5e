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
use crate::log::Unavailable;
use crate::names;
use crate::outbox::{Close, Item, Outbox};
use crate::peers::{Before, Claim, Lease, Peers, There, Ticket, Why};
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
    peers: Arc<dyn Peers>,
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
    /// Cancelled when another server has it.
    moved: CancellationToken,
}

/// Where a session is.
pub enum Found {
    /// On this server.
    Here(Open),
    /// On another one.
    There(There),
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
        /// What is dropped when the rooms are joined, if the session comes from another server.
        before: Option<Before>,
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
    pub fn new(hub: Arc<Hub>, peers: Arc<dyn Peers>) -> Self {
        Self { hub, peers, open: Mutex::default() }
    }

    /// The namespace.
    pub fn hub(&self) -> Arc<Hub> {
        Arc::clone(&self.hub)
    }

    /// The other servers.
    pub fn peers(&self) -> &dyn Peers {
        &*self.peers
    }

    /// Begins a session, and gives it with its welcome. If the client had it before, here or on another
    /// server, that ends.
    ///
    /// # Errors
    /// `unavailable`: it is not known at the moment whose the session is that the client names.
    pub async fn begin(
        self: &Arc<Self>,
        guest: Guest,
        seat: Seat,
        drain: Drain,
    ) -> Result<(Open, Letter), ErrorCode> {
        let (session, Claim { lease, before }) = self.claim(&guest).await?;
        drop(before);
        let place = match guest.session {
            Some(named) if named == session => {
                self.hub.enter(&guest.name, Some(session), guest.arrived)
            }
            _ => self.hub.enter_as(&guest.name, session, guest.arrived),
        };
        self.open(place, lease, (guest, seat), drain, None)
    }

    // ANCHOR: move
    /// Goes on here with a session that another server has, and begins its stream: with the first
    /// request that the session takes, so that any other one finds it in its rooms. Until then it is in
    /// them there.
    ///
    /// # Errors
    /// `unauthorized`: somebody else has it by now. `unavailable`: nobody knows.
    pub async fn take_over(
        self: &Arc<Self>,
        there: There,
        (guest, seat): (Guest, Seat),
        drain: Drain,
        places: Places,
        events: Sender<Event>,
    ) -> Result<(), ErrorCode> {
        let session = there.ticket.session;
        let claim = self.peers.claim(there.ticket, Why::Move).await;
        let claim = claim.map_err(|_| ErrorCode::Unavailable)?;
        let Claim { lease, before } = claim.ok_or(ErrorCode::Unauthorized)?;
        let place = self.hub.enter_as(&guest.name, session, guest.arrived);
        let listen = Request::Listen { places, events, welcome: None, before };
        self.open(place, lease, (guest, seat), drain, Some(listen)).map(drop)
    }
    // ANCHOR_END: move

    /// Gets the session that a guest names or, if it is somebody else's or none, a new one.
    async fn claim(&self, guest: &Guest) -> Result<(Uuid, Claim), ErrorCode> {
        let named = guest.session.filter(|session| self.is_free_for(&guest.name, *session));
        for session in named.into_iter().chain([Uuid::new_v4()]) {
            let ticket = self.ticket(&names::key(&guest.name), session);
            let claim = self.peers.claim(ticket, Why::Begin).await;
            if let Some(claim) = claim.map_err(|_| ErrorCode::Unavailable)? {
                return Ok((session, claim));
            }
        }
        Err(ErrorCode::Unavailable)
    }

    fn ticket(&self, owner: &str, session: Uuid) -> Ticket {
        Ticket { namespace: self.hub.namespace().to_owned(), owner: owner.to_owned(), session }
    }

    /// Starts the task of a session, with the request that comes before all others.
    fn open(
        self: &Arc<Self>,
        place: Place,
        lease: Lease,
        (guest, seat): (Guest, Seat),
        drain: Drain,
        first: Option<Request>,
    ) -> Result<(Open, Letter), ErrorCode> {
        let Guest { name, meter, live, .. } = guest;
        let (session, replaced) = (place.session, place.replaced.clone());
        let outbox = Outbox::for_stream();
        let (client, notices) = Client::new(place, Arc::clone(&self.hub), outbox.clone());
        // Nothing but the welcome is in the outbox yet.
        let Some(Ok((Item::Event(welcome), _))) = outbox.next().now_or_never() else {
            return Err(ErrorCode::Unavailable);
        };

        let (requests, taken) = mpsc::channel(INBOX);
        // There is space for it: it is the first.
        first.into_iter().for_each(|first| drop(requests.try_send(first)));
        let (ended, flooding) = (CancellationToken::new(), CancellationToken::new());
        ended.cancel();
        let Lease { moved, settled, place } = lease;
        let open = Open {
            requests,
            owner: names::key(&name),
            begun: Instant::now(),
            meter: Arc::new(meter),
            flooding: flooding.clone(),
            moved: moved.clone(),
        };
        self.lock().insert(session, open.clone());
        let requests = taken;
        let remote =
            Remote { client, notices, requests, ended, replaced, flooding, live, moved, settled };
        let (sessions, sender) = (Arc::clone(self), open.requests.clone());
        tokio::spawn(async move {
            remote.run(drain).await;
            sessions.forget(session, &sender);
            drop((place, seat));
        });
        Ok((open, welcome))
    }

    // ANCHOR: find
    /// Finds a session of a user: the one that is named, or the newest.
    ///
    /// # Errors
    /// `unauthorized`, if the user has no such session. Whether somebody else has it, they don't learn.
    /// `unavailable`, if only other servers may have it, and can't be asked.
    pub async fn find(&self, name: &str, session: Option<Uuid>) -> Result<Found, ErrorCode> {
        let owner = names::key(name);
        let here = self.here(&owner, session);
        if let (Some(open), Some(_)) = (&here, session) {
            return Ok(Found::Here(open.clone()));
        }
        match self.peers.seek(self.hub.namespace(), &owner, session).await {
            Ok(Some(there)) => Ok(self
                .here(&owner, Some(there.ticket.session))
                .map_or(Found::There(there), Found::Here)),
            Ok(None) => here.map(Found::Here).ok_or(ErrorCode::Unauthorized),
            Err(Unavailable) => here.map(Found::Here).ok_or(ErrorCode::Unavailable),
        }
    }

    /// The same for a stream that begins, which lasts: by now another server may have the session, and
    /// this one may yet have to hear of it.
    ///
    /// # Errors
    /// As [`Sessions::find`].
    pub async fn find_for_stream(&self, name: &str, session: Uuid) -> Result<Found, ErrorCode> {
        let sought = self.peers.seek(self.hub.namespace(), &names::key(name), Some(session)).await;
        match sought {
            Ok(Some(there)) if !self.peers.is_here(&there) => Ok(Found::There(there)),
            _ => self.find(name, Some(session)).await,
        }
    }

    /// Finds a session of a user on this server: the one that is named, or the newest.
    pub fn here(&self, owner: &str, session: Option<Uuid>) -> Option<Open> {
        let open = self.lock();
        let is_theirs = |open: &&Open| open.owner == owner && !open.has_moved();
        let found = match session {
            Some(session) => open.get(&session).filter(is_theirs),
            None => open.values().filter(is_theirs).max_by_key(|open| open.begun),
        };
        found.cloned()
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

    /// Whether another server has it by now.
    pub fn has_moved(&self) -> bool {
        self.moved.is_cancelled()
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
    /// Cancelled when another server has the session.
    moved: CancellationToken,
    /// Cancelled when the client is in its rooms there.
    settled: CancellationToken,
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
        let Self { client, ended, requests, moved, settled, .. } = self;
        // Nobody waits for an answer that does not come.
        drop(requests);
        let close = if moved.is_cancelled() { Some(part(settled).await) } else { close };
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
        let Self { client, notices, requests, ended, replaced, flooding, live, moved, .. } = self;
        select! {
            () = take_requests(client, notices, requests, ended) => None,
            () = replaced.cancelled() => Some(Close::REPLACED),
            () = moved.cancelled() => Some(Close::REPLACED),
            () = flooding.cancelled() => Some(Close::FLOODING),
            () = live.ended() => Some(Close::SIGNED_OUT),
        }
    }
}

/// Waits until a session is in its rooms on its new server, or others would see its user leave, and come
/// back. If it does not get there, whoever asked for it has gone: its client, which is here, comes back.
async fn part(settled: CancellationToken) -> Close {
    match timeout(GOODBYE, settled.cancelled()).await {
        Ok(()) => Close::REPLACED,
        Err(_elapsed) => Close::LATER,
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
                Some(Request::Listen { places, events, welcome, before }) => {
                    *ended = listen(client, notices, places, events, welcome).await;
                    drop(before);
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

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::net::{IpAddr, Ipv4Addr};

    use futures_util::future::BoxFuture;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::accounts::{Accounts, Lifetime, SignedIn};
    use crate::embedded::Embedded;
    use crate::limits::Limits;
    use crate::log::Answer;
    use crate::peers::{Asked, Errand};
    use crate::protocol::now;
    use crate::reception::Reception;
    use crate::seats::{Caps, Seats};

    /// Another server, which takes every session when it is told to.
    #[derive(Default)]
    struct Other {
        moved: CancellationToken,
        settled: CancellationToken,
    }

    impl Peers for Other {
        fn claim(&self, _ticket: Ticket, _why: Why) -> BoxFuture<'_, Answer<Option<Claim>>> {
            let (moved, settled) = (self.moved.clone(), self.settled.clone());
            let lease = Lease { moved, settled, place: Box::new(()) };
            async { Ok(Some(Claim { lease, before: None })) }.boxed()
        }

        fn seek<'a>(
            &'a self,
            namespace: &'a str,
            owner: &'a str,
            session: Option<Uuid>,
        ) -> BoxFuture<'a, Answer<Option<There>>> {
            let session = session.filter(|_| self.moved.is_cancelled());
            let (namespace, owner) = (namespace.to_owned(), owner.to_owned());
            let there = session.map(|session| There {
                node: "b".to_owned(),
                ticket: Ticket { namespace, owner, session },
            });
            async { Ok(there) }.boxed()
        }

        fn ask(&self, _there: There, _body: String) -> BoxFuture<'_, Answer<Asked>> {
            async { Ok(Asked::NotThere) }.boxed()
        }

        fn errand(&self) -> BoxFuture<'_, Errand> {
            pending().boxed()
        }
    }

    #[tokio::test]
    async fn a_session_that_moves_is_found_there_and_leaves_its_rooms_once_it_is_settled() {
        let dir = std::env::temp_dir().join(Uuid::new_v4().to_string());
        let log = Arc::new(Embedded::open(&dir).unwrap());
        let hour = Duration::from_secs(3600);
        let drain = Drain { stop: CancellationToken::new(), window: Duration::ZERO };
        let reception = Reception {
            accounts: Accounts::new(log.clone(), Lifetime { max: hour, idle: hour }),
            users: log.clone(),
            seats: Seats::new(Caps { all: 9, per_address: 9, per_user: 9 }),
            limits: Arc::new(Limits::new(true)),
            drain: drain.clone(),
        };
        let space = Arc::new(Semaphore::new(9));
        let hub = Arc::new(Hub::new("", log.clone(), log, reception.accounts.clone(), space));
        let other = Arc::new(Other::default());
        let sessions = Arc::new(Sessions::new(hub, other.clone()));

        let ada = SignedIn { name: "ada".to_owned(), session: [7; 32], ends: now() + 3_600_000 };
        let session = Uuid::new_v4();
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (guest, seat) = reception.admit(&ada, here, Some(session)).await.unwrap();
        let (open, _welcome) = sessions.begin(guest, seat, drain).await.unwrap();
        let (events, mut stream) = mpsc::channel(1);
        let places = "rust".parse().unwrap();
        let listen = Request::Listen { places, events, welcome: None, before: None };
        open.ask(listen).await.unwrap();
        stream.recv().await.unwrap();
        let found = sessions.find("ada", Some(session)).await;
        assert!(matches!(found, Ok(Found::Here(_))));

        other.moved.cancel();
        let found = sessions.find("ada", Some(session)).await;
        assert!(matches!(found, Ok(Found::There(there)) if there.ticket.session == session));
        assert_eq!(reception.seats.taken(), 1, "it is in its rooms until it is there in others");
        other.settled.cancel();
        while stream.recv().await.is_some() {}
        timeout(GOODBYE / 2, reception.seats.all_left()).await.unwrap();
        std::fs::remove_dir_all(dir).unwrap();
    }
}
// ANCHOR_END: all
