// ANCHOR: all
//! Milestone 5: a chat for the internet.
//!
//! Read the files in the order a message travels: [`settings`] and [`process`] start the program,
//! which may listen on sockets that were [`passed`] to it;
//! [`accept`] takes connections in, and [`serve`] has the routes, with the [`page`], the check of the
//! [`origin`] and the [`address`] a request comes from. [`api`] signs people in: [`caller`] finds
//! their token, [`accounts`] knows them, [`password`] checks what they say, [`lookalikes`] keeps them
//! apart. The [`reception`] has [`seats`] and [`limits`] for everyone who is signed in. [`upgrade`]
//! makes a WebSocket of a request; [`connection`] speaks with its client, reads from a [`socket`],
//! keeps a [`heartbeat`] and says at the [`ending`] why; [`events`] and [`sessions`] do the same over
//! plain HTTP, where [`places`] say how far it has read, and [`peers`] have the sessions that are not
//! on this server. To both it is a [`client`]; [`protocol`], [`names`] and [`conversation`] say what it
//! may send; the [`hub`] knows who is here and which rooms are open, and the [`users`] what to tell
//! those elsewhere; a [`room`] hands messages to the [`log`], which keeps them in a [`store`], and sends
//! each of them as a [`letter`] to the [`outbox`] of every member, with the [`history`] they have missed.
//! [`telemetry`] counts all this, [`admin`] shows it, [`health`] asks it, and [`backup`] copies what is
//! stored. At the end
//! comes [`drain`], and [`spread`] keeps everyone from doing the same in the same moment.

pub mod accept;
pub mod accounts;
pub mod address;
pub mod admin;
pub mod api;
pub mod backup;
pub mod body;
pub mod caller;
pub mod client;
pub mod connection;
pub mod conversation;
pub mod directory;
pub mod drain;
pub mod embedded;
pub mod ending;
pub mod events;
pub mod feed;
pub mod health;
pub mod heartbeat;
pub mod history;
pub mod hub;
pub mod letter;
pub mod limits;
pub mod live;
pub mod log;
pub mod lookalikes;
pub mod names;
pub mod origin;
pub mod outbox;
pub mod page;
pub mod passed;
pub mod password;
pub mod peers;
pub mod people;
pub mod places;
pub mod process;
pub mod protocol;
pub mod reception;
pub mod room;
pub mod schema;
pub mod search;
pub mod seats;
pub mod sessions;
pub mod settings;
pub mod shared;
pub mod socket;
pub mod spread;
pub mod store;
pub mod telemetry;
pub mod tries;
pub mod upgrade;
pub mod users;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use accounts::{Accounts, Lifetime, SignedIn};
use admin::Admin;
use api::Api;
use body::BadBody;
use caller::{NotKnown, NotSignedIn};
use directory::Directory;
use drain::Drain;
use hub::Hub;
use ipnet::IpNet;
use limits::{Limits, TooMuch};
use log::Log;
use metrics_exporter_prometheus::PrometheusHandle;
use origin::ForeignOrigin;
use peers::Peers;
use protocol::ErrorCode;
use reception::Reception;
use seats::{Caps, Full, Seats};
use serde::Deserialize;
use sessions::Sessions;
use settings::{RateLimit, Settings};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tries::Tries;
use upgrade::{Handshake, NoHandshake};
use users::{Callee, Switchboard, Users};
use uuid::Uuid;
use warp::http::StatusCode;
use warp::reject::{InvalidQuery, MethodNotAllowed, Reject, Rejection};
use warp::reply::{Reply, Response};
use warp::{Filter, reject, reply};

/// The namespace behind `/ws`.
const DEFAULT: &str = "";

/// All namespaces: the others are behind `/ws/` and their name.
pub const NAMESPACES: [&str; 3] = [DEFAULT, "general", "staff"];

/// How long clients may take to leave once they have been sent away, and the log to close.
const GOODBYE: Duration = Duration::from_secs(5);

// ANCHOR: engine
/// What keeps everything: one of the two, whichever the settings choose.
pub trait Engine: Log + Directory + Peers + Users {}

impl<T: Log + Directory + Peers + Users> Engine for T {}
// ANCHOR_END: engine

// ANCHOR: serve
/// What a server listens on.
pub struct Listeners {
    /// For everybody.
    pub public: TcpListener,
    /// For those who operate it.
    pub admin: TcpListener,
}

