// ANCHOR: all
//! Our messages from the moment they are typed until the server has stored them.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use uuid::Uuid;

use crate::protocol::ClientEvent;

/// How long a message is sent again and again. Servers remember its id for longer, so that within
/// this time sending again is harmless.
const MAX_AGE: Duration = Duration::from_secs(60 * 60);

// ANCHOR: letter
/// A message that is not stored yet.
#[derive(Debug)]
pub struct Letter {
    /// It stays the same, however often we send it.
    pub id: Uuid,
    /// For whom it is.
    pub to: Address,
    /// What it says.
    pub text: String,
    written: Instant,
    /// When it was sent on this connection, if the server has not answered yet.
    sent: Option<Instant>,
    /// Until when the server does not want it.
    not_before: Option<Instant>,
    /// Its place in the queue, free again when it is dropped.
    _place: OwnedSemaphorePermit,
}

/// For whom a message is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// Everyone in this room.
    Room(String),
    /// This user.
    User(String),
}

impl Letter {
    /// Writes a message.
    pub fn new(id: Uuid, to: Address, text: String, place: OwnedSemaphorePermit) -> Self {
        let (written, sent, not_before) = (Instant::now(), None, None);
        Self { id, to, text, written, sent, not_before, _place: place }
    }

    /// The event that sends it; `room` if it is known where that user and we speak.
    fn event(&self, room: Option<String>) -> ClientEvent {
        let (id, text) = (Some(self.id), self.text.clone());
        match (&self.to, room) {
            (Address::User(to), None) => ClientEvent::Direct { id, to: to.clone(), text },
            (Address::User(_), room @ Some(_)) => ClientEvent::Message { id, room, text },
            (Address::Room(room), _) => ClientEvent::Message { id, room: Some(room.clone()), text },
        }
    }
}

/// The messages that are not stored yet, in the order in which they were written.
#[derive(Debug, Default)]
pub struct Outbox(VecDeque<Letter>);

/// Whether and where a message can be sent at present.
pub enum Way {
    /// Not now.
    Closed,
    /// As it is addressed.
    Open,
    /// Through the room of the conversation.
    Through(String),
}
// ANCHOR_END: letter

impl Outbox {
    /// Adds a message.
    pub fn push(&mut self, letter: Letter) {
        self.0.push_back(letter);
    }

    /// Whether a message for this address waits.
    pub fn has_for(&self, to: &Address) -> bool {
        self.0.iter().any(|letter| letter.to == *to)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    // ANCHOR: next
    /// The next message to send. For each address one is under way at a time: if the server
    /// refuses it for now, none that was written after it can be stored before it.
    pub fn next(&mut self, now: Instant, way: impl Fn(&Address) -> Way) -> Option<ClientEvent> {
        let mut seen = HashSet::new();
        for letter in &mut self.0 {
            if !seen.insert(&letter.to) {
                continue;
            }
            if letter.sent.is_some() || letter.not_before.is_some_and(|time| time > now) {
                continue;
            }
            let room = match way(&letter.to) {
                Way::Closed => continue,
                Way::Open => None,
                Way::Through(room) => Some(room),
            };
            (letter.sent, letter.not_before) = (Some(now), None);
            return Some(letter.event(room));
        }
        None
    }
    // ANCHOR_END: next

    /// When the first of them was sent that the server has not answered.
    pub fn oldest_unanswered(&self) -> Option<Instant> {
        self.0.iter().filter_map(|letter| letter.sent).min()
    }

    /// When those may be sent that the server did not want before.
    pub fn due(&self) -> impl Iterator<Item = Instant> {
        self.0.iter().filter_map(|letter| letter.not_before)
    }

    /// The connection is gone, and with it perhaps some answers.
    pub fn disconnect(&mut self) {
        for letter in &mut self.0 {
            (letter.sent, letter.not_before) = (None, None);
        }
    }

    /// For whom the message with this id is.
    pub fn address(&self, id: Uuid) -> Option<&Address> {
        self.0.iter().find(|letter| letter.id == id).map(|letter| &letter.to)
    }

    /// Takes out the message with this id.
    pub fn take(&mut self, id: Uuid) -> Option<Letter> {
        let index = self.0.iter().position(|letter| letter.id == id)?;
        self.0.remove(index)
    }

    /// Takes out the messages for this address.
    pub fn take_for(&mut self, to: &Address) -> Vec<Letter> {
        let (taken, kept) = self.0.drain(..).partition(|letter| letter.to == *to);
        self.0 = kept;
        Vec::from_iter::<VecDeque<_>>(taken)
    }

    /// Takes out the messages that have waited for too long.
    pub fn take_old(&mut self, now: Instant) -> Vec<Letter> {
        if self.0.front().is_none_or(|oldest| now.duration_since(oldest.written) < MAX_AGE) {
            return vec![];
        }
        let is_old = |letter: &Letter| now.duration_since(letter.written) >= MAX_AGE;
        let (taken, kept) = self.0.drain(..).partition(is_old);
        self.0 = kept;
        Vec::from_iter::<VecDeque<_>>(taken)
    }

    /// The server wants the message with this id later. Gives whether there is one.
    pub fn postpone(&mut self, id: Uuid, until: Instant) -> bool {
        let letter = self.0.iter_mut().find(|letter| letter.id == id);
        letter.is_some_and(|letter| {
            (letter.sent, letter.not_before) = (None, Some(until));
            true
        })
    }
}
// ANCHOR_END: all
