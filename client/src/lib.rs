//! A client for the chat: it opens a connection, sends events, and gives the events that come.
//!
//! In the order a message travels:
//!
//! - [`account`]: from milestone 5 on, who we are, by name and password;
//! - [`protocol`]: the events, as Rust types and as JSON;
//! - [`connection`]: the WebSocket that carries them;
//! - [`session`]: from milestone 4 on, a conversation that survives its connections, with
//!   [`backoff`] between them;
//! - [`error`]: what can go wrong, in sentences for people.
//!
//! The program `chat` (`src/bin/chat/`) puts a terminal in front of it, and `swarm`
//! (`src/bin/swarm/`) runs thousands of clients at once.

pub mod account;
pub mod backoff;
pub mod connection;
pub mod error;
pub mod protocol;
pub mod session;

pub use account::Token;
pub use connection::{Connection, Options, Reader, Writer};
pub use error::{Close, Error};
pub use protocol::{ClientEvent, RoomInfo, ServerEvent};
pub use session::{Delivery, Event, Rejected, Session, Settings, State};
