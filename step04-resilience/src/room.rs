// ANCHOR: all
//! One room: a task that owns its members, and the one place where history meets what is said now.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::select;
use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::history::{History, Missed};
use crate::log::{Answer, Log, Unavailable};
use crate::names;
use crate::outbox::{Letter, Outbox, Turn};
use crate::protocol::{Cursor, ErrorCode, Said, ServerEvent};
use crate::store::{Appended, Draft};

/// How many commands may wait for a room. A connection whose command finds no place waits, so it
/// reads nothing more from its client: a flood is slowed down at its source.
pub const INBOX: usize = 64;

/// How many messages of a room may be on their way to the disk at once.
const UNDER_WAY: usize = 256;

// ANCHOR: command
/// What a connection may ask of a room.
pub enum Command {
    /// Add a member.
    Join {
        /// The member.
        member: Member,
        /// How far they have seen the room.
        cursor: Option<Cursor>,
        /// The right to send them the history.
        turn: Option<Turn>,
        /// Where the room says how it went.
        answer: oneshot::Sender<Result<Seam, ErrorCode>>,
    },
    /// Remove a member who asked to leave.
    Leave(Who),
    /// Remove a member whose connection has ended.
    Gone(Who),
    /// Store a message and tell everyone.
    Say {
        /// Who says it.
        who: Who,
        /// The sender's id for it.
        id: Uuid,
        /// What they said.
        text: String,
        /// Where the ack or the error goes.
        reply: Outbox,
    },
    /// Tell the others that a member is typing.
    Typing(Who),
}

/// Somebody on one connection. Who comes back on another one has the same name, and what the old
/// one still does no longer counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The name, as everyone sees it.
    pub name: String,
    /// The connection.
    pub connection: Uuid,
}

/// One who is in the room.
pub struct Member {
    /// Who it is.
    pub who: Who,
    /// Where to put what the member shall hear.
    pub outbox: Outbox,
}

/// How a join went.
#[derive(Debug, PartialEq, Eq)]
pub enum Seam {
    /// The member has everything that was said, and hears everything from now on.
    Whole,
    /// It was too much for once: the member has it up to here, and has to join again from here.
    More(Cursor),
}
// ANCHOR_END: command

// ANCHOR: room
/// A room. It belongs to its task alone, so nothing in it needs a lock.
pub struct Room {
    namespace: &'static str,
    name: String,
    log: Log,
    /// What was said; `None` until it has been read from the log.
    history: Option<History>,
    /// By [`names::key`].
    members: HashMap<String, Member>,
    /// The number of members, for the list of rooms.
    size: Arc<AtomicUsize>,
    /// The messages that the log has not answered yet, in the order in which it will.
    under_way: VecDeque<UnderWay>,
}

/// A message on its way to the disk.
struct UnderWay {
    id: Uuid,
    reply: Outbox,
    answered: oneshot::Receiver<Answer<Appended>>,
}

impl Room {
    /// Makes a room without members. What was said in it is in the log.
    pub fn new(namespace: &'static str, name: String, log: Log) -> Self {
        let (members, under_way) = (HashMap::new(), VecDeque::new());
        Self { namespace, name, log, history: None, members, size: Arc::default(), under_way }
    }

    /// Where the number of members can be read.
    pub fn size(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.size)
    }

    // ANCHOR: run
    /// Takes commands and answers of the log, one after the other: whatever happens here, all
    /// members see in this order. It ends when nobody can send commands any more, and the log has
    /// answered everything.
    pub async fn run(mut self, mut inbox: Receiver<Command>) {
        loop {
            select! {
                Some((message, answer)) = next_answer(&mut self.under_way) => {
                    self.settle(message, answer).await;
                }
                command = inbox.recv(), if self.under_way.len() < UNDER_WAY => match command {
                    Some(command) => self.obey(command).await,
                    None => break,
                },
            }
        }
        while let Some((message, answer)) = next_answer(&mut self.under_way).await {
            self.settle(message, answer).await;
        }
    }
    // ANCHOR_END: run

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Join { member, cursor, turn, answer } => {
                let joined = self.join(member, cursor, turn).await;
                let _ = answer.send(joined);
            }
            Command::Leave(who) => self.leave(&who),
            Command::Gone(who) => self.remove(&who),
            Command::Say { who, id, text, reply } => self.say(&who, id, text, reply).await,
            Command::Typing(who) => self.typing(&who),
        }
    }
}

