//! What the book's port serves: the pages, the browser client of milestone 1, the panels, and the
//! WebSocket by which the pages learn that they are stale.

use std::convert::Infallible;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use ::tests::program::workspace;
use futures_util::SinkExt;
use warp::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, SET_COOKIE};
use warp::http::{HeaderMap, Response, StatusCode};
use warp::hyper::body::Bytes;
use warp::path::FullPath;
use warp::reply::Reply;
use warp::ws::{Message, WebSocket, Ws};
use warp::{Filter, Rejection};

use super::guard;
use super::pages::Pages;
use super::panels::{NotSignedIn, Panels, Unknown};
use crate::book::LIVE_RELOAD;

type Answer = Response<Bytes>;

/// All routes.
pub fn routes(
    pages: Arc<Pages>,
    panels: Arc<Panels>,
    port: u16,
) -> impl Filter<Extract = impl Reply, Error = Rejection> + Clone + Send + Sync + 'static {
    let reloads = Arc::clone(&pages);
    let live_reload = warp::path(LIVE_RELOAD)
        .and(warp::path::end())
        .and(warp::header::headers_cloned())
        .and(warp::ws())
        .map(move |headers: HeaderMap, ws: Ws| live_reload(&headers, ws, &reloads, port));
    let files = warp::get().and(warp::path::full()).then(move |path: FullPath| {
        let html = pages.html();
        async move { file(&html, path.as_str()).await }
    });
    overview(Arc::clone(&panels), port)
        .or(wire(Arc::clone(&panels), port))
        .or(restart(Arc::clone(&panels), port))
        .or(sign_in(panels, port))
        .or(live_reload)
        .or(files)
}

