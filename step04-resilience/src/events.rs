// ANCHOR: all
//! The same chat without a WebSocket, for networks that block it: a stream of events one way, and
//! requests the other.
//!
//! `POST /hello` begins a session, `GET /events` is what the server sends, `POST /events` is what
//! the client sends. The stream is [server-sent events](https://html.spec.whatwg.org/multipage/server-sent-events.html):
//! a browser reads it with `EventSource`, and comes back by itself with the `id:` it has read last.

use std::future::ready;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::poll_fn;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::json;
use tokio::select;
use tokio::sync::mpsc::{self, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, PollSendError, PollSender};
use uuid::Uuid;
use warp::http::{StatusCode, header};
use warp::hyper::body::Bytes;
use warp::reject::{Reject, Rejection};
use warp::reply::{Reply, Response};
use warp::sse::{self, Event};
use warp::{Filter, reject, reply};

use crate::drain::Drain;
use crate::outbox::{self, Close, Item, Letter, Outbox, Waiting};
use crate::places::Places;
use crate::protocol::{self, ClientEvent, ErrorCode, ServerEvent};
use crate::sessions::{Request, Sessions};
use crate::spread::spread;

/// The largest body of a request, in bytes.
const MAX_BODY: u64 = 64 * 1024;

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
/// A body that is not JSON by its own account. What a form of another site can send without asking
/// the browser first has other types.
#[derive(Debug)]
pub struct NotJson;

impl Reject for NotJson {}

/// Where a stream begins.
#[derive(Deserialize)]
struct Query {
    session: Uuid,
    #[serde(default)]
    join: String,
}

/// The requests of this module. `hello` and `events` are the paths, and find the namespace.
pub fn routes<H, E>(
    hello: H,
    events: E,
    slots: Arc<Semaphore>,
    drain: Drain,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone
where
    H: Filter<Extract = (Arc<Sessions>,), Error = Rejection> + Clone + Send + Sync + 'static,
    E: Filter<Extract = (Arc<Sessions>,), Error = Rejection> + Clone + Send + Sync + 'static,
{
    let begin = hello.and(warp::post()).and(json_body()).then(move |sessions, body: Bytes| {
        begin(sessions, body, Arc::clone(&slots).try_acquire_owned().ok(), drain.clone())
    });
    let listen = events
        .clone()
        .and(warp::get())
        .and(warp::query())
        .and(warp::header::optional("last-event-id"))
        .then(listen);
    let say = events
        .and(warp::post())
        .and(warp::header::optional("authorization"))
        .and(json_body())
        .then(say);
    begin.or(listen).unify().or(say).unify()
}

/// A body that says it is JSON, and is not too long.
fn json_body() -> impl Filter<Extract = (Bytes,), Error = Rejection> + Copy {
    let is_json = |media_type: Option<String>| async move {
        let media_type = media_type.unwrap_or_default().to_ascii_lowercase();
        let is_json =
            media_type.split(';').next().is_some_and(|it| it.trim() == "application/json");
        if is_json { Ok(()) } else { Err(reject::custom(NotJson)) }
    };
    warp::header::optional("content-type")
        .and_then(is_json)
        .untuple_one()
        .and(warp::body::content_length_limit(MAX_BODY))
        .and(warp::body::bytes())
}
// ANCHOR_END: routes

// ANCHOR: begin
/// Answers `POST /hello`.
async fn begin(
    sessions: Arc<Sessions>,
    body: Bytes,
    slot: Option<OwnedSemaphorePermit>,
    drain: Drain,
) -> Response {
    let (name, session) = match read(&body) {
        Ok(ClientEvent::Hello { name, session }) => (name, session),
        Ok(_) => return refuse(StatusCode::BAD_REQUEST, ErrorCode::HelloFirst),
        Err(error) => return answer(StatusCode::BAD_REQUEST, &Letter::from(&error)),
    };
    let Some(slot) = slot else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable);
    };
    match sessions.begin(&name, session, slot, drain) {
        Ok(welcome) => answer(StatusCode::OK, &welcome),
        Err(ErrorCode::NameTaken) => refuse(StatusCode::CONFLICT, ErrorCode::NameTaken),
        Err(code) => refuse(StatusCode::BAD_REQUEST, code),
    }
}

/// Reads the event in a body.
fn read(body: &Bytes) -> Result<ClientEvent, ServerEvent> {
    protocol::decode(std::str::from_utf8(body).map_err(|_| ErrorCode::BadJson)?)
}