/// Waits until the log has answered the oldest message under way; `None` if there is none. If
/// `select!` takes another branch meanwhile, nothing is lost: the message stays in the queue.
async fn next_answer(under_way: &mut VecDeque<UnderWay>) -> Option<(UnderWay, Answer<Appended>)> {
    let answered = &mut under_way.front_mut()?.answered;
    let answer = answered.await.unwrap_or(Err(Unavailable));
    under_way.pop_front().map(|message| (message, answer))
}
// ANCHOR_END: room

// ANCHOR: join
impl Room {
    // ANCHOR: seam
    /// Sends a member what they have missed, and adds them.
    async fn join(
        &mut self,
        member: Member,
        cursor: Option<Cursor>,
        turn: Option<Turn>,
    ) -> Result<Seam, ErrorCode> {
        let missed = self.missed(cursor).await.map_err(|Unavailable| ErrorCode::Unavailable)?;
        let cursor = Cursor { epoch: self.log.epoch(), after: missed.seq };
        let is_whole = self.history.as_ref().is_some_and(|history| history.seq() == missed.seq);
        let joined = self.joined(&member, missed);
        member.outbox.push_history((&joined).into(), turn);
        if !is_whole {
            // A live message now would come before the rest of the history.
            self.members.remove(&names::key(&member.who.name));
            return Ok(Seam::More(cursor));
        }
        // Nothing can come between the history and what is said from now on: while this function
        // runs, even while it waits for the log, the task does nothing else.
        self.add(member);
        Ok(Seam::Whole)
    }
    // ANCHOR_END: seam

    /// What somebody with this cursor has missed. The first one who asks has the room's history read.
    async fn missed(&mut self, cursor: Option<Cursor>) -> Answer<Missed> {
        if self.history.is_none() {
            let history = History::load(self.log.clone(), self.namespace, &self.name).await?;
            self.history = Some(history);
        }
        match &self.history {
            Some(history) => history.since(cursor).await,
            None => Err(Unavailable),
        }
    }

    /// The answer to `join`.
    fn joined(&self, newcomer: &Member, missed: Missed) -> ServerEvent {
        let key = names::key(&newcomer.who.name);
        let others = self.members.iter().filter(|(other, _)| **other != key);
        let mut members: Vec<String> = others.map(|(_, member)| member.who.name.clone()).collect();
        members.push(newcomer.who.name.clone());
        members.sort_by_cached_key(|name| names::key(name));
        ServerEvent::Joined {
            room: self.name.clone(),
            epoch: self.log.epoch(),
            seq: missed.seq,
            members,
            history: missed.messages.into_iter().map(ServerEvent::Message).collect(),
            gap: missed.gap,
        }
    }
}
// ANCHOR_END: join

// ANCHOR: members
impl Room {
    fn add(&mut self, member: Member) {
        let who = member.who.clone();
        let was_here = self.members.insert(names::key(&who.name), member).is_some();
        self.size.store(self.members.len(), Ordering::Release);
        if !was_here {
            let event =
                ServerEvent::MemberJoined { room: self.name.clone(), name: who.name.clone() };
            self.hint_others(&who, &event);
        }
    }

    fn leave(&mut self, who: &Who) {
        if let Some(member) = self.member(who) {
            member.outbox.tell(ServerEvent::Left { room: self.name.clone() });
        }
        self.remove(who);
    }

    /// Removes a member, unless they have come back on another connection.
    fn remove(&mut self, who: &Who) {
        if self.member(who).is_none() {
            return;
        }
        self.members.remove(&names::key(&who.name));
        self.size.store(self.members.len(), Ordering::Release);
        let event = ServerEvent::MemberLeft { room: self.name.clone(), name: who.name.clone() };
        self.hint_others(who, &event);
    }

