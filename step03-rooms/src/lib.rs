// ANCHOR: all
//! Milestone 3: a chat with rooms, history, typing and direct messages.
//!
//! Read the files in the order a message travels: [`settings`] and [`process`] start the program;
//! [`serve`] has the routes, with the [`page`] and the check of the [`origin`]; [`connection`] speaks
//! with one client; [`protocol`] and [`names`] say what it may send; [`hub`] knows who is here and
//! which rooms are open; a [`room`] puts what its members shall hear into their [`outbox`].

pub mod connection;
pub mod hub;
pub mod names;
pub mod origin;
pub mod outbox;
pub mod page;
pub mod process;
pub mod protocol;
pub mod room;
pub mod settings;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hub::Hub;
use origin::ForeignOrigin;
use settings::Settings;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use warp::http::StatusCode;
use warp::reject::{MethodNotAllowed, Rejection};
use warp::reply::{Reply, Response};
use warp::ws::Ws;
use warp::{Filter, reject, reply};

/// The longest message and the longest frame a client may send, in bytes.
const MAX_MESSAGE: usize = 64 * 1024;

/// How much may wait inside the library for one socket, in bytes. We hand it one message at a time,
/// so this is room for the longest one, and for the pongs beside it.
const MAX_WRITE_BUFFER: usize = 1024 * 1024;

// ANCHOR: namespaces
/// The namespace behind `/ws`.
const DEFAULT: &str = "";

/// All namespaces: the others are behind `/ws/` and their name.
const NAMESPACES: [&str; 3] = [DEFAULT, "general", "staff"];
// ANCHOR_END: namespaces

/// How long clients may take to leave once the server is stopping.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves the page and the chat until `stop` is cancelled. Then it returns when every client has
/// heard goodbye, or after five seconds.
pub async fn serve(listener: TcpListener, settings: Settings, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(settings.max_connections.into()));
    let all = settings.max_connections.into();
    let routes = routes(settings, Arc::clone(&slots), stop.clone());

    let server = warp::serve(routes).incoming(listener).graceful(stop.clone().cancelled_owned());
    let serving = tokio::spawn(server.run());
    stop.cancelled().await;
    // `run` does not wait for WebSockets: the last one has left when all slots are back.
    let left = async {
        let _ = serving.await;
        let _ = slots.acquire_many(all).await;
    };
    if timeout(DRAIN, left).await.is_err() {
        tracing::warn!("some clients did not leave in time");
    }
}

// ANCHOR: routes
/// Everything this server answers.
fn routes(
    settings: Settings,
    slots: Arc<Semaphore>,
    stop: CancellationToken,
) -> impl Filter<Extract = impl Reply, Error = Infallible> + Clone {
    let namespaces: Arc<[(&str, Arc<Hub>)]> = NAMESPACES.map(|name| (name, Arc::default())).into();
    let default = warp::path!("ws").map(|| DEFAULT.to_owned());
    let chat = default
        .or(warp::path!("ws" / String))
        .unify()
        .and_then(move |name| find(Arc::clone(&namespaces), name))
        .and(origin::check(settings.allowed_origins.as_slice().into()))
        .and(warp::ws())
        .map(move |hub, ws: Ws| upgrade(ws, hub, Arc::clone(&slots), stop.clone()));

    chat.or(page::files("step03"))
        .recover(explain)
        .with(reply::with::headers(page::security_headers(&settings.allowed_origins)))
}

/// The namespace of that name, or a rejection that becomes a 404.
async fn find(namespaces: Arc<[(&str, Arc<Hub>)]>, name: String) -> Result<Arc<Hub>, Rejection> {
    let found = namespaces.iter().find(|(known, _)| *known == name);
    found.map(|(_, hub)| Arc::clone(hub)).ok_or_else(reject::not_found)
}
// ANCHOR_END: routes

/// Turns a request into a WebSocket with a task of its own, if a slot is free.
fn upgrade(ws: Ws, hub: Arc<Hub>, slots: Arc<Semaphore>, stop: CancellationToken) -> Response {
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
            connection::run(socket, hub, stop).await;
            drop(slot);
        })
        .into_response()
}

/// Answers a request that no route took.
async fn explain(rejection: Rejection) -> Result<impl Reply, Infallible> {
    let (status, sentence) = if rejection.find::<ForeignOrigin>().is_some() {
        (StatusCode::FORBIDDEN, "Pages of this origin may not connect.")
    } else if rejection.is_not_found() {
        (StatusCode::NOT_FOUND, "There is nothing here.")
    } else if rejection.find::<MethodNotAllowed>().is_some() {
        (StatusCode::METHOD_NOT_ALLOWED, "Only GET is answered here.")
    } else {
        (StatusCode::BAD_REQUEST, "This is not a proper request for a WebSocket.")
    };
    Ok(reply::with_status(sentence, status))
}
// ANCHOR_END: all
