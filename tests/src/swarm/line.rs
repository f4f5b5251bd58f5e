//! How a client of a swarm speaks with the server: by a WebSocket, or by a stream and requests.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::accounts::JSON;
use crate::event::text;
use crate::raw;
use crate::stream::Reader;

/// After what time to send again what a request could not deliver.
const LATER: Duration = Duration::from_millis(500);

/// Who connects, where to, and as whose client.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// Where to.
    pub address: SocketAddr,
    /// The name, before milestone 5.
    pub name: &'a str,
    /// What says who it is, from milestone 5 on.
    pub token: Option<&'a str>,
    /// The session of the connection before.
    pub session: Option<&'a str>,
}

impl Caller<'_> {
    fn authorization(&self) -> Option<String> {
        self.token.map(|token| format!("Bearer {token}"))
    }
}

/// What comes.
#[derive(Debug)]
pub enum Incoming {
    /// An event, with the place in the stream that comes after it.
    Event(String, String),
    /// The goodbye, with its code.
    Close(u16),
    /// Something could not be delivered, and may be tried again after this time.
    Later(Duration),
    /// A sign of life.
    Other,
}

/// An open line.
#[derive(Debug)]
pub enum Line {
    /// Both ways in one.
    WebSocket(Box<WebSocketStream<TcpStream>>),
    /// One way each.
    Fallback(Fallback),
}

impl Line {
    /// Opens a WebSocket, up to the welcome, which it gives.
    pub async fn by_websocket(caller: Caller<'_>) -> Option<(Self, Value)> {
        let stream = TcpStream::connect(caller.address).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let session = caller.session.filter(|_| caller.token.is_some());
        let query = session.map(|session| format!("?session={session}")).unwrap_or_default();
        let mut request =
            format!("ws://{}/ws{query}", caller.address).into_client_request().ok()?;
        if let Some(authorization) = caller.authorization() {
            let value = HeaderValue::from_str(&authorization).ok()?;
            request.headers_mut().insert("Authorization", value);
        }
        let (socket, _) = client_async(request, stream).await.ok()?;
        let mut line = Self::WebSocket(Box::new(socket));
        if caller.token.is_none() {
            line.send(&hello(caller).to_string()).await.ok()?;
        }
        let welcome = line.welcome().await?;
        Some((line, welcome))
    }

    /// Begins without a WebSocket, and gives the welcome: says hello and asks for a stream.
    pub async fn by_requests(
        caller: Caller<'_>,
        rooms: &[String],
        last_id: &str,
    ) -> Option<(Self, Value)> {
        let (address, authorization) = (caller.address.to_string(), caller.authorization()?);
        let headers = [JSON, ("Authorization", authorization.as_str())];
        let body = hello(caller).to_string();
        let answer = raw::request_with(&address, "POST", "/hello", &headers, &body).await.ok()?;
        let welcome: Value = serde_json::from_str(&answer.body).ok()?;
        let session = text(&welcome, "session").to_owned();
        if answer.status != 200 || session.is_empty() {
            return None;
        }
        let path = format!("/events?session={session}&join={}", rooms.join(","));
        let mut headers =
            vec![("Accept", "text/event-stream"), ("Authorization", authorization.as_str())];
        if !last_id.is_empty() {
            headers.push(("Last-Event-ID", last_id));
        }
        let (answer, rest, socket) = raw::begin(&address, "GET", &path, &headers, "").await.ok()?;
        let reader = Reader::of(&answer, rest, socket).ok()?;
        let line =
            Fallback::start(reader, address, format!("/events?session={session}"), authorization);
        Some((Self::Fallback(line), welcome))
    }

    /// Reads up to the welcome; none, if the name is taken or the connection ends.
    async fn welcome(&mut self) -> Option<Value> {
        loop {
            let Incoming::Event(json, _) = self.next().await? else { continue };
            let event: Value = serde_json::from_str(&json).ok()?;
            match text(&event, "type") {
                "welcome" => return Some(event),
                "error" => return None,
                _ => {}
            }
        }
    }

