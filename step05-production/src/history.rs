// ANCHOR: all
//! What a room remembers: the last messages in memory, the ones before in the log.

use std::collections::VecDeque;
use std::sync::Arc;

use uuid::Uuid;

use crate::log::{Answer, Held, KEPT, Log, Position, RoomId};
use crate::protocol::{Cursor, Said};

/// How many messages a newcomer gets to see.
const SHOWN: usize = 50;

/// How many messages stay in memory. Who has missed fewer than that does not trouble the disk, and
/// after a restart that is nearly everyone.
const RECENT: usize = 512;

/// How many bytes of text stay in memory, or a few people could fill it: 512 messages of 8 KB are
/// 4 MB, in each of as many rooms as they like.
const RECENT_BYTES: usize = 128 * 1024;

/// The messages of one room. Only what was stored gets in here.
pub struct History {
    log: Arc<dyn Log>,
    room: RoomId,
    /// How far this goes: the number of the last message, and which count it belongs to.
    position: Position,
    /// The last messages, without a hole.
    recent: VecDeque<Said>,
    /// How long their texts are, in bytes.
    bytes: usize,
}

/// What somebody who joins has missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// The messages, oldest first.
    pub messages: Vec<Said>,
    /// The number up to which this goes: the last one of the room, unless it is too much for once.
    pub seq: u64,
    /// The messages are not all that came after the cursor.
    pub gap: bool,
}

// ANCHOR: since
impl History {
    /// Reads the end of a room from the log.
    ///
    /// # Errors
    /// [`Unavailable`](crate::log::Unavailable).
    pub async fn load(log: Arc<dyn Log>, room: RoomId) -> Answer<Self> {
        let (position, tail) = log.look(&room).await?;
        let mut history = Self { log, room, position, recent: VecDeque::new(), bytes: 0 };
        tail.into_iter().for_each(|said| history.push(said));
        history.position = position;
        Ok(history)
    }

    /// The number of the last message.
    pub fn seq(&self) -> u64 {
        self.position.seq
    }

    /// Which count the numbers belong to.
    pub fn epoch(&self) -> Uuid {
        self.position.epoch
    }

    /// The last message, for the log to compare.
    pub fn held(&self) -> Held {
        let last = self.recent.back().filter(|said| said.seq == self.seq());
        Held { position: self.position, id: last.map(|said| said.id) }
    }

    /// Whether the message before the next one, as the log tells it, is another one than the last one
    /// here.
    pub fn differs(&self, before: Option<Uuid>) -> bool {
        self.held().id.zip(before).is_some_and(|(held, before)| held != before)
    }

    /// Whether a client with this cursor knows more of the room than is known here.
    pub fn is_behind(&self, cursor: Option<Cursor>) -> bool {
        cursor.is_some_and(|it| it.epoch != self.epoch() || it.after > self.seq())
    }

    // ANCHOR: cursor
    /// What came after a cursor. Never only a part of it: it is all, or the last ones and a gap.
    ///
    /// # Errors
    /// [`Unavailable`](crate::log::Unavailable), if only the log knows and it can't be read.
    pub async fn since(&self, cursor: Option<Cursor>) -> Answer<Missed> {
        let Some(Cursor { epoch, after }) = cursor else { return Ok(self.last(false)) };
        let other_count = epoch != self.epoch();
        let too_far = after > self.seq();
        let too_old = after < self.seq().saturating_sub(KEPT);
        if other_count || too_far || too_old {
            return Ok(self.last(true));
        }
        let messages = self.after(after).await?;
        let seq = messages.last().map_or(after, |said| said.seq);
        let is_whole = messages.iter().map(|said| said.seq).eq(after + 1..=seq);
        let is_end = seq == self.seq() || !messages.is_empty();
        if is_whole && is_end {
            Ok(Missed { messages, seq, gap: false })
        } else {
            // Messages after the cursor were too old to keep.
            Ok(self.last(true))
        }
    }
    // ANCHOR_END: cursor

    /// The last messages, for who has no cursor or one that is of no use.
    fn last(&self, gap: bool) -> Missed {
        let mut messages: Vec<Said> = self.shown().rev().take(SHOWN).cloned().collect();
        messages.reverse();
        Missed { messages, seq: self.seq(), gap }
    }

    /// The messages in memory that are not too old. Old ones leave it when others come.
    fn shown(&self) -> impl DoubleEndedIterator<Item = &Said> {
        let horizon = self.log.horizon();
        self.recent.iter().filter(move |said| said.at >= horizon)
    }

    /// All messages after this number or, if that is too much for once, the first of them. Messages
    /// that are too old are missing.
    ///
    /// # Errors
    /// [`Unavailable`](crate::log::Unavailable).
    pub async fn after(&self, after: u64) -> Answer<Vec<Said>> {
        let in_memory = self.recent.front().is_none_or(|oldest| oldest.seq <= after + 1);
        if in_memory {
            return Ok(self.shown().filter(|said| said.seq > after).cloned().collect());
        }
        let mut messages = self.log.read(&self.room, after, self.seq()).await?;
        let horizon = self.log.horizon();
        messages.retain(|said| said.at >= horizon);
        Ok(messages)
    }

