// ANCHOR: all
//! The live feed of a room: what a log tells the one task that has the room on this server.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use uuid::Uuid;

use crate::protocol::Said;
use crate::seats::shrink;

/// How much news may wait for a room. What finds no place is left out, and the room told so: it
/// reads it from the log.
const WAITING: usize = 1024;

/// How many messages are put together at most.
const TOGETHER: usize = 256;

// ANCHOR: news
/// What a feed brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Messages were stored, in this order, without a hole between them.
    Said {
        /// Which count their numbers belong to.
        epoch: Uuid,
        /// The id of the message before the first one, if the log tells: whoever has another message
        /// with that number has seen what the log has lost.
        before: Option<Uuid>,
        /// The messages.
        messages: Vec<Said>,
    },
    /// A user is in the room who was on no server before.
    Entered(String),
    /// A user is in the room on no server any more.
    Left(String),
    /// A user is typing.
    Typing(String),
    /// Something may be missing here: the log has it.
    Lost,
}
// ANCHOR_END: news

// ANCHOR: feed
/// The feed of one room. It ends when it is dropped.
pub struct Feed {
    desk: Arc<Desk>,
    /// Takes the feed off the list when it is dropped.
    _place: Box<dyn Send>,
}

/// Where news waits for a room. A channel would do the same, and keep three kilobytes ready in each of
/// many thousand rooms in which nobody speaks.
#[derive(Default)]
struct Desk {
    waiting: Mutex<Waiting>,
    came: Notify,
}

#[derive(Default)]
struct Waiting {
    news: VecDeque<News>,
    /// Something was left out.
    lost: bool,
}

impl Feed {
    /// News that has come, if there is any.
    pub fn waiting(&self) -> Option<News> {
        self.desk.take()
    }

    /// Waits for news. `select!` may drop this while it waits; then nothing is lost.
    pub async fn next(&mut self) -> News {
        loop {
            if let Some(news) = self.desk.take() {
                return news;
            }
            self.desk.came.notified().await;
        }
    }
}

impl Desk {
    fn take(&self) -> Option<News> {
        let mut waiting = self.lock();
        if waiting.lost {
            // Messages are in the log, with the ones that were left out. The rest a room can do without.
            *waiting = Waiting::default();
            return Some(News::Lost);
        }
        waiting.news.pop_front()
    }

    /// Adds news. Tells whether there was space for it.
    fn put(&self, news: News) -> bool {
        let mut waiting = self.lock();
        let has_space = waiting.news.len() < WAITING;
        if !has_space {
            waiting.lost = true;
        } else if let Some(news) = join(waiting.news.back_mut(), news) {
            waiting.news.push_back(news);
        }
        self.came.notify_one();
        has_space
    }

