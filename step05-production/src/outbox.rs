// ANCHOR: all
//! What is sent to one client: written at once where its socket takes it, and otherwise in a queue
//! that holds so many bytes for so long, and no more.

use std::collections::VecDeque;
use std::future::pending;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::net::TcpStream;
use tokio::select;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::letter::{self, Batch, Letter};
use crate::protocol::ServerEvent;
use crate::telemetry;

/// How much may wait for one client, in bytes: what a client that never reads costs the server.
const BUDGET: usize = 1024 * 1024;

/// What an event costs beside its bytes, so that a million empty ones are not free.
const OVERHEAD: usize = 256;

/// How long an event may wait until it is on its way.
const MAX_AGE: Duration = Duration::from_secs(10);

/// The slowest a client may be, in bytes a second: a history of megabytes gets more time, and so
/// does what stands behind it.
const SLOWEST: f64 = 64.0 * 1024.0;

/// How many queued items are written with one call to the system.
const BATCH: usize = 64;

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
    /// It went on sending more than anybody may.
    pub const FLOODING: Self = Self { code: 4029, reason: "too much at once" };
    /// The same client has come back on another connection.
    pub const REPLACED: Self = Self { code: 4500, reason: "replaced by a newer connection" };
    /// Its session was signed out, or has ended.
    pub const SIGNED_OUT: Self = Self { code: 4501, reason: "sign in again" };
    /// It can't go on here, and shall come back.
    pub const LATER: Self = Self { code: 1013, reason: "come back" };
    /// The server is stopping.
    pub const RESTARTING: Self = Self { code: 1012, reason: "the server is restarting" };
}

// ANCHOR: outbox
/// The way to one client. Whoever has something to tell it holds a clone of this.
#[derive(Clone)]
pub struct Outbox(Arc<Inner>);

struct Inner {
    wire: Wire,
    queue: Mutex<Queue>,
    /// Tells whoever empties the queue that there is something to do.
    news: Notify,
    turns: Arc<Semaphore>,
}

/// What the client is connected by.
enum Wire {
    /// A WebSocket. Everybody may write to it, in turns: who holds the queue's lock has the turn.
    Socket(TcpStream),
    /// A stream of server-sent events. Somebody takes the items out one by one.
    Stream,
    /// A request that waits for one answer.
    Answer(Mutex<Option<oneshot::Sender<Letter>>>),
}

/// What could not be sent at once.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// How many bytes wait.
    length: usize,
    /// How much of the budget they take.
    spent: usize,
    state: State,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// Something did not fit, so nothing more is taken: a hole that nobody sees would be worse.
    Overflowed,
    /// The goodbye is in the queue, or was sent: nothing comes behind it.
    Closed,
}

/// An item in the queue.
struct Waiting {
    item: Item,
    /// What it takes of the budget until it has been sent.
    cost: usize,
    /// When it has to be on its way.
    deadline: Instant,
    /// The right to send a history, given back when this has been sent.
    _turn: Option<Turn>,
}

/// What a queue holds.
pub enum Item {
    /// Frames for a WebSocket: whole ones, or what is left of them.
    Frames(Bytes),
    /// Something to tell by a stream.
    Event(Letter),
    /// "Goodbye": the last item of a stream.
    Close(Close),
}

/// The right to send a history: one at a time.
pub type Turn = OwnedSemaphorePermit;

/// Why there is nothing more to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client does not read what it is sent.
    TooSlow,
    /// The goodbye is on its way.
    Said,
    /// The connection is gone.
    Gone,
}
// ANCHOR_END: outbox

impl Outbox {
    /// The way to a client with a WebSocket. [`Outbox::write`] has to run beside it.
    pub fn for_socket(socket: TcpStream) -> Self {
        Self::new(Wire::Socket(socket))
    }

    /// The way to a client with a stream, which takes what there is with [`Outbox::next`].
    pub fn for_stream() -> Self {
        Self::new(Wire::Stream)
    }

