// ANCHOR: all
//! A conversation that survives its connections.
//!
//! A [`Session`] says hello, and whenever the connection is lost it comes back by itself: it waits a
//! little ([`crate::backoff`]), says hello as the same one, joins its rooms again from where it was,
//! and sends again what the server has not acknowledged. The user of a session sees every message
//! of the rooms once and in order, and learns what became of each message of their own.
//!
//! ```no_run
//! use client::{ClientEvent, Event, ServerEvent, Session, Settings, State};
//!
//! # async fn talk() -> Result<(), client::Rejected> {
//! let mut session = Session::open(Settings::new("ws://127.0.0.1:3004/ws"), "ada");
//! session.send(ClientEvent::join("rust"))?;
//! session.send(ClientEvent::message(Some("rust".into()), "hi"))?;
//! while let Some(event) = session.next().await {
//!     match event {
//!         Event::Came(ServerEvent::Message { from, text, .. }) => println!("{from}: {text}"),
//!         Event::Delivery { id, delivery } => println!("{id}: {delivery:?}"),
//!         Event::State(State::Waiting { delay, why }) => println!("again in {delay:?}: {why}"),
//!         Event::Came(_) | Event::State(_) => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! It needs a server that keeps sessions: milestone 4 or later. From milestone 5 on a token says who
//! we are ([`Settings::with_token`]), and no hello is said; once the server does not take the token
//! any more, the session ends with [`Error::wants_sign_in`]. It speaks WebSocket only; the fallback
//! over plain HTTP is for browsers in networks that block WebSockets.
//!
//! - `place`: how far we have seen a room;
//! - `outbox`: what the server has not stored yet;
//! - `memory`: both together, and the rules;
//! - `driver`: the task that connects, sends, receives and waits.

mod driver;
mod memory;
mod outbox;
mod place;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use uuid::Uuid;

use crate::account::Token;
use crate::connection::{Connection, Options};
use crate::error::Error;
use crate::protocol::{ClientEvent, ServerEvent};

use driver::Driver;
use memory::{Memory, Order};
use outbox::Address;

/// How many messages may wait for the server. Who has typed a thousand lines offline may wait.
const OUTBOX: usize = 1000;

/// How many events may wait for the user, and how many orders for the task beside messages.
const QUEUE: usize = 64;

/// How long our goodbye may take.
const GOODBYE: Duration = Duration::from_secs(3);

// ANCHOR: settings
/// Where a session goes, and how patient it is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The server's WebSocket.
    pub url: String,
    /// How to open a connection.
    pub options: Options,
    /// How long the wire may be silent before it counts as cut. Servers ping every 25 seconds, so
    /// one ping may be late.
    pub silence: Duration,
    /// How long the server may take to answer before we try on a new connection.
    pub answer: Duration,
}

impl Settings {
    /// The usual patience.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            options: Options::default(),
            silence: Duration::from_secs(45),
            answer: Duration::from_secs(30),
        }
    }

    /// The same for somebody who has signed in, with a server of milestone 5.
    pub fn with_token(url: impl Into<String>, token: Token) -> Self {
        let settings = Self::new(url);
        Self { options: Options { token: Some(token), ..settings.options }, ..settings }
    }
}
// ANCHOR_END: settings

// ANCHOR: events
/// What a session tells.
#[derive(Debug)]
pub enum Event {
    /// The server has said this.
    ///
    /// Each [`ServerEvent::Message`] of a room comes once and in order, be it by itself or in the
    /// `history` of a [`ServerEvent::Joined`], which after a cut holds what was missed. With `gap`
    /// the view of the room begins afresh: what it showed before is not what comes before.
    Came(ServerEvent),
    /// How the session is doing.
    State(State),
    /// What has become of a message of ours.
    Delivery {
        /// Which one.
        id: Uuid,
        /// What.
        delivery: Delivery,
    },
}

/// How a session is doing.
#[derive(Debug)]
pub enum State {
    /// It opens a connection and says who it is.
    Connecting,
    /// It is connected, and messages are stored.
    Connected,
    /// It is connected, but the server can't store messages at present. They wait.
    Degraded,
    /// It will try again.
    Waiting {
        /// When, from now.
        delay: Duration,
        /// What went wrong.
        why: Error,
    },
    /// It will not try again: no attempt can help. The last event.
    Ended(Error),
}

