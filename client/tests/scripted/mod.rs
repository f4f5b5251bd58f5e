//! A server that does what a test tells it to: one client, on a port of its own.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::indexing_slicing, reason = "JSON without a field is null, and no panic")]

use std::future::Future;
use std::ops::RangeInclusive;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_async, accept_hdr_async};

/// Longer than anything here takes; so that a broken test ends.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The session of every welcome that has one.
pub const SESSION: &str = "00000000-0000-0000-0000-000000000005";

/// A token of ada's.
pub const TOKEN: &str = "5ec2e75ec2e7";

/// The epoch of every numbered message.
const EPOCH: &str = "00000000-0000-0000-0000-00000000000e";

const ID: &str = "00000000-0000-0000-0000-000000000000";

/// The URL of a server that plays `script` with its first client, and the script's result.
pub async fn server<F, T>(
    script: impl FnOnce(Peer) -> F + Send + 'static,
) -> (String, JoinHandle<T>)
where
    F: Future<Output = T> + Send,
    T: Send + 'static,
{
    let (address, accepted) = listen().await;
    let script = tokio::spawn(async move {
        let socket = accept_async(accepted.await.unwrap()).await.unwrap();
        timeout(PATIENCE, script(Peer { socket })).await.expect("the script hangs")
    });
    (format!("ws://{address}/ws"), script)
}

/// The URL of a server that answers its first client with these bytes and hangs up. Gives the request.
pub async fn raw_server(answer: &'static str) -> (String, JoinHandle<String>) {
    let (address, accepted) = listen().await;
    let task = tokio::spawn(async move {
        let mut stream = accepted.await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap()
    });
    (format!("ws://{address}/ws"), task)
}

/// A URL where nobody listens.
pub async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("ws://{}/ws", listener.local_addr().unwrap())
}

async fn listen() -> (String, JoinHandle<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (address, tokio::spawn(async move { listener.accept().await.unwrap().0 }))
}

/// A server that a test plays by hand, connection after connection.
pub struct Host {
    listener: TcpListener,
}

impl Host {
    /// Begins to listen.
    pub async fn open() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("ws://{}/ws", self.listener.local_addr().unwrap())
    }

    /// Waits for the next connection.
    pub async fn accept(&self) -> Peer {
        Peer { socket: accept_async(self.stream().await).await.unwrap() }
    }

    async fn stream(&self) -> TcpStream {
        let accepted = timeout(PATIENCE, self.listener.accept()).await.expect("nobody comes");
        accepted.unwrap().0
    }

    /// Waits for the next connection, which has to be that of somebody with this token, and gives
    /// the path that it asks for as well.
    #[allow(clippy::result_large_err, reason = "the library's callback wants it so")]
    pub async fn accept_token(&self, token: &str) -> (Peer, String) {
        let mut path = String::new();
        let look = |request: &Request, mut response: Response| -> Result<_, ErrorResponse> {
            path = request.uri().to_string();
            let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap());
            assert_eq!(header("authorization"), Some(&*format!("Bearer {token}")));
            assert_eq!(header("sec-websocket-protocol"), Some("chat.v1"));
            let chosen = HeaderValue::from_static("chat.v1");
            response.headers_mut().insert("sec-websocket-protocol", chosen);
            Ok(response)
        };
        let socket = accept_hdr_async(self.stream().await, look).await.unwrap();
        (Peer { socket }, path)
    }

    /// Takes the next request, and answers with this status and this body. Gives the request.
    pub async fn answer(&self, status: &str, body: &str) -> String {
        let length = body.len();
        self.answer_raw(&format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}"))
            .await
    }

    /// Takes the next request, answers with these bytes, and hangs up. Gives the request.
    pub async fn answer_raw(&self, answer: &str) -> String {
        let mut stream = self.stream().await;
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(request).unwrap();
        let length = head.split_once("Content-Length: ").map_or("0", |(_, rest)| rest);
        let mut sent = vec![0; length.trim().parse().unwrap()];
        stream.read_exact(&mut sent).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        head + &String::from_utf8(sent).unwrap()
    }
}

/// The server's end of the connection.
pub struct Peer {
    socket: WebSocketStream<TcpStream>,
}

impl Peer {
    /// Sends a text.
    pub async fn send(&mut self, json: &str) {
        self.send_raw(Message::text(json)).await;
    }

