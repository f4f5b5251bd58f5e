// ANCHOR: all
//! The accept loop: takes connections in, and gives none of them more time than it needs.

use std::convert::Infallible;
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::Filter;
use warp::http::{StatusCode, header};
use warp::reply::{Reply, Response};

use crate::address::Peer;
use crate::seats::Seats;
use crate::telemetry;

/// How long a client may take for the head of a request, and how long it may be idle between two.
const HEAD: Duration = Duration::from_secs(10);

/// How long a request may take, its body included, until its answer begins.
const REQUEST: Duration = Duration::from_secs(40);

/// How long a connection lasts at most that has not become a WebSocket. A client that reads an answer
/// byte by byte has to come back.
const LIFE: Duration = Duration::from_secs(10 * 60);

/// How large the head of a request may be, in bytes, and how many headers it may have.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// How long to wait when the system has no more sockets to give.
const PAUSE: Duration = Duration::from_millis(50);

/// What a client reads for whom there is no socket.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

// ANCHOR: run
/// Takes in connections and answers their requests until `stop` is cancelled. Returns when all of
/// them have ended; those that have become WebSockets are no longer ours to wait for. `proxies` have
/// as many connections as they like: whose they are, their requests say.
pub async fn run<F>(
    listener: TcpListener,
    routes: F,
    sockets: Arc<Seats>,
    proxies: Arc<[IpNet]>,
    stop: CancellationToken,
) where
    F: Filter<Error = Infallible> + Clone + Send + Sync + 'static,
    F::Extract: Reply,
    F::Future: Send,
{
    let tasks = TaskTracker::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => {
                let (routes, stop) = (routes.clone(), stop.clone());
                let peer = peer.ip().to_canonical();
                let is_proxy = proxies.iter().any(|proxy| proxy.contains(&peer));
                let Ok(seat) = sockets.take((!is_proxy).then_some(peer), None) else {
                    refuse(stream);
                    continue;
                };
                tasks.spawn(async move {
                    serve(stream, peer, routes, stop).await;
                    drop(seat);
                });
            }
            Err(error) if is_about_one_client(error.kind()) => {}
            Err(error) => {
                tracing::warn!(%error, "can't accept");
                sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// Turns a connection away before anything is read from it. The few bytes fit into the socket.
fn refuse(stream: TcpStream) {
    telemetry::refused("sockets");
    let _gone = stream.into_std().and_then(|mut stream| stream.write(FULL));
}

/// Whether an error says that one client was gone before we took it in, and nothing about us.
fn is_about_one_client(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
    )
}
// ANCHOR_END: run

// ANCHOR: serve
/// Answers the requests of one connection.
async fn serve<F>(stream: TcpStream, peer: IpAddr, routes: F, stop: CancellationToken)
where
    F: Filter<Error = Infallible> + Clone + Send + Sync + 'static,
    F::Extract: Reply,
    F::Future: Send,
{
    // Without this the system may hold a short message back for 40 ms, to fill a packet.
    let _ = stream.set_nodelay(true);
    let routes = TowerToHyperService::new(warp::service(routes));
    let service = service_fn(|request| answer(request, peer, &routes));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let life = async {
        select! {
            _ended = &mut connection => return,
            () = stop.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    };
    if timeout(LIFE, life).await.is_err() {
        tracing::debug!(%peer, "a connection was too old");
    }
}

/// Answers one request.
async fn answer<S>(
    mut request: Request<Incoming>,
    peer: IpAddr,
    routes: &S,
) -> Result<Response, Infallible>
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible>,
{
    request.extensions_mut().insert(Peer(peer));
    if request.version() < Version::HTTP_11 {
        // Older versions have no upgrade, whatever their headers say.
        request.headers_mut().remove(header::UPGRADE);
    }
    match timeout(REQUEST, routes.call(request)).await {
        Ok(answered) => answered,
        Err(_elapsed) => Ok(StatusCode::REQUEST_TIMEOUT.into_response()),
    }
}
// ANCHOR_END: serve
// ANCHOR_END: all