    /// The way to a request, and where its answer comes: nothing, if nobody holds the way any more.
    pub fn for_answer() -> (Self, oneshot::Receiver<Letter>) {
        let (sender, answer) = oneshot::channel();
        (Self::new(Wire::Answer(Mutex::new(Some(sender)))), answer)
    }

    fn new(wire: Wire) -> Self {
        let (queue, news, turns) = (Mutex::default(), Notify::new(), Arc::new(Semaphore::new(1)));
        Self(Arc::new(Inner { wire, queue, news, turns }))
    }

    /// The socket, to read from; `None` if it is a stream.
    pub fn socket(&self) -> Option<&TcpStream> {
        match &self.0.wire {
            Wire::Socket(socket) => Some(socket),
            Wire::Stream | Wire::Answer(_) => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        lock(&self.0.queue)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // As in the hub: nothing below panics, and one lost item is better than a chat that has ended.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// ANCHOR: push
impl Outbox {
    /// Sends a batch, without ever waiting for the client.
    ///
    /// Whoever calls this writes to the client's socket by itself. The other way, a queue and a
    /// task for each client as in milestone 4, wakes one task for each message and client, and
    /// those wake-ups cost more than the writing. What the socket does not take now waits in the
    /// queue. Without the call of `write_now` everything would wait there: that is the simpler
    /// way, and it loses nothing but speed.
    pub fn push(&self, batch: &Batch) {
        if let Wire::Answer(sender) = &self.0.wire {
            return answer(sender, batch);
        }
        let mut queue = self.lock();
        if queue.state != State::Open {
            return;
        }
        match self.write_now(&queue, batch.frames()) {
            Ok(written) if written == batch.frames().len() => {}
            Ok(written) => self.queue_rest(&mut queue, batch, written),
            // The reading side meets the same error, and ends the connection.
            Err(_broken) => {}
        }
    }

    /// Writes as much as the socket takes. Nothing overtakes what waits already.
    fn write_now(&self, queue: &Queue, frames: &Bytes) -> io::Result<usize> {
        match self.socket() {
            Some(socket) if queue.waiting.is_empty() => or_nothing(socket.try_write(frames)),
            _ => Ok(0),
        }
    }

    /// Queues what has not been written of a batch, if it fits.
    fn queue_rest(&self, queue: &mut Queue, batch: &Batch, written: usize) {
        let cost = batch.frames().len() - written + OVERHEAD * batch.letters().len();
        if queue.spent + cost > BUDGET {
            queue.state = State::Overflowed;
        } else if self.socket().is_some() {
            queue.put(Item::Frames(batch.frames().slice(written..)), cost, None);
        } else {
            let each = cost / batch.letters().len().max(1);
            batch.letters().iter().for_each(|it| queue.put(Item::Event(it.clone()), each, None));
        }
        self.0.news.notify_one();
    }
}

/// Gives a request its answer: the first letter, if it has none yet.
fn answer(sender: &Mutex<Option<oneshot::Sender<Letter>>>, batch: &Batch) {
    let sender = lock(sender).take();
    if let (Some(sender), Some(letter)) = (sender, batch.letters().first()) {
        // Nobody waits if the request was given up.
        let _ = sender.send(letter.clone());
    }
}

/// What a socket took: nothing, if it has no room at present.
fn or_nothing(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}
// ANCHOR_END: push

// ANCHOR: tell
impl Outbox {
    /// Sends a batch, or leaves it out if half of the budget is spent: who is typing matters less
    /// than what was said.
    pub fn push_if_calm(&self, batch: &Batch) {
        if self.lock().spent <= BUDGET / 2 {
            self.push(batch);
        }
    }

    /// Sends an event for this client alone.
    pub fn tell(&self, event: impl Into<ServerEvent>) {
        self.push(&Letter::from(&event.into()).into());
    }

    /// Waits until no history is on its way to this client.
    pub async fn turn(&self) -> Option<Turn> {
        Arc::clone(&self.0.turns).acquire_owned().await.ok()
    }

    /// Sends a history. It costs nothing of the budget: it may be larger than all of it, and the
    /// client has asked for it, which it can't do again before this one is sent.
    pub fn push_history(&self, letter: Letter, turn: Option<Turn>) {
        let mut queue = self.lock();
        if queue.state == State::Open {
            let item = match self.0.wire {
                Wire::Socket(_) => Item::Frames(letter.frame().clone()),
                Wire::Stream | Wire::Answer(_) => Item::Event(letter),
            };
            queue.put(item, 0, turn);
            self.0.news.notify_one();
        }
    }

    /// Sends what the WebSocket library has to say: pongs, and its answer to a close frame.
    pub fn control(&self, frame: &[u8]) {
        let mut queue = self.lock();
        let cost = frame.len() + OVERHEAD;
        if queue.state == State::Open && queue.spent + cost <= BUDGET {
            queue.put(Item::Frames(Bytes::copy_from_slice(frame)), cost, None);
            self.0.news.notify_one();
        }
    }

    /// Asks whether the client is there. (A stream asks by itself.)
    pub fn ping(&self) {
        self.control(&letter::ping());
    }

    /// Puts the goodbye behind everything else. It always fits, and nothing comes after it.
    pub fn close(&self, close: Close) {
        let item = match self.0.wire {
            Wire::Socket(_) => Item::Frames(letter::goodbye(close)),
            Wire::Stream | Wire::Answer(_) => Item::Close(close),
        };
        self.seal(Some(item));
    }

    /// Takes nothing more. What waits is still sent.
    pub fn seal(&self, last: Option<Item>) {
        let mut queue = self.lock();
        if queue.state != State::Closed {
            queue.state = State::Closed;
            last.into_iter().for_each(|item| queue.put(item, 0, None));
        }
        self.0.news.notify_one();
    }

    /// Whether everything has been handed to the system.
    pub fn is_idle(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// How much waits, in bytes.
    pub fn backlog(&self) -> usize {
        self.lock().length
    }
}
// ANCHOR_END: tell

// ANCHOR: queue
impl Queue {
    fn put(&mut self, item: Item, cost: usize, turn: Option<Turn>) {
        self.length += item.len();
        self.spent += cost;
        telemetry::queued(item.len() as f64);
        let time = Duration::from_secs_f64(self.length as f64 / SLOWEST);
        let deadline = Instant::now() + MAX_AGE + time;
        self.waiting.push_back(Waiting { item, cost, deadline, _turn: turn });
    }

    /// Takes the first item out. Its share of the budget, and its turn, are free again.
    fn take(&mut self) -> Option<Item> {
        let Waiting { item, cost, .. } = self.waiting.pop_front()?;
        self.length -= item.len();
        self.spent -= cost;
        telemetry::queued(-(item.len() as f64));
        Some(item)
    }

    /// Takes out what has been written: whole items, and the beginning of the next one.
    fn wrote(&mut self, mut written: usize) {
        while let Some(Waiting { item: Item::Frames(frames), .. }) = self.waiting.front_mut() {
            let part = written.min(frames.len());
            frames.advance(part);
            written -= part;
            self.length -= part;
            telemetry::queued(-(part as f64));
            if !frames.is_empty() {
                return;
            }
            self.take();
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // What was never sent waits no more.
        if self.length > 0 {
            telemetry::queued(-(self.length as f64));
        }
    }
}

impl Item {
    fn frames(&self) -> Option<&Bytes> {
        match self {
            Self::Frames(frames) => Some(frames),
            Self::Event(_) | Self::Close(_) => None,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Frames(frames) => frames.len(),
            Self::Event(letter) => letter.json().len(),
            Self::Close(_) => 0,
        }
    }
}
// ANCHOR_END: queue

// ANCHOR: write
/// What is to be done about a queue.
enum Due {
    Nothing,
    /// Something waits, and has to be on its way by then.
    Something(Instant),
    End(End),
}

impl Outbox {
    /// Writes to the socket what waits, as soon as the socket takes it. The result says why there
    /// is nothing more to write.
    pub async fn write(&self) -> End {
        let Some(socket) = self.socket() else { return pending().await };
        loop {
            match self.due() {
                Due::Nothing => self.0.news.notified().await,
                Due::Something(deadline) => select! {
                    writable = timeout_at(deadline, socket.writable()) => match writable {
                        Ok(Ok(())) if self.write_waiting(socket).is_ok() => {}
                        Ok(_broken) => return End::Gone,
                        Err(_elapsed) => return End::TooSlow,
                    },
                    () = self.overflowed() => {}
                },
                Due::End(end) => return end,
            }
        }
    }

    fn due(&self) -> Due {
        let queue = self.lock();
        match (queue.state, queue.waiting.front()) {
            (State::Overflowed, _) => Due::End(End::TooSlow),
            (State::Open, None) => Due::Nothing,
            (State::Open, Some(first)) => Due::Something(first.deadline),
            (State::Closed, None) => Due::End(End::Said),
            // The last chance: how long it lasts is up to whoever has said goodbye.
            (State::Closed, Some(_)) => Due::Something(Instant::now() + MAX_AGE),
        }
    }

    /// Writes as much as the socket takes, many frames with one call to the system.
    fn write_waiting(&self, socket: &TcpStream) -> io::Result<()> {
        let mut queue = self.lock();
        loop {
            let first =
                queue.waiting.iter().take(BATCH).filter_map(|waiting| waiting.item.frames());
            let slices: Vec<IoSlice> = first.map(|frames| IoSlice::new(frames)).collect();
            if slices.is_empty() {
                return Ok(());
            }
            match or_nothing(socket.try_write_vectored(&slices))? {
                0 => return Ok(()),
                written => queue.wrote(written),
            }
        }
    }

    /// Waits for the next item of a stream, which has to be on its way by the time beside it.
    ///
    /// # Errors
    /// There is no next one, for this reason.
    pub async fn next(&self) -> Result<(Item, Instant), End> {
        loop {
            match self.due() {
                Due::Nothing => self.0.news.notified().await,
                Due::Something(deadline) => {
                    return self.lock().take().map(|item| (item, deadline)).ok_or(End::Gone);
                }
                Due::End(end) => return Err(end),
            }
        }
    }

    /// Waits until something does not fit.
    pub async fn overflowed(&self) {
        while self.lock().state != State::Overflowed {
            self.0.news.notified().await;
        }
    }
}
// ANCHOR_END: write

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::protocol::RoomInfo;

    /// An event of about so many bytes.
    fn letter(length: usize) -> Letter {
        let rooms = vec![RoomInfo { name: "x".repeat(length), members: 1 }];
        (&ServerEvent::Rooms { rooms }).into()
    }

    fn batch(length: usize) -> Batch {
        letter(length).into()
    }

    /// A socket of the server, and its client.
    async fn sockets() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0, client)
    }

    #[tokio::test]
    async fn a_client_that_reads_gets_everything_in_order() {
        let (server, mut client) = sockets().await;
        let outbox = Outbox::for_socket(server);
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            client.read_to_end(&mut all).await.map(|_| all)
        });
        let mut expected = Vec::new();
        for length in 0..2000 {
            while outbox.backlog() > BUDGET / 4 {
                outbox.write_waiting(outbox.socket().unwrap()).unwrap();
                tokio::task::yield_now().await;
            }
            let batch = batch(length);
            expected.extend_from_slice(batch.frames());
            outbox.push(&batch);
        }
        outbox.close(Close::RESTARTING);
        outbox.push(&batch(1));
        expected.extend_from_slice(&letter::goodbye(Close::RESTARTING));
        assert_eq!(outbox.write().await, End::Said);
        drop(outbox);
        assert_eq!(reading.await.unwrap().unwrap(), expected);
    }

