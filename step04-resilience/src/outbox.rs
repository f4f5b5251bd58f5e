// ANCHOR: all
//! What waits to be sent to one client: a queue that holds so many bytes for so long, and no more.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Sink, SinkExt};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use warp::ws::Message;

use crate::places::Moved;
use crate::protocol::{ErrorCode, ServerEvent, encode};

/// How much may wait for one client, in bytes: what a client that never reads costs the server.
const BUDGET: usize = 1024 * 1024;

/// What an event costs beside its bytes, so that a million empty ones are not free.
const OVERHEAD: usize = 256;

/// How long an event may wait until it is on its way.
const MAX_AGE: Duration = Duration::from_secs(10);

/// The slowest a client may be, in bytes a second: a history of megabytes gets more time.
const SLOWEST: f64 = 64.0 * 1024.0;

/// How many events go out together. One flush for many of them saves most of the system calls.
const BATCH: usize = 64;

// ANCHOR: letter
/// An event in the form in which it travels: made once, and shared by all who get it.
#[derive(Clone)]
pub struct Letter {
    /// Its JSON.
    pub message: Message,
    /// What it changes about how far its reader is.
    pub moved: Option<Arc<Moved>>,
    /// Which error it is, if it is one.
    pub error: Option<ErrorCode>,
}

impl From<&ServerEvent> for Letter {
    fn from(event: &ServerEvent) -> Self {
        let error = match event {
            ServerEvent::Error { code, .. } => Some(*code),
            _ => None,
        };
        let moved = Moved::by(event).map(Arc::new);
        Self { message: Message::text(encode(event)), moved, error }
    }
}

/// Why the server ends a connection, for the client to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close {
    /// 4000 to 4499: come back. 4500 to 4999: don't. Below, what the RFC says.
    pub code: u16,
    /// The same for people.
    pub reason: &'static str,
}

impl Close {
    /// The queue was full, or too old.
    pub const TOO_SLOW: Self = Self { code: 4008, reason: "too slow" };
    /// The same user has come back on another connection.
    pub const REPLACED: Self = Self { code: 4500, reason: "replaced by a newer connection" };
    /// The server is stopping.
    pub const RESTARTING: Self = Self { code: 1012, reason: "the server is restarting" };
}

/// What a queue holds.
pub enum Item {
    /// Something to tell.
    Event(Letter),
    /// "Are you there?"
    Ping,
    /// "Goodbye": the last item.
    Close(Close),
}

/// An item in the queue.
pub struct Waiting {
    item: Item,
    since: Instant,
    /// The part of the budget that it takes until it has been sent, or the turn.
    share: Option<OwnedSemaphorePermit>,
}
impl Waiting {
    /// The event, if it is one.
    pub fn into_letter(self) -> Option<Letter> {
        match self.item {
            Item::Event(letter) => Some(letter),
            Item::Ping | Item::Close(_) => None,
        }
    }
}
// ANCHOR_END: letter

// ANCHOR: outbox
/// The sending end of the queue. Whoever has something to tell the client holds a clone of it; the
/// queue ends when the last clone is dropped, or with a [`Close`].
#[derive(Clone)]
pub struct Outbox {
    queue: UnboundedSender<Waiting>,
    budget: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    overflow: CancellationToken,
}

/// The right to send a history: one at a time.
pub type Turn = OwnedSemaphorePermit;

impl Outbox {
    /// Makes a queue: the end to put events in, and the end to take them out.
    pub fn new() -> (Self, UnboundedReceiver<Waiting>) {
        let (queue, waiting) = mpsc::unbounded_channel();
        let (budget, turns) = (Arc::new(Semaphore::new(BUDGET)), Arc::new(Semaphore::new(1)));
        (Self { queue, budget, turns, overflow: CancellationToken::new() }, waiting)
    }

    // ANCHOR: push
    /// Puts an event into the queue, without ever waiting for the client.
    ///
    /// If the budget is spent, the client cannot keep up. To leave out one message would make a
    /// hole that nobody sees, so from here on it gets none, and [`Outbox::overflow`] is cancelled.
    pub fn push(&self, letter: Letter) {
        let cost = u32::try_from(letter.message.as_bytes().len() + OVERHEAD).unwrap_or(u32::MAX);
        match Arc::clone(&self.budget).try_acquire_many_owned(cost) {
            Ok(share) if !self.overflow.is_cancelled() => {
                self.put(Item::Event(letter), Some(share))
            }
            _ => self.overflow.cancel(),
        }
    }
    // ANCHOR_END: push

    // ANCHOR: calm
    /// Puts an event into the queue, or leaves it out if half of the budget is spent: who is typing
    /// matters less than what was said.
    pub fn push_if_calm(&self, letter: Letter) {
        if self.budget.available_permits() > BUDGET / 2 {
            self.push(letter);
        }
    }
    // ANCHOR_END: calm

    /// Puts an event for this client alone into the queue.
    pub fn tell(&self, event: impl Into<ServerEvent>) {
        self.push((&event.into()).into());
    }

    /// Waits until no history is on its way to this client.
    pub async fn turn(&self) -> Option<Turn> {
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }

    /// Puts a history into the queue. It costs nothing: it may be larger than the whole budget, and
    /// the client has asked for it, which it can't do again before this one is sent.
    pub fn push_history(&self, letter: Letter, turn: Option<Turn>) {
        if !self.overflow.is_cancelled() {
            self.put(Item::Event(letter), turn);
        }
    }

    /// Asks whether the client is there.
    pub fn ping(&self) {
        self.put(Item::Ping, None);
    }

    /// Puts the goodbye behind everything else. It always fits.
    pub fn close(&self, close: Close) {
        self.put(Item::Close(close), None);
    }