    fn member(&self, who: &Who) -> Option<&Member> {
        self.members.get(&names::key(&who.name)).filter(|member| member.who == *who)
    }

    fn typing(&self, who: &Who) {
        if self.member(who).is_some() {
            let event = ServerEvent::Typing { room: self.name.clone(), name: who.name.clone() };
            self.hint_others(who, &event);
        }
    }

    /// Tells the others something that a slow one may miss.
    fn hint_others(&self, who: &Who, event: &ServerEvent) {
        let letter = Letter::from(event);
        for member in self.members.values().filter(|member| member.who != *who) {
            member.outbox.push_if_calm(letter.clone());
        }
    }
}
// ANCHOR_END: members

// ANCHOR: say
impl Room {
    /// Hands a message to the log. It goes on with [`Room::settle`].
    async fn say(&mut self, who: &Who, id: Uuid, text: String, reply: Outbox) {
        if self.member(who).is_none() {
            return reply.tell(ErrorCode::NotInRoom.about(Some(id)));
        }
        let (room, from) = (self.name.clone(), who.name.clone());
        let draft = Draft { namespace: self.namespace, room, id, from, text };
        let answered = self.log.append(draft).await;
        self.under_way.push_back(UnderWay { id, reply, answered });
    }

    // ANCHOR: settle
    /// Takes the log's answer: first everyone hears the message, then its sender that it is safe.
    async fn settle(&mut self, message: UnderWay, answer: Answer<Appended>) {
        let UnderWay { id, reply, .. } = message;
        let seq = match answer {
            Ok(Appended::Stored(said)) => self.publish(said).await,
            Ok(Appended::Repeated(seq)) => self.catch_up(seq).await.map(|()| seq),
            Ok(Appended::Conflict) => return reply.tell(ErrorCode::IdConflict.about(Some(id))),
            Err(unavailable) => Err(unavailable),
        };
        reply.tell(match seq {
            Ok(seq) => ServerEvent::Ack { id, room: self.name.clone(), seq },
            Err(Unavailable) => ErrorCode::Unavailable.about(Some(id)),
        });
    }
    // ANCHOR_END: settle

    /// Tells everyone a message that is stored, after the ones before it.
    async fn publish(&mut self, said: Said) -> Answer<u64> {
        let seq = said.seq;
        self.catch_up(seq.saturating_sub(1)).await?;
        self.tell_all(said);
        Ok(seq)
    }

    /// Tells everyone the messages up to this one. There are none, unless a commit has failed and
    /// has stored its messages all the same.
    async fn catch_up(&mut self, seq: u64) -> Answer<()> {
        while let Some(history) = &self.history
            && history.seq() < seq
        {
            let unseen = history.unseen(seq).await?;
            if unseen.is_empty() {
                return Err(Unavailable);
            }
            unseen.into_iter().for_each(|said| self.tell_all(said));
        }
        Ok(())
    }

    fn tell_all(&mut self, said: Said) {
        let letter = Letter::from(&ServerEvent::Message(said.clone()));
        for member in self.members.values() {
            member.outbox.push(letter.clone());
        }
        if let Some(history) = &mut self.history {
            history.push(said);
        }
    }
}
// ANCHOR_END: say

