// ANCHOR: all
//! The same chat without a WebSocket, for networks that block it: a stream of events one way, and
//! requests the other.
//!
//! `POST /hello` begins a session, `GET /events` is what the server sends, `POST /events` is what
//! the client sends. The stream is [server-sent events](https://html.spec.whatwg.org/multipage/server-sent-events.html):
//! a browser reads it with `EventSource`, and comes back by itself with the `id:` it has read last.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::poll_fn;
use serde::Deserialize;
use serde_json::json;
use tokio::select;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, Sender};
use tokio::time::{sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use warp::Filter;
use warp::http::{StatusCode, header};
use warp::reject::Rejection;
use warp::reply::{Reply as _, Response, with_header, with_status};
use warp::sse::{self, Event};

use crate::accounts::SignedIn;
use crate::body::json_body;
use crate::connection::Guest;
use crate::drain::Drain;
use crate::letter::Letter;
use crate::limits::TooMuch;
use crate::log::{Answer, Unavailable};
use crate::outbox::{Close, End, Item, Outbox};
use crate::peers::{Asked, Errand, Peers, Reply, There};
use crate::places::Places;
use crate::protocol::{self, ClientEvent, ErrorCode, ServerEvent};
use crate::reception::Reception;
use crate::seats::{Full, Seat};
use crate::sessions::{Found, Open, Request, Sessions};
use crate::spread::spread;

/// The largest body of a request, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// How often a quiet stream shows that it is alive. Proxies cut those that are quiet for 60 seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long a stream lasts at most. Nobody answers pings in a stream, so this is how dead ones go;
/// a client that is alive comes back at once and misses nothing.
const LIFE: Duration = Duration::from_secs(5 * 60);

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(10);

/// How long a request may wait for its answer.
const ANSWER: Duration = Duration::from_secs(30);

/// How often the session of a request is looked for anew, if it is on the move.
const TRIES: usize = 5;

/// How long its new server gets to have it.
const PAUSE: Duration = Duration::from_millis(50);

/// How many requests that reach other servers are under way here at once.
const ERRANDS: usize = 1024;

// ANCHOR: routes
/// Which session a request belongs to, and where a stream begins.
#[derive(Deserialize)]
struct Query {
    session: Option<Uuid>,
    #[serde(default)]
    join: String,
}

/// Somebody who asks for something: the namespace, the user, and the address.
pub type Asking<Who = SignedIn> = (Arc<Sessions>, Who, IpAddr);

/// The requests of this module. The filters find the way and who asks: for `POST /hello`,
/// `GET /events` and `POST /events`.
pub fn routes<F, G, H>(
    hello: F,
    listening: G,
    saying: H,
    reception: Reception,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone
where
    F: Filter<Extract = Asking, Error = Rejection> + Clone + Send + Sync + 'static,
    G: Filter<Extract = Asking, Error = Rejection> + Clone + Send + Sync + 'static,
    H: Filter<Extract = Asking<Answer<SignedIn>>, Error = Rejection>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let reception = warp::any().map(move || reception.clone());
    let begin = hello.and(json_body(MAX_BODY)).and(reception.clone()).then(begin);
    let listen = listening
        .and(warp::query())
        .and(warp::header::optional("last-event-id"))
        .and(reception)
        .then(listen);
    let say = saying
        .and(warp::query())
        .and(warp::header::optional("authorization"))
        .and(json_body(MAX_BODY))
        .then(say);
    begin.or(listen).unify().or(say).unify()
}
// ANCHOR_END: routes

// ANCHOR: begin
/// Answers `POST /hello`.
async fn begin(
    sessions: Arc<Sessions>,
    who: SignedIn,
    address: IpAddr,
    body: Vec<u8>,
    reception: Reception,
) -> Response {
    let session = match read(&body) {
        Ok(ClientEvent::Hello { session }) => session,
        Ok(_) => return refuse(StatusCode::BAD_REQUEST, ErrorCode::HelloFirst),
        Err(error) => return answer(StatusCode::BAD_REQUEST, &Letter::from(&error)),
    };
    match admit(&sessions, &who, address, session, &reception).await {
        Ok((_open, welcome)) => answer(StatusCode::OK, &welcome),
        Err(full) => crate::full(full),
    }
}

/// Lets somebody in without a WebSocket.
async fn admit(
    sessions: &Arc<Sessions>,
    who: &SignedIn,
    address: IpAddr,
    session: Option<Uuid>,
    reception: &Reception,
) -> Result<(Open, Letter), Full> {
    let (guest, seat) = reception.admit(who, address, session).await?;
    let begun = sessions.begin(guest, seat, reception.drain.clone()).await;
    begun.map_err(|_unavailable| Full::Server)
}

/// Reads the event in a body.
fn read(body: &[u8]) -> Result<ClientEvent, ServerEvent> {
    protocol::decode(std::str::from_utf8(body).map_err(|_| ErrorCode::BadJson)?)
}

/// An error as the answer.
pub fn refuse(status: StatusCode, code: ErrorCode) -> Response {
    answer(status, &Letter::from(&ServerEvent::from(code)))
}

/// An event as the answer.
fn answer(status: StatusCode, letter: &Letter) -> Response {
    reply(status, letter).into_response()
}

/// The answer to who asks too much: 429, and when to come back.
pub fn too_much(too_much: TooMuch, id: Option<Uuid>) -> Response {
    slower(too_much, id).into_response()
}

/// An error as the answer, with the time after which the same would be accepted.
pub fn refuse_until(
    status: StatusCode,
    code: ErrorCode,
    id: Option<Uuid>,
    wait: Duration,
) -> Response {
    until(status, code, id, wait).into_response()
}

/// An event as the body of an answer.
fn reply(status: StatusCode, letter: &Letter) -> Reply {
    let wait = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1);
    Reply { status: status.as_u16(), wait, json: letter.json().to_owned() }
}