    fn lose(&self) {
        self.lock().lost = true;
        self.came.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds messages to the ones before them that wait still, so that all of them go out together. Gives
/// back what does not belong there.
fn join(last: Option<&mut News>, news: News) -> Option<News> {
    match (last, news) {
        (
            Some(News::Said { epoch, messages, .. }),
            News::Said { epoch: same, before, messages: next },
        ) if *epoch == same && messages.len() < TOGETHER && follow(messages, before, &next) => {
            messages.extend(next);
            None
        }
        (_, news) => Some(news),
    }
}

/// Whether messages come right after others.
fn follow(messages: &[Said], before: Option<Uuid>, next: &[Said]) -> bool {
    messages.last().zip(next.first()).is_some_and(|(last, next)| {
        last.seq + 1 == next.seq && before.is_none_or(|before| before == last.id)
    })
}
// ANCHOR_END: feed

// ANCHOR: feeds
/// All feeds of a server, by what their rooms are called where the news comes from.
pub struct Feeds<K>(Mutex<HashMap<K, Arc<Desk>>>);

/// A feed's place among them.
struct Place<K: Eq + Hash> {
    feeds: Arc<Feeds<K>>,
    key: K,
    desk: Arc<Desk>,
}

impl<K> Default for Feeds<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Feeds<K> {
    /// Begins a feed. One that has the key already gets nothing more.
    pub fn begin(self: &Arc<Self>, key: K) -> Feed {
        let desk = Arc::<Desk>::default();
        self.lock().insert(key.clone(), Arc::clone(&desk));
        let place = Place { feeds: Arc::clone(self), key, desk: Arc::clone(&desk) };
        Feed { desk, _place: Box::new(place) }
    }

    /// Writes news into a feed, if there is one with this key. Tells whether it had to be left out.
    pub fn write(&self, key: &K, news: News) -> bool {
        let desk = self.lock().get(key).cloned();
        desk.is_some_and(|desk| !desk.put(news))
    }

    /// Tells all rooms that something may be missing.
    pub fn lose(&self) {
        self.lock().values().for_each(|desk| desk.lose());
    }

    /// The keys of all feeds.
    pub fn keys(&self) -> Vec<K> {
        self.lock().keys().cloned().collect()
    }

    /// Whether there is a feed with this key.
    pub fn has(&self, key: &K) -> bool {
        self.lock().contains_key(key)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<Desk>>> {
        // As in the hub: a map that lost one update is better than a chat that has ended.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut feeds = self.feeds.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A task that has the room since may have begun the next one.
        if feeds.get(&self.key).is_some_and(|desk| Arc::ptr_eq(desk, &self.desk)) {
            feeds.remove(&self.key);
        }
        shrink(&mut feeds);
    }
}
// ANCHOR_END: feeds

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn typing(n: usize) -> News {
        News::Typing(n.to_string())
    }

    #[tokio::test]
    async fn a_feed_brings_what_is_written_in_this_order() {
        let feeds = Arc::new(Feeds::default());
        let mut feed = feeds.begin("rust");
        assert!(feed.next().now_or_never().is_none());
        assert!(!feeds.write(&"rust", typing(1)) && !feeds.write(&"rust", typing(2)));
        feeds.write(&"go", typing(3));
        assert_eq!((feed.next().await, feed.next().await), (typing(1), typing(2)));
        assert!(feed.next().now_or_never().is_none());
    }

    #[tokio::test]
    async fn what_finds_no_place_is_left_out_and_the_room_is_told() {
        let feeds = Arc::new(Feeds::default());
        let mut feed = feeds.begin("rust");
        let left_out = (0..WAITING + 2).filter(|n| feeds.write(&"rust", typing(*n))).count();
        assert_eq!(left_out, 2);
        assert_eq!(feed.next().await, News::Lost);
        feeds.write(&"rust", typing(5));
        assert_eq!(feed.next().await, typing(5));
        feeds.lose();
        assert_eq!(feed.next().await, News::Lost);
    }

    #[tokio::test]
    async fn messages_that_follow_each_other_come_together() {
        let feeds = Arc::new(Feeds::default());
        let (mut feed, epoch) = (feeds.begin("rust"), Uuid::new_v4());
        let ids: Vec<Uuid> = (0..4).map(|_| Uuid::new_v4()).collect();
        let said = |seq: usize, before: Option<Uuid>| News::Said {
            epoch,
            before,
            messages: vec![Said {
                room: "rust".to_owned(),
                seq: seq as u64,
                id: ids[seq],
                from: "ada".to_owned(),
                text: seq.to_string(),
                at: 0,
            }],
        };
        let other = Some(Uuid::new_v4());
        for news in [said(0, None), said(1, Some(ids[0])), said(2, other), said(3, Some(ids[2]))] {
            feeds.write(&"rust", news);
        }
        let mut seqs = Vec::new();
        while let Some(News::Said { messages, .. }) = feed.waiting() {
            seqs.push(messages.iter().map(|said| said.seq).collect::<Vec<_>>());
        }
        assert_eq!(seqs, [[0, 1], [2, 3]], "the one before 2 was another one");
        feeds.write(&"rust", typing(1));
        assert_eq!(feed.next().await, typing(1));
    }

    #[test]
    fn a_feed_that_has_ended_does_not_end_the_next_one() {
        let feeds = Arc::new(Feeds::default());
        let old = feeds.begin("rust");
        let new = feeds.begin("rust");
        drop(old);
        assert!(feeds.has(&"rust"));
        drop(new);
        assert!(feeds.keys().is_empty());
    }
}
// ANCHOR_END: all
