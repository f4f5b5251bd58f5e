// ANCHOR: all
//! What a room asks of the log that many servers share.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{oneshot, watch};

use crate::feed::{Feed, Feeds, News};
use crate::hub::LISTED;
use crate::log::{Answer, Appended, Draft, Held, Log, Position, RoomId, TAIL, Unavailable};
use crate::protocol::{RoomInfo, Said, millis, now};
use crate::search::Search;
use crate::shared::post::Post;
use crate::shared::presence::{Change, Presence};
use crate::shared::pubsub::Listener;
use crate::shared::scripts::{SCRIPTS, call};
use crate::shared::users::Attendance;
use crate::shared::writer::Words;
use crate::shared::{Shared, feed_of, position_args, room_key, search};
use crate::telemetry;

/// How often a room of which nothing is heard asks whether anything is missing.
const CHECK_EVERY: Duration = Duration::from_secs(10);

/// How many messages one read gives.
const PAGE: usize = 512;

/// After what time a room is off the list of which no server says that it has members, in ms.
const FORGOTTEN: u64 = 45_000;

// ANCHOR: dispatch
/// Takes what Redis tells to the rooms and the users.
pub struct Dispatch {
    /// Of the rooms that are open here, by channel.
    pub feeds: Arc<Feeds<String>>,
    /// Who is where.
    pub presence: Arc<Presence>,
    /// What other servers ask and answer.
    pub post: Arc<Post>,
    /// Who is connected here.
    pub attendance: Arc<Attendance>,
}

impl Listener for Dispatch {
    fn hear(&self, channel: &str, payload: &str) {
        if self.post.is_at(channel) {
            return self.post.hear(payload);
        }
        if Attendance::is_news(channel) {
            return self.attendance.hear(channel, payload);
        }
        let news = match payload.split_once(' ') {
            Some(("said", rest)) => said(channel, rest),
            Some(("typing", name)) => Some(News::Typing(name.to_owned())),
            Some(("entered", rest)) => self.presence.note(channel, Change::Entered, rest),
            Some(("left", rest)) => self.presence.note(channel, Change::Left, rest),
            // Whatever this is, no server of this version has written it.
            _ => None,
        };
        if news.is_some_and(|news| self.feeds.write(&channel.to_owned(), news)) {
            telemetry::feed_dropped();
        }
    }

    fn lose(&self) {
        self.feeds.lose();
        self.presence.doubt();
        self.post.doubt();
        self.attendance.lose();
    }

    fn needs(&self, channel: &str) -> bool {
        if Attendance::is_news(channel) {
            return self.attendance.needs(channel);
        }
        self.post.is_at(channel) || self.feeds.has(&channel.to_owned())
    }
}

/// Reads a message: `epoch seq last at json`. The first message has no last one.
fn said(channel: &str, text: &str) -> Option<News> {
    let mut words = text.splitn(5, ' ');
    let (epoch, seq) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let before = words.next()?.parse().ok();
    let at = words.next()?.parse().ok()?;
    let messages = vec![message(room_of(channel)?, seq, at, words.next()?)?];
    Some(News::Said { epoch, before, messages })
}

/// The room in the tag of a key or channel.
fn room_of(channel: &str) -> Option<&str> {
    let (_, rest) = channel.split_once('{')?;
    let (tag, _) = rest.split_once('}')?;
    tag.split_once('/').map(|(_namespace, room)| room)
}

fn message(room: &str, seq: u64, at: u64, json: &str) -> Option<Said> {
    let Words { id, from, text } = serde_json::from_str(json).ok()?;
    Some(Said { room: room.to_owned(), seq, id, from, text, at })
}
// ANCHOR_END: dispatch

// ANCHOR: answers
impl Log for Shared {
    fn follow<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, Answer<Feed>> {
        async {
            let channel = feed_of(&self.link, room);
            // In this order: what is said once Redis has answered finds a feed that waits for it.
            let feed = self.feeds.begin(channel.clone());
            self.pubsub.subscribe(channel).await?;
            self.presence.meet(room).await?;
            Ok(feed)
        }
        .boxed()
    }

    fn look<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, Answer<(Position, Vec<Said>)>> {
        async {
            let keys = ["meta", "log"].map(|rest| room_key(&self.link, room, rest));
            let mut look = call(&SCRIPTS.look, &keys);
            let up = self.link.up()?;
            position_args(&mut look, &up, self.retention);
            let (epoch, seq, entries): (String, u64, Vec<Entry>) =
                self.link.ask_on(up, look.arg(TAIL)).await?;
            let mut tail = messages(room, entries)?;
            tail.reverse();
            Ok((position(&epoch, seq)?, tail))
        }
        .boxed()
    }

