// ANCHOR: all
//! One room: a task that owns its members, and the one place where history meets what is said now.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::select;
use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::task::yield_now;
use tokio::time::Instant;
use uuid::Uuid;

use crate::history::{History, Missed};
use crate::letter::{Batch, Letter};
use crate::log::{Answer, Log, Unavailable};
use crate::names;
use crate::outbox::{Outbox, Turn};
use crate::protocol::{Cursor, ErrorCode, Said, ServerEvent};
use crate::store::{Appended, Draft};
use crate::telemetry;

/// How many commands may wait for a room. A connection whose command finds no place waits, so it
/// reads nothing more from its client: a flood is slowed down at its source.
pub const INBOX: usize = 64;

/// How many messages of a room may be on their way to the disk at once.
const UNDER_WAY: usize = 256;

/// After so many members the room lets other tasks have a turn: to write to ten thousand takes 20 ms.
const CHUNK: usize = 256;

// ANCHOR: command
/// What a connection may ask of a room.
pub enum Command {
    /// Add a listener.
    Join {
        /// The listener.
        listener: Listener,
        /// How far they have seen the room.
        cursor: Option<Cursor>,
        /// The right to send them the history.
        turn: Option<Turn>,
        /// Where the room says how it went.
        answer: oneshot::Sender<Result<Seam, ErrorCode>>,
    },
    /// Remove a listener who asked to leave.
    Leave(Who),
    /// Remove a listener whose connection has ended.
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

/// Somebody on one connection. On another one they have the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The name, as everyone sees it.
    pub name: String,
    /// The connection.
    pub connection: Uuid,
}

/// One connection that is in the room.
pub struct Listener {
    /// Who it is.
    pub who: Who,
    /// Where to put what it shall hear.
    pub outbox: Outbox,
}

/// One user who is in the room, by one connection or by several.
struct Member {
    name: String,
    listeners: Vec<Listener>,
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
    since: Instant,
    answered: oneshot::Receiver<Answer<Appended>>,
}

/// A message that the log has answered.
type Settled = (UnderWay, Answer<Appended>);

impl Room {
    /// Makes a room without members. What was said in it is in the log.
    pub fn new(namespace: &'static str, name: String, log: Log) -> Self {
        let (members, under_way) = (HashMap::new(), VecDeque::new());
        Self { namespace, name, log, history: None, members, size: Arc::default(), under_way }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
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
                Some(settled) = next_answers(&mut self.under_way) => self.settle(settled).await,
                command = inbox.recv(), if self.under_way.len() < UNDER_WAY => match command {
                    Some(command) => self.obey(command).await,
                    None => break,
                },
            }
        }
        while let Some(settled) = next_answers(&mut self.under_way).await {
            self.settle(settled).await;
        }
    }
    // ANCHOR_END: run

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Join { listener, cursor, turn, answer } => {
                let joined = self.join(listener, cursor, turn).await;
                let _ = answer.send(joined);
            }
            Command::Leave(who) => self.leave(&who),
            Command::Gone(who) => drop(self.remove(&who)),
            Command::Say { who, id, text, reply } => self.say(&who, id, text, reply).await,
            Command::Typing(who) => self.typing(&who),
        }
    }
}

// ANCHOR: answers
/// Waits until the log has answered the oldest message under way, and takes all that it has answered
/// by then; `None` if there is none. If `select!` takes another branch meanwhile, nothing is lost:
/// the messages stay in the queue.
async fn next_answers(under_way: &mut VecDeque<UnderWay>) -> Option<Vec<Settled>> {
    let mut answer = (&mut under_way.front_mut()?.answered).await.unwrap_or(Err(Unavailable));
    let mut settled = Vec::new();
    while let Some(message) = under_way.pop_front() {
        settled.push((message, answer));
        match under_way.front_mut().map(|next| next.answered.try_recv()) {
            Some(Ok(next)) => answer = next,
            Some(Err(TryRecvError::Closed)) => answer = Err(Unavailable),
            Some(Err(TryRecvError::Empty)) | None => break,
        }
    }
    Some(settled)
}
// ANCHOR_END: answers
// ANCHOR_END: room

