// ANCHOR: all
//! One room: a task that owns its members and its history.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc::{self, Receiver, Sender};
use uuid::Uuid;
use warp::ws::Message;

use crate::names;
use crate::outbox::Outbox;
use crate::protocol::{ErrorCode, ServerEvent, encode, now};

/// How many messages a newcomer gets to see.
const HISTORY: usize = 50;

// ANCHOR: inbox
/// How many commands may wait for a room. A connection whose command finds no place waits, so it
/// reads nothing more from its client: a flood is slowed down at its source.
const INBOX: usize = 64;
// ANCHOR_END: inbox

// ANCHOR: command
/// What a connection may ask of a room.
pub enum Command {
    /// Add a member.
    Join {
        /// The member's name.
        name: String,
        /// Where to put what the member shall hear.
        outbox: Outbox,
    },
    /// Remove a member who asked to leave.
    Leave {
        /// The member's name.
        name: String,
    },
    /// Remove a member whose connection has ended.
    Gone {
        /// The member's name.
        name: String,
    },
    /// Tell everyone.
    Say {
        /// The member who said it.
        from: String,
        /// What they said.
        text: String,
    },
    /// Tell the others that a member is typing.
    Typing {
        /// The member's name.
        name: String,
    },
}
// ANCHOR_END: command

// ANCHOR: room
/// A room. It belongs to its task alone, so nothing in it needs a lock.
struct Room {
    name: String,
    /// By [`names::key`].
    members: HashMap<String, Member>,
    history: VecDeque<ServerEvent>,
    /// The number of members, for the list of rooms.
    size: Arc<AtomicUsize>,
}

/// One who is in the room.
struct Member {
    name: String,
    outbox: Outbox,
}

/// Starts a room's task, and gives the sender that reaches it. The task ends when the last clone of
/// that sender is dropped; then it calls `closed`.
pub fn open(
    name: String,
    size: Arc<AtomicUsize>,
    closed: impl FnOnce() + Send + 'static,
) -> Sender<Command> {
    let (commands, inbox) = mpsc::channel(INBOX);
    let room = Room { name, members: HashMap::new(), history: VecDeque::new(), size };
    tokio::spawn(async move {
        room.run(inbox).await;
        closed();
    });
    commands
}

impl Room {
    /// Takes one command after the other: whatever happens here, all members see in this order.
    async fn run(mut self, mut inbox: Receiver<Command>) {
        while let Some(command) = inbox.recv().await {
            match command {
                Command::Join { name, outbox } => self.join(name, outbox),
                Command::Leave { name } => self.leave(&name),
                Command::Gone { name } => self.remove(&name),
                Command::Say { from, text } => self.say(from, text),
                Command::Typing { name } => self.typing(name),
            }
        }
    }
}
// ANCHOR_END: room

// ANCHOR: members
impl Room {
    fn join(&mut self, name: String, outbox: Outbox) {
        let member = Member { name: name.clone(), outbox: outbox.clone() };
        let already_here = self.members.insert(names::key(&name), member).is_some();
        self.size.store(self.members.len(), Ordering::Release);
        // History first, then whatever is said from now on: nothing can come in between, because
        // this task does one thing at a time.
        outbox.tell(self.joined());
        if !already_here {
            let event = ServerEvent::MemberJoined { room: self.name.clone(), name: name.clone() };
            self.tell_others(&name, &event);
        }
    }

    fn leave(&mut self, name: &str) {
        if let Some(member) = self.members.get(&names::key(name)) {
            member.outbox.tell(ServerEvent::Left { room: self.name.clone() });
        }
        self.remove(name);
    }

    fn remove(&mut self, name: &str) {
        let Some(Member { name, .. }) = self.members.remove(&names::key(name)) else { return };
        self.size.store(self.members.len(), Ordering::Release);
        self.tell_all(&ServerEvent::MemberLeft { room: self.name.clone(), name });
    }

    /// The answer to `join`.
    fn joined(&self) -> ServerEvent {
        let mut members: Vec<String> =
            self.members.values().map(|member| member.name.clone()).collect();
        members.sort_by_cached_key(|name| names::key(name));
        ServerEvent::Joined {
            room: self.name.clone(),
            members,
            history: self.history.iter().cloned().collect(),
        }
    }
}
// ANCHOR_END: members

// ANCHOR: say
impl Room {
    fn say(&mut self, from: String, text: String) {
        let id = Uuid::new_v4();
        let message = ServerEvent::Message { room: self.name.clone(), id, from, text, at: now() };
        self.tell_all(&message);
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(message);
    }

    fn typing(&self, name: String) {
        let event = ServerEvent::Typing { room: self.name.clone(), name: name.clone() };
        self.tell_others(&name, &event);
    }

    fn tell_all(&self, event: &ServerEvent) {
        let message: Message = encode(event);
        for member in self.members.values() {
            member.outbox.push(message.clone());
        }
    }

    fn tell_others(&self, name: &str, event: &ServerEvent) {
        let message: Message = encode(event);
        for member in self.members.values().filter(|member| member.name != name) {
            member.outbox.push(message.clone());
        }
    }
}
// ANCHOR_END: say

// ANCHOR: check
/// Checks a room's name.
///
/// # Errors
/// `bad_room`, unless it has 1 to 64 of the characters a–z, 0–9, `_` and `-`.
pub fn check_name(name: &str) -> Result<(), ErrorCode> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if (1..=64).contains(&name.len()) && name.chars().all(allowed) {
        Ok(())
    } else {
        Err(ErrorCode::BadRoom)
    }
}
// ANCHOR_END: check

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_has_a_plain_name() {
        for name in ["rust", "a", "go-1_2", "x".repeat(64).as_str()] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", "Rust", "a b", "a.b", "dm:ada:grace", "é", "x".repeat(65).as_str()] {
            assert_eq!(check_name(name), Err(ErrorCode::BadRoom), "{name}");
        }
    }
}
// ANCHOR_END: all