fn refuse(status: StatusCode, code: ErrorCode) -> Response {
    answer(status, &Letter::from(&ServerEvent::from(code)))
}

/// An event as the body of an answer.
fn answer(status: StatusCode, letter: &Letter) -> Response {
    let json = letter.message.to_str().unwrap_or_default().to_owned();
    let json = reply::with_header(json, header::CONTENT_TYPE, "application/json");
    let mut response = reply::with_status(json, status).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, 1.into());
    }
    response
}
// ANCHOR_END: begin

// ANCHOR: say
/// Answers `POST /events`: with the ack or the error or, where the answer comes by the stream, with
/// no content.
async fn say(sessions: Arc<Sessions>, authorization: Option<String>, body: Bytes) -> Response {
    let token = authorization.as_deref().and_then(|value| value.strip_prefix("Bearer "));
    let session = token.and_then(|token| Uuid::from_str(token.trim()).ok());
    let event = match read(&body) {
        Ok(event) => event,
        Err(error) => return answer(StatusCode::BAD_REQUEST, &Letter::from(&error)),
    };
    let (id, (reply, mut waiting)) = (event.message_id(), Outbox::new());
    if sessions.ask(session, Request::Say { event, reply }).await.is_err() {
        return refuse(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized);
    }
    // It ends without an answer when nobody holds `reply` any more.
    match timeout(ANSWER, waiting.recv()).await.map(|answer| answer.and_then(Waiting::into_letter))
    {
        Ok(Some(letter)) if letter.error == Some(ErrorCode::Unavailable) => {
            answer(StatusCode::SERVICE_UNAVAILABLE, &letter)
        }
        Ok(Some(letter)) => answer(StatusCode::OK, &letter),
        // A message always has an answer, unless the session ended before it was read.
        Ok(None) if id.is_some() => refuse(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized),
        Ok(None) => StatusCode::NO_CONTENT.into_response(),
        Err(_elapsed) => refuse(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable),
    }
}
// ANCHOR_END: say

// ANCHOR: listen
/// Answers `GET /events`: with a stream that begins where the last one ended.
async fn listen(sessions: Arc<Sessions>, query: Query, last_event_id: Option<String>) -> Response {
    let last_event_id = last_event_id.filter(|id| !id.is_empty());
    let Ok(places) = last_event_id.unwrap_or(query.join).parse::<Places>() else {
        return refuse(StatusCode::BAD_REQUEST, ErrorCode::BadRoom);
    };
    // One event at a time: what waits, waits in the outbox, which counts it.
    let (events, mut stream) = mpsc::channel(1);
    if sessions.ask(Some(query.session), Request::Listen { places, events }).await.is_err() {
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
    let (outbox, waiting) = Outbox::new();
    let ended = CancellationToken::new();
    let (guard, kept) = (ended.clone().drop_guard(), outbox.clone());
    let life = LIFE / 2 + spread(LIFE / 2);
    tokio::spawn(async move {
        let gone = events.clone();
        select! {
            () = fill(waiting, places, events, kept.overflow()) => {}
            () = gone.closed() => {}
            () = sleep(life) => {}
            () = give_up(&kept) => {}
        }
        drop(guard);
    });
    (outbox, ended)
}

/// Puts what waits into a stream, with the places that it leaves the reader at.
async fn fill(
    waiting: mpsc::UnboundedReceiver<Waiting>,
    mut places: Places,
    events: Sender<Event>,
    overflow: CancellationToken,
) {
    let sink = PollSender::new(events);
    let sink = sink.with(|item| ready(Ok::<_, PollSendError<Event>>(event(&mut places, item))));
    outbox::deliver(waiting, sink, overflow).await;
}

/// Waits until the client is too slow, and then a while longer for it to hear so.
async fn give_up(outbox: &Outbox) {
    outbox.overflow().cancelled().await;
    outbox.close(Close::TOO_SLOW);
    sleep(GOODBYE).await;
}

/// The event of the stream for an item of the queue.
fn event(places: &mut Places, item: Item) -> Event {
    match item {
        Item::Event(Letter { message, moved, .. }) => {
            let event = Event::default().data(message.to_str().unwrap_or_default());
            let Some(moved) = moved else { return event };
            places.take(&moved);
            event.id(places.to_string())
        }
        Item::Ping => Event::default().comment("ping"),
        // A stream has no close frame. This event has its code, and another type than all others.
        Item::Close(Close { code, reason }) => Event::default()
            .event("close")
            .data(json!({ "code": code, "reason": reason }).to_string()),
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
