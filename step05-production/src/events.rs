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
use tokio::sync::mpsc::{self, Sender};
use tokio::time::{sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use warp::http::{StatusCode, header};
use warp::reject::Rejection;
use warp::reply::{Reply, Response};
use warp::sse::{self, Event};
use warp::{Filter, reply};

use crate::accounts::SignedIn;
use crate::body::json_body;
use crate::letter::Letter;
use crate::limits::TooMuch;
use crate::outbox::{Close, End, Item, Outbox};
use crate::places::Places;
use crate::protocol::{self, ClientEvent, ErrorCode, ServerEvent};
use crate::reception::Reception;
use crate::seats::Full;
use crate::sessions::{Open, Request, Sessions};
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

// ANCHOR: routes
/// Which session a request belongs to, and where a stream begins.
#[derive(Deserialize)]
struct Query {
    session: Option<Uuid>,
    #[serde(default)]
    join: String,
}

/// Somebody who asks for something: the namespace, the user, and the address.
pub type Asking = (Arc<Sessions>, SignedIn, IpAddr);

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
    H: Filter<Extract = Asking, Error = Rejection> + Clone + Send + Sync + 'static,
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
    match admit(&sessions, &who, address, session, &reception) {
        Ok((_open, welcome)) => answer(StatusCode::OK, &welcome),
        Err(full) => crate::full(full),
    }
}

/// Lets somebody in without a WebSocket.
fn admit(
    sessions: &Arc<Sessions>,
    who: &SignedIn,
    address: IpAddr,
    session: Option<Uuid>,
    reception: &Reception,
) -> Result<(Open, Letter), Full> {
    let (guest, seat) = reception.admit(who, address, session)?;
    let begun = sessions.begin(guest, seat, reception.drain.clone());
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

/// An event as the body of an answer.
fn answer(status: StatusCode, letter: &Letter) -> Response {
    let json = letter.json().to_owned();
    let json = reply::with_header(json, header::CONTENT_TYPE, "application/json");
    let mut response = reply::with_status(json, status).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, 1.into());
    }
    response
}

/// The answer to who asks too much: 429, and when to come back.
pub fn too_much(too_much: TooMuch, id: Option<Uuid>) -> Response {
    refuse_until(StatusCode::TOO_MANY_REQUESTS, ErrorCode::RateLimited, id, too_much.wait)
}

/// An error as the answer, with the time after which the same would be accepted.
pub fn refuse_until(
    status: StatusCode,
    code: ErrorCode,
    id: Option<Uuid>,
    wait: Duration,
) -> Response {
    let mut response = answer(status, &Letter::from(&code.until(id, wait)));
    // This header has whole seconds, so it is rounded up.
    let seconds = wait.as_secs().saturating_add(1);
    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    response
}
// ANCHOR_END: begin

// ANCHOR: say
/// Answers `POST /events`: with the ack or the error or, where the answer comes by the stream, with
/// no content.
async fn say(
    sessions: Arc<Sessions>,
    who: SignedIn,
    _address: IpAddr,
    query: Query,
    authorization: Option<String>,
    body: Vec<u8>,
) -> Response {
    let session = query.session.or_else(|| session_in(authorization.as_deref()));
    let open = match sessions.find(&who.name, session) {
        Ok(open) => open,
        Err(code) => return refuse(StatusCode::UNAUTHORIZED, code),
    };
    if let Err(refused) = open.count() {
        let id = std::str::from_utf8(&body).ok().and_then(protocol::find_id);
        return too_much(refused, id);
    }
    match read(&body) {
        Ok(event) => ask(&open, event).await,
        Err(error) => answer(StatusCode::BAD_REQUEST, &Letter::from(&error)),
    }
}

/// A page shows its cookie, so this header is free to name the session.
fn session_in(authorization: Option<&str>) -> Option<Uuid> {
    authorization?.strip_prefix("Bearer ")?.trim().parse().ok()
}

/// Asks a session to do something, and gives what it answers.
async fn ask(open: &Open, event: ClientEvent) -> Response {
    let (id, (reply, letter)) = (event.message_id(), Outbox::for_answer());
    if open.ask(Request::Say { event, reply }).await.is_err() {
        return refuse(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized);
    }
    match timeout(ANSWER, letter).await {
        Ok(Ok(letter)) if letter.error() == Some(ErrorCode::Unavailable) => {
            answer(StatusCode::SERVICE_UNAVAILABLE, &letter)
        }
        Ok(Ok(letter)) => answer(StatusCode::OK, &letter),
        // Nobody holds `reply` any more. A message always has an answer, unless the session ended
        // before it was read.
        Ok(Err(_)) if id.is_some() => refuse(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized),
        Ok(Err(_)) => StatusCode::NO_CONTENT.into_response(),
        Err(_elapsed) => refuse(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable),
    }
}
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
    let found = match query.session {
        Some(session) => sessions.find(&who.name, Some(session)).map(|open| (open, None)),
        None => match admit(&sessions, &who, address, None, &reception) {
            Ok((open, welcome)) => Ok((open, Some(welcome))),
            Err(full) => return crate::full(full),
        },
    };
    let (open, welcome) = match found {
        Ok(found) => found,
        Err(code) => return refuse(StatusCode::UNAUTHORIZED, code),
    };
    // To begin a stream is to join its rooms, and costs as much.
    if let Err(refused) = places.0.keys().try_for_each(|_room| open.count()) {
        return too_much(refused, None);
    }
    stream(&open, places, welcome).await
}

/// Begins a stream.
async fn stream(open: &Open, places: Places, welcome: Option<Letter>) -> Response {
    // One event at a time: what waits, waits in the outbox, which counts it.
    let (events, mut stream) = mpsc::channel(1);
    if open.ask(Request::Listen { places, events, welcome }).await.is_err() {
        return refuse(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized);
    }
    let events = poll_fn(move |context| stream.poll_recv(context));
    let events = events.map(Ok::<Event, std::convert::Infallible>);
    let stream = sse::reply(sse::keep_alive().interval(KEEP_ALIVE).text("here").stream(events));
    // Asks nginx not to collect events before it passes them on.
    reply::with_header(stream, "x-accel-buffering", "no").into_response()
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