    /// What comes next; none at the end. May be dropped while it waits.
    pub async fn next(&mut self) -> Option<Incoming> {
        match self {
            Self::WebSocket(socket) => match socket.next().await?.ok()? {
                Message::Text(json) => Some(Incoming::Event(json.to_string(), String::new())),
                Message::Close(close) => {
                    Some(Incoming::Close(close.map_or(1005, |close| close.code.into())))
                }
                _ => Some(Incoming::Other),
            },
            Self::Fallback(line) => line.incoming.recv().await,
        }
    }

    /// Sends an event.
    ///
    /// # Errors
    /// The line is broken.
    pub async fn send(&mut self, event: &str) -> Result<(), Broken> {
        match self {
            Self::WebSocket(socket) => socket.send(Message::text(event)).await.map_err(|_| Broken),
            Self::Fallback(line) => line.outgoing.send(event.to_owned()).map_err(|_| Broken),
        }
    }

    /// Asks for a sign of life, where there is a way to.
    ///
    /// # Errors
    /// The line is broken.
    pub async fn ping(&mut self) -> Result<(), Broken> {
        match self {
            Self::WebSocket(socket) => {
                socket.send(Message::Ping("".into())).await.map_err(|_| Broken)
            }
            Self::Fallback(_) => Ok(()),
        }
    }

    /// Whether the other side answers a ping.
    pub fn answers_pings(&self) -> bool {
        matches!(self, Self::WebSocket(_))
    }

    /// Whether it joins its rooms by itself, with its last place.
    pub fn joins_by_itself(&self) -> bool {
        matches!(self, Self::Fallback(_))
    }
}

/// The line is broken.
#[derive(Debug)]
pub struct Broken;

/// A stream, and requests. Dropping it ends both.
#[derive(Debug)]
pub struct Fallback {
    incoming: UnboundedReceiver<Incoming>,
    outgoing: UnboundedSender<String>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Fallback {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Fallback {
    fn start(reader: Reader, address: String, path: String, authorization: String) -> Self {
        let (came, incoming) = mpsc::unbounded_channel();
        let (outgoing, to_send) = mpsc::unbounded_channel();
        let answers = came.downgrade();
        let listening = tokio::spawn(listen(reader, came));
        let post = Post { address, path, authorization };
        let posting = tokio::spawn(async move {
            let mut to_send: UnboundedReceiver<String> = to_send;
            while let Some(event) = to_send.recv().await {
                let answer = post.send(&event).await;
                let Some(answers) = answers.upgrade() else { return };
                if answer.is_some_and(|answer| answers.send(answer).is_err()) {
                    return;
                }
            }
        });
        Self { incoming, outgoing, tasks: [listening, posting] }
    }
}

/// Reads the stream to its end, which ends the line.
async fn listen(mut reader: Reader, came: UnboundedSender<Incoming>) {
    while let Ok(Some(sent)) = reader.read().await {
        let incoming = if sent.kind == "close" {
            let code: Value = serde_json::from_str(&sent.data).unwrap_or_default();
            let code = code.get("code").and_then(Value::as_u64);
            Incoming::Close(code.and_then(|code| u16::try_from(code).ok()).unwrap_or(1005))
        } else {
            Incoming::Event(sent.data, sent.id)
        };
        if came.send(incoming).is_err() {
            return;
        }
    }
}

/// Where requests go.
struct Post {
    address: String,
    path: String,
    authorization: String,
}

impl Post {
    /// Sends an event, and gives what became of it.
    async fn send(&self, event: &str) -> Option<Incoming> {
        let headers = [JSON, ("Authorization", self.authorization.as_str())];
        let request = raw::request_with(&self.address, "POST", &self.path, &headers, event);
        let answer = timeout(LATER * 10, request).await.ok().and_then(Result::ok);
        let Some(answer) = answer else { return Some(Incoming::Later(LATER)) };
        match answer.status {
            // The session is unknown: another hello is due.
            401 => Some(Incoming::Close(1005)),
            // By the stream comes what is to be said.
            204 => None,
            _ if answer.body.starts_with("{\"type\":") => {
                Some(Incoming::Event(answer.body, String::new()))
            }
            _ => Some(Incoming::Later(LATER)),
        }
    }
}

fn hello(caller: Caller<'_>) -> Value {
    match caller.session {
        Some(session) => json!({"type": "hello", "name": caller.name, "session": session}),
        None => json!({"type": "hello", "name": caller.name}),
    }
}
