// ANCHOR: all
//! Milestone 4: a chat that loses nothing.
//!
//! Read the files in the order a message travels: [`settings`] and [`process`] start the program;
//! [`serve`] has the routes, with the [`page`] and the check of the [`origin`]; [`connection`] speaks
//! with one client over a WebSocket, with a [`heartbeat`], and [`events`] and [`sessions`] do so over
//! plain HTTP, where [`places`] say how far it has read. To both it is a [`client`]; [`protocol`],
//! [`names`] and [`conversation`] say what it may send; [`hub`] knows who is here and which rooms are
//! open; a [`room`] hands messages to the [`log`], which keeps them in a [`store`], and puts what its
//! members shall hear, and the [`history`] they have missed, into their [`outbox`]. At the end comes
//! [`drain`], and [`spread`] keeps everyone from doing the same in the same moment.

pub mod client;
pub mod connection;
pub mod conversation;
pub mod drain;
pub mod events;
pub mod heartbeat;
pub mod history;
pub mod hub;
pub mod log;
pub mod names;
pub mod origin;
pub mod outbox;
pub mod page;
pub mod places;
pub mod process;
pub mod protocol;
pub mod room;
pub mod sessions;
pub mod settings;
pub mod spread;
pub mod store;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use drain::Drain;
use events::NotJson;
use hub::Hub;
use log::Log;
use origin::ForeignOrigin;
use sessions::Sessions;
use settings::Settings;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use warp::http::StatusCode;
use warp::reject::{
    InvalidQuery, LengthRequired, MethodNotAllowed, PayloadTooLarge, Reject, Rejection,
};
use warp::reply::{Reply, Response};
use warp::ws::Ws;
use warp::{Filter, reject, reply};

/// The longest message and the longest frame a client may send, in bytes.
const MAX_MESSAGE: usize = 64 * 1024;

/// How much may wait inside the library for one socket, in bytes. It refuses a message that is
/// longer, so there must be room for the longest page of history, and for the pongs beside it.
const MAX_WRITE_BUFFER: usize = 32 * 1024 * 1024;

/// The namespace behind `/ws`.
const DEFAULT: &str = "";

/// All namespaces: the others are behind `/ws/` and their name.
const NAMESPACES: [&str; 3] = [DEFAULT, "general", "staff"];

/// How long clients may take to leave once they have been sent away, and the log to close.
const GOODBYE: Duration = Duration::from_secs(5);

// ANCHOR: serve
/// Serves the page and the chat until `stop` is cancelled. Then it returns when every client has
/// heard goodbye and the log is closed, or `GOODBYE` after the time for the drain is over.
pub async fn serve(listener: TcpListener, settings: Settings, log: Log, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(settings.max_connections.into()));
    let (all, window) = (settings.max_connections.into(), settings.drain);
    let drain = Drain { stop: stop.clone(), window };
    let routes = routes(settings, log.clone(), Arc::clone(&slots), drain);

    let server = warp::serve(routes).incoming(listener).graceful(stop.clone().cancelled_owned());
    let serving = tokio::spawn(server.run());
    stop.cancelled().await;
    // `run` does not wait for WebSockets: the last one has left when all slots are back.
    let left = async {
        let _ = slots.acquire_many(all).await;
        let _ = serving.await;
    };
    if timeout(window + GOODBYE, left).await.is_err() {
        tracing::warn!("some clients did not leave in time");
    }
    if timeout(GOODBYE, log.close()).await.is_err() {
        tracing::warn!("the log did not close in time; what was acked is in it all the same");
    }
}
// ANCHOR_END: serve

// ANCHOR: routes
/// The namespaces by name.
type Namespaces = Arc<[(&'static str, Arc<Sessions>)]>;

/// Everything this server answers.
fn routes(
    settings: Settings,
    log: Log,
    slots: Arc<Semaphore>,
    drain: Drain,
) -> impl Filter<Extract = impl Reply, Error = Infallible> + Clone {
    let namespaces: Namespaces = NAMESPACES
        .map(|name| (name, Arc::new(Sessions::new(Arc::new(Hub::new(name, log.clone()))))))
        .into();
    let origins: Arc<[String]> = settings.allowed_origins.as_slice().into();
    let at =
        |path| namespace(path, Arc::clone(&namespaces)).and(origin::check(Arc::clone(&origins)));

    let fallback = events::routes(at("hello"), at("events"), Arc::clone(&slots), drain.clone());
    let chat = at("ws").and(warp::ws()).map(move |sessions: Arc<Sessions>, ws: Ws| {
        upgrade(ws, sessions.hub(), Arc::clone(&slots), drain.clone())
    });
    chat.or(fallback)
        .or(page::files("step04"))
        .recover(explain)
        .with(reply::with::headers(page::security_headers(&settings.allowed_origins)))
}

/// No namespace has the name in the path.
#[derive(Debug)]
struct UnknownNamespace;

impl Reject for UnknownNamespace {}

/// A filter for `/path` and `/path/namespace`. An unknown namespace becomes a 404.
fn namespace(
    path: &'static str,
    namespaces: Namespaces,
) -> impl Filter<Extract = (Arc<Sessions>,), Error = Rejection> + Clone {
    let default = warp::path::end().map(|| DEFAULT.to_owned());
    let named = warp::path::param().and(warp::path::end());
    warp::path(path).and(default.or(named).unify()).and_then(move |name: String| {
        let found = namespaces.iter().find(|(known, _)| *known == name);
        let found = found.map(|(_, sessions)| Arc::clone(sessions));
        async { found.ok_or_else(|| reject::custom(UnknownNamespace)) }
    })
}

/// Turns a request into a WebSocket with a task of its own, if a slot is free.
fn upgrade(ws: Ws, hub: Arc<Hub>, slots: Arc<Semaphore>, drain: Drain) -> Response {
    let Ok(slot) = slots.try_acquire_owned() else {
        return reply::with_status(
            "All places are taken. Try again later.",
            StatusCode::SERVICE_UNAVAILABLE,
        )
        .into_response();
    };
    ws.max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .max_write_buffer_size(MAX_WRITE_BUFFER)
        .on_upgrade(async move |socket| {
            connection::run(socket, hub, drain).await;
            drop(slot);
        })
        .into_response()
}
// ANCHOR_END: routes

/// Answers a request that no route took.
async fn explain(rejection: Rejection) -> Result<impl Reply, Infallible> {
    let (status, sentence) = if rejection.find::<ForeignOrigin>().is_some() {
        (StatusCode::FORBIDDEN, "Pages of this origin may not connect.")
    } else if rejection.is_not_found() || rejection.find::<UnknownNamespace>().is_some() {
        (StatusCode::NOT_FOUND, "There is nothing here.")
    } else if rejection.find::<NotJson>().is_some() {
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body has to be application/json.")
    } else if rejection.find::<PayloadTooLarge>().is_some() {
        (StatusCode::PAYLOAD_TOO_LARGE, "The body is longer than 64 KiB.")
    } else if rejection.find::<LengthRequired>().is_some() {
        (StatusCode::LENGTH_REQUIRED, "The request has to say how long its body is.")
    } else if rejection.find::<InvalidQuery>().is_some() {
        (StatusCode::BAD_REQUEST, "The address has to name a session.")
    } else if rejection.find::<MethodNotAllowed>().is_some() {
        (StatusCode::METHOD_NOT_ALLOWED, "That method is not answered here.")
    } else {
        (StatusCode::BAD_REQUEST, "This is not a proper request.")
    };
    Ok(reply::with_status(sentence, status))
}
// ANCHOR_END: all
