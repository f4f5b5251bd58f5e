//! What waits to be sent to one client: a queue that holds so many bytes and no more.

use std::sync::Arc;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use warp::ws::Message;

use crate::protocol::{ServerEvent, encode};

/// How much may wait for one client, in bytes: what a client that never reads costs the server.
const BUDGET: usize = 1024 * 1024;

/// What a message costs beside its bytes, so that a million empty ones are not free.
const OVERHEAD: usize = 256;

/// A message in the queue, with the part of the budget that it takes until it has been sent.
pub type Waiting = (Message, OwnedSemaphorePermit);

/// The sending end of the queue. Whoever has something to tell the client holds a clone of it; the
/// queue ends when the last clone is dropped.
#[derive(Clone)]
pub struct Outbox {
    queue: UnboundedSender<Waiting>,
    budget: Arc<Semaphore>,
    overflow: CancellationToken,
}

impl Outbox {
    /// Makes a queue: the end to put messages in, and the end to take them out.
    pub fn new() -> (Self, UnboundedReceiver<Waiting>) {
        let (queue, waiting) = mpsc::unbounded_channel();
        let budget = Arc::new(Semaphore::new(BUDGET));
        (Self { queue, budget, overflow: CancellationToken::new() }, waiting)
    }

    /// Puts a message into the queue, without ever waiting for the client.
    ///
    /// If the budget is spent, the client cannot keep up. To leave out one message would make a
    /// hole that nobody sees, so from here on it gets none, and [`Outbox::overflow`] is cancelled.
    pub fn push(&self, message: Message) {
        let cost = u32::try_from(message.as_bytes().len() + OVERHEAD).unwrap_or(u32::MAX);
        match Arc::clone(&self.budget).try_acquire_many_owned(cost) {
            Ok(share) if !self.overflow.is_cancelled() => self.put((message, share)),
            _ => self.overflow.cancel(),
        }
    }

    /// Puts an event for this client alone into the queue.
    pub fn tell(&self, event: impl Into<ServerEvent>) {
        self.push(encode(&event.into()));
    }

    /// Puts the close frame behind everything else. It costs nothing, so it always fits.
    pub fn close(&self, frame: Message) {
        if let Ok(nothing) = Arc::clone(&self.budget).try_acquire_many_owned(0) {
            self.put((frame, nothing));
        }
    }

    fn put(&self, waiting: Waiting) {
        // This fails only when the writer has ended, and then the socket is gone as well.
        let _ = self.queue.send(waiting);
    }

    /// Cancelled when a message did not fit.
    pub fn overflow(&self) -> CancellationToken {
        self.overflow.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_takes_no_more_messages_but_one_close_frame() {
        let (outbox, mut waiting) = Outbox::new();
        let long = "x".repeat(BUDGET / 2);
        outbox.push(Message::text(&long));
        outbox.push(Message::text(&long));
        assert!(outbox.overflow().is_cancelled());
        outbox.push(Message::text("small"));
        outbox.close(Message::close());

        assert_eq!(waiting.try_recv().unwrap().0, Message::text(long));
        assert_eq!(waiting.try_recv().unwrap().0, Message::close());
        assert!(waiting.try_recv().is_err());
    }

    #[test]
    fn a_message_that_was_sent_gives_its_share_back() {
        let (outbox, mut waiting) = Outbox::new();
        for _ in 0..100 {
            outbox.push(Message::text("x".repeat(BUDGET / 2)));
            drop(waiting.try_recv().unwrap());
        }
        assert!(!outbox.overflow().is_cancelled());
    }
}