/// `GET /learn/panels.json`
fn overview(
    panels: Arc<Panels>,
    port: u16,
) -> impl Filter<Extract = (Answer,), Error = Rejection> + Clone {
    let headers = warp::header::headers_cloned();
    warp::path!("learn" / "panels.json").and(warp::get()).and(headers).map(move |headers| {
        if !guard::is_addressed_to_us(&headers, port) {
            return sentence(StatusCode::FORBIDDEN, "this is not for you");
        }
        match serde_json::to_vec(&panels.overview(guard::host_name(&headers))) {
            Ok(json) => content("application/json", json.into()),
            Err(error) => sentence(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    })
}

/// `POST /learn/wire/{step}/{client}/{action}`
fn wire(
    panels: Arc<Panels>,
    port: u16,
) -> impl Filter<Extract = (Answer,), Error = Rejection> + Clone {
    let headers = warp::header::headers_cloned();
    warp::path!("learn" / "wire" / u8 / String / String).and(warp::post()).and(headers).map(
        move |step, client: String, action: String, headers: HeaderMap| {
            done(&headers, port, || panels.apply(step, &client, &action))
        },
    )
}

/// `POST /learn/restart/{step}`
fn restart(
    panels: Arc<Panels>,
    port: u16,
) -> impl Filter<Extract = (Answer,), Error = Rejection> + Clone {
    let headers = warp::header::headers_cloned();
    warp::path!("learn" / "restart" / u8)
        .and(warp::post())
        .and(headers)
        .map(move |step, headers: HeaderMap| done(&headers, port, || panels.restart(step)))
}

/// `POST /learn/sign-in/{step}/{client}`: sets the cookie of the person in a frame.
fn sign_in(
    panels: Arc<Panels>,
    port: u16,
) -> impl Filter<Extract = (Answer,), Error = Rejection> + Clone {
    let headers = warp::header::headers_cloned();
    warp::path!("learn" / "sign-in" / u8 / String).and(warp::post()).and(headers).then(
        move |step, client: String, headers: HeaderMap| {
            let panels = Arc::clone(&panels);
            async move {
                if !guard::is_from_our_page(&headers, port) {
                    return not_our_page();
                }
                let host = guard::host_name(&headers);
                signed_in(panels.sign_in(step, &client, host).await)
            }
        },
    )
}

fn signed_in(result: Result<String, NotSignedIn>) -> Answer {
    match result {
        Ok(cookie) => answer(StatusCode::NO_CONTENT, (SET_COOKIE.as_str(), &cookie), Bytes::new()),
        Err(NotSignedIn::Unknown) => unknown(),
        Err(NotSignedIn::Refused(reason)) => sentence(StatusCode::SERVICE_UNAVAILABLE, &reason),
    }
}

/// Does something, if a page of ours asks for it.
fn done(headers: &HeaderMap, port: u16, act: impl FnOnce() -> Result<(), Unknown>) -> Answer {
    if !guard::is_from_our_page(headers, port) {
        return not_our_page();
    }
    match act() {
        Ok(()) => sentence(StatusCode::NO_CONTENT, ""),
        Err(Unknown) => unknown(),
    }
}

fn not_our_page() -> Answer {
    sentence(StatusCode::FORBIDDEN, "only the pages of this book may press this button")
}

fn unknown() -> Answer {
    sentence(StatusCode::NOT_FOUND, "there is no such milestone, client or action")
}

/// Tells a page to load itself again each time that the book was built.
fn live_reload(
    headers: &HeaderMap,
    ws: Ws,
    pages: &Arc<Pages>,
    port: u16,
) -> warp::reply::Response {
    if !guard::is_from_our_page(headers, port) {
        return sentence(StatusCode::FORBIDDEN, "only the pages of this book").into_response();
    }
    let mut reloads = pages.reloads();
    let tell = move |mut socket: WebSocket| async move {
        while reloads.recv().await.is_ok() {
            if socket.send(Message::text("reload")).await.is_err() {
                return;
            }
        }
    };
    ws.on_upgrade(tell).into_response()
}

/// A page of the book, or a file of milestone 1's client.
async fn file(html: &Path, path: &str) -> Result<Answer, Infallible> {
    const CLIENT: &str = "/clients/step01";
    let (folder, inside) = match path.strip_prefix(CLIENT) {
        // Without the slash, the links in the page would lead elsewhere.
        Some("") => return Ok(moved(&format!("{CLIENT}/"))),
        Some(inside) => (workspace().join("client/web/step01"), inside),
        None => (html.to_owned(), path),
    };
    let Some(inside) = safe(inside) else {
        return Ok(sentence(StatusCode::NOT_FOUND, "not found"));
    };
    let file = if path.ends_with('/') { inside.join("index.html") } else { inside };
    match tokio::fs::read(folder.join(&file)).await {
        Ok(bytes) => Ok(content(media_type(&file), mark(&file, bytes).into())),
        Err(_) => Ok(not_found(html).await),
    }
}

/// The path inside a folder, if it stays inside.
fn safe(path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(path.trim_start_matches('/'));
    let stays = path.components().all(|part| matches!(part, Component::Normal(_)));
    stays.then_some(path)
}

/// Tells the scripts of a page that `cargo learn` serves it, so that panels come to life only here.
fn mark(file: &Path, bytes: Vec<u8>) -> Vec<u8> {
    if file.extension().is_none_or(|extension| extension != "html") {
        return bytes;
    }
    String::from_utf8_lossy(&bytes).replacen("<html ", "<html data-cargo-learn ", 1).into_bytes()
}

fn media_type(file: &Path) -> &'static str {
    match file.extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "woff2" => "font/woff2",
        "ico" => "image/x-icon",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn content(media_type: &str, bytes: Bytes) -> Answer {
    answer(StatusCode::OK, (CONTENT_TYPE.as_str(), media_type), bytes)
}

fn moved(to: &str) -> Answer {
    answer(StatusCode::PERMANENT_REDIRECT, (LOCATION.as_str(), to), Bytes::new())
}

fn sentence(status: StatusCode, sentence: &str) -> Answer {
    let plain = (CONTENT_TYPE.as_str(), "text/plain; charset=utf-8");
    answer(status, plain, Bytes::copy_from_slice(sentence.as_bytes()))
}

async fn not_found(html: &Path) -> Answer {
    let page = tokio::fs::read(html.join("404.html")).await.unwrap_or_default();
    answer(StatusCode::NOT_FOUND, (CONTENT_TYPE.as_str(), "text/html; charset=utf-8"), page.into())
}

/// An answer with one header of its own, never kept by the browser: a page may change at any time.
fn answer(status: StatusCode, (name, value): (&str, &str), body: Bytes) -> Answer {
    let answer = Response::builder()
        .status(status)
        .header(name, value)
        .header(CACHE_CONTROL, "no-cache")
        .header("x-content-type-options", "nosniff")
        .body(body);
    answer.unwrap_or_else(|_bad_header| Response::new(Bytes::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_in_its_folder() {
        assert_eq!(safe("/deep/frames.html"), Some(PathBuf::from("deep/frames.html")));
        assert_eq!(safe("/"), Some(PathBuf::new()));
        for path in ["/../Cargo.toml", "/deep/../../Cargo.toml", "/./x"] {
            assert!(safe(path).is_none(), "{path}");
        }
    }

    #[test]
    fn only_html_is_marked() {
        let html = b"<html lang=\"en\"><p><html ".to_vec();
        let marked = mark(Path::new("a.html"), html.clone());
        assert_eq!(marked, b"<html data-cargo-learn lang=\"en\"><p><html ");
        assert_eq!(mark(Path::new("a.js"), html.clone()), html);
    }
}
