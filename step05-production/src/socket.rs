// ANCHOR: all
//! The reading side of a WebSocket. The library takes frames apart; what it has to say itself, pongs
//! and the answer to a close frame, goes the way of everything else: through the outbox.

use std::io::{self, Read, Write};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket};

use crate::ending::Ending;
use crate::limits::{Meter, slow_down};
use crate::outbox::Outbox;
use crate::telemetry;

/// The longest message and the longest frame a client may send, in bytes.
const MAX_MESSAGE: usize = 64 * 1024;

/// How much is read at once, in bytes. Each connection keeps a buffer of this size for as long as it
/// lasts; the library's own choice is 128 KiB. A longer message makes it grow for a while.
const READ_BUFFER: usize = 1024;

/// How many bytes one message may take with all its frames. Each part has a header of its own, and
/// parts may be empty: without this, a message without end would cost nothing but our time.
const MAX_ON_THE_WIRE: u64 = 4 * MAX_MESSAGE as u64;

/// How long a message may be on its way, from its first bytes to its last.
const MESSAGE: Duration = Duration::from_secs(10);

// ANCHOR: socket
/// What comes from one client.
pub struct Socket {
    frames: WebSocket<Wire>,
    /// When the message began that is on its way, if one is.
    begun: Option<Instant>,
}

/// What a control frame has beside its payload: two bytes and the mask.
const CONTROL: usize = 6;

impl Socket {
    /// Reads from the socket of an outbox, after these bytes, which have been read already. They
    /// are a piece of a buffer of 8 KiB, so they are copied, and the buffer is not kept.
    pub fn new(outbox: Outbox, meter: Meter, read: Bytes) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let wire = Wire { outbox, meter, bytes: 0, complete: 0 };
        let frames =
            WebSocket::from_partially_read(wire, read.to_vec(), Role::Server, Some(config));
        Self { frames, begun: None }
    }

    /// Waits for the next message. `select!` may drop this while it waits; then nothing is lost.
    ///
    /// # Errors
    /// There is none, for this reason.
    pub async fn next(&mut self) -> Result<Message, Ending> {
        loop {
            match self.frames.read() {
                Ok(message) => {
                    self.count(&message);
                    return Ok(message);
                }
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.more().await?;
                }
                Err(Error::Io(error)) if error.kind() == FLOODED => return Err(Ending::Flooding),
                Err(Error::Io(error)) if error.kind() == IN_CRUMBS => {
                    return Err(Ending::Unfinished);
                }
                Err(error) => return Err(Ending::of(&error)),
            }
        }
    }

    /// Notes that a message is complete. A control frame may come between the parts of another one,
    /// which is then still on its way.
    fn count(&mut self, message: &Message) {
        let wire = self.frames.get_mut();
        wire.complete = match message {
            Message::Ping(payload) | Message::Pong(payload) => {
                wire.bytes.min(wire.complete + (CONTROL + payload.len()) as u64)
            }
            _ => wire.bytes,
        };
        if wire.incomplete() == 0 {
            self.begun = None;
        }
    }

    /// Waits until there are more bytes to read: for as long as it takes between two messages, and
    /// not for ever within one.
    async fn more(&mut self) -> Result<(), Ending> {
        if self.frames.get_ref().incomplete() > 0 {
            self.begun.get_or_insert_with(Instant::now);
        }
        let wire = self.frames.get_ref();
        let Some(socket) = wire.outbox.socket() else { return Err(Ending::Left) };
        let readable = match self.begun {
            None => socket.readable().await,
            Some(begun) => timeout_at(begun + MESSAGE, socket.readable())
                .await
                .map_err(|_elapsed| Ending::Unfinished)?,
        };
        readable.map_err(|_broken| Ending::Left)
    }

    /// Who sends, and how much.
    pub fn meter(&self) -> &Meter {
        &self.frames.get_ref().meter
    }

    /// Reads on until the client ends the connection, slowly, and throws it all away.
    pub async fn discard(&mut self) {
        let Some(socket) = self.frames.get_ref().outbox.socket() else { return };
        let mut nothing = vec![0; READ_BUFFER];
        while socket.readable().await.is_ok() {
            match socket.try_read(&mut nothing) {
                Ok(1..) => slow_down().await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return,
            }
        }
    }

    /// Answers a close frame with the same code, behind everything that waits. Nothing comes after it.
    pub fn answer_goodbye(&mut self) {
        // It fails with "the connection is closed": that is what it is for.
        let _ = self.frames.flush();
        self.frames.get_ref().outbox.seal(None);
    }
}
// ANCHOR_END: socket

// ANCHOR: wire
/// The socket as the library sees it: it reads from it without waiting, and writes to a queue.
struct Wire {
    outbox: Outbox,
    meter: Meter,
    /// How many bytes have come.
    bytes: u64,
    /// How many of them belong to messages that are complete.
    complete: u64,
}

impl Wire {
    /// How many bytes have come of a message that is not complete.
    fn incomplete(&self) -> u64 {
        self.bytes - self.complete
    }
}

/// The kind of error with which reading ends for who sends too much.
const FLOODED: io::ErrorKind = io::ErrorKind::QuotaExceeded;

/// The same for a message in far too many parts.
const IN_CRUMBS: io::ErrorKind = io::ErrorKind::InvalidData;

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let socket = self.outbox.socket().ok_or(io::ErrorKind::NotConnected)?;
        let count = socket.try_read(buffer)?;
        self.bytes += count as u64;
        telemetry::bytes_came(count);
        self.meter.bytes(count).map_err(|_spent| FLOODED)?;
        if self.incomplete() > MAX_ON_THE_WIRE {
            return Err(IN_CRUMBS.into());
        }
        Ok(count)
    }
}

impl Write for Wire {
    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        self.outbox.control(frame);
        Ok(frame.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
// ANCHOR_END: wire
// ANCHOR_END: all