    /// Sends any message.
    pub async fn send_raw(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    /// Takes an event, which has to be this one.
    pub async fn expect(&mut self, json: &str) {
        let message = self.socket.next().await.expect("the client is gone").unwrap();
        let wanted: Value = serde_json::from_str(json).unwrap();
        let came: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        assert_eq!(came, wanted);
    }

    /// Takes an event.
    pub async fn take(&mut self) -> Value {
        let message = timeout(PATIENCE, self.socket.next()).await.expect("nothing comes");
        let message = message.expect("the client is gone").unwrap();
        serde_json::from_str(message.to_text().unwrap()).unwrap()
    }

    /// Takes hello from ada, and welcomes her with a session; `back` if she has to name hers.
    pub async fn welcome_with_session(&mut self, back: bool) {
        let hello = self.take().await;
        let session = if back { json!(SESSION) } else { Value::Null };
        assert_eq!((&hello["type"], &hello["session"]), (&json!("hello"), &session));
        self.welcome_unasked().await;
    }

    /// Welcomes ada, who has said in the handshake who she is.
    pub async fn welcome_unasked(&mut self) {
        self.send(&format!(
            r#"{{"type":"welcome","id":"{ID}","name":"ada","session":"{SESSION}"}}"#
        ))
        .await;
    }

    /// Takes ada's join with this cursor, and answers with these messages.
    pub async fn resume(&mut self, after: Option<u64>, numbers: RangeInclusive<u64>) {
        let epoch = after.map(|_| EPOCH);
        let mut join = json!({"type": "join", "room": "rust"});
        if let Some(after) = after {
            join["epoch"] = json!(epoch);
            join["after"] = json!(after);
        }
        assert_eq!(self.take().await, join);
        self.joined(numbers, false).await;
    }

    /// Sends `joined` for the room `rust` with these messages.
    pub async fn joined(&mut self, numbers: RangeInclusive<u64>, gap: bool) {
        let seq = *numbers.end();
        let history: Vec<Value> = numbers.map(numbered).collect();
        let joined = json!({
            "type": "joined", "room": "rust", "epoch": EPOCH, "seq": seq, "members": ["ada"],
            "history": history, "gap": gap,
        });
        self.send(&joined.to_string()).await;
    }

    /// Sends the message of the room `rust` with this number.
    pub async fn number(&mut self, seq: u64) {
        self.send(&numbered(seq).to_string()).await;
    }

    /// Acknowledges a message of the room `rust`.
    pub async fn ack(&mut self, message: &Value, seq: u64) {
        let ack = json!({"type": "ack", "id": message["id"], "room": "rust", "seq": seq});
        self.send(&ack.to_string()).await;
    }

    /// Takes hello from ada, and welcomes her the way a server with rooms does.
    pub async fn welcome(&mut self) {
        self.expect(r#"{"type":"hello","name":"ada"}"#).await;
        self.send(&format!(r#"{{"type":"welcome","id":"{ID}","name":"ada"}}"#)).await;
    }

    /// Takes hello from ada, and welcomes her the way a server without rooms does.
    pub async fn welcome_to_everyone(&mut self) {
        self.expect(r#"{"type":"hello","name":"ada"}"#).await;
        let users = r#"["ada","grace"]"#;
        self.send(&format!(r#"{{"type":"welcome","id":"{ID}","name":"ada","users":{users}}}"#))
            .await;
    }

    /// Takes ada's join, and lets her in.
    pub async fn let_into(&mut self, room: &str) {
        self.expect(&format!(r#"{{"type":"join","room":"{room}"}}"#)).await;
        self.send(&format!(
            r#"{{"type":"joined","room":"{room}","members":["ada"],"history":[]}}"#
        ))
        .await;
    }

    /// Says something in a room.
    pub async fn say(&mut self, room: &str, from: &str, text: &str) {
        let text = serde_json::to_string(text).unwrap();
        self.send(&format!(
            r#"{{"type":"message","room":"{room}","id":"{ID}","from":"{from}","text":{text},"at":1700000000000}}"#
        ))
        .await;
    }

    /// Lets the client into any room, and stores what it says there, until it leaves. Gives how many
    /// messages that were.
    pub async fn store(mut self) -> u64 {
        let mut seq = 0;
        while let Some(Ok(Message::Text(json))) = self.socket.next().await {
            let mut event: Value = serde_json::from_str(&json).unwrap();
            if event["type"] == "join" {
                let joined = json!({
                    "type": "joined", "room": event["room"], "epoch": EPOCH, "seq": 0,
                    "members": [], "history": [], "gap": false,
                });
                self.send(&joined.to_string()).await;
                continue;
            }
            seq += 1;
            for (key, value) in [("seq", json!(seq)), ("from", json!("ada")), ("at", json!(1))] {
                event[key] = value;
            }
            self.send(&event.to_string()).await;
            let ack = json!({"type": "ack", "id": event["id"], "room": event["room"], "seq": seq});
            self.send(&ack.to_string()).await;
        }
        // Reading goes on until the goodbyes are said.
        while let Some(Ok(_)) = self.socket.next().await {}
        seq
    }

    /// Says goodbye with a code, and waits for the client's.
    pub async fn close(mut self, code: u16, reason: &'static str) -> Option<u16> {
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        self.send_raw(Message::Close(Some(frame))).await;
        self.closed().await
    }

    /// Waits for the client's goodbye, and gives its code.
    pub async fn closed(mut self) -> Option<u16> {
        let mut code = None;
        while let Some(Ok(message)) = self.socket.next().await {
            match message {
                Message::Close(frame) => code = frame.map(|frame| frame.code.into()),
                other => panic!("wanted a goodbye, got {other:?}"),
            }
        }
        code
    }
}

/// The numbers of no messages, in a room that has so many.
pub fn nothing_after(seq: u64) -> RangeInclusive<u64> {
    RangeInclusive::new(seq + 1, seq)
}

/// The message with this number, whose text is the number.
fn numbered(seq: u64) -> Value {
    let id = format!("00000000-0000-0000-0001-{seq:012}");
    json!({
        "type": "message", "room": "rust", "seq": seq, "id": id, "from": "grace",
        "text": seq.to_string(), "at": 1_700_000_000_000_u64,
    })
}
