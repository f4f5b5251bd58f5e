// ANCHOR: all
//! One room: a task that owns its members, and the one place where history meets what is said now.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::select;
use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout};
use uuid::Uuid;

use crate::feed::{Feed, News};
use crate::history::{History, Missed};
use crate::letter::{Batch, Letter};
use crate::log::{Answer, Appended, Draft, Log, Position, RoomId, Unavailable};
use crate::names;
use crate::outbox::{Outbox, Turn};
use crate::protocol::{Cursor, ErrorCode, Said, ServerEvent};
use crate::spread::spread;
use crate::telemetry;

/// How many commands may wait for a room. A connection whose command finds no place waits, so it
/// reads nothing more from its client: a flood is slowed down at its source.
pub const INBOX: usize = 64;

/// How many messages of a room may be on their way to the log at once.
const UNDER_WAY: usize = 256;

/// How long the feed may take to bring a message that is known to be stored. Then the log is read.
const LATE: Duration = Duration::from_millis(100);

/// After so many members the room lets other tasks have a turn: to write to ten thousand takes 20 ms.
const CHUNK: usize = 256;

/// How soon, at the latest, a room asks again that had no answer from the log.
const RETRY: Duration = Duration::from_secs(2);

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

/// One user who is in the room.
struct Member {
    name: String,
    /// By one connection or by several. By none, who is in the room on other servers only.
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
    id: RoomId,
    log: Arc<dyn Log>,
    /// What happens here, on whichever server; `None` until somebody joins.
    feed: Option<Feed>,
    /// What was said; `None` until it has been read from the log.
    history: Option<History>,
    /// By [`names::key`].
    members: HashMap<String, Member>,
    /// How many of them are on this server, for the list of rooms.
    size: Arc<AtomicUsize>,
    /// When to ask the log whether anything is missing here.
    check_at: Option<Instant>,
    /// The messages that the log has not answered yet, in the order in which it will.
    under_way: VecDeque<UnderWay>,
}

