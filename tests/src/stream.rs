//! A stream of server-sent events, as a browser's `EventSource` reads it.

use std::io;

use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::event::{is, is_presence, json_of, text};
use crate::journal::Journal;
use crate::raw::{self, Answer};
use crate::scenario::{Check, Stop};
use crate::scene::{PATIENCE, Scene, broken, nothing, status};

/// One event of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// Where the reader is after it; empty where the event has none.
    pub id: String,
    /// Its type; empty for an ordinary one.
    pub kind: String,
    /// What it carries.
    pub data: String,
}

/// What came of asking for a stream.
#[derive(Debug)]
pub enum Asked {
    /// It has begun.
    Stream(Stream),
    /// Another answer came.
    Refused(Answer),
}

/// An open stream.
#[derive(Debug)]
pub struct Stream {
    who: String,
    journal: Journal,
    reader: Reader,
    /// The `id:` of the last event that had one.
    pub last_id: String,
}

/// Takes the events of a stream out of the bytes that come.
#[derive(Debug)]
pub struct Reader {
    socket: TcpStream,
    /// What has come and is not taken apart yet, with the lengths of the chunks in it.
    raw: Vec<u8>,
    /// The same without them.
    text: Vec<u8>,
    chunked: bool,
    ended: bool,
}

impl Reader {
    /// Reads a stream whose answer has begun with this; none, if it is no stream.
    pub fn of(answer: &Answer, rest: Vec<u8>, socket: TcpStream) -> Result<Self, Unread> {
        let kind = answer.header("content-type").unwrap_or_default();
        if answer.status != 200 || !kind.starts_with("text/event-stream") {
            return Err(Unread(rest, socket));
        }
        let chunked = answer.header("transfer-encoding") == Some("chunked");
        Ok(Self { socket, raw: rest, text: Vec::new(), chunked, ended: false })
    }