/// What has become of a message. Until one of these comes it is pending: perhaps stored, perhaps
/// not, and sent again after each cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// It is stored, and will never be lost.
    Sent {
        /// In which room.
        room: String,
        /// Its number there.
        seq: u64,
    },
    /// It will not be sent again.
    Failed {
        /// Why, for programs: `id_conflict`, `no_such_user`, …
        code: String,
        /// Why, for people.
        message: String,
        /// What it said.
        text: String,
    },
}

/// Why a session has not taken an event to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Too much waits already.
    #[error("{OUTBOX} messages are waiting for the server already: send this one later")]
    Full,
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
}
// ANCHOR_END: events

// ANCHOR: session
/// A conversation that survives its connections. [`Session::close`] ends it and waits for that; who
/// drops it does not wait.
#[derive(Debug)]
pub struct Session {
    orders: mpsc::Sender<Order>,
    events: mpsc::Receiver<Event>,
    places: Arc<Semaphore>,
    /// It ends when `orders` is dropped.
    task: JoinHandle<()>,
}

impl Session {
    /// Begins a session under a name, and goes on trying until there is a server. Where a token says
    /// who we are, the name is that of the account.
    ///
    /// It starts a task, so it has to be called within a runtime.
    pub fn open(settings: Settings, name: impl Into<String>) -> Self {
        Self::start(settings, Memory::new(name.into()), None)
    }

    /// Takes over a connection after its welcome, which has to have a session.
    pub fn adopt(settings: Settings, connection: Connection, name: String, session: Uuid) -> Self {
        let mut memory = Memory::new(name.clone());
        memory.welcome(name, Some(session));
        Self::start(settings, memory, Some(connection))
    }

    fn start(settings: Settings, memory: Memory, connection: Option<Connection>) -> Self {
        let (orders, taken) = mpsc::channel(OUTBOX + QUEUE);
        let (told, events) = mpsc::channel(QUEUE);
        let task = tokio::spawn(Driver::new(settings, memory, taken, told).run(connection));
        Self { orders, events, places: Arc::new(Semaphore::new(OUTBOX)), task }
    }

    /// Waits for the next event. `None`: the session has ended.
    ///
    /// It may be given up at any time (in `select!`, say) without losing an event. A session whose
    /// events nobody takes stops reading from the server after a while.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Sends an event now or, if there is no connection, later. It never waits.
    ///
    /// For a message it gives the id by which [`Event::Delivery`] tells what became of it; an id that
    /// the message has already is kept. Typing is dropped where it can't be sent at once.
    ///
    /// # Errors
    /// Too much waits already, or the session has ended.
    pub fn send(&self, event: ClientEvent) -> Result<Option<Uuid>, Rejected> {
        let (id, to, text) = match event {
            ClientEvent::Message { id, room: Some(room), text } => (id, Address::Room(room), text),
            ClientEvent::Direct { id, to, text } => (id, Address::User(to), text),
            other => return self.order(Order::Ask(other)).map(|()| None),
        };
        let id = id.unwrap_or_else(Uuid::new_v4);
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Rejected::Full)?;
        self.order(Order::Say { id, to, text, place })?;
        Ok(Some(id))
    }

    /// Cuts the wire as a pulled cable does, to see the session come back.
    ///
    /// # Errors
    /// As [`Session::send`].
    pub fn cut(&self) -> Result<(), Rejected> {
        self.order(Order::Cut)
    }

    fn order(&self, order: Order) -> Result<(), Rejected> {
        self.orders.try_send(order).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Rejected::Full,
            mpsc::error::TrySendError::Closed(_) => Rejected::Ended,
        })
    }

    /// Says goodbye with code 1000. What the server has not stored by now is not sent again.
    pub async fn close(self) {
        let Self { orders, mut events, task, .. } = self;
        drop(orders);
        let farewell = async {
            while events.recv().await.is_some() {}
            let _ = task.await;
        };
        let _ = timeout(GOODBYE, farewell).await;
    }
}
// ANCHOR_END: session
// ANCHOR_END: all