/// Checks the name of a room that is not a conversation.
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

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tokio::sync::mpsc::{self, Sender, UnboundedReceiver};

    use super::*;
    use crate::outbox::Waiting;

    /// An open room with a log of its own, and the log's directory.
    fn open() -> (Sender<Command>, std::path::PathBuf) {
        let dir = std::env::temp_dir().join(Uuid::new_v4().to_string());
        let room = Room::new("", "rust".to_owned(), Log::open(&dir).unwrap());
        let (commands, inbox) = mpsc::channel(INBOX);
        tokio::spawn(room.run(inbox));
        (commands, dir)
    }

    fn who(name: &str) -> Who {
        Who { name: name.to_owned(), connection: Uuid::new_v4() }
    }

    async fn join(
        room: &Sender<Command>,
        who: &Who,
        cursor: Option<Cursor>,
    ) -> UnboundedReceiver<Waiting> {
        let (outbox, waiting) = Outbox::new();
        let member = Member { who: who.clone(), outbox };
        let (answer, answered) = oneshot::channel();
        room.send(Command::Join { member, cursor, turn: None, answer }).await.ok().unwrap();
        assert_eq!(answered.await, Ok(Ok(Seam::Whole)));
        waiting
    }

    fn say(who: &Who, text: &str, reply: &Outbox) -> Command {
        Command::Say {
            who: who.clone(),
            id: Uuid::new_v4(),
            text: text.to_owned(),
            reply: reply.clone(),
        }
    }

    async fn next(waiting: &mut UnboundedReceiver<Waiting>) -> Value {
        let letter = waiting.recv().await.unwrap().into_letter().unwrap();
        serde_json::from_str(letter.message.to_str().unwrap()).unwrap()
    }

    /// Reads until message number `last`, and gives the numbers of all messages on the way.
    async fn read_until(waiting: &mut UnboundedReceiver<Waiting>, last: u64) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.last() != Some(&last) {
            let event = next(waiting).await;
            match event["type"].as_str() {
                Some("joined") => seqs.extend(
                    event["history"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|it| it["seq"].as_u64().unwrap()),
                ),
                Some("message") => seqs.push(event["seq"].as_u64().unwrap()),
                _ => {}
            }
        }
        seqs
    }

    #[tokio::test]
    async fn who_joins_in_the_middle_of_a_flood_misses_nothing_and_hears_nothing_twice() {
        let (room, dir) = open();
        let ada = who("ada");
        let mut first = join(&room, &ada, None).await;
        let epoch = next(&mut first).await["epoch"].as_str().unwrap().parse().unwrap();
        let flood = tokio::spawn({
            let room = room.clone();
            async move {
                let (acks, mut waiting) = Outbox::new();
                for n in 0..2000 {
                    room.send(say(&ada, &n.to_string(), &acks)).await.ok().unwrap();
                    while waiting.try_recv().is_ok() {}
                }
            }
        });
        let mut readers = Vec::new();
        for n in 0..20 {
            let cursor = Some(Cursor { epoch, after: 0 });
            let mut waiting = join(&room, &who(&format!("reader{n}")), cursor).await;
            readers.push(tokio::spawn(async move { read_until(&mut waiting, 2000).await }));
        }
        for reader in readers {
            assert_eq!(reader.await.unwrap(), Vec::from_iter(1..=2000));
        }
        flood.await.unwrap();
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn an_ack_comes_when_everyone_has_been_told() {
        let (room, dir) = open();
        let ada = who("ada");
        let mut waiting = join(&room, &ada, None).await;
        let (acks, mut answers) = Outbox::new();
        room.send(say(&ada, "hi", &acks)).await.ok().unwrap();
        let ack = next(&mut answers).await;
        assert_eq!((ack["type"].as_str(), ack["seq"].as_u64()), (Some("ack"), Some(1)));
        let (joined, message) = (next(&mut waiting).await, next(&mut waiting).await);
        assert_eq!((joined["seq"].as_u64(), message["seq"].as_u64()), (Some(0), Some(1)));
        assert_eq!(message["id"], ack["id"]);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn what_an_old_connection_still_does_no_longer_counts() {
        let (room, dir) = open();
        let (old, new) = (who("ada"), who("Ada"));
        let _gone = join(&room, &old, None).await;
        let mut waiting = join(&room, &new, None).await;
        assert_eq!(next(&mut waiting).await["members"], serde_json::json!(["Ada"]));
        let (acks, mut answers) = Outbox::new();
        room.send(say(&old, "late", &acks)).await.ok().unwrap();
        assert_eq!(next(&mut answers).await["code"], "not_in_room");
        room.send(Command::Gone(old)).await.ok().unwrap();
        room.send(say(&new, "hi", &acks)).await.ok().unwrap();
        assert_eq!(next(&mut answers).await["seq"], 1);
        std::fs::remove_dir_all(dir).unwrap();
    }

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
