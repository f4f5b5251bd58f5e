// ANCHOR: all
//! From a request to a WebSocket: the handshake of
//! [RFC 6455, section 4.2](https://www.rfc-editor.org/rfc/rfc6455#section-4.2).
//!
//! `warp::ws()` does the same in one line, and keeps the socket to itself: its buffers, its options
//! and its errors are out of reach.

use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use warp::http::StatusCode;
use warp::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use warp::reject::{Reject, Rejection};
use warp::reply::{Reply, Response};
use warp::{Filter, reject};

/// The one version of the protocol that there is.
const VERSION: &str = "13";

/// The name of our events, for clients that ask for it.
const SUBPROTOCOL: &str = "chat.v1";

/// Why a request does not become a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHandshake {
    /// It does not ask for one, or for another version: 426.
    Upgrade,
    /// Its key is not one: 400.
    Key,
}

impl Reject for NoHandshake {}

impl NoHandshake {
    /// The answer.
    pub fn reply(self) -> Response {
        match self {
            Self::Upgrade => {
                let sentence = "This address speaks WebSocket, version 13.";
                let mut reply = warp::reply::with_status(sentence, StatusCode::UPGRADE_REQUIRED)
                    .into_response();
                let headers = reply.headers_mut();
                headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                reply
            }
            Self::Key => {
                let sentence = "Sec-WebSocket-Key has to be 16 bytes in Base64.";
                warp::reply::with_status(sentence, StatusCode::BAD_REQUEST).into_response()
            }
        }
    }
}

// ANCHOR: handshake
/// A request that may become a WebSocket.
#[derive(Debug)]
pub struct Handshake {
    accept: String,
    knows_us: bool,
    upgrade: OnUpgrade,
}

/// A filter for a right handshake. Others are rejected with [`NoHandshake`].
pub fn handshake() -> impl Filter<Extract = (Handshake,), Error = Rejection> + Clone {
    warp::get().and(warp::header::headers_cloned()).and(warp::ext::optional()).and_then(
        |headers: HeaderMap, upgrade: Option<OnUpgrade>| async move {
            check(&headers, upgrade).map_err(reject::custom)
        },
    )
}

/// Looks at everything the RFC asks for.
fn check(headers: &HeaderMap, upgrade: Option<OnUpgrade>) -> Result<Handshake, NoHandshake> {
    let asks = has(headers, header::UPGRADE, "websocket")
        && has(headers, header::CONNECTION, "upgrade")
        && has(headers, header::SEC_WEBSOCKET_VERSION, VERSION);
    let upgrade = upgrade.filter(|_| asks).ok_or(NoHandshake::Upgrade)?;
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or(NoHandshake::Key)?;
    if !is_key(key.as_bytes()) {
        return Err(NoHandshake::Key);
    }
    let knows_us = has(headers, header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
    Ok(Handshake { accept: derive_accept_key(key.as_bytes()), knows_us, upgrade })
}

/// Whether a word is in a header's list. Case does not matter; a header may come more than once.
fn has(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let lines = headers.get_all(name);
    let mut words =
        lines.iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    words.any(|it| it.trim().eq_ignore_ascii_case(word))
}

/// Whether this is Base64 of 16 bytes: 22 characters and two `=`.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'+' || *byte == b'/';
    key.len() == 24 && key.strip_suffix(b"==").is_some_and(|digits| digits.iter().all(is_digit))
}
// ANCHOR_END: handshake

// ANCHOR: upgrade
impl Handshake {
    /// The answer that makes a WebSocket of the connection.
    pub fn reply(&self) -> Response {
        let mut reply = StatusCode::SWITCHING_PROTOCOLS.into_response();
        let headers = reply.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        // It is Base64, so it can stand in a header.
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        if self.knows_us {
            let protocol = HeaderValue::from_static(SUBPROTOCOL);
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        reply
    }

    /// Waits until the answer is sent, and gives the socket and what was read from it already.
    /// `None` if the client is gone.
    pub async fn socket(self) -> Option<(TcpStream, Bytes)> {
        let parts = self.upgrade.await.ok()?.downcast::<TokioIo<TcpStream>>().ok()?;
        let socket = parts.io.into_inner();
        // The task that has answered the request is still the one that the socket would wake, and is
        // kept for that, with all its memory. From here on it is this task.
        poll_fn(|context| {
            let _ = socket.poll_read_ready(context);
            Poll::Ready(())
        })
        .await;
        Some((socket, parts.read_buf))
    }
}
// ANCHOR_END: upgrade

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_base64_of_16_bytes() {
        assert!(is_key(b"dGhlIHNhbXBsZSBub25jZQ=="));
        for wrong in [
            "",
            "abc",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZQ=\n",
            "*GhlIHNhbXBsZSBub25jZQ==",
        ] {
            assert!(!is_key(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn a_word_is_found_in_every_form_of_a_list() {
        let line = |text: &str| (header::CONNECTION, text.parse().unwrap());
        let headers = HeaderMap::from_iter([line("keep-alive"), line("close , Upgrade")]);
        let headers_of_a_stranger = HeaderMap::from_iter([line("upgraded")]);
        assert!(!has(&headers_of_a_stranger, header::CONNECTION, "upgrade"));
        let mut both = headers_of_a_stranger;
        both.append(header::CONNECTION, "close , Upgrade".parse().unwrap());
        assert!(has(&both, header::CONNECTION, "upgrade"));
        assert!(has(&headers, header::CONNECTION, "UPGRADE"));
    }
}
// ANCHOR_END: all
