//! A chat client that always reads, and speaks in the words of the protocol.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use uuid::Uuid;

use crate::event::{Came, a, event, is, is_presence, json_of, text};
use crate::journal::Journal;
use crate::raw::{self, Frame, Reading};
use crate::scenario::{Check, Stop};
use crate::scene::{PATIENCE, Scene, broken, nothing};
use crate::wire::Wire;

/// A chat client that always reads, as a healthy one does.
#[derive(Debug)]
pub struct Client {
    /// The name it says hello with.
    pub name: String,
    /// The room it speaks in, where there are rooms.
    pub room: String,
    /// The welcome that came unasked, from milestone 5 on.
    pub welcome: Option<Value>,
    /// How long it waits for one event.
    pub patience: Duration,
    milestone: u8,
    tag: String,
    journal: Journal,
    base: String,
    writing: Arc<Mutex<OwnedWriteHalf>>,
    inbox: mpsc::UnboundedReceiver<Came>,
    /// What came while an ack was waited for.
    aside: VecDeque<Came>,
    /// The acks that came while something else was waited for.
    acks: Vec<Value>,
    reader: JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Client {
    pub(crate) fn new(wire: Wire, scene: &Scene) -> Self {
        let (base, journal, socket, welcome) = wire.into_parts();
        let (reading, writing) = socket.split();
        let writing = Arc::new(Mutex::new(writing));
        let (sender, inbox) = mpsc::unbounded_channel();
        let reader = tokio::spawn(read(reading, Arc::clone(&writing), sender));
        Self {
            name: scene.name(&base),
            room: scene.name("room"),
            welcome,
            patience: PATIENCE,
            milestone: scene.milestone,
            tag: scene.tag.clone(),
            journal,
            base,
            writing,
            inbox,
            aside: VecDeque::new(),
            acks: Vec::new(),
            reader,
        }
    }

    /// Sends an event.
    pub async fn send(&mut self, event: Value) {
        self.send_text(&json_of(&event)).await;
    }

    /// Sends a text message.
    pub async fn send_text(&mut self, text: &str) {
        self.send_frame(&Frame::text(text)).await;
    }

    /// Sends a frame. That the server has hung up meanwhile shows when the answer is read.
    pub async fn send_frame(&mut self, frame: &Frame) {
        self.journal.note(&format!("{} sent {}", self.base, frame.describe()));
        self.send_quietly(&frame.encode()).await;
    }

    /// Sends bytes without a line in the journal, for the many.
    pub async fn send_quietly(&mut self, bytes: &[u8]) {
        let mut writing = self.writing.lock().await;
        let _ = timeout(PATIENCE, writing.write_all(bytes)).await;
    }

    /// The `message` event this client would send, into its room where there are rooms.
    pub fn message(&self, text: &str) -> Value {
        match self.milestone {
            ..3 => json!({"type": "message", "text": text}),
            3 => json!({"type": "message", "room": self.room, "text": text}),
            _ => {
                json!({"type": "message", "id": Uuid::new_v4(), "room": self.room, "text": text})
            }
        }
    }

    /// Says something.
    pub async fn say(&mut self, text: &str) {
        self.send(self.message(text)).await;
    }

    /// Says something, and waits until the server has it for good.
    ///
    /// # Errors
    /// There is no ack.
    pub async fn store(&mut self, text: &str) -> Check<Value> {
        let message = self.message(text);
        self.send(message.clone()).await;
        self.ack(crate::event::text(&message, "id")).await
    }

    /// The ack of a message. Whatever comes before it is kept for later.
    ///
    /// # Errors
    /// It does not come, or an error comes instead.
    pub async fn ack(&mut self, id: &str) -> Check<Value> {
        let what = format!("an `ack` of {id}");
        loop {
            if let Some(place) = self.acks.iter().position(|ack| text(ack, "id") == id) {
                return Ok(self.acks.swap_remove(place));
            }
            match self.fresh(&what).await? {
                Came::Event(event) if is(&event, "ack") => self.acks.push(event),
                Came::Event(event) if is(&event, "error") => {
                    return Err(self.journal.mismatch(&json_of(&event)));
                }
                Came::End(how) => return Err(self.journal.mismatch(&how)),
                Came::Close(code) => return Err(self.journal.mismatch(&closed(code))),
                other => self.aside.push_back(other),
            }
        }
    }

    /// Says hello and waits for the welcome. Who has signed in is welcome without a word.
    ///
    /// # Errors
    /// It is not welcome.
    pub async fn hello(&mut self) -> Check<Value> {
        if let Some(welcome) = &self.welcome {
            return Ok(welcome.clone());
        }
        self.send(json!({"type": "hello", "name": self.name})).await;
        self.expect("welcome").await
    }

    /// Joins a room and waits for `joined`.
    ///
    /// # Errors
    /// It may not.
    pub async fn join(&mut self, room: &str) -> Check<Value> {
        self.send(json!({"type": "join", "room": room})).await;
        self.expect_field("joined", "room", room).await
    }

    /// The next event that concerns this scenario.
    ///
    /// # Errors
    /// Something else comes, or nothing.
    pub async fn next(&mut self, what: &str) -> Check<Value> {
        match self.came(what).await? {
            Came::Event(event) => Ok(event),
            Came::Strange(what) => Err(self.journal.mismatch(&what)),
            Came::Close(code) => Err(self.journal.mismatch(&closed(code))),
            Came::End(how) => Err(self.journal.mismatch(&how)),
        }
    }

    /// The next event must be of this type. Who comes and who goes is passed over, unless asked for.
    ///
    /// # Errors
    /// It is of another type.
    pub async fn expect(&mut self, kind: &str) -> Check<Value> {
        self.expect_that(&a(kind), |event| is(event, kind)).await
    }

    /// The next event must be of this type, with this text in a field.
    ///
    /// # Errors
    /// It is not.
    pub async fn expect_field(&mut self, kind: &str, field: &str, value: &str) -> Check<Value> {
        let what = format!("{} with \"{field}\":\"{value}\"", a(kind));
        self.expect_that(&what, |event| is(event, kind) && text(event, field) == value).await
    }

    /// The next event must be an error with this code.
    ///
    /// # Errors
    /// It is not.
    pub async fn expect_error(&mut self, code: &str) -> Check<Value> {
        let error = self.expect_field("error", "code", code).await?;
        if text(&error, "message").is_empty() {
            return Err(self.journal.mismatch("an error without a sentence in \"message\""));
        }
        Ok(error)
    }

    /// The next event must fulfill a condition. Who comes and who goes is passed over, unless it does.
    ///
    /// # Errors
    /// It does not.
    pub async fn expect_that(
        &mut self,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Check<Value> {
        loop {
            let event = self.next(what).await?;
            if wanted(&event) {
                return Ok(event);
            }
            if !is_presence(&event) {
                self.journal.wait_for(&format!("{} to get {what}", self.base));
                return Err(self.journal.mismatch(&json_of(&event)));
            }
        }
    }

    /// The server must close with this code.
    ///
    /// # Errors
    /// It does not.
    pub async fn expect_close(&mut self, code: u16) -> Check {
        let what = format!("a close frame with code {code}");
        loop {
            match self.came(&what).await? {
                Came::Close(Some(came)) if came == code => return Ok(()),
                Came::Close(came) => return Err(self.journal.mismatch(&closed(came))),
                Came::End(how) => return Err(self.journal.mismatch(&how)),
                Came::Event(_) | Came::Strange(_) => {}
            }
        }
    }

    /// Leaves with a proper goodbye, and waits until the server has said its own.
    ///
    /// # Errors
    /// It does not.
    pub async fn leave(&mut self) -> Check {
        self.send_frame(&Frame::close(1000)).await;
        self.expect_close(1000).await
    }

    /// Breaks the connection off, as a phone in a tunnel does.
    pub fn vanish(self) {
        self.journal.note(&format!("{} broke the connection off", self.base));
    }

    /// A failure: what came instead of what was expected.
    pub fn mismatch(&self, got: &str) -> Stop {
        self.journal.mismatch(got)
    }

    /// The next answer to something that was sent, an ack or an error, whatever comes before it.
    ///
    /// # Errors
    /// There is none.
    pub async fn answer(&mut self, what: &str) -> Check<Value> {
        if let Some(ack) = self.acks.pop() {
            return Ok(ack);
        }
        loop {
            match self.fresh(what).await? {
                Came::Event(event) if is(&event, "ack") || is(&event, "error") => return Ok(event),
                Came::Event(_) => {}
                Came::Strange(what) => return Err(self.journal.mismatch(&what)),
                Came::Close(code) => return Err(self.journal.mismatch(&closed(code))),
                Came::End(how) => return Err(self.journal.mismatch(&how)),
            }
        }
    }

    /// What comes next and is no ack: those are for [`Client::ack`], whenever they come.
    async fn came(&mut self, what: &str) -> Check<Came> {
        if let Some(came) = self.aside.pop_front() {
            return Ok(came);
        }
        loop {
            match self.fresh(what).await? {
                Came::Event(event) if is(&event, "ack") => self.acks.push(event),
                came => return Ok(came),
            }
        }
    }

    /// What comes next, without what other scenarios at the same server do.
    async fn fresh(&mut self, what: &str) -> Check<Came> {
        loop {
            self.journal.wait_for(&format!("{} to get {what}", self.base));
            let came = match timeout(self.patience, self.inbox.recv()).await {
                Ok(came) => came.unwrap_or(Came::End("the end of the connection".to_owned())),
                Err(_elapsed) => return Err(self.journal.mismatch(&nothing(self.patience))),
            };
            if let Came::Event(event) = &came {
                if self.is_foreign(event) {
                    continue;
                }
                self.journal.has_come();
                self.journal.note(&format!("{} got {}", self.base, json_of(event)));
            }
            return Ok(came);
        }
    }

    /// Whether an event is about people who are not in this scenario.
    fn is_foreign(&self, event: &Value) -> bool {
        let who = match text(event, "type") {
            "message" => text(event, "from"),
            "user_joined" | "user_left" | "member_joined" | "member_left" => text(event, "name"),
            _ => return false,
        };
        !who.is_empty() && !who.to_lowercase().contains(&self.tag)
    }
}

/// Reads until the end, and answers pings and the server's goodbye.
async fn read(
    mut reading: Reading<OwnedReadHalf>,
    writing: Arc<Mutex<OwnedWriteHalf>>,
    inbox: mpsc::UnboundedSender<Came>,
) {
    loop {
        let came = match reading.next().await {
            Ok(Some(frame)) => {
                if let Some(reply) = reply(&frame) {
                    let _ = raw::send(&mut *writing.lock().await, &reply).await;
                }
                match frame.opcode {
                    raw::PING | raw::PONG => continue,
                    raw::CLOSE => Came::Close(frame.close_code()),
                    _ => event(&frame),
                }
            }
            Ok(None) => Came::End("the end of the connection, without a close frame".to_owned()),
            Err(error) => Came::End(broken(&error)),
        };
        let ended = matches!(came, Came::End(_));
        if inbox.send(came).is_err() || ended {
            return;
        }
    }
}

/// What every client has to answer to a frame: to a ping a pong, to a close frame the same one.
fn reply(frame: &Frame) -> Option<Frame> {
    match frame.opcode {
        raw::PING => Some(Frame::new(raw::PONG, frame.payload.clone())),
        raw::CLOSE => Some(Frame::new(raw::CLOSE, frame.payload.clone())),
        _ => None,
    }
}

fn closed(code: Option<u16>) -> String {
    code.map_or("a close frame without a code".to_owned(), |code| {
        format!("a close frame with code {code}")
    })
}