    /// Adds the next message.
    pub fn push(&mut self, said: Said) {
        self.position.seq = said.seq;
        self.bytes += said.text.len();
        self.recent.push_back(said);
        while self.recent.len() > RECENT || self.bytes > RECENT_BYTES {
            let Some(oldest) = self.recent.pop_front() else { return };
            self.bytes -= oldest.text.len();
        }
    }

    /// Reads messages that are in the log and not yet here, up to `last`.
    ///
    /// # Errors
    /// [`Unavailable`](crate::log::Unavailable).
    pub async fn unseen(&self, last: u64) -> Answer<Vec<Said>> {
        self.log.read(&self.room, self.seq(), last).await
    }
}
// ANCHOR_END: since

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::embedded::Embedded;
    use crate::log::{Appended, Draft};
    use tokio::time::sleep;

    /// A room with so many messages, and its directory.
    async fn room(count: u64) -> (History, Arc<Embedded>, std::path::PathBuf) {
        let dir = std::env::temp_dir().join(Uuid::new_v4().to_string());
        let log = Arc::new(Embedded::open(&dir).unwrap());
        let history = fill(&log, count).await;
        (history, log, dir)
    }

    async fn load(log: &Arc<Embedded>, namespace: &'static str) -> History {
        let log = Arc::clone(log) as Arc<dyn Log>;
        History::load(log, RoomId { namespace, room: "rust".to_owned() }).await.unwrap()
    }

    async fn fill(log: &Arc<Embedded>, count: u64) -> History {
        let (room, from) = ("rust".to_owned(), "ada".to_owned());
        let mut answers = Vec::new();
        for n in 1..=count {
            let (room, from, text) = (room.clone(), from.clone(), n.to_string());
            answers.push(
                log.append(Draft { namespace: "", room, id: Uuid::new_v4(), from, text }).await,
            );
        }
        for (seq, answer) in (1..).zip(answers) {
            assert_eq!(answer.await.unwrap(), Ok(Appended::Stored(seq)));
        }
        load(log, "").await
    }

    fn at(history: &History, after: u64) -> Option<Cursor> {
        Some(Cursor { epoch: history.epoch(), after })
    }

    fn numbers(missed: &Missed) -> Vec<u64> {
        missed.messages.iter().map(|said| said.seq).collect()
    }

    #[tokio::test]
    async fn a_cursor_gets_everything_after_it_from_memory_or_from_the_log() {
        let (history, _log, dir) = room(700).await;
        for after in [0, 1, 187, 188, 189, 699, 700] {
            let missed = history.since(at(&history, after)).await.unwrap();
            assert_eq!(numbers(&missed), Vec::from_iter(after + 1..=700), "after {after}");
            assert_eq!((missed.seq, missed.gap), (700, false), "after {after}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn without_a_cursor_or_with_a_useless_one_come_the_last_fifty() {
        let (history, _log, dir) = room(60).await;
        let other = Some(Cursor { epoch: Uuid::new_v4(), after: 59 });
        for (cursor, gap) in [(None, false), (other, true), (at(&history, 61), true)] {
            let missed = history.since(cursor).await.unwrap();
            assert_eq!(numbers(&missed), Vec::from_iter(11..=60));
            assert_eq!((missed.seq, missed.gap), (60, gap));
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn what_fell_off_is_a_gap_and_the_oldest_kept_is_not() {
        let (history, _log, dir) = room(10_003).await;
        let missed = history.since(at(&history, 2)).await.unwrap();
        assert_eq!((missed.messages.len(), missed.gap), (50, true));
        let missed = history.since(at(&history, 3)).await.unwrap();
        assert_eq!((missed.messages.len(), missed.gap), (10_000, false));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn a_loaded_room_goes_on_where_it_was() {
        let (_, log, dir) = room(3).await;
        let history = load(&log, "").await;
        assert_eq!(history.seq(), 3);
        assert_eq!(numbers(&history.since(at(&history, 1)).await.unwrap()), [2, 3]);
        let empty = load(&log, "staff").await;
        let missed = empty.since(at(&history, 0)).await.unwrap();
        assert_eq!(missed, Missed { messages: vec![], seq: 0, gap: false });
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn what_is_too_old_is_not_shown_and_is_a_gap_for_who_has_not_seen_it() {
        let dir = std::env::temp_dir().join(Uuid::new_v4().to_string());
        let log = Arc::new(Embedded::open(&dir).unwrap().keep_for(Duration::from_secs(1)));
        let history = fill(&log, 600).await;
        assert_eq!(numbers(&history.since(at(&history, 598)).await.unwrap()), [599, 600]);
        sleep(Duration::from_millis(1100)).await;
        for (cursor, gap) in [(None, false), (at(&history, 5), true), (at(&history, 599), true)] {
            let missed = history.since(cursor).await.unwrap();
            assert_eq!(missed, Missed { messages: vec![], seq: 600, gap }, "{cursor:?}");
        }
        let up_to_date = history.since(at(&history, 600)).await.unwrap();
        assert_eq!(up_to_date, Missed { messages: vec![], seq: 600, gap: false });

        while !log.look(&history.room).await.unwrap().1.is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
        let again = load(&log, "").await;
        assert_eq!(again.seq(), 600);
        assert!(again.since(at(&history, 599)).await.unwrap().gap);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
// ANCHOR_END: all
