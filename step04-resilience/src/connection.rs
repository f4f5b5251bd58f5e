// ANCHOR: all
//! One WebSocket: what it sends, what it is sent, and how it ends.

use std::error::Error as _;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::SplitStream;
use futures_util::{SinkExt, StreamExt};
use tokio::select;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use warp::ws::{Message, WebSocket};

use crate::client::{Client, Notices};
use crate::drain::Drain;
use crate::heartbeat::{Beat, Heartbeat};
use crate::hub::{Hub, Place};
use crate::outbox::{self, Close, Item, Outbox};
use crate::protocol::{self, ClientEvent, ErrorCode};
use crate::room::Who;

/// How long a client may take to say hello.
const HELLO: Duration = Duration::from_secs(10);

/// How long a goodbye may take: sending what is queued and our close frame, and waiting for the
/// client to leave.
const GOODBYE: Duration = Duration::from_secs(10);

/// How long the socket stays open after a broken frame. To close it with bytes unread would reset
/// it, and a reset can overtake the close frame we have just sent.
const LINGER: Duration = Duration::from_secs(1);

// ANCHOR: run
/// Speaks with one client until it leaves, has to leave, or the server stops.
pub async fn run(socket: WebSocket, hub: Arc<Hub>, drain: Drain) {
    let (sink, incoming) = socket.split();
    let (outbox, waiting) = Outbox::new();
    let overflow = outbox.overflow();
    let sink = sink.with(|item| ready(Ok::<_, warp::Error>(frame(item))));
    let writer = tokio::spawn(outbox::deliver(waiting, sink, overflow.clone()));
    let mut connection = Connection { incoming, outbox: outbox.clone(), hub, client: None };

    let ending = select! {
        ending = connection.converse() => ending,
        () = overflow.cancelled() => Ending::TooSlow,
        () = drain.farewell(&outbox) => Ending::Stopping,
    };
    drop(outbox);
    connection.leave(ending, writer).await;
}

/// The WebSocket message for an item of the queue.
fn frame(item: Item) -> Message {
    match item {
        Item::Event(letter) => letter.message,
        Item::Ping => Message::ping(""),
        Item::Close(Close { code, reason }) => Message::close_with(code, reason),
    }
}
// ANCHOR_END: run

// ANCHOR: connection
/// The reading side of a connection.
struct Connection {
    incoming: SplitStream<WebSocket>,
    outbox: Outbox,
    hub: Arc<Hub>,
    /// There is one from `hello` on.
    client: Option<Client>,
}

impl Connection {
    /// Waits for hello, then takes events until there are no more.
    async fn converse(&mut self) -> Ending {
        let place = match timeout(HELLO, self.hello()).await {
            Ok(Ok(place)) => place,
            Ok(Err(ending)) => return ending,
            Err(_elapsed) => {
                self.outbox.tell(ErrorCode::HelloFirst);
                return Ending::NoHello;
            }
        };
        let replaced = place.replaced.clone();
        let (client, notices) = Client::new(place, Arc::clone(&self.hub), self.outbox.clone());
        self.client = Some(client);
        match replaced.run_until_cancelled(self.chat(notices)).await {
            Some(ending) => ending,
            None => Ending::Replaced,
        }
    }

    /// Waits for a hello with a name that can be had, and takes a place under that name.
    async fn hello(&mut self) -> Result<Place, Ending> {
        loop {
            let frame = self.incoming.next().await;
            let entered = match self.read(frame)? {
                None => continue,
                Some(ClientEvent::Hello { name, session }) => self.hub.enter(&name, session),
                Some(_) => Err(ErrorCode::HelloFirst),
            };
            match entered {
                Ok(place) => return Ok(place),
                Err(code) => self.outbox.tell(code),
            }
            yield_now().await;
        }
    }

    // ANCHOR: chat
    /// Takes whatever comes next: a frame, a notice, a heartbeat.
    async fn chat(&mut self, mut notices: Notices) -> Ending {
        let mut heartbeat = Heartbeat::start();
        loop {
            select! {
                // Frames first: while one is there to be read, the client is not silent.
                biased;
                frame = self.incoming.next() => {
                    heartbeat.heard();
                    match self.read(frame) {
                        Ok(event) => self.handle(event).await,
                        Err(ending) => return ending,
                    }
                }
                Some(notice) = notices.next() => {
                    if let Some(client) = &mut self.client {
                        client.heed(notice).await;
                    }
                }
                beat = heartbeat.beat() => match beat {
                    Beat::Ping => self.outbox.ping(),
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
    // ANCHOR_END: chat
}
// ANCHOR_END: connection

// ANCHOR: read
impl Connection {
    /// Reads the event in a frame, if there is one. What can't be read is answered with an error.
    fn read(
        &self,
        frame: Option<Result<Message, warp::Error>>,
    ) -> Result<Option<ClientEvent>, Ending> {
        let message = match frame {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(Ending::of(&error)),
            None => return Err(Ending::Left),
        };
        // The library answers pings and close frames by itself, as long as we keep reading.
        if message.is_ping() || message.is_pong() || message.is_close() {
            return Ok(None);
        }
        // A binary message has no text, and JSON is due.
        let event = message.to_str().map_err(|()| ErrorCode::BadJson.into());
        match event.and_then(protocol::decode) {
            Ok(event) => Ok(Some(event)),
            Err(error) => {
                self.outbox.tell(error);
                Ok(None)
            }
        }
    }

    async fn handle(&mut self, event: Option<ClientEvent>) {
        if let (Some(event), Some(client)) = (event, &mut self.client) {
            client.handle(event, &self.outbox).await;
        }
    }
}
// ANCHOR_END: read

// ANCHOR: leave
impl Connection {
    /// Leaves the rooms and the hub, sends what is queued and the close frame, and waits for the client to go.
    async fn leave(self, ending: Ending, mut writer: JoinHandle<()>) {
        let Self { mut incoming, outbox, client, .. } = self;
        match client.as_ref().map(Client::who) {
            Some(Who { name, connection }) => {
                tracing::info!(id = %connection, name, ?ending, "disconnected");
            }
            None => tracing::info!(?ending, "disconnected before hello"),
        }
        if let Some(client) = client {
            client.leave().await;
        }
        if let Ending::Silent = ending {
            // Nobody is there to hear a goodbye.
            return writer.abort();
        }
        if let Some(close) = ending.close() {
            outbox.close(close);
        }
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

// ANCHOR: ending
/// Why a connection ended.
#[derive(Debug)]
enum Ending {
    /// The client closed it, or is gone.
    Left,
    /// The client has not answered a ping.
    Silent,
    /// No hello in time.
    NoHello,
    /// The client's queue was full, or too old.
    TooSlow,
    /// The same user has come back on another connection.
    Replaced,
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
    fn close(&self) -> Option<Close> {
        match self {
            Self::Left | Self::Silent => None,
            Self::NoHello => Some(Close { code: 1008, reason: "hello is overdue" }),
            Self::TooSlow => Some(Close::TOO_SLOW),
            Self::Replaced => Some(Close::REPLACED),
            Self::Broken(code) => Some(Close { code: *code, reason: "" }),
            Self::Stopping => Some(Close::RESTARTING),
        }
    }
}
// ANCHOR_END: ending
// ANCHOR_END: all
