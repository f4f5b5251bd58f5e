// ANCHOR: all
//! The WebSocket between the client and the server: what is sent leaves here, what comes arrives here.

use std::io;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::header::{
    AUTHORIZATION, ORIGIN, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL,
};
use tokio_tungstenite::tungstenite::http::{HeaderValue, Response, Uri};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use uuid::Uuid;

use crate::account::Token;
use crate::error::{Close, Error};
use crate::protocol::{self, ClientEvent, ServerEvent};

/// How long a server may take to end the connection once the goodbyes are said.
const GOODBYE: Duration = Duration::from_secs(2);

/// How much is read from the system at once, in bytes. The library's 128 KiB are much for a chat, and
/// a program with thousands of connections would pay for each.
const READ_BUFFER: usize = 8 * 1024;

/// What we speak, by the name that is agreed on in the handshake from milestone 5 on.
const PROTOCOL: HeaderValue = HeaderValue::from_static("chat.v1");

type Socket = WebSocketStream<TcpStream>;

// ANCHOR: options
/// How to open a connection.
#[derive(Debug, Clone)]
pub struct Options {
    /// The `Origin` header, which browsers send by themselves. Programs send none.
    pub origin: Option<String>,
    /// Who we are, for milestone 5: the handshake says so, and the server's welcome comes without a
    /// hello. [`account::token`](crate::account::token) gets one.
    pub token: Option<Token>,
    /// Which client we are, by the session of an earlier welcome: the server closes the old
    /// connection. It is for the handshake with a token; before milestone 5, hello says it.
    pub session: Option<Uuid>,
    /// How long the connection and its handshake may take.
    pub handshake_timeout: Duration,
    /// The longest message to send, in bytes. Servers take 64 KiB.
    pub max_sent_bytes: usize,
    /// The longest message to take, in bytes. `joined` is the long one: who was away for 10,000
    /// messages gets them in several, each with up to 4 MiB of text, and in JSON a character of
    /// one byte can take six.
    pub max_received_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            origin: None,
            token: None,
            session: None,
            handshake_timeout: Duration::from_secs(10),
            max_sent_bytes: 64 * 1024,
            max_received_bytes: 32 * 1024 * 1024,
        }
    }
}
// ANCHOR_END: options

// ANCHOR: connection
/// An open connection. Dropping it cuts the wire; [`Connection::close`] says goodbye first.
#[derive(Debug)]
pub struct Connection {
    reader: Reader,
    writer: Writer,
}

impl Connection {
    /// Opens a connection to a URL such as `ws://127.0.0.1:3003/ws`.
    ///
    /// # Errors
    /// The URL is no good, nobody listens there, or the server refuses.
    pub async fn open(url: &str) -> Result<Self, Error> {
        Self::open_with(url, &Options::default()).await
    }

    /// Opens a connection in another way than the usual.
    ///
    /// # Errors
    /// As [`Connection::open`], or the origin is no good.
    pub async fn open_with(url: &str, options: &Options) -> Result<Self, Error> {
        let (request, address) = request(url, options)?;
        let limit = options.handshake_timeout;
        let (sink, stream) = match timeout(limit, connect(url, request, &address, options)).await {
            Ok(socket) => socket?.split(),
            Err(_elapsed) => return Err(Error::HandshakeTimeout { address, limit }),
        };
        let reader = Reader { stream, close: None, heard: Instant::now() };
        let writer = Writer { sink, max_sent_bytes: options.max_sent_bytes };
        Ok(Self { reader, writer })
    }

    /// Sends an event.
    ///
    /// # Errors
    /// It is too long ([`Error::TooLong`]), or the connection has ended.
    pub async fn send(&mut self, event: &ClientEvent) -> Result<(), Error> {
        self.writer.send(event).await
    }

    /// Waits for the next event; see [`Reader::next`].
    ///
    /// # Errors
    /// As [`Reader::next`].
    pub async fn next(&mut self) -> Result<Option<ServerEvent>, Error> {
        self.reader.next().await
    }

