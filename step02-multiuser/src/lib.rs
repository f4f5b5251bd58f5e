// ANCHOR: all
//! Milestone 2: a chat in which everyone hears everyone.
//!
//! Read the files in the order a message travels: [`settings`] and [`process`] start the program;
//! [`serve`] has the routes, with the [`page`] and the check of the [`origin`]; [`connection`] speaks
//! with one client; [`protocol`] and [`names`] say what it may send; [`hub`] knows everyone who is
//! here, and puts what they shall hear into their [`outbox`].

pub mod connection;
pub mod hub;
pub mod names;
pub mod origin;
pub mod outbox;
pub mod page;
pub mod process;
pub mod protocol;
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
use warp::{Filter, reply};

/// The longest message and the longest frame a client may send, in bytes.
const MAX_MESSAGE: usize = 64 * 1024;

/// How much may wait inside the library for one socket, in bytes. We hand it one message at a time,
/// so this is room for the longest one, and for the pongs beside it.
const MAX_WRITE_BUFFER: usize = 1024 * 1024;

/// How long clients may take to leave once the server is stopping.
const DRAIN: Duration = Duration::from_secs(5);

// ANCHOR: serve
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
// ANCHOR_END: serve

// ANCHOR: routes
/// Everything this server answers.
fn routes(
    settings: Settings,
    slots: Arc<Semaphore>,
    stop: CancellationToken,
) -> impl Filter<Extract = impl Reply, Error = Infallible> + Clone {
    let hub = Arc::new(Hub::default());
    let chat = warp::path!("ws")
        .and(origin::check(settings.allowed_origins.as_slice().into()))
        .and(warp::ws())
        .map(move |ws: Ws| upgrade(ws, Arc::clone(&hub), Arc::clone(&slots), stop.clone()));

    chat.or(page::files("step02"))
        .recover(explain)
        .with(reply::with::headers(page::security_headers(&settings.allowed_origins)))
}

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
// ANCHOR_END: routes

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