    /// Reads up to the empty line at the end of an event, without the comments.
    /// May be dropped while it waits: nothing is lost.
    ///
    /// # Errors
    /// The connection breaks.
    pub async fn read(&mut self) -> io::Result<Option<Sent>> {
        loop {
            self.take_chunks();
            while let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.text.drain(..end + 2).collect();
                if let Some(sent) = parse(&String::from_utf8_lossy(&block)) {
                    return Ok(Some(sent));
                }
            }
            if self.ended || self.socket.read_buf(&mut self.raw).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Takes the chunks that are whole out of the raw bytes.
    fn take_chunks(&mut self) {
        if !self.chunked {
            self.text.append(&mut self.raw);
            return;
        }
        while let Some(line) = self.raw.windows(2).position(|two| two == b"\r\n") {
            let length = String::from_utf8_lossy(self.raw.get(..line).unwrap_or_default());
            let length = length.split(';').next().unwrap_or_default().trim().to_owned();
            let Ok(length) = usize::from_str_radix(&length, 16) else { return };
            // The chunk without bytes is the last one. The connection may stay open for the next request.
            self.ended = length == 0;
            let (start, end) = (line + 2, line + 2 + length);
            let Some(chunk) = self.raw.get(start..end) else { return };
            if self.raw.len() < end + 2 {
                return;
            }
            self.text.extend_from_slice(chunk);
            self.raw.drain(..end + 2);
        }
    }
}

/// What comes behind the head of an answer that is no stream.
#[derive(Debug)]
pub struct Unread(Vec<u8>, TcpStream);

impl Stream {
    /// Asks for a stream.
    ///
    /// # Errors
    /// No answer.
    pub async fn ask(
        scene: &Scene,
        who: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Check<Asked> {
        scene.journal.note(&format!("{who} sent GET {path}"));
        let headers = [&[("Accept", "text/event-stream")], headers].concat();
        let request = raw::begin(scene.address(), "GET", path, &headers, "");
        let answer = scene.within("an answer", request).await?;
        let (mut answer, rest, socket) = answer.map_err(|error| scene.mismatch(&broken(&error)))?;
        match Reader::of(&answer, rest, socket) {
            Ok(reader) => {
                let (who, journal) = (who.to_owned(), scene.journal.clone());
                Ok(Asked::Stream(Self { who, journal, reader, last_id: String::new() }))
            }
            Err(Unread(rest, mut socket)) => {
                let body = raw::read_body(&mut socket, rest, &answer);
                let body = scene.within("the rest of the answer", body).await?;
                answer.body = body.map_err(|error| scene.mismatch(&broken(&error)))?;
                Ok(Asked::Refused(answer))
            }
        }
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn open(
        scene: &Scene,
        who: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Check<Self> {
        match Self::ask(scene, who, path, headers).await? {
            Asked::Stream(stream) => Ok(stream),
            Asked::Refused(answer) => {
                scene.journal.wait_for("status 200 and a Content-Type of text/event-stream");
                Err(scene.mismatch(&status(&answer)))
            }
        }
    }

    /// The next event; `None` at the end of the stream.
    ///
    /// # Errors
    /// The connection breaks, or is silent.
    pub async fn next(&mut self, what: &str) -> Check<Option<Sent>> {
        self.journal.wait_for(&format!("{} to get {what}", self.who));
        match timeout(PATIENCE, self.reader.read()).await {
            Ok(Ok(sent)) => {
                let shown = sent.as_ref().map_or("the end of the stream", |sent| &sent.data);
                self.journal.note(&format!("{} got {shown}", self.who));
                self.journal.has_come();
                if let Some(sent) = sent.as_ref().filter(|sent| !sent.id.is_empty()) {
                    self.last_id.clone_from(&sent.id);
                }
                Ok(sent)
            }
            Ok(Err(error)) => Err(self.journal.mismatch(&broken(&error))),
            Err(_elapsed) => Err(self.journal.mismatch(&nothing(PATIENCE))),
        }
    }

    /// The next event of the chat must be of this type. Who comes and who goes is passed over.
    ///
    /// # Errors
    /// It is of another type, or the stream has ended.
    pub async fn expect(&mut self, kind: &str) -> Check<Value> {
        loop {
            let what = crate::event::a(kind);
            let Some(sent) = self.next(&what).await? else {
                return Err(self.journal.mismatch("the end of the stream"));
            };
            let event: Value = serde_json::from_str(&sent.data).unwrap_or_default();
            if is(&event, kind) {
                return Ok(event);
            }
            if !is_presence(&event) && !is(&event, "ack") {
                self.journal.wait_for(&format!("{} to get {what}", self.who));
                return Err(self.journal.mismatch(&sent.data));
            }
        }
    }

    /// The next message must have this text.
    ///
    /// # Errors
    /// It has another.
    pub async fn expect_text(&mut self, words: &str) -> Check<Value> {
        let message = self.expect("message").await?;
        if text(&message, "text") == words {
            return Ok(message);
        }
        self.journal.wait_for(&format!("{} to get a message with \"{words}\"", self.who));
        Err(self.journal.mismatch(&json_of(&message)))
    }

    /// A failure: what came instead of what was expected.
    pub fn mismatch(&self, got: &str) -> Stop {
        self.journal.mismatch(got)
    }
}

/// An event from its lines; `None` if there are only comments.
fn parse(block: &str) -> Option<Sent> {
    let mut sent = Sent::default();
    let mut is_event = false;
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => value.clone_into(&mut sent.id),
            "event" => value.clone_into(&mut sent.kind),
            "data" => {
                if is_event {
                    sent.data.push('\n');
                }
                sent.data.push_str(value);
                is_event = true;
            }
            _ => {}
        }
    }
    is_event.then_some(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_its_fields_and_a_comment_is_none() {
        let sent = parse("event:close\nid: a/1\ndata:{}\n\n").unwrap();
        assert_eq!(
            (sent.kind.as_str(), sent.id.as_str(), sent.data.as_str()),
            ("close", "a/1", "{}")
        );
        assert_eq!(parse(":here\n\n"), None);
    }
}
