// ANCHOR: all
// ANCHOR: head
//! One client: the handshake, the echo, and the goodbye.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config};
use tokio_util::sync::CancellationToken;

/// How long a client may take for its handshake. Without a limit, a client that connects and says
/// nothing would hold its slot for ever.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a goodbye may take: sending our close frame and waiting for the client to leave.
const GOODBYE: Duration = Duration::from_secs(2);

/// A WebSocket on a TCP stream that stays ours, to be read and written as plain bytes afterwards.
type Socket<'a> = WebSocketStream<&'a mut TcpStream>;
// ANCHOR_END: head

/// The limits that protect the server's memory from a single client.
pub fn limits(max_message_bytes: usize) -> WebSocketConfig {
    let config = WebSocketConfig::default();
    // A message may come in many frames, and each frame says its length first. Both need the
    // limit: a frame of 16 MiB would otherwise be read in full before its message is refused.
    config
        .max_message_size(Some(max_message_bytes))
        .max_frame_size(Some(max_message_bytes))
        // Room for one echo beside what is on its way already. Pongs wait here too, so without
        // this a client that sends pings and never reads would grow it without end.
        .max_write_buffer_size(max_message_bytes.saturating_add(2 * config.write_buffer_size))
}

// ANCHOR: run
/// Speaks with one client from its first byte to its last.
pub async fn run(mut stream: TcpStream, limits: WebSocketConfig, stop: CancellationToken) {
    let handshake = timeout(HANDSHAKE, accept_async_with_config(&mut stream, Some(limits)));
    let mut socket = match stop.run_until_cancelled(handshake).await {
        Some(Ok(Ok(socket))) => socket,
        Some(Ok(Err(_not_a_websocket))) => return refuse(stream, BAD_REQUEST).await,
        Some(Err(_too_slow)) => return refuse(stream, TIMEOUT).await,
        None => return,
    };

    let close_code = match stop.run_until_cancelled(echo(&mut socket)).await {
        Some(Ok(())) => return,
        Some(Err(error)) => close_code(&error),
        None => Some(CloseCode::Away),
    };

    if let Some(code) = close_code {
        // A client that does not answer is left behind: the time limit is all there is to handle.
        let _ = timeout(GOODBYE, say_goodbye(socket, code)).await;
    }
}
// ANCHOR_END: run

// ANCHOR: echo
/// Sends every message back until the client leaves.
async fn echo(socket: &mut Socket<'_>) -> Result<(), Error> {
    while let Some(message) = socket.next().await {
        match message? {
            message @ (Message::Text(_) | Message::Binary(_)) => socket.send(message).await?,
            // The library answers a ping with a pong and a close frame with a close frame, as
            // long as we keep reading: the answer goes out with the next call of `next`.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
        }
    }
    Ok(())
}
// ANCHOR_END: echo

// ANCHOR: close
/// The close code that tells the client what went wrong, or `None` if it is gone already.
///
/// The codes are those of [RFC 6455, section 7.4.1](https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1).
fn close_code(error: &Error) -> Option<CloseCode> {
    match error {
        Error::Capacity(_) => Some(CloseCode::Size),
        Error::Utf8(_) => Some(CloseCode::Invalid),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) => Some(CloseCode::Protocol),
        _ => None,
    }
}

/// Sends a close frame and waits until the client has hung up.
async fn say_goodbye(mut socket: Socket<'_>, code: CloseCode) -> Result<(), Error> {
    let reason = "".into();
    socket.close(Some(CloseFrame { code, reason })).await?;
    while let Some(message) = socket.next().await {
        message?;
    }
    hang_up(socket.into_inner()).await?;
    Ok(())
}

/// Ends our half of the stream, then reads the client's half to its end. To close a stream with
/// bytes unread would reset it, and a reset can overtake the close frame we have just sent.
async fn hang_up(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.shutdown().await?;
    let mut rest = [0; 4096];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}
// ANCHOR_END: close

// ANCHOR: refuse
/// For a client that asked for something other than a WebSocket.
const BAD_REQUEST: &str = "HTTP/1.1 400 Bad Request\r\nSec-WebSocket-Version: 13";
/// For a client that took longer than [`HANDSHAKE`] to ask.
const TIMEOUT: &str = "HTTP/1.1 408 Request Timeout";
/// For a client that found all slots taken.
pub const FULL: &str = "HTTP/1.1 503 Service Unavailable";

/// Answers in HTTP, which is what a client speaks before its handshake is done.
pub async fn refuse(mut stream: TcpStream, status: &str) {
    let answer = format!("{status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    let goodbye = async {
        stream.write_all(answer.as_bytes()).await?;
        hang_up(&mut stream).await
    };
    let _ = timeout(GOODBYE, goodbye).await;
}
// ANCHOR_END: refuse
// ANCHOR_END: all