    #[tokio::test]
    async fn a_full_queue_takes_no_more_events_but_one_goodbye() {
        let outbox = Outbox::for_stream();
        outbox.push(&batch(BUDGET / 2));
        outbox.push(&batch(BUDGET / 2));
        outbox.push(&batch(1));
        outbox.overflowed().await;
        outbox.close(Close::TOO_SLOW);
        let first = outbox.next().await.map(|(item, _)| item.len());
        assert!(first.is_ok_and(|length| length > BUDGET / 2));
        assert!(matches!(outbox.next().await, Ok((Item::Close(Close::TOO_SLOW), _))));
        assert_eq!(outbox.next().await.err(), Some(End::Said));
    }

    #[tokio::test]
    async fn an_event_that_was_sent_gives_its_share_back() {
        let outbox = Outbox::for_stream();
        for _ in 0..100 {
            outbox.push(&batch(BUDGET / 2));
            assert!(!outbox.is_idle());
            assert!(outbox.next().await.is_ok());
        }
        assert!(outbox.is_idle());
        assert!(futures_util::poll!(Box::pin(outbox.overflowed())).is_pending());
    }

    #[tokio::test]
    async fn typing_is_left_out_long_before_a_message_is() {
        let outbox = Outbox::for_stream();
        outbox.push(&batch(BUDGET * 2 / 3));
        outbox.push_if_calm(&batch(1));
        outbox.push(&batch(200));
        assert!(outbox.next().await.is_ok_and(|(item, _)| item.len() > BUDGET / 2));
        assert!(outbox.next().await.is_ok_and(|(item, _)| item.len() > 200));
        assert!(outbox.is_idle());
    }