/// Serves the page and the chat until `stop` is cancelled. Then it returns when every client has
/// heard goodbye and the log is closed, or `GOODBYE` after the time for the drain is over.
pub async fn serve(
    listeners: Listeners,
    settings: Settings,
    engine: Arc<dyn Engine>,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) {
    let window = settings.drain;
    let caps = caps(&settings);
    let reception = reception(&settings, engine.clone(), caps, &stop);
    let sockets = Seats::for_sockets(caps);
    let seats = Arc::clone(&reception.seats);
    let (closing, ended) = (CancellationToken::new(), CancellationToken::new());
    let admin = Admin {
        metrics: metrics.clone(),
        seats: Arc::clone(&seats),
        sockets: Arc::clone(&sockets),
        log: engine.clone(),
        stop: stop.clone(),
    };
    let (limits, accounts) = (Arc::clone(&reception.limits), reception.accounts.clone());
    let proxies: Arc<[IpNet]> = settings.trusted_proxies.as_slice().into();
    let namespaces = namespaces(&settings, &engine, &reception);
    // The engine does not keep this alive: it is kept here for as long as anybody is served.
    let switchboard: Arc<dyn Callee> = Arc::new(Switchboard {
        hubs: namespaces.iter().map(|(_, sessions)| sessions.hub()).collect(),
        accounts: accounts.clone(),
    });
    engine.connect(Arc::downgrade(&switchboard));
    let routes = routes(settings, engine.clone(), Arc::clone(&namespaces), reception);

    // Whatever runs beside the chat ends with it, and is waited for here.
    let tasks = TaskTracker::new();
    let public =
        tasks.spawn(accept::run(listeners.public, routes, sockets, proxies, closing.clone()));
    let admin_seats = Seats::for_sockets(admin::CAPS);
    tasks.spawn(accept::run(
        listeners.admin,
        admin.routes(),
        admin_seats,
        [].into(),
        ended.clone(),
    ));
    tasks.spawn(events::run_errands(namespaces, engine.clone(), ended.clone()));
    tasks.spawn(admin::tidy(metrics, ended.clone()));
    tasks.spawn(accounts.run(ended.clone()));
    tasks.spawn({
        let ended = ended.clone();
        async move { limits.tidy(ended).await }
    });
    tasks.close();

    stop.cancelled().await;
    // The port stays open until the last client has left: who comes now hears 503 and when to come
    // back, where a closed port would say nothing.
    if timeout(window + GOODBYE, seats.all_left()).await.is_err() {
        tracing::warn!("some clients did not leave in time");
    }
    closing.cancel();
    if timeout(GOODBYE, public).await.is_err() {
        tracing::warn!("some requests were not answered in time");
    }
    ended.cancel();
    if timeout(GOODBYE, engine.close()).await.is_err() {
        tracing::warn!("the log did not close in time; what was acked is in it all the same");
    }
    let _ = timeout(GOODBYE, tasks.wait()).await;
}

fn caps(settings: &Settings) -> Caps {
    Caps {
        all: settings.max_connections as usize,
        per_address: settings.max_connections_per_address as usize,
        per_user: settings.max_connections_per_user as usize,
    }
}

fn reception(
    settings: &Settings,
    engine: Arc<dyn Engine>,
    caps: Caps,
    stop: &CancellationToken,
) -> Reception {
    let lifetime = Lifetime { max: settings.session_max, idle: settings.session_idle };
    Reception {
        accounts: Accounts::new(engine.clone(), lifetime),
        seats: Seats::new(caps),
        users: engine,
        limits: Arc::new(Limits::new(settings.rate_limit == RateLimit::On)),
        drain: Drain { stop: stop.clone(), window: settings.drain },
    }
}
// ANCHOR_END: serve

