// ANCHOR: all
//! One WebSocket: what it sends, what it is sent, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::select;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::accounts::Live;
use crate::client::{Client, Notices};
use crate::drain::Drain;
use crate::ending::Ending;
use crate::heartbeat::{Beat, Heartbeat};
use crate::hub::Hub;
use crate::limits::{Meter, TooMuch, slow_down};
use crate::outbox::Outbox;
use crate::protocol::{self, ErrorCode, ServerEvent};
use crate::socket::Socket;
use crate::telemetry;

/// How long a goodbye may take: sending what is queued and our close frame, and waiting for the
/// client to leave.
const GOODBYE: Duration = Duration::from_secs(10);

/// How long the socket stays open after a goodbye to which no answer is expected. To close it with
/// bytes unread would reset it, and a reset can overtake the close frame we have just sent.
const LINGER: Duration = Duration::from_secs(1);

/// What this transport is called in the metrics.
const TRANSPORT: &str = "websocket";

// ANCHOR: run
/// Somebody who may come in.
pub struct Guest {
    /// The name, as everyone sees it.
    pub name: String,
    /// Names the client, if it has been here before.
    pub session: Option<Uuid>,
    /// Counts what it sends.
    pub meter: Meter,
    /// Tells when it has to sign in again.
    pub live: Live,
    /// When it arrived, as in [`Users::arrive`](crate::users::Users::arrive).
    pub arrived: u64,
}

/// Speaks with one client until it leaves, has to leave, or the server stops. `read` are bytes that
/// came right behind its handshake.
pub async fn run(socket: TcpStream, read: Bytes, guest: Guest, hub: Arc<Hub>, drain: Drain) {
    let Guest { name, session, meter, live, arrived } = guest;
    let outbox = Outbox::for_socket(socket);
    let place = hub.enter(&name, session, arrived);
    let replaced = place.replaced.clone();
    let (client, notices) = Client::new(place, hub, outbox.clone());
    let socket = Socket::new(outbox.clone(), meter, read);
    let mut connection = Connection { socket, client, outbox: outbox.clone(), pinged: None };
    telemetry::opened(TRANSPORT);

    // ANCHOR: endings
    let ending = select! {
        ending = connection.chat(notices) => ending,
        end = outbox.write() => end.into(),
        () = replaced.cancelled() => Ending::Replaced,
        () = live.ended() => Ending::SignedOut,
        () = drain.farewell(&outbox) => Ending::Stopping,
    };
    // ANCHOR_END: endings
    // Boxed: an idle connection would otherwise keep space for its end in its own task.
    Box::pin(connection.leave(ending)).await;
    telemetry::closed(TRANSPORT, ending.close().map_or(0, |close| close.code));
}
// ANCHOR_END: run

// ANCHOR: chat
/// A connection, and its client.
struct Connection {
    socket: Socket,
    client: Client,
    outbox: Outbox,
    /// When the last ping went out, until it is answered.
    pinged: Option<Instant>,
}

impl Connection {
    /// Takes whatever comes next: a message, a notice, a heartbeat.
    async fn chat(&mut self, mut notices: Notices) -> Ending {
        let mut heartbeat = Heartbeat::start();
        loop {
            select! {
                // Messages first: while one is there to be read, the client is not silent.
                biased;
                message = self.socket.next() => {
                    heartbeat.heard();
                    if let Err(ending) = self.take(message).await {
                        return ending;
                    }
                }
                Some(notice) = notices.next() => Box::pin(self.client.heed(notice)).await,
                beat = heartbeat.beat() => match beat {
                    Beat::Ping => self.ping(),
                    // While something is on its way to the client, the ping may stand behind it.
                    Beat::Silence if self.outbox.is_idle() => return Ending::Silent,
                    Beat::Silence => {}
                },
            }
            // Gives the writers a turn: someone who sends a thousand messages at once must not
            // fill everyone's queue before it can empty.
            yield_now().await;
        }
    }

    fn ping(&mut self) {
        self.pinged = Some(Instant::now());
        self.outbox.ping();
    }
}
// ANCHOR_END: chat

// ANCHOR: take
impl Connection {
    /// Does what a message asks for, if it is not one too many.
    async fn take(&mut self, message: Result<Message, Ending>) -> Result<(), Ending> {
        let message = message?;
        if message.is_close() {
            self.socket.answer_goodbye();
            return Err(Ending::Left);
        }
        telemetry::event_came();
        if let Err(too_much) = self.socket.meter().event() {
            return self.refuse(&message, too_much).await;
        }
        match message {
            // The library has answered the ping.
            Message::Ping(_) => {}
            Message::Pong(_) => self
                .pinged
                .take()
                .into_iter()
                .for_each(|pinged| telemetry::ponged(pinged.elapsed())),
            Message::Text(json) => self.obey(&json).await,
            // A binary message has no text, and JSON is due.
            _ => self.outbox.tell(ErrorCode::BadJson),
        }
        Ok(())
    }

    async fn obey(&mut self, json: &str) {
        match protocol::decode(json) {
            // Boxed for the same reason: most of the time there is nothing to do.
            Ok(event) => Box::pin(self.client.handle(event, &self.outbox)).await,
            Err(error) => self.outbox.tell(error),
        }
    }

    /// Tells a client that this was one too many, or ends the connection if it doesn't care.
    async fn refuse(&self, message: &Message, too_much: TooMuch) -> Result<(), Ending> {
        let TooMuch { wait, is_flood } = too_much;
        if is_flood {
            return Err(Ending::Flooding);
        }
        if let Message::Text(json) = message {
            let refused: ServerEvent = ErrorCode::RateLimited.until(protocol::find_id(json), wait);
            self.outbox.tell(refused);
        }
        slow_down().await;
        Ok(())
    }
}
// ANCHOR_END: take

// ANCHOR: leave
impl Connection {
    /// Leaves the rooms and the hub, sends what is queued and the close frame, and waits for the
    /// client to go.
    async fn leave(self, ending: Ending) {
        let Self { mut socket, client, outbox, .. } = self;
        let who = client.who();
        tracing::info!(id = %who.connection, name = who.name, ?ending, "gone");
        match ending.close() {
            Some(close) => outbox.close(close),
            None => outbox.seal(None),
        }
        let farewell = async {
            outbox.write().await;
            match ending {
                // Our goodbye was the answer to the client's.
                Ending::Left => {}
                // What still comes makes no sense any more, or is too much.
                Ending::Broken(_) | Ending::Unfinished | Ending::Flooding => {
                    let _ = timeout(LINGER, socket.discard()).await;
                }
                _ => while socket.next().await.is_ok_and(|message| !message.is_close()) {},
            }
        };
        // Nobody is there to hear the goodbye of a silent client.
        let patience = if ending == Ending::Silent { Duration::ZERO } else { GOODBYE };
        let (_left, _said) = tokio::join!(client.leave(), timeout(patience, farewell));
    }
}
// ANCHOR_END: leave
// ANCHOR_END: all
