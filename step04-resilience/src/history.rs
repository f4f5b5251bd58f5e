// ANCHOR: all
//! What a room remembers: the last messages in memory, the ones before in the log.

use std::collections::VecDeque;

use crate::log::{Answer, Log};
use crate::protocol::{Cursor, Said};
use crate::store::KEPT;

/// How many messages a newcomer gets to see.
const SHOWN: usize = 50;

/// How many messages stay in memory. Who has missed fewer than that does not trouble the disk, and
/// after a restart that is nearly everyone.
const RECENT: usize = 512;

/// The messages of one room. Only what was stored gets in here.
pub struct History {
    log: Log,
    namespace: &'static str,
    room: String,
    /// The number of the last message.
    seq: u64,
    /// The last messages, without a hole.
    recent: VecDeque<Said>,
}

/// What somebody who joins has missed.
#[derive(Debug, PartialEq, Eq)]
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
    pub async fn load(log: Log, namespace: &'static str, room: &str) -> Answer<Self> {
        let recent: VecDeque<Said> = log.tail(namespace, room).await?.into();
        let seq = recent.back().map_or(0, |said| said.seq);
        Ok(Self { log, namespace, room: room.to_owned(), seq, recent })
    }

    /// The number of the last message.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    // ANCHOR: cursor
    /// What came after a cursor. Never only a part of it: it is all, or the last ones and a gap.
    ///
    /// # Errors
    /// [`Unavailable`](crate::log::Unavailable), if only the log knows and it can't be read.
    pub async fn since(&self, cursor: Option<Cursor>) -> Answer<Missed> {
        let Some(Cursor { epoch, after }) = cursor else { return Ok(self.last(false)) };
        let other_count = epoch != self.log.epoch();
        let too_far = after > self.seq;
        let too_old = after < self.seq.saturating_sub(KEPT);
        if other_count || too_far || too_old {
            return Ok(self.last(true));
        }
        let messages = self.after(after).await?;
        let seq = messages.last().map_or(after, |said| said.seq);
        let is_whole = messages.iter().map(|said| said.seq).eq(after + 1..=seq);
        let is_end = seq == self.seq || !messages.is_empty();
        if is_whole && is_end {
            Ok(Missed { messages, seq, gap: false })
        } else {
            // Somebody has deleted messages from the file.
            Ok(self.last(true))
        }
    }
    // ANCHOR_END: cursor

    /// The last messages, for who has no cursor or one that is of no use.
    fn last(&self, gap: bool) -> Missed {
        let skipped = self.recent.len().saturating_sub(SHOWN);
        let messages = self.recent.iter().skip(skipped).cloned().collect();
        Missed { messages, seq: self.seq, gap }
    }

    /// All messages after this number or, if that is too much for once, the first of them.
    ///
    /// # Errors
    /// [`Unavailable`](crate::log::Unavailable).
    pub async fn after(&self, after: u64) -> Answer<Vec<Said>> {
        let in_memory = self.recent.front().is_none_or(|oldest| oldest.seq <= after + 1);
        if in_memory {
            return Ok(self.recent.iter().filter(|said| said.seq > after).cloned().collect());
        }
        self.log.read(self.namespace, &self.room, after, self.seq).await
    }

    /// Adds the next message.
    pub fn push(&mut self, said: Said) {
        self.seq = said.seq;
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(said);
    }

    /// Reads messages that are in the log and not yet here, up to `last`.
    ///
    /// # Errors
    /// [`Unavailable`](crate::log::Unavailable).
    pub async fn unseen(&self, last: u64) -> Answer<Vec<Said>> {
        self.log.read(self.namespace, &self.room, self.seq, last).await
    }
}
// ANCHOR_END: since

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::store::{Appended, Draft};

    /// A room with so many messages, and its directory.
    async fn room(count: u64) -> (History, Log, std::path::PathBuf) {
        let dir = std::env::temp_dir().join(Uuid::new_v4().to_string());
        let log = Log::open(&dir).unwrap();
        let mut history = History::load(log.clone(), "", "rust").await.unwrap();
        let (room, from) = ("rust".to_owned(), "ada".to_owned());
        let mut answers = Vec::new();
        for n in 1..=count {
            let (room, from, text) = (room.clone(), from.clone(), n.to_string());
            answers.push(
                log.append(Draft { namespace: "", room, id: Uuid::new_v4(), from, text }).await,
            );
        }
        for answer in answers {
            let Appended::Stored(said) = answer.await.unwrap().unwrap() else { panic!() };
            history.push(said);
        }
        (history, log, dir)
    }

    fn at(log: &Log, after: u64) -> Option<Cursor> {
        Some(Cursor { epoch: log.epoch(), after })
    }

    fn numbers(missed: &Missed) -> Vec<u64> {
        missed.messages.iter().map(|said| said.seq).collect()
    }

    #[tokio::test]
    async fn a_cursor_gets_everything_after_it_from_memory_or_from_the_log() {
        let (history, log, dir) = room(700).await;
        for after in [0, 1, 187, 188, 189, 699, 700] {
            let missed = history.since(at(&log, after)).await.unwrap();
            assert_eq!(numbers(&missed), Vec::from_iter(after + 1..=700), "after {after}");
            assert_eq!((missed.seq, missed.gap), (700, false), "after {after}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn without_a_cursor_or_with_a_useless_one_come_the_last_fifty() {
        let (history, log, dir) = room(60).await;
        let other = Some(Cursor { epoch: Uuid::new_v4(), after: 59 });
        for (cursor, gap) in [(None, false), (other, true), (at(&log, 61), true)] {
            let missed = history.since(cursor).await.unwrap();
            assert_eq!(numbers(&missed), Vec::from_iter(11..=60));
            assert_eq!((missed.seq, missed.gap), (60, gap));
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn what_fell_off_is_a_gap_and_the_oldest_kept_is_not() {
        let (history, log, dir) = room(10_003).await;
        let missed = history.since(at(&log, 2)).await.unwrap();
        assert_eq!((missed.messages.len(), missed.gap), (50, true));
        let missed = history.since(at(&log, 3)).await.unwrap();
        assert_eq!((missed.messages.len(), missed.gap), (10_000, false));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn a_loaded_room_goes_on_where_it_was() {
        let (_, log, dir) = room(3).await;
        let history = History::load(log.clone(), "", "rust").await.unwrap();
        assert_eq!(history.seq(), 3);
        assert_eq!(numbers(&history.since(at(&log, 1)).await.unwrap()), [2, 3]);
        let empty = History::load(log.clone(), "staff", "rust").await.unwrap();
        let missed = empty.since(at(&log, 0)).await.unwrap();
        assert_eq!(missed, Missed { messages: vec![], seq: 0, gap: false });
        std::fs::remove_dir_all(dir).unwrap();
    }
}
// ANCHOR_END: all