    /// The server's close frame, once it has come.
    pub fn closed(&self) -> Option<&Close> {
        self.reader.closed()
    }

    /// Says goodbye with code 1000, and waits for the server's. What still comes before it is dropped.
    ///
    /// # Errors
    /// The connection had ended already.
    pub async fn close(&mut self) -> Result<(), Error> {
        self.writer.close().await?;
        self.reader.drain().await;
        Ok(())
    }

    /// Takes the connection apart, so that one task can send while another one waits for events.
    pub fn into_split(self) -> (Reader, Writer) {
        (self.reader, self.writer)
    }
}
// ANCHOR_END: connection

// ANCHOR: reader
/// The half of a connection that gives what comes.
///
/// Pings are answered and goodbyes returned while [`Reader::next`] is waiting, so keep it waiting.
#[derive(Debug)]
pub struct Reader {
    stream: SplitStream<Socket>,
    close: Option<Close>,
    heard: Instant,
}

impl Reader {
    /// Waits for the next event. `None`: the conversation has ended with a goodbye, and
    /// [`Reader::closed`] has the server's.
    ///
    /// It may be given up at any time (in `select!`, say) without losing an event.
    ///
    /// # Errors
    /// What came is no event ([`Error::BadEvent`]), after which the next one can be waited for; or
    /// the connection was lost.
    pub async fn next(&mut self) -> Result<Option<ServerEvent>, Error> {
        while self.close.is_none() {
            let frame = self.stream.next().await;
            self.heard = Instant::now();
            match frame {
                Some(Ok(Message::Text(json))) => return protocol::decode(&json).map(Some),
                Some(Ok(Message::Binary(bytes))) => return Err(not_text(&bytes)),
                Some(Ok(Message::Close(frame))) => self.close = Some(frame.into()),
                // The library has answered a ping by itself.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(lost(&error)),
                None => return Ok(None),
            }
        }
        self.drain().await;
        Ok(None)
    }

    /// The server's close frame, once it has come.
    pub fn closed(&self) -> Option<&Close> {
        self.close.as_ref()
    }

    /// When something came last, be it only a ping.
    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// Waits, for a short while, until the server has ended the connection. That sends our answer
    /// to its close frame as well.
    async fn drain(&mut self) {
        let _ = timeout(GOODBYE, async {
            while let Some(Ok(message)) = self.stream.next().await {
                if let Message::Close(frame) = message {
                    self.close = Some(frame.into());
                }
            }
        })
        .await;
    }
}
// ANCHOR_END: reader

// ANCHOR: writer
/// The half of a connection that takes what is to be sent.
#[derive(Debug)]
pub struct Writer {
    sink: SplitSink<Socket, Message>,
    max_sent_bytes: usize,
}

impl Writer {
    /// Sends an event.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub async fn send(&mut self, event: &ClientEvent) -> Result<(), Error> {
        let json = protocol::encode(event);
        let (bytes, limit) = (json.len(), self.max_sent_bytes);
        if bytes > limit {
            return Err(Error::TooLong { bytes, limit });
        }
        self.sink.send(Message::text(json)).await.map_err(|error| lost(&error))
    }

    /// Says goodbye with code 1000. The reader ends when the server has said it, too.
    ///
    /// # Errors
    /// The connection had ended already.
    pub async fn close(&mut self) -> Result<(), Error> {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        self.sink.send(Message::Close(Some(frame))).await.map_err(|error| lost(&error))
    }
}
// ANCHOR_END: writer

// ANCHOR: open
/// Where a URL leads.
pub(crate) struct Target {
    /// The URL, taken apart.
    uri: Uri,
    /// Host and port, to connect to.
    pub(crate) address: String,
}