/// The answer where there is no session, or nobody knows.
fn error(code: ErrorCode) -> Reply {
    let status = match code {
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::UNAUTHORIZED,
    };
    reply(status, &Letter::from(&ServerEvent::from(code)))
}

fn slower(too_much: TooMuch, id: Option<Uuid>) -> Reply {
    until(StatusCode::TOO_MANY_REQUESTS, ErrorCode::RateLimited, id, too_much.wait)
}

fn until(status: StatusCode, code: ErrorCode, id: Option<Uuid>, wait: Duration) -> Reply {
    let reply = reply(status, &Letter::from(&code.until(id, wait)));
    // The header has whole seconds, so it is rounded up.
    Reply { wait: Some(wait.as_secs().saturating_add(1)), ..reply }
}

impl warp::Reply for Reply {
    fn into_response(self) -> Response {
        let Self { status, wait, json } = self;
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if json.is_empty() {
            return status.into_response();
        }
        let json = with_header(json, header::CONTENT_TYPE, "application/json");
        let mut response = with_status(json, status).into_response();
        if let Some(seconds) = wait {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
// ANCHOR_END: begin

// ANCHOR: say
/// Answers `POST /events`: with the ack or the error or, where the answer comes by the stream, with
/// no content.
async fn say(
    sessions: Arc<Sessions>,
    who: Answer<SignedIn>,
    _address: IpAddr,
    query: Query,
    authorization: Option<String>,
    body: Vec<u8>,
) -> Response {
    let session = query.session.or_else(|| session_in(authorization.as_deref()));
    // What is no text is no JSON either.
    let body = String::from_utf8(body).unwrap_or_default();
    let Ok(who) = who else { return unavailable(&body) };
    for _ in 0..TRIES {
        match sessions.find(&who.name, session).await {
            Ok(Found::Here(open)) => {
                if let Some(reply) = obey(&open, &body).await {
                    return reply.into_response();
                }
            }
            Ok(Found::There(there)) => match sessions.peers().ask(there, body.clone()).await {
                Ok(Asked::Done(reply)) => return reply.into_response(),
                Ok(Asked::NotThere) => sleep(PAUSE).await,
                Ok(Asked::Dead) => return error(ErrorCode::Unauthorized).into_response(),
                Err(Unavailable) => return unavailable(&body),
            },
            Err(ErrorCode::Unavailable) => return unavailable(&body),
            Err(code) => return error(code).into_response(),
        }
    }
    // It is on the move.
    unavailable(&body)
}

/// Nobody knows whether it was done. Doing it again is harmless.
fn unavailable(body: &str) -> Response {
    let event = ErrorCode::Unavailable.about(protocol::find_id(body));
    answer(StatusCode::SERVICE_UNAVAILABLE, &Letter::from(&event))
}

/// Has a session of this server take the body of a request, and gives its answer; `None` if it has
/// moved to another server before it had one.
async fn obey(open: &Open, body: &str) -> Option<Reply> {
    if let Err(refused) = open.count() {
        return Some(slower(refused, protocol::find_id(body)));
    }
    match protocol::decode(body) {
        Ok(event) => ask(open, event).await,
        Err(error) => Some(reply(StatusCode::BAD_REQUEST, &Letter::from(&error))),
    }
}

/// A page shows its cookie, so this header is free to name the session.
fn session_in(authorization: Option<&str>) -> Option<Uuid> {
    authorization?.strip_prefix("Bearer ")?.trim().parse().ok()
}

/// Asks a session to do something, and gives what it answers.
async fn ask(open: &Open, event: ClientEvent) -> Option<Reply> {
    let (id, (to, letter)) = (event.message_id(), Outbox::for_answer());
    let asked = open.ask(Request::Say { event, reply: to }).await;
    let gone = || Some(error(ErrorCode::Unauthorized));
    match timeout(ANSWER, letter).await {
        Ok(Ok(letter)) if letter.error() == Some(ErrorCode::Unavailable) => {
            Some(reply(StatusCode::SERVICE_UNAVAILABLE, &letter))
        }
        Ok(Ok(letter)) => Some(reply(StatusCode::OK, &letter)),
        // Nobody holds the way to the answer any more: maybe the event was not read.
        Ok(Err(_)) if open.has_moved() => None,
        Ok(Err(_)) if asked.is_err() => gone(),
        // A message always has an answer, unless the session ended before it was read.
        Ok(Err(_)) if id.is_some() => gone(),
        Ok(Err(_)) => Some(Reply { status: 204, wait: None, json: String::new() }),
        Err(_elapsed) => Some(error(ErrorCode::Unavailable)),
    }
}

// ANCHOR: errands
/// Does what other servers ask for, for the sessions of this one, until `stop` is cancelled.
pub async fn run_errands(
    namespaces: Arc<[(&'static str, Arc<Sessions>)]>,
    peers: Arc<dyn Peers>,
    stop: CancellationToken,
) {
    let turns = Arc::new(Semaphore::new(ERRANDS));
    while let Some(errand) = stop.run_until_cancelled(peers.errand()).await {
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
        let Errand { ticket, body, reply } = errand;
        let mut namespaces = namespaces.iter();
        let sessions = namespaces.find(|(namespace, _)| *namespace == ticket.namespace);
        let open = sessions.and_then(|(_, it)| it.here(&ticket.owner, Some(ticket.session)));
        tokio::spawn(async move {
            let answer = match open {
                Some(open) => obey(&open, &body).await,
                None => None,
            };
            // Nobody listens if the other server has given up.
            let _ = reply.send(answer);
            drop(turn);
        });
    }
}
// ANCHOR_END: errands
// ANCHOR_END: say

// ANCHOR: listen
/// Answers `GET /events`: with a stream that begins where the last one ended.
async fn listen(
    sessions: Arc<Sessions>,
    who: SignedIn,
    address: IpAddr,
    query: Query,
    last_event_id: Option<String>,
    reception: Reception,
) -> Response {
    let last_event_id = last_event_id.filter(|id| !id.is_empty());
    let Ok(places) = last_event_id.unwrap_or(query.join).parse::<Places>() else {
        return refuse(StatusCode::BAD_REQUEST, ErrorCode::BadRoom);
    };
    let (open, welcome) = match query.session {
        Some(session) => match sessions.find_for_stream(&who.name, session).await {
            Ok(Found::Here(open)) => (open, None),
            Ok(Found::There(there)) => {
                let admitted = reception.admit(&who, address, Some(session)).await;
                return go_on(&sessions, there, admitted, reception.drain, places).await;
            }
            Err(code) => return error(code).into_response(),
        },
        None => match admit(&sessions, &who, address, None, &reception).await {
            Ok((open, welcome)) => (open, Some(welcome)),
            Err(full) => return crate::full(full),
        },
    };
    // To begin a stream is to join its rooms, and costs as much.
    if let Err(refused) = places.0.keys().try_for_each(|_room| open.count()) {
        return too_much(refused, None);
    }
    stream(&open, places, welcome).await
}

/// Begins a stream.
async fn stream(open: &Open, places: Places, welcome: Option<Letter>) -> Response {
    let (events, stream) = events();
    if open.ask(Request::Listen { places, events, welcome, before: None }).await.is_err() {
        return refuse(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized);
    }
    stream
}

// ANCHOR: go-on
/// Begins the stream of a session that another server has. It moves to this one: the server that sends
/// the stream has the session, so that what is said in its rooms takes no detour.
async fn go_on(
    sessions: &Arc<Sessions>,
    there: There,
    admitted: Result<(Guest, Seat), Full>,
    drain: Drain,
    places: Places,
) -> Response {
    let (guest, seat) = match admitted {
        Ok(admitted) => admitted,
        Err(full) => return crate::full(full),
    };
    if let Err(refused) = places.0.keys().try_for_each(|_room| guest.meter.event()) {
        return too_much(refused, None);
    }
    let (events, stream) = events();
    match sessions.take_over(there, (guest, seat), drain, places, events).await {
        Ok(()) => stream,
        Err(code) => error(code).into_response(),
    }
}
// ANCHOR_END: go-on

/// A stream, and where its events go in.
fn events() -> (Sender<Event>, Response) {
    // One event at a time: what waits, waits in the outbox, which counts it.
    let (events, mut stream) = mpsc::channel(1);
    let stream = poll_fn(move |context| stream.poll_recv(context));
    let stream = stream.map(Ok::<Event, std::convert::Infallible>);
    let stream = sse::reply(sse::keep_alive().interval(KEEP_ALIVE).text("here").stream(stream));
    // Asks nginx not to collect events before it passes them on.
    (events, with_header(stream, "x-accel-buffering", "no").into_response())
}

/// Starts the task that writes a client's outbox into a stream. Gives a token that is cancelled
/// when the stream has ended.
pub fn write(places: Places, events: Sender<Event>) -> (Outbox, CancellationToken) {
    let outbox = Outbox::for_stream();
    let ended = CancellationToken::new();
    let (guard, filled) = (ended.clone().drop_guard(), outbox.clone());
    let life = LIFE / 2 + spread(LIFE / 2);
    tokio::spawn(async move {
        select! {
            () = fill(&filled, places, &events) => {}
            () = events.closed() => {}
            () = sleep(life) => {}
        }
        // From here on nothing is kept for a stream that nobody reads.
        filled.seal(None);
        drop(guard);
    });
    (outbox, ended)
}

/// Puts what waits into a stream, with the places that it leaves the reader at. Tells a reader that
/// is too slow so, and gives it a while to hear it.
async fn fill(outbox: &Outbox, mut places: Places, events: &Sender<Event>) {
    loop {
        let (item, deadline) = match outbox.next().await {
            Ok(next) => next,
            Err(End::TooSlow) => break,
            Err(End::Said | End::Gone) => return,
        };
        let is_last = matches!(item, Item::Close(_));
        select! {
            sent = timeout_at(deadline, events.send(event(&mut places, item))) => match sent {
                Ok(Ok(())) if !is_last => {}
                Ok(_ended) => return,
                Err(_elapsed) => break,
            },
            () = outbox.overflowed() => break,
        }
    }
    let goodbye = event(&mut places, Item::Close(Close::TOO_SLOW));
    let _ = timeout(GOODBYE, events.send(goodbye)).await;
}

/// The event of the stream for an item of the queue.
fn event(places: &mut Places, item: Item) -> Event {
    match item {
        Item::Event(letter) => {
            let event = Event::default().data(letter.json());
            let Some(moved) = letter.moved() else { return event };
            places.take(moved);
            event.id(places.to_string())
        }
        // A stream has no close frame. This event has its code, and another type than all others.
        Item::Close(Close { code, reason }) => Event::default()
            .event("close")
            .data(json!({ "code": code, "reason": reason }).to_string()),
        // Frames are for WebSockets.
        Item::Frames(_) => Event::default().comment("frames"),
    }
}
// ANCHOR_END: listen

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_after_five_minutes_at_most() {
        let (events, mut stream) = mpsc::channel(1);
        let (_outbox, ended) = write(Places::default(), events);
        let began = Instant::now();
        ended.cancelled().await;
        assert!((LIFE / 2..=LIFE + Duration::from_secs(1)).contains(&began.elapsed()));
        assert!(stream.recv().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_nobody_reads_ends_after_its_goodbye() {
        let (events, stream) = mpsc::channel(1);
        let (outbox, ended) = write(Places::default(), events);
        let began = Instant::now();
        for _ in 0..3 {
            outbox.tell(ErrorCode::BadJson);
        }
        ended.cancelled().await;
        let seconds = began.elapsed().as_secs();
        assert!((20..=21).contains(&seconds), "ten to be too slow, ten for the goodbye: {seconds}");
        drop(stream);
    }

    #[tokio::test]
    async fn a_stream_ends_when_its_reader_leaves() {
        let (events, stream) = mpsc::channel(1);
        let (_outbox, ended) = write(Places::default(), events);
        drop(stream);
        ended.cancelled().await;
    }
}
// ANCHOR_END: all
