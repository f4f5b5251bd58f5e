// ANCHOR: all
// ANCHOR: head
//! One client: what it sends, what it is sent, and how it ends.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use warp::ws::{Message, WebSocket};

use crate::hub::Hub;
use crate::names;
use crate::outbox::{Outbox, Waiting};
use crate::protocol::{self, ClientEvent, ErrorCode};

/// How long a client may take to say hello.
const HELLO: Duration = Duration::from_secs(10);

/// How long a goodbye may take: sending what is queued and our close frame, and waiting for the
/// client to leave.
const GOODBYE: Duration = Duration::from_secs(10);

/// How long the socket stays open after a broken frame. To close it with bytes unread would reset
/// it, and a reset can overtake the close frame we have just sent.
const LINGER: Duration = Duration::from_secs(1);
// ANCHOR_END: head

// ANCHOR: run
/// Speaks with one client until it leaves, has to leave, or `stop` is cancelled.
pub async fn run(socket: WebSocket, hub: Arc<Hub>, stop: CancellationToken) {
    let (sink, incoming) = socket.split();
    let (outbox, waiting) = Outbox::new();
    let writer = tokio::spawn(write(sink, waiting));
    let overflow = outbox.overflow();
    let mut client = Client { id: Uuid::new_v4(), name: None, incoming, outbox, hub };

    let conversation = overflow.run_until_cancelled(client.converse());
    let ending = match stop.run_until_cancelled(conversation).await {
        Some(Some(ending)) => ending,
        Some(None) => Ending::TooSlow,
        None => Ending::Stopping,
    };
    tracing::info!(id = %client.id, name = client.name, ?ending, "disconnected");
    client.leave(ending, writer).await;
}

/// Writes what waits in the queue to the socket, until nobody can put anything into it any more.
async fn write(mut sink: SplitSink<WebSocket, Message>, mut waiting: UnboundedReceiver<Waiting>) {
    while let Some((message, _share)) = waiting.recv().await {
        if sink.send(message).await.is_err() {
            return;
        }
    }
}
// ANCHOR_END: run

// ANCHOR: client
/// The reading side of a connection.
struct Client {
    id: Uuid,
    /// The name, once the client has said hello.
    name: Option<String>,
    incoming: SplitStream<WebSocket>,
    outbox: Outbox,
    hub: Arc<Hub>,
}

impl Client {
    /// Waits for hello, then takes events until there are no more.
    async fn converse(&mut self) -> Ending {
        match timeout(HELLO, self.hello()).await {
            Ok(Ok(name)) => self.chat(&name).await,
            Ok(Err(ending)) => ending,
            Err(_elapsed) => {
                self.outbox.tell(ErrorCode::HelloFirst);
                Ending::NoHello
            }
        }
    }

    /// Waits for a hello with a name that can be had, and gives that name.
    async fn hello(&mut self) -> Result<String, Ending> {
        loop {
            let entered = match self.next_event().await? {
                ClientEvent::Hello { name } => self.enter(&name),
                ClientEvent::Message { .. } | ClientEvent::Unknown => Err(ErrorCode::HelloFirst),
            };
            match entered {
                Ok(name) => return Ok(name),
                Err(error) => self.outbox.tell(error),
            }
        }
    }

    /// Takes a place in the hub.
    fn enter(&mut self, name: &str) -> Result<String, ErrorCode> {
        let name = names::normalize(name)?;
        self.hub.enter(self.id, name.clone(), self.outbox.clone())?;
        tracing::info!(id = %self.id, %name, "hello");
        self.name = Some(name.clone());
        Ok(name)
    }

    /// Takes events until the connection ends.
    async fn chat(&mut self, name: &str) -> Ending {
        loop {
            let done = match self.next_event().await {
                Ok(ClientEvent::Message { text }) => {
                    protocol::trim(&text).map(|text| self.hub.say(name, text))
                }
                Ok(ClientEvent::Hello { .. }) => Err(ErrorCode::Forbidden),
                Ok(ClientEvent::Unknown) => Err(ErrorCode::UnknownType),
                Err(ending) => return ending,
            };
            if let Err(error) = done {
                self.outbox.tell(error);
            }
            // Gives the writers a turn: someone who sends a thousand messages at once must not
            // fill everyone's queue before it can empty.
            yield_now().await;
        }
    }
}
// ANCHOR_END: client

// ANCHOR: leave
impl Client {
    /// Leaves the hub, sends what is queued and the close frame, and waits for the client to go.
    async fn leave(self, ending: Ending, mut writer: JoinHandle<()>) {
        let Self { name, mut incoming, outbox, hub, .. } = self;
        if let Some(name) = name {
            hub.leave(&name);
        }
        if let Some(frame) = ending.close_frame() {
            outbox.close(frame);
        }
        // This was the last clone: the writer empties the queue and ends.
        drop(outbox);
        let farewell = async {
            let _ = (&mut writer).await;
            while let Some(Ok(_)) = incoming.next().await {}
        };
        if timeout(GOODBYE, farewell).await.is_err() {
            writer.abort();
        }
        if let Ending::Broken(_) = ending {
            sleep(LINGER).await;
        }
    }
}
// ANCHOR_END: leave

// ANCHOR: next
impl Client {
    /// The next event that can be read. What can't be read is answered with an error.
    async fn next_event(&mut self) -> Result<ClientEvent, Ending> {
        loop {
            let message = match self.incoming.next().await {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Err(Ending::of(&error)),
                None => return Err(Ending::Left),
            };
            // The library answers pings and close frames by itself, as long as we keep reading.
            if message.is_ping() || message.is_pong() || message.is_close() {
                continue;
            }
            match protocol::decode(&message) {
                Ok(event) => return Ok(event),
                Err(error) => self.outbox.tell(error),
            }
            yield_now().await;
        }
    }
}
// ANCHOR_END: next

// ANCHOR: ending
/// Why a connection ended.
#[derive(Debug)]
enum Ending {
    /// The client closed it, or is gone.
    Left,
    /// No hello in time.
    NoHello,
    /// The client's queue was full.
    TooSlow,
    /// The client broke the rules of WebSocket in the way that this close code says.
    Broken(u16),
    /// The server is stopping.
    Stopping,
}

impl Ending {
    /// What an error of the library means for the connection.
    fn of(error: &warp::Error) -> Self {
        let cause = error.source().and_then(|source| source.downcast_ref::<Error>());
        match cause {
            Some(Error::Capacity(_)) => Self::Broken(1009),
            Some(Error::Utf8(_)) => Self::Broken(1007),
            Some(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => Self::Left,
            Some(Error::Protocol(_)) => Self::Broken(1002),
            _ => Self::Left,
        }
    }

    /// The close frame that tells the client, if it can still hear it.
    fn close_frame(&self) -> Option<Message> {
        match self {
            Self::Left => None,
            Self::NoHello => Some(Message::close_with(1008u16, "hello is overdue")),
            Self::TooSlow => Some(Message::close_with(4008u16, "too slow")),
            Self::Broken(code) => Some(Message::close_with(*code, "")),
            Self::Stopping => Some(Message::close_with(1001u16, "the server is stopping")),
        }
    }
}
// ANCHOR_END: ending
// ANCHOR_END: all