/// A message on its way to the log.
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
    pub fn new(id: RoomId, log: Arc<dyn Log>) -> Self {
        Self {
            id,
            log,
            feed: None,
            history: None,
            members: HashMap::new(),
            size: Arc::default(),
            check_at: None,
            under_way: VecDeque::new(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.id.room
    }

    /// Where the number of members can be read.
    pub fn size(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.size)
    }

    // ANCHOR: run
    /// Takes news, commands and answers of the log, one after the other: whatever happens here, all
    /// members see in this order. It ends when nobody can send commands any more, and the log has
    /// answered everything.
    pub async fn run(mut self, mut inbox: Receiver<Command>) {
        loop {
            select! {
                news = next_news(&mut self.feed) => self.hear(news).await,
                () = time(self.check_at) => drop(self.check().await),
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

/// Waits for what the feed brings, if there is one.
async fn next_news(feed: &mut Option<Feed>) -> News {
    match feed {
        Some(feed) => feed.next().await,
        None => pending().await,
    }
}

/// Waits for a time, if there is one.
async fn time(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
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
        // Who joins finds everyone in the room who has come before, and hears of nobody twice.
        self.hear_waiting().await;
        let missed = self.missed(cursor).await.map_err(|Unavailable| ErrorCode::Unavailable)?;
        telemetry::joined(result(cursor, &missed), missed.messages.len());
        let Some(history) = &self.history else { return Err(ErrorCode::Unavailable) };
        let reached = Cursor { epoch: history.epoch(), after: missed.seq };
        let is_whole = history.seq() == missed.seq;
        let joined = self.joined(&listener.who, reached.epoch, missed);
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

    /// What somebody with this cursor has missed.
    async fn missed(&mut self, cursor: Option<Cursor>) -> Answer<Missed> {
        if self.history.is_none() {
            self.open().await?;
        }
        // They may have seen on another server what this one has yet to hear.
        if self.history.as_ref().is_some_and(|history| history.is_behind(cursor)) {
            self.check().await?;
        }
        match &self.history {
            Some(history) => history.since(cursor).await,
            None => Err(Unavailable),
        }
    }

    /// Begins to hear what happens here, and then reads what has happened: in this order nothing
    /// comes between the two.
    async fn open(&mut self) -> Answer<()> {
        self.feed = Some(self.log.follow(&self.id).await?);
        self.history = Some(History::load(Arc::clone(&self.log), self.id.clone()).await?);
        self.check_later();
        self.meet();
        Ok(())
    }

    /// The answer to `join`.
    fn joined(&self, newcomer: &Who, epoch: Uuid, missed: Missed) -> ServerEvent {
        let key = names::key(&newcomer.name);
        let others = self.members.iter().filter(|(other, _)| **other != key);
        let mut members: Vec<String> = others.map(|(_, member)| member.name.clone()).collect();
        members.push(newcomer.name.clone());
        members.sort_by_cached_key(|name| names::key(name));
        ServerEvent::Joined {
            room: self.id.room.clone(),
            epoch,
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
        // Who joins again is here once, in the place of before.
        self.take(&who);
        self.let_in(&who.name);
        let Some(Member { listeners, .. }) = self.members.get_mut(&key) else { return };
        listeners.push(listener);
        if listeners.len() == 1 {
            self.log.enter(&self.id, &who.name);
            self.count(1);
        }
    }

    /// A user is here, on this server or on another one.
    fn let_in(&mut self, name: &str) {
        if let Entry::Vacant(place) = self.members.entry(names::key(name)) {
            place.insert(Member { name: name.to_owned(), listeners: Vec::new() });
            let (room, name) = (self.id.room.clone(), name.to_owned());
            self.hint_others(&name.clone(), &ServerEvent::MemberJoined { room, name });
        }
    }

    fn leave(&mut self, who: &Who) {
        if let Some(Listener { outbox, .. }) = self.remove(who) {
            outbox.tell(ServerEvent::Left { room: self.id.room.clone() });
        }
    }

    /// Removes a listener. With the last one its user has left, unless they are still here on another
    /// server: the log knows, and the feed says so.
    fn remove(&mut self, who: &Who) -> Option<Listener> {
        let listener = self.take(who)?;
        let member = self.members.get(&names::key(&who.name));
        if member.is_some_and(|member| member.listeners.is_empty()) {
            self.log.leave(&self.id, &who.name);
            self.count(-1);
        }
        Some(listener)
    }

    /// Takes a listener out.
    fn take(&mut self, who: &Who) -> Option<Listener> {
        let listeners = &mut self.members.get_mut(&names::key(&who.name))?.listeners;
        let place = listeners.iter().position(|listener| listener.who == *who)?;
        Some(listeners.swap_remove(place))
    }

    /// A user is here no longer, unless they have come back to this server meanwhile.
    fn see_off(&mut self, name: &str) {
        let key = names::key(name);
        if self.members.get(&key).is_some_and(|member| member.listeners.is_empty()) {
            self.members.remove(&key);
            let (room, name) = (self.id.room.clone(), name.to_owned());
            self.hint_others(&name.clone(), &ServerEvent::MemberLeft { room, name });
        }
    }

    /// Compares those who are here with what the log knows of other servers. News of them may have
    /// been lost.
    fn meet(&mut self) {
        let elsewhere = self.log.elsewhere(&self.id);
        let keys: HashSet<String> = elsewhere.iter().map(|name| names::key(name)).collect();
        let gone = self
            .members
            .iter()
            .filter(|(key, member)| member.listeners.is_empty() && !keys.contains(*key));
        let gone: Vec<String> = gone.map(|(_, member)| member.name.clone()).collect();
        gone.iter().for_each(|name| self.see_off(name));
        elsewhere.iter().for_each(|name| self.let_in(name));
    }

    /// Tells the list of rooms, and the metrics, how many users there are on this server.
    fn count(&self, change: isize) {
        let here = self.size.load(Ordering::Acquire).saturating_add_signed(change);
        self.size.store(here, Ordering::Release);
        telemetry::members(change as f64);
    }

    fn has(&self, who: &Who) -> bool {
        let member = self.members.get(&names::key(&who.name));
        member.is_some_and(|member| member.listeners.iter().any(|listener| listener.who == *who))
    }

    fn typing(&self, who: &Who) {
        if self.has(who) {
            self.log.typing(&self.id, &who.name);
        }
    }

    /// Tells the other users something that a slow one may miss.
    fn hint_others(&self, name: &str, event: &ServerEvent) {
        let batch = Batch::from(Letter::from(event));
        for listener in self.listeners().filter(|listener| listener.who.name != name) {
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
        let RoomId { namespace, room } = self.id.clone();
        let draft = Draft { namespace, room, id, from: who.name.clone(), text };
        let answered = self.log.append(draft).await;
        self.under_way.push_back(UnderWay { id, reply, since, answered });
    }

    // ANCHOR: settle
    /// Takes the log's answers: first everyone hears the messages, then their senders that they are
    /// safe.
    async fn settle(&mut self, settled: Vec<Settled>) {
        let stored = settled.iter().filter_map(|(_, answer)| match answer {
            Ok(Appended::Stored(seq) | Appended::Repeated(seq)) => Some(*seq),
            _ => None,
        });
        let told = self.reach(stored.max().unwrap_or_default()).await;
        for (UnderWay { id, reply, since, .. }, answer) in settled {
            reply.tell(match answer.and_then(|appended| told.map(|()| appended)) {
                Ok(Appended::Stored(seq) | Appended::Repeated(seq)) => {
                    telemetry::stored(since.elapsed());
                    ServerEvent::Ack { id, room: self.id.room.clone(), seq }
                }
                Ok(Appended::Conflict) => ErrorCode::IdConflict.about(Some(id)),
                Ok(Appended::TooMuch(wait)) => {
                    telemetry::rate_limited("user");
                    ErrorCode::RateLimited.until(Some(id), wait)
                }
                Err(Unavailable) => ErrorCode::Unavailable.about(Some(id)),
            });
        }
    }
    // ANCHOR_END: settle

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

// ANCHOR: hear
impl Room {
    /// Takes in what the feed brings, or looks for what it has lost.
    async fn hear(&mut self, news: News) {
        match news {
            News::Lost => drop(self.check().await),
            news => self.take_in(news).await,
        }
    }

    /// Takes in what waits already: a part of it, if it never ends.
    async fn hear_waiting(&mut self) {
        for _ in 0..INBOX {
            match self.feed.as_ref().and_then(Feed::waiting) {
                Some(news) => self.hear(news).await,
                None => return,
            }
        }
    }

    async fn take_in(&mut self, news: News) {
        match news {
            News::Said { epoch, before, messages } => {
                // If Redis is away meanwhile, the next check finds what is missing.
                let _ = self.hear_said(epoch, before, messages).await;
            }
            News::Entered(name) => self.let_in(&name),
            News::Left(name) => self.see_off(&name),
            News::Typing(name) => {
                let (room, typist) = (self.id.room.clone(), name.clone());
                self.hint_others(&typist, &ServerEvent::Typing { room, name });
            }
            // Whoever calls this has seen to it.
            News::Lost => {}
        }
    }

    // ANCHOR: hear-said
    /// Tells everyone messages, after the ones before them and none of them twice.
    async fn hear_said(
        &mut self,
        epoch: Uuid,
        before: Option<Uuid>,
        messages: Vec<Said>,
    ) -> Answer<()> {
        let Some(history) = &self.history else { return Ok(()) };
        if epoch != history.epoch() {
            return self.begin_anew().await;
        }
        let heard = history.seq();
        let new: Vec<Said> = messages.into_iter().filter(|said| said.seq > heard).collect();
        let Some(first) = new.first() else { return Ok(()) };
        let is_next = first.seq == heard + 1;
        if is_next && !history.differs(before) {
            self.tell_all(&new).await;
            return Ok(());
        }
        telemetry::gap_healed();
        let last = new.last().map_or(first.seq, |said| said.seq);
        self.compare().await?;
        self.catch_up(last).await
    }
    // ANCHOR_END: hear-said

    // ANCHOR: reach
    /// Returns when everyone here has been told message `seq`. The feed brings it or, if that is late,
    /// the log has it.
    async fn reach(&mut self, seq: u64) -> Answer<()> {
        while self.history.as_ref().is_some_and(|history| history.seq() < seq) {
            match timeout(LATE, next_news(&mut self.feed)).await {
                Ok(News::Lost) | Err(_) => {
                    telemetry::gap_healed();
                    return self.catch_up(seq).await;
                }
                Ok(news) => self.take_in(news).await,
            }
        }
        Ok(())
    }
    // ANCHOR_END: reach

    /// Reads what is missing up to message `seq`, and tells everyone.
    async fn catch_up(&mut self, seq: u64) -> Answer<()> {
        while let Some(history) = &self.history
            && history.seq() < seq
        {
            let unseen = history.unseen(seq).await?;
            match unseen.first() {
                Some(first) if first.seq == history.seq() + 1 => self.tell_all(&unseen).await,
                // So much is missing that the log has let go of it.
                Some(_) => return self.begin_anew().await,
                None => return Err(Unavailable),
            }
        }
        Ok(())
    }

    // ANCHOR: check
    /// Asks the log how far the room has come. Only this finds out that the feed has lost the last
    /// message: no other one comes after it that would show a gap.
    async fn check(&mut self) -> Answer<()> {
        self.check_later();
        let checked = match self.compare().await {
            Ok(Some(position)) => self.reach(position.seq).await,
            Ok(None) => Ok(()),
            Err(unavailable) => Err(unavailable),
        };
        if checked.is_err() && self.check_at.is_some() {
            self.check_at = Some(Instant::now() + spread(RETRY));
        }
        checked
    }

    /// Has the log compare what is known here with what it has, and begins anew if they differ.
    async fn compare(&mut self) -> Answer<Option<Position>> {
        let Some(history) = &self.history else { return Ok(None) };
        let epoch = history.epoch();
        let position = self.log.check(&self.id, history.held()).await?;
        self.meet();
        if position.epoch != epoch {
            self.begin_anew().await?;
        }
        Ok(Some(position))
    }

    fn check_later(&mut self) {
        let every = self.log.check_every();
        self.check_at = every.map(|every| Instant::now() + every / 2 + spread(every / 2));
    }
    // ANCHOR_END: check

    // ANCHOR: begin-anew
    /// Reads the room from the log as if nobody had seen it, and has everyone begin their view of it
    /// afresh: what they have seen and what the log has are no longer one count.
    async fn begin_anew(&mut self) -> Answer<()> {
        let history = History::load(Arc::clone(&self.log), self.id.clone()).await?;
        let mut missed = history.since(None).await?;
        missed.gap = true;
        let epoch = history.epoch();
        self.history = Some(history);
        telemetry::begun_anew();
        tracing::warn!(room = self.id.room, "began anew: what was seen here is not what is stored");
        for listener in self.listeners() {
            let joined = self.joined(&listener.who, epoch, missed.clone());
            listener.outbox.push_history((&joined).into(), None);
        }
        Ok(())
    }
    // ANCHOR_END: begin-anew
}
// ANCHOR_END: hear

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
    use crate::embedded::Embedded;
    use crate::outbox::Item;

    /// An open room with a log of its own, and the log's directory.
    fn open() -> (Sender<Command>, std::path::PathBuf) {
        let dir = std::env::temp_dir().join(Uuid::new_v4().to_string());
        let log = Arc::new(Embedded::open(&dir).unwrap());
        let room = Room::new(RoomId { namespace: "", room: "rust".to_owned() }, log);
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
        for expected in ["joined", "member_joined", "message", "ack"] {
            assert_eq!(next(&outbox).await["type"], expected);
        }
        room.send(Command::Gone(laptop)).await.ok().unwrap();
        room.send(Command::Gone(phone)).await.ok().unwrap();
        assert_eq!(next(&outbox).await["type"], "member_left");
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