// ANCHOR: routes
/// The namespaces by name.
type Namespaces = Arc<[(&'static str, Arc<Sessions>)]>;

/// Everything this server answers.
fn routes(
    settings: Settings,
    engine: Arc<dyn Engine>,
    namespaces: Namespaces,
    reception: Reception,
) -> impl Filter<Extract = impl Reply, Error = Infallible> + Clone {
    let origins: Arc<[String]> = settings.allowed_origins.as_slice().into();
    let origin = origin::check(Arc::clone(&origins));
    let proxies: Arc<[IpNet]> = settings.trusted_proxies.as_slice().into();
    let address = address::client(Arc::clone(&proxies));
    let counted = counted(address.clone(), Arc::clone(&reception.limits));
    let may_ask = origin.clone().and(counted.clone()).map(|_address| ()).untuple_one();
    let who = caller::signed_in(reception.accounts.clone());
    let asking = caller::asking(reception.accounts.clone());

    // In this order a request is asked: where to, is it proper, from which page, how many, by whom?
    let at = |path| namespace(path, Arc::clone(&namespaces));
    let proper = origin.and(counted);
    let may = proper.clone().and(who).map(|address, who| (who, address)).untuple_one();
    let may_say = proper.and(asking).map(|address, who| (who, address)).untuple_one();
    let chat = at("ws")
        .and(upgrade::handshake())
        .and(may.clone())
        .and(warp::query())
        .and(warp::any().map({
            let reception = reception.clone();
            move || reception.clone()
        }))
        .then(enter);
    let fallback = events::routes(
        at("hello").and(warp::post()).and(may.clone()),
        at("events").and(warp::get()).and(may.clone()),
        at("events").and(warp::post()).and(may_say),
        reception.clone(),
    );
    let limited = settings.rate_limit == RateLimit::On;
    let tries = limited.then(|| Tries::new(engine.clone()));
    let api = Api { accounts: reception.accounts, log: engine, tries };
    let api = api::routes(api, may_ask.boxed(), address.boxed(), address::by_proxy(proxies));
    chat.or(fallback)
        .or(api)
        .or(page::files("step05"))
        .recover(explain)
        .with(reply::with::headers(page::security_headers(&settings.allowed_origins)))
}

/// The namespaces, without users.
fn namespaces(settings: &Settings, engine: &Arc<dyn Engine>, reception: &Reception) -> Namespaces {
    let space = Arc::new(Semaphore::new(settings.max_rooms as usize));
    let hub = |name| {
        let (accounts, space) = (reception.accounts.clone(), Arc::clone(&space));
        Hub::new(name, engine.clone(), engine.clone(), accounts, space)
    };
    let sessions = |name| Sessions::new(Arc::new(hub(name)), engine.clone());
    NAMESPACES.map(|name| (name, Arc::new(sessions(name)))).into()
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

/// A request too many from one address.
#[derive(Debug)]
struct TooManyRequests(TooMuch);

impl Reject for TooManyRequests {}

/// A filter that gives the address of the client, unless it asks too much.
fn counted(
    address: impl Filter<Extract = (IpAddr,), Error = Infallible> + Clone + Send + Sync + 'static,
    limits: Arc<Limits>,
) -> impl Filter<Extract = (IpAddr,), Error = Rejection> + Clone {
    address.and_then(move |address| {
        let counted = limits.request(address);
        async move {
            counted.map(|()| address).map_err(|too_much| reject::custom(TooManyRequests(too_much)))
        }
    })
}
// ANCHOR_END: routes

// ANCHOR: enter
/// What the address of a WebSocket may say.
#[derive(Deserialize)]
struct Query {
    /// The session of an earlier `welcome`.
    session: Option<Uuid>,
}

/// Turns a request into a WebSocket with a task of its own, if there is a seat.
async fn enter(
    sessions: Arc<Sessions>,
    handshake: Handshake,
    who: SignedIn,
    address: IpAddr,
    query: Query,
    reception: Reception,
) -> Response {
    let (guest, seat) = match reception.admit(&who, address, query.session).await {
        Ok(admitted) => admitted,
        Err(full) => return self::full(full),
    };
    let (reply, drain) = (handshake.reply(), reception.drain);
    // The seat says when this task has ended: `serve` waits for all seats.
    tokio::spawn(async move {
        if let Some((socket, read)) = handshake.socket().await {
            connection::run(socket, read, guest, sessions.hub(), drain).await;
        }
        drop(seat);
    });
    reply
}

/// The answer to whoever finds no seat: 503 is about the server, 429 about the client.
fn full(full: Full) -> Response {
    let wait = full.retry_after();
    match full {
        Full::Server => events::refuse_until(
            StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Unavailable,
            None,
            wait,
        ),
        Full::Address | Full::User => {
            events::refuse_until(StatusCode::TOO_MANY_REQUESTS, ErrorCode::RateLimited, None, wait)
        }
    }
}
// ANCHOR_END: enter

// ANCHOR: explain
/// Answers a request that no route took.
async fn explain(rejection: Rejection) -> Result<Response, Infallible> {
    if let Some(no_handshake) = rejection.find::<NoHandshake>() {
        return Ok(no_handshake.reply());
    } else if let Some(TooManyRequests(too_much)) = rejection.find() {
        return Ok(events::too_much(*too_much, None));
    } else if rejection.find::<ForeignOrigin>().is_some() {
        return Ok(events::refuse(StatusCode::FORBIDDEN, ErrorCode::Forbidden));
    } else if let Some(BadBody(status)) = rejection.find() {
        return Ok(events::refuse(*status, ErrorCode::BadJson));
    } else if rejection.find::<NotSignedIn>().is_some() {
        return Ok(events::refuse(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized));
    } else if rejection.find::<NotKnown>().is_some() {
        return Ok(events::refuse(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable));
    }
    let (status, sentence) =
        if rejection.is_not_found() || rejection.find::<UnknownNamespace>().is_some() {
            (StatusCode::NOT_FOUND, "There is nothing here.")
        } else if rejection.find::<InvalidQuery>().is_some() {
            (StatusCode::BAD_REQUEST, "The address has something after its ? that makes no sense.")
        } else if rejection.find::<MethodNotAllowed>().is_some() {
            (StatusCode::METHOD_NOT_ALLOWED, "That method is not answered here.")
        } else {
            (StatusCode::BAD_REQUEST, "This is not a proper request.")
        };
    Ok(reply::with_status(sentence, status).into_response())
}
// ANCHOR_END: explain
// ANCHOR_END: all