/// Takes the URL of a WebSocket apart.
pub(crate) fn target(url: &str) -> Result<Target, Error> {
    let bad = |problem| Error::BadUrl { url: url.to_owned(), problem };
    let uri: Uri = url.parse().map_err(|_| bad("it is not a URL at all"))?;
    match uri.scheme_str() {
        Some("ws") => {}
        Some("wss") => return Err(bad("this client has no TLS, so wss:// is beyond it")),
        _ => return Err(bad("it does not begin with ws://")),
    }
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| bad("it has no host"))?;
    let address = format!("{host}:{}", uri.port_u16().unwrap_or(80));
    Ok(Target { uri, address })
}

/// The HTTP request that asks for a WebSocket, and the address to send it to.
fn request(url: &str, options: &Options) -> Result<(Request, String), Error> {
    let Target { uri, address } = target(url)?;
    let query = if uri.query().is_some() { '&' } else { '?' };
    let place = match options.session {
        Some(session) => format!("{uri}{query}session={session}"),
        None => uri.to_string(),
    };
    let bad = |_| Error::BadUrl { url: url.to_owned(), problem: "it makes no HTTP request" };
    let mut request = place.into_client_request().map_err(bad)?;
    let headers = request.headers_mut();
    if let Some(origin) = &options.origin {
        let value = HeaderValue::from_str(origin).map_err(|_| Error::BadOrigin(origin.clone()))?;
        headers.insert(ORIGIN, value);
    }
    if let Some(token) = &options.token {
        headers.insert(AUTHORIZATION, token.header()?);
        headers.insert(SEC_WEBSOCKET_PROTOCOL, PROTOCOL);
    }
    Ok((request, address))
}

/// Opens a TCP connection.
pub(crate) async fn reach(address: &str) -> Result<TcpStream, Error> {
    let stream = TcpStream::connect(address).await.map_err(|error| unreachable(address, error))?;
    // Without this the system may hold back a short message for up to 40 ms to fill a packet.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Connects, and asks for a WebSocket.
async fn connect(
    url: &str,
    request: Request,
    address: &str,
    options: &Options,
) -> Result<Socket, Error> {
    let stream = reach(address).await?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .max_message_size(Some(options.max_received_bytes))
        .max_frame_size(Some(options.max_received_bytes));
    match client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _response)) => Ok(socket),
        Err(tungstenite::Error::Http(response)) => Err(refused(url, &response)),
        Err(error) => {
            Err(Error::NotWebSocket { address: address.to_owned(), source: Box::new(error) })
        }
    }
}
// ANCHOR_END: open

// ANCHOR: errors
/// What a failed connection attempt means.
fn unreachable(address: &str, source: io::Error) -> Error {
    let address = address.to_owned();
    match source.kind() {
        io::ErrorKind::ConnectionRefused => Error::NobodyListening { address },
        _ => Error::Unreachable { address, source },
    }
}

/// What another HTTP status than 101 means.
fn refused<T>(url: &str, response: &Response<T>) -> Error {
    let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let (url, status) = (url.to_owned(), response.status().as_u16());
    Error::Refused { url, status, retry_after: wait.and_then(in_seconds) }
}

/// The time in a `Retry-After` header; none if it holds a date.
pub(crate) fn in_seconds(header: &str) -> Option<Duration> {
    header.trim().parse().ok().map(Duration::from_secs)
}

/// What an error of an open connection means.
fn lost(error: &tungstenite::Error) -> Error {
    match error {
        tungstenite::Error::Capacity(problem) => Error::TooBig { problem: problem.to_string() },
        error => Error::Lost { problem: error.to_string() },
    }
}

/// A binary message where JSON is due.
fn not_text(bytes: &[u8]) -> Error {
    Error::bad_event(&String::from_utf8_lossy(bytes), "a binary message".to_owned())
}

impl From<Option<CloseFrame>> for Close {
    fn from(frame: Option<CloseFrame>) -> Self {
        match frame {
            Some(frame) => Self { code: frame.code.into(), reason: frame.reason.to_string() },
            None => Self { code: CloseCode::Status.into(), reason: String::new() },
        }
    }
}
// ANCHOR_END: errors
// ANCHOR_END: all