    fn put(&self, item: Item, share: Option<OwnedSemaphorePermit>) {
        // This fails only when nobody takes anything out any more: the connection is gone.
        let _ = self.queue.send(Waiting { item, since: Instant::now(), share });
    }

    /// Cancelled when an event did not fit, or has waited for too long.
    pub fn overflow(&self) -> CancellationToken {
        self.overflow.clone()
    }

    /// Whether everything has been sent.
    pub fn is_idle(&self) -> bool {
        self.budget.available_permits() == BUDGET && self.turns.available_permits() == 1
    }
}
// ANCHOR_END: outbox

// ANCHOR: deliver
/// Takes everything out of a queue and puts it into a socket or a stream, until either ends.
/// Cancels `overflow` if that takes too long, and goes on: the goodbye may still get through.
pub async fn deliver(
    mut waiting: UnboundedReceiver<Waiting>,
    mut sink: impl Sink<Item> + Unpin,
    overflow: CancellationToken,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        let is_last = batch.iter().any(|waiting| matches!(waiting.item, Item::Close(_)));
        let deadline = deadline(&batch);
        let mut sending = Box::pin(send(&mut sink, batch.drain(..)));
        let sent = match timeout_at(deadline, &mut sending).await {
            Ok(sent) => sent,
            Err(_elapsed) => {
                overflow.cancel();
                sending.await
            }
        };
        if sent.is_err() || is_last {
            return;
        }
    }
}

/// Sends a batch. The shares are given back when all of it has been sent.
async fn send<S: Sink<Item> + Unpin>(
    sink: &mut S,
    batch: impl Iterator<Item = Waiting>,
) -> Result<(), S::Error> {
    let mut shares = Vec::new();
    for Waiting { item, share, .. } in batch {
        shares.push(share);
        sink.feed(item).await?;
    }
    sink.flush().await
}

// ANCHOR: age
/// When a batch has to be on its way.
fn deadline(batch: &[Waiting]) -> Instant {
    let size: usize = batch.iter().map(|waiting| waiting.item.len()).sum();
    let oldest = batch.first().map_or_else(Instant::now, |waiting| waiting.since);
    oldest + MAX_AGE + Duration::from_secs_f64(size as f64 / SLOWEST)
}
// ANCHOR_END: age

impl Item {
    fn len(&self) -> usize {
        match self {
            Self::Event(letter) => letter.message.as_bytes().len(),
            Self::Ping | Self::Close(_) => 0,
        }
    }
}
// ANCHOR_END: deliver

#[cfg(test)]
mod tests {
    use futures_util::sink;

    use super::*;

    fn letter(length: usize) -> Letter {
        Letter { message: Message::text("x".repeat(length)), moved: None, error: None }
    }

    fn next(waiting: &mut UnboundedReceiver<Waiting>) -> Option<Item> {
        waiting.try_recv().ok().map(|waiting| waiting.item)
    }

    #[test]
    fn a_full_queue_takes_no_more_events_but_one_goodbye() {
        let (outbox, mut waiting) = Outbox::new();
        outbox.push(letter(BUDGET / 2));
        outbox.push(letter(BUDGET / 2));
        assert!(outbox.overflow().is_cancelled());
        outbox.push(letter(1));
        outbox.close(Close::TOO_SLOW);

        assert_eq!(next(&mut waiting).map(|item| item.len()), Some(BUDGET / 2));
        assert!(matches!(next(&mut waiting), Some(Item::Close(Close::TOO_SLOW))));
        assert!(next(&mut waiting).is_none());
    }

    #[test]
    fn an_event_that_was_sent_gives_its_share_back() {
        let (outbox, mut waiting) = Outbox::new();
        for _ in 0..100 {
            outbox.push(letter(BUDGET / 2));
            assert!(!outbox.is_idle());
            drop(waiting.try_recv().unwrap());
        }
        assert!(!outbox.overflow().is_cancelled());
        assert!(outbox.is_idle());
    }

    #[test]
    fn typing_is_left_out_long_before_a_message_is() {
        let (outbox, mut waiting) = Outbox::new();
        outbox.push(letter(BUDGET * 2 / 3));
        outbox.push_if_calm(letter(1));
        outbox.push(letter(2));
        assert!(!outbox.overflow().is_cancelled());
        assert_eq!(next(&mut waiting).map(|item| item.len()), Some(BUDGET * 2 / 3));
        assert_eq!(next(&mut waiting).map(|item| item.len()), Some(2));
        assert!(next(&mut waiting).is_none());
    }

    #[tokio::test]
    async fn a_history_may_be_larger_than_the_budget_but_there_is_one_at_a_time() {
        let (outbox, mut waiting) = Outbox::new();
        let turn = outbox.turn().await;
        outbox.push_history(letter(2 * BUDGET), turn);
        outbox.push(letter(1));
        assert!(!outbox.overflow().is_cancelled());
        let mut next_turn = Box::pin(outbox.turn());
        assert!(futures_util::poll!(&mut next_turn).is_pending());
        drop(waiting.recv().await);
        assert!(next_turn.await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_too_long_is_an_overflow() {
        let (outbox, waiting) = Outbox::new();
        let stuck = sink::unfold((), |(), _item: Item| std::future::pending::<Result<(), ()>>());
        let began = Instant::now();
        tokio::spawn(deliver(waiting, Box::pin(stuck), outbox.overflow()));
        outbox.push(letter(1));
        outbox.overflow().cancelled().await;
        let age = began.elapsed();
        assert!(age >= MAX_AGE && age < MAX_AGE + Duration::from_secs(1), "{age:?}");
    }
}
// ANCHOR_END: all
