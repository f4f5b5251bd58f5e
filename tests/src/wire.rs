//! A WebSocket whose frames a scenario sends and reads one by one.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use crate::event::{Came, a, event, is, is_presence};
use crate::journal::Journal;
use crate::raw::{self, Frame, Socket};
use crate::scenario::{Check, Stop};
use crate::scene::{PATIENCE, broken, nothing};

/// A WebSocket that is read only when the scenario reads it.
#[derive(Debug)]
pub struct Wire {
    who: String,
    journal: Journal,
    socket: Socket,
    /// The welcome that came unasked, from milestone 5 on.
    pub welcome: Option<Value>,
}

impl Wire {
    pub(crate) fn new(who: &str, journal: Journal, socket: Socket) -> Self {
        Self { who: who.to_owned(), journal, socket, welcome: None }
    }

    /// Sends a frame. That the server has hung up meanwhile shows when the answer is read.
    pub async fn send(&mut self, frame: &Frame) {
        self.journal.note(&format!("{} sent {}", self.who, frame.describe()));
        let _ = timeout(PATIENCE, self.socket.send(frame)).await;
    }

    /// Sends bytes that are no frame, or only half of one.
    pub async fn send_bytes(&mut self, bytes: &[u8], description: &str) {
        self.journal.note(&format!("{} sent {description}", self.who));
        let _ = timeout(PATIENCE, self.socket.send_bytes(bytes)).await;
    }

    /// Sends bytes without a line in the journal, for the many.
    pub async fn send_quietly(&mut self, bytes: &[u8]) {
        let _ = timeout(PATIENCE, self.socket.send_bytes(bytes)).await;
    }

    /// The next frame.
    ///
    /// # Errors
    /// The connection ends, breaks, or is silent.
    pub async fn next(&mut self, what: &str) -> Check<Frame> {
        self.next_within(PATIENCE, what).await
    }

    /// The next frame, which may take longer than usual.
    ///
    /// # Errors
    /// The connection ends, breaks, or is silent.
    pub async fn next_within(&mut self, limit: Duration, what: &str) -> Check<Frame> {
        self.journal.wait_for(&format!("{} to get {what}", self.who));
        match timeout(limit, self.socket.next()).await {
            Ok(Ok(Some(frame))) => {
                self.journal.note(&format!("{} got {}", self.who, frame.describe()));
                self.journal.has_come();
                Ok(frame)
            }
            Ok(Ok(None)) => Err(self.journal.mismatch("the end of the connection")),
            Ok(Err(error)) => Err(self.journal.mismatch(&broken(&error))),
            Err(_elapsed) => Err(self.journal.mismatch(&nothing(limit))),
        }
    }

    /// The next event, which must be of this type. Who comes and who goes is passed over.
    ///
    /// # Errors
    /// It is of another type.
    pub async fn expect_event(&mut self, kind: &str) -> Check<Value> {
        loop {
            let frame = self.next(&a(kind)).await?;
            match event(&frame) {
                Came::Event(event) if is(&event, kind) => return Ok(event),
                Came::Event(event) if is_presence(&event) => {}
                _ => return Err(self.other(&a(kind), &frame.describe())),
            }
        }
    }

    /// The next frame must be this one.
    ///
    /// # Errors
    /// It is another.
    pub async fn expect(&mut self, opcode: u8, payload: &[u8]) -> Check {
        let wanted = Frame::new(opcode, payload).unmasked();
        let came = self.next(&wanted.describe()).await?;
        if came == wanted { Ok(()) } else { Err(self.other(&wanted.describe(), &came.describe())) }
    }

    /// The server must close with one of these codes: a close frame first, then the end of the connection.
    ///
    /// # Errors
    /// It does not.
    pub async fn expect_close(&mut self, codes: &[u16]) -> Check {
        let listed: Vec<String> = codes.iter().map(u16::to_string).collect();
        let what = format!("a close frame with code {}", listed.join(" or "));
        let code = loop {
            let frame = self.next(&what).await?;
            if frame.opcode == raw::CLOSE {
                break frame.close_code();
            }
        };
        if !code.is_some_and(|code| codes.contains(&code)) {
            let code = code.map_or("no code".to_owned(), |code| format!("code {code}"));
            return Err(self.other(&what, &format!("a close frame with {code}")));
        }
        self.send(&Frame::close(code.unwrap_or(1000))).await;
        self.expect_end().await
    }

    /// A failure: something came, but something else.
    fn other(&self, wanted: &str, got: &str) -> Stop {
        self.journal.wait_for(&format!("{} to get {wanted}", self.who));
        self.journal.mismatch(got)
    }

    /// The TCP connection must end, in order or with a reset.
    ///
    /// # Errors
    /// It stays open, or something else comes.
    pub async fn expect_end(&mut self) -> Check {
        self.journal.wait_for("the end of the TCP connection");
        match timeout(PATIENCE, self.socket.next()).await {
            Ok(Ok(None) | Err(_)) => Ok(()),
            Ok(Ok(Some(frame))) => Err(self.journal.mismatch(&frame.describe())),
            Err(_elapsed) => Err(self.journal.mismatch("a connection that stays open")),
        }
    }

    /// Closes with a code; the server must reply with the same one and then end the TCP connection
    /// in order, without a reset.
    ///
    /// # Errors
    /// It does not.
    pub async fn close_in_order(mut self, code: u16) -> Check {
        self.send(&Frame::close(code)).await;
        self.expect(raw::CLOSE, &code.to_be_bytes()).await?;
        self.journal.wait_for("the end of the TCP connection");
        match timeout(PATIENCE, self.socket.next()).await {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(frame))) => Err(self.journal.mismatch(&frame.describe())),
            Ok(Err(error)) => Err(self.journal.mismatch(&broken(&error))),
            Err(_elapsed) => Err(self.journal.mismatch("a connection that stays open")),
        }
    }

    /// The parts, for a client that always reads.
    pub(crate) fn into_parts(self) -> (String, Journal, Socket, Option<Value>) {
        (self.who, self.journal, self.socket, self.welcome)
    }
}