    // ANCHOR: check
    fn check<'a>(&'a self, room: &'a RoomId, held: Held) -> BoxFuture<'a, Answer<Position>> {
        async move {
            let keys = ["meta", "log", "number"].map(|rest| room_key(&self.link, room, rest));
            let mut check = call(&SCRIPTS.check, &keys);
            let up = self.link.up()?;
            position_args(&mut check, &up, self.retention);
            let id = held.id.map_or_else(String::new, |id| id.to_string());
            check.arg(held.position.epoch.to_string()).arg(held.position.seq).arg(id);
            let (epoch, seq, number): (String, u64, u64) = self.link.ask_on(up, &check).await?;
            if !self.presence.is_current(room, number) {
                self.presence.meet(room).await?;
            }
            position(&epoch, seq)
        }
        .boxed()
    }
    // ANCHOR_END: check

    fn check_every(&self) -> Option<Duration> {
        Some(CHECK_EVERY)
    }

    fn read<'a>(
        &'a self,
        room: &'a RoomId,
        after: u64,
        last: u64,
    ) -> BoxFuture<'a, Answer<Vec<Said>>> {
        async move {
            let mut range = redis::cmd("XRANGE");
            range.arg(room_key(&self.link, room, "log"));
            range.arg(format!("({after}-0")).arg(format!("{last}-0")).arg("COUNT").arg(PAGE);
            messages(room, self.link.ask(&range).await?)
        }
        .boxed()
    }

    /// Hands a message to the writer.
    fn append(&self, draft: Draft) -> BoxFuture<'_, oneshot::Receiver<Answer<Appended>>> {
        self.hand_over(draft).boxed()
    }

    fn enter(&self, room: &RoomId, name: &str) {
        self.presence.enter(room, name);
    }

    fn leave(&self, room: &RoomId, name: &str) {
        self.presence.leave(room, name);
    }

    fn elsewhere(&self, room: &RoomId) -> Vec<String> {
        self.presence.everybody(room)
    }

    fn rooms(&self, namespace: &'static str) -> BoxFuture<'_, Answer<Option<Vec<RoomInfo>>>> {
        async move {
            // Whoever asks after having joined a room finds it on the list.
            self.presence.flush().await;
            let mut rooms = call(&SCRIPTS.rooms, &self.presence.lists(namespace));
            rooms.arg(LISTED).arg(FORGOTTEN);
            let rooms: Vec<(String, usize)> = self.link.ask(&rooms).await?;
            let info = |(name, members)| RoomInfo { name, members };
            Ok(Some(rooms.into_iter().map(info).collect()))
        }
        .boxed()
    }

    fn typing(&self, room: &RoomId, name: &str) {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(feed_of(&self.link, room)).arg(format!("typing {name}"));
        let link = Arc::clone(&self.link);
        // Nobody waits for this, and it may get lost.
        tokio::spawn(async move { link.ask::<()>(&publish).await });
    }

    /// Redis has no index of words: this reads the messages of the room.
    fn search(&self, search: Search) -> BoxFuture<'_, Answer<Vec<Said>>> {
        search::search(self, search).boxed()
    }

    fn horizon(&self) -> u64 {
        self.retention.map_or(0, |retention| now().saturating_sub(millis(retention)))
    }

    fn degraded(&self) -> watch::Receiver<bool> {
        self.link.degraded()
    }

    /// Leaves every room, so that nobody has to wait until this server counts as dead.
    fn close(&self) -> BoxFuture<'_, ()> {
        async {
            // What can't be told is known without it, a little later.
            let ((), _told, ()) =
                tokio::join!(self.presence.leave_all(), self.attendance.flush(), self.post.flush());
        }
        .boxed()
    }
}
// ANCHOR_END: answers

impl Shared {
    async fn hand_over(&self, draft: Draft) -> oneshot::Receiver<Answer<Appended>> {
        let (answer, answered) = oneshot::channel();
        // If the writer is gone, so is `answer` now, and `answered` says so.
        let _ = self.drafts.send((draft, answer)).await;
        answered
    }
}

/// An entry of a stream: its id, and its fields with their values.
pub type Entry = (String, Vec<String>);

/// The messages in entries.
///
/// # Errors
/// [`Unavailable`]: something else is in the stream.
pub fn messages(room: &RoomId, entries: Vec<Entry>) -> Answer<Vec<Said>> {
    let read = |(id, fields): Entry| {
        let seq = id.split_once('-')?.0.parse().ok()?;
        let [_at, at, _said, json] = fields.as_slice() else { return None };
        message(&room.room, seq, at.parse().ok()?, json)
    };
    let messages: Option<Vec<Said>> = entries.into_iter().map(read).collect();
    messages.ok_or_else(|| {
        tracing::error!(room = room.room, "the stream of a room has something else in it");
        Unavailable
    })
}

fn position(epoch: &str, seq: u64) -> Answer<Position> {
    Ok(Position { epoch: epoch.parse().map_err(|_| Unavailable)?, seq })
}
// ANCHOR_END: all