// ANCHOR: join
impl Room {
    // ANCHOR: seam
    /// Sends a listener what it has missed, and adds it.
    async fn join(
        &mut self,
        listener: Listener,
        cursor: Option<Cursor>,
        turn: Option<Turn>,
    ) -> Result<Seam, ErrorCode> {
        let missed = self.missed(cursor).await.map_err(|Unavailable| ErrorCode::Unavailable)?;
        telemetry::joined(result(cursor, &missed), missed.messages.len());
        let reached = Cursor { epoch: self.log.epoch(), after: missed.seq };
        let is_whole = self.history.as_ref().is_some_and(|history| history.seq() == missed.seq);
        let joined = self.joined(&listener.who, missed);
        listener.outbox.push_history((&joined).into(), turn);
        if !is_whole {
            // A live message now would come before the rest of the history.
            self.take(&listener.who);
            return Ok(Seam::More(reached));
        }
        // Nothing can come between the history and what is said from now on: while this function
        // runs, even while it waits for the log, the task does nothing else.
        self.add(listener);
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
    fn joined(&self, newcomer: &Who, missed: Missed) -> ServerEvent {
        let key = names::key(&newcomer.name);
        let others = self.members.iter().filter(|(other, _)| **other != key);
        let mut members: Vec<String> = others.map(|(_, member)| member.name.clone()).collect();
        members.push(newcomer.name.clone());
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

/// How a join went, in a word for the metrics.
fn result(cursor: Option<Cursor>, missed: &Missed) -> &'static str {
    match (cursor, missed.gap) {
        (None, _) => "new",
        (Some(_), false) => "whole",
        (Some(_), true) => "gap",
    }
}
// ANCHOR_END: join

// ANCHOR: members
impl Room {
    /// Adds a listener. The others hear of the first one of a user, and not of their second phone.
    fn add(&mut self, listener: Listener) {
        let (who, key) = (listener.who.clone(), names::key(&listener.who.name));
        let was_here = self.members.contains_key(&key);
        // Who joins again is here once, in the place of before.
        self.take(&who);
        let (name, listeners) = (who.name.clone(), Vec::with_capacity(1));
        let member = self.members.entry(key).or_insert(Member { name, listeners });
        member.listeners.push(listener);
        if !was_here {
            let event =
                ServerEvent::MemberJoined { room: self.name.clone(), name: who.name.clone() };
            self.hint_others(&who, &event);
        }
        self.count();
    }

    fn leave(&mut self, who: &Who) {
        let listener = self.remove(who);
        if let Some(Listener { outbox, .. }) = listener {
            outbox.tell(ServerEvent::Left { room: self.name.clone() });
        }
    }

    /// Removes a listener. The others hear of the last one of a user.
    fn remove(&mut self, who: &Who) -> Option<Listener> {
        let listener = self.take(who)?;
        self.count();
        if !self.members.contains_key(&names::key(&who.name)) {
            let event = ServerEvent::MemberLeft { room: self.name.clone(), name: who.name.clone() };
            self.hint_others(who, &event);
        }
        Some(listener)
    }

    /// Takes a listener out, and with the last one its member.
    fn take(&mut self, who: &Who) -> Option<Listener> {
        let key = names::key(&who.name);
        let listeners = &mut self.members.get_mut(&key)?.listeners;
        let place = listeners.iter().position(|listener| listener.who == *who)?;
        let listener = listeners.swap_remove(place);
        if listeners.is_empty() {
            self.members.remove(&key);
        }
        Some(listener)
    }

    /// Tells the list of rooms, and the metrics, how many members there are.
    fn count(&self) {
        let before = self.size.swap(self.members.len(), Ordering::AcqRel);
        telemetry::members(self.members.len() as f64 - before as f64);
    }

    fn has(&self, who: &Who) -> bool {
        let member = self.members.get(&names::key(&who.name));
        member.is_some_and(|member| member.listeners.iter().any(|listener| listener.who == *who))
    }

    fn typing(&self, who: &Who) {
        if self.has(who) {
            let event = ServerEvent::Typing { room: self.name.clone(), name: who.name.clone() };
            self.hint_others(who, &event);
        }
    }

    /// Tells the other users something that a slow one may miss.
    fn hint_others(&self, who: &Who, event: &ServerEvent) {
        let batch = Batch::from(Letter::from(event));
        for listener in self.listeners().filter(|listener| listener.who.name != who.name) {
            listener.outbox.push_if_calm(&batch);
        }
    }

    fn listeners(&self) -> impl Iterator<Item = &Listener> {
        self.members.values().flat_map(|member| &member.listeners)
    }
}
// ANCHOR_END: members

// ANCHOR: say
impl Room {
    /// Hands a message to the log. It goes on with [`Room::settle`].
    async fn say(&mut self, who: &Who, id: Uuid, text: String, reply: Outbox) {
        if !self.has(who) {
            return reply.tell(ErrorCode::NotInRoom.about(Some(id)));
        }
        let since = Instant::now();
        let (room, from) = (self.name.clone(), who.name.clone());
        let draft = Draft { namespace: self.namespace, room, id, from, text };
        let answered = self.log.append(draft).await;
        self.under_way.push_back(UnderWay { id, reply, since, answered });
    }

    // ANCHOR: settle
    /// Takes the log's answers: first everyone hears the messages, then their senders that they are
    /// safe.
    async fn settle(&mut self, settled: Vec<Settled>) {
        let stored = settled.iter().filter_map(|(_, answer)| match answer {
            Ok(Appended::Stored(said)) => Some(said.clone()),
            _ => None,
        });
        let published = self.publish(stored.collect()).await;
        for (UnderWay { id, reply, since, .. }, answer) in settled {
            let seq = match answer {
                Ok(Appended::Stored(said)) => published.map(|()| said.seq),
                Ok(Appended::Repeated(seq)) => self.catch_up(seq).await.map(|()| seq),
                Ok(Appended::Conflict) => {
                    reply.tell(ErrorCode::IdConflict.about(Some(id)));
                    continue;
                }
                Err(unavailable) => Err(unavailable),
            };
            reply.tell(match seq {
                Ok(seq) => ServerEvent::Ack { id, room: self.name.clone(), seq },
                Err(Unavailable) => ErrorCode::Unavailable.about(Some(id)),
            });
            telemetry::stored(since.elapsed());
        }
    }
    // ANCHOR_END: settle

    /// Tells everyone messages that are stored, after the ones before them.
    async fn publish(&mut self, stored: Vec<Said>) -> Answer<()> {
        // They are one run, unless a commit has failed and has stored its messages all the same.
        for run in stored.chunk_by(|one, next| one.seq + 1 == next.seq) {
            if let Some(first) = run.first() {
                self.catch_up(first.seq.saturating_sub(1)).await?;
                self.tell_all(run).await;
            }
        }
        Ok(())
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
            self.tell_all(&unseen).await;
        }
        Ok(())
    }

    // ANCHOR: tell-all
    /// Tells everyone these messages: each is made once, and all of them go out together.
    async fn tell_all(&mut self, messages: &[Said]) {
        let began = Instant::now();
        let letters = messages.iter().map(|said| (&ServerEvent::Message(said.clone())).into());
        let batch = Batch::from(letters.collect::<Vec<Letter>>());
        let mut receivers = 0;
        for listener in self.listeners() {
            listener.outbox.push(&batch);
            receivers += 1;
            if receivers % CHUNK == 0 {
                yield_now().await;
            }
        }
        if let Some(history) = &mut self.history {
            messages.iter().for_each(|said| history.push(said.clone()));
        }
        telemetry::delivered(messages.len(), receivers, began.elapsed());
    }
    // ANCHOR_END: tell-all
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
    use tokio::sync::mpsc::{self, Sender};

    use super::*;
    use crate::outbox::Item;

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

    async fn join(room: &Sender<Command>, who: &Who, cursor: Option<Cursor>) -> Outbox {
        let outbox = Outbox::for_stream();
        let listener = Listener { who: who.clone(), outbox: outbox.clone() };
        let (answer, answered) = oneshot::channel();
        room.send(Command::Join { listener, cursor, turn: None, answer }).await.ok().unwrap();
        assert_eq!(answered.await, Ok(Ok(Seam::Whole)));
        outbox
    }

    fn say(who: &Who, text: &str, reply: &Outbox) -> Command {
        Command::Say {
            who: who.clone(),
            id: Uuid::new_v4(),
            text: text.to_owned(),
            reply: reply.clone(),
        }
    }

    async fn next(outbox: &Outbox) -> Value {
        let Ok((Item::Event(letter), _)) = outbox.next().await else { panic!("no event") };
        serde_json::from_str(letter.json()).unwrap()
    }

    /// Reads until message number `last`, and gives the numbers of all messages on the way.
    async fn read_until(waiting: &Outbox, last: u64) -> Vec<u64> {
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
        let first = join(&room, &ada, None).await;
        let epoch = next(&first).await["epoch"].as_str().unwrap().parse().unwrap();
        let flood = tokio::spawn({
            let room = room.clone();
            async move {
                let (acks, _answer) = Outbox::for_answer();
                for n in 0..2000 {
                    room.send(say(&ada, &n.to_string(), &acks)).await.ok().unwrap();
                }
            }
        });
        let mut readers = Vec::new();
        for n in 0..20 {
            let cursor = Some(Cursor { epoch, after: 0 });
            let outbox = join(&room, &who(&format!("reader{n}")), cursor).await;
            readers.push(tokio::spawn(async move { read_until(&outbox, 2000).await }));
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
        let outbox = join(&room, &ada, None).await;
        room.send(say(&ada, "hi", &outbox)).await.ok().unwrap();
        let (joined, message, ack) =
            (next(&outbox).await, next(&outbox).await, next(&outbox).await);
        assert_eq!((joined["seq"].as_u64(), message["seq"].as_u64()), (Some(0), Some(1)));
        assert_eq!((ack["type"].as_str(), ack["seq"].as_u64()), (Some("ack"), Some(1)));
        assert_eq!(message["id"], ack["id"]);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn a_user_with_two_connections_is_one_member_and_hears_everything_twice() {
        let (room, dir) = open();
        let (laptop, phone, grace) = (who("Ada"), who("Ada"), who("grace"));
        let outbox = join(&room, &grace, None).await;
        let hears = [join(&room, &laptop, None).await, join(&room, &phone, None).await];
        for outbox in &hears {
            assert_eq!(next(outbox).await["members"], serde_json::json!(["Ada", "grace"]));
        }
        room.send(say(&grace, "hi", &outbox)).await.ok().unwrap();
        for outbox in &hears {
            assert_eq!(next(outbox).await["text"], "hi");
        }
        room.send(Command::Gone(laptop)).await.ok().unwrap();
        room.send(Command::Gone(phone)).await.ok().unwrap();
        let mut types = Vec::new();
        while types.last().is_none_or(|last| last != "member_left") {
            types.push(next(&outbox).await["type"].as_str().unwrap().to_owned());
        }
        assert_eq!(types, ["joined", "member_joined", "message", "ack", "member_left"]);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn what_an_old_connection_still_does_no_longer_counts() {
        let (room, dir) = open();
        let (old, new) = (who("ada"), who("ada"));
        let outbox = join(&room, &old, None).await;
        room.send(Command::Gone(old.clone())).await.ok().unwrap();
        join(&room, &new, None).await;
        room.send(say(&old, "late", &outbox)).await.ok().unwrap();
        assert_eq!(next(&outbox).await["type"], "joined");
        assert_eq!(next(&outbox).await["code"], "not_in_room");
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