    #[tokio::test]
    async fn a_history_may_be_larger_than_the_budget_but_there_is_one_at_a_time() {
        let outbox = Outbox::for_stream();
        let turn = outbox.turn().await;
        outbox.push_history(letter(2 * BUDGET), turn);
        outbox.push(&batch(1));
        assert!(futures_util::poll!(Box::pin(outbox.overflowed())).is_pending());
        let mut next_turn = Box::pin(outbox.turn());
        assert!(futures_util::poll!(&mut next_turn).is_pending());
        drop(outbox.next().await);
        assert!(next_turn.await.is_some());
    }

    #[tokio::test]
    async fn a_request_gets_its_first_answer_or_learns_that_there_is_none() {
        let (outbox, answer) = Outbox::for_answer();
        outbox.push(&batch(1));
        outbox.push(&batch(2));
        assert!(answer.await.is_ok_and(|letter| letter.json().contains("\"x\"")));
        let (outbox, answer) = Outbox::for_answer();
        drop(outbox);
        assert!(answer.await.is_err());
    }

    #[tokio::test]
    async fn who_reads_nothing_is_too_slow_as_soon_as_the_queue_is_full() {
        let (server, _client) = sockets().await;
        let outbox = Outbox::for_socket(server);
        let began = Instant::now();
        let writing = tokio::spawn({
            let outbox = outbox.clone();
            async move { outbox.write().await }
        });
        while !writing.is_finished() {
            outbox.push(&batch(BUDGET / 16));
            tokio::task::yield_now().await;
            assert!(began.elapsed() < MAX_AGE, "only because of its age");
        }
        assert_eq!(writing.await.unwrap(), End::TooSlow);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_too_long_is_too_slow_and_a_long_history_has_more_time() {
        let (server, _client) = sockets().await;
        let outbox = Outbox::for_socket(server);
        outbox.push_history(letter(64 * BUDGET), None);
        let began = Instant::now();
        assert_eq!(outbox.write().await, End::TooSlow);
        let waited = began.elapsed();
        assert!(waited > Duration::from_secs(1000), "{waited:?}");
        let (server, _client) = sockets().await;
        let outbox = Outbox::for_socket(server);
        while outbox.is_idle() {
            outbox.push(&batch(BUDGET / 8));
        }
        let began = Instant::now();
        assert_eq!(outbox.write().await, End::TooSlow);
        let waited = began.elapsed().as_secs();
        assert!((10..20).contains(&waited), "{waited}");
    }
}
// ANCHOR_END: all
