// ANCHOR: all
//! The log of one server: a file. A thread of its own writes, and answers after the commit.

use std::collections::HashMap;
use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use thiserror::Error;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{Mutex, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use uuid::Uuid;

use crate::feed::{Feed, Feeds, News};
use crate::log::{Answer, Appended, Draft, Held, Log, Position, RoomId, TAIL, Unavailable};
use crate::protocol::{RoomInfo, Said, millis, now};
use crate::schema::OpenError;
use crate::search::Search;
use crate::store::{Kept, Store};

/// The file in the directory.
pub const FILE: &str = "chat.db";

/// How many requests may wait for the writer. Whoever finds no place waits.
const QUEUE: usize = 1024;

/// How many messages one commit stores at most. The disk takes as long for one as for hundreds.
const BATCH: usize = 256;

/// How often the writer tries whether the log is back.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// How many messages that are too old are deleted at once: few, so that no ack waits long for it.
const EXPIRE: usize = 100;

/// How long the writer is left alone between two times.
const EXPIRE_PAUSE: Duration = Duration::from_millis(50);

/// How often somebody looks for messages that are too old, at least.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

// ANCHOR: errors
/// Why there is no log.
#[derive(Debug, Error)]
pub enum LogError {
    /// The directory can't be made or written.
    #[error("can't use DATA_DIR {dir}: {error}")]
    Directory {
        /// Which directory.
        dir: String,
        /// What the system says.
        error: io::Error,
    },
    /// Two servers would number the same messages.
    #[error("another server uses DATA_DIR {0}: stop it, or choose another directory")]
    InUse(String),
    /// The file can't be used.
    #[error("can't use {file}: {error}")]
    File {
        /// Which file.
        file: String,
        /// Why.
        error: OpenError,
    },
}
// ANCHOR_END: errors

// ANCHOR: log
/// The log. Clones reach the same one.
#[derive(Clone)]
pub struct Embedded {
    requests: Sender<Request>,
    /// Of the rooms that are open.
    feeds: Arc<Feeds<RoomId>>,
    /// Reading has a connection of its own, so that no commit waits for it.
    reader: Arc<Mutex<Store>>,
    /// So has searching, which can take longer, so that nobody who joins waits for it.
    searcher: Arc<Mutex<Store>>,
    epoch: Uuid,
    /// For how long messages are kept; `None` for ever.
    retention: Option<Duration>,
    degraded: watch::Receiver<bool>,
    /// Locked for as long as this server uses the directory.
    _lock: Arc<File>,
}

/// What the writer is asked to do.
enum Request {
    /// Store a message.
    Append(Draft, oneshot::Sender<Answer<Appended>>),
    /// Do something else with the file.
    Work(Work),
    /// Try whether writing works again.
    Probe,
    /// Close the file.
    Close(oneshot::Sender<()>),
}

/// Something else to do. It answers by itself, because each has another type of answer.
type Work = Box<dyn FnOnce(&mut Writer) + Send>;

impl Embedded {
    /// Opens the log in a directory, and makes both if they are missing.
    ///
    /// # Errors
    /// A [`LogError`] that says what to do.
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        let lock = lock(dir)?;
        let file = dir.join(FILE);
        let failed = |error| LogError::File { file: file.display().to_string(), error };
        let store = Store::open(&file).map_err(failed)?;
        let reader = Store::open(&file).map_err(failed)?;
        let searcher = Store::open(&file).map_err(failed)?;
        let epoch = store.epoch().map_err(|error| failed(error.into()))?;

        let (requests, waiting) = mpsc::channel(QUEUE);
        let (degraded, watching) = watch::channel(false);
        let feeds = Arc::<Feeds<RoomId>>::default();
        let writer = Writer { store, epoch, feeds: Arc::clone(&feeds), degraded };
        thread::spawn(move || writer.run(waiting));
        tokio::spawn(probe(requests.downgrade(), watching.clone()));

        let (reader, searcher) = (Arc::new(Mutex::new(reader)), Arc::new(Mutex::new(searcher)));
        let (retention, lock) = (None, Arc::new(lock));
        let degraded = watching;
        Ok(Self { requests, feeds, reader, searcher, epoch, retention, degraded, _lock: lock })
    }

    /// Keeps messages for so long, and deletes them when they are older.
    #[must_use]
    pub fn keep_for(self, retention: Duration) -> Self {
        tokio::spawn(expire(self.requests.downgrade(), retention));
        Self { retention: Some(retention), ..self }
    }
}

/// Makes the directory, and makes sure that no other server uses it.
///
/// # Errors
/// A [`LogError`] that says what to do.
pub fn lock(dir: &Path) -> Result<File, LogError> {
    let name = dir.display().to_string();
    let failed = |error| LogError::Directory { dir: name.clone(), error };
    let mut directory = DirBuilder::new();
    directory.recursive(true);
    // What people write to each other is nobody else's business on this machine.
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut directory, 0o700);
    directory.create(dir).map_err(failed)?;
    let file = File::create(dir.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LogError::InUse(name)),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}
// ANCHOR_END: log

// ANCHOR: answers
impl Log for Embedded {
    fn follow<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, Answer<Feed>> {
        ready(Ok(self.feeds.begin(room.clone()))).boxed()
    }

    fn look<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, Answer<(Position, Vec<Said>)>> {
        let (epoch, RoomId { namespace, room }) = (self.epoch, room.clone());
        let look = move |store: &Store| {
            let tail = store.tail(namespace, &room, TAIL)?;
            Ok((Position { epoch, seq: store.last_seq(namespace, &room)? }, tail))
        };
        self.ask(look).boxed()
    }

    /// Nothing that this server has is missing in its own file.
    fn check<'a>(&'a self, _room: &'a RoomId, held: Held) -> BoxFuture<'a, Answer<Position>> {
        ready(Ok(held.position)).boxed()
    }

    fn check_every(&self) -> Option<Duration> {
        None
    }

    fn read<'a>(
        &'a self,
        room: &'a RoomId,
        after: u64,
        last: u64,
    ) -> BoxFuture<'a, Answer<Vec<Said>>> {
        let RoomId { namespace, room } = room.clone();
        self.ask(move |store| store.read(namespace, &room, after, last)).boxed()
    }

    fn append(&self, draft: Draft) -> BoxFuture<'_, oneshot::Receiver<Answer<Appended>>> {
        self.hand_over(draft).boxed()
    }

    fn enter(&self, room: &RoomId, name: &str) {
        self.feeds.write(room, News::Entered(name.to_owned()));
    }

    fn leave(&self, room: &RoomId, name: &str) {
        self.feeds.write(room, News::Left(name.to_owned()));
    }

    fn elsewhere(&self, _room: &RoomId) -> Vec<String> {
        Vec::new()
    }

    fn rooms(&self, _namespace: &'static str) -> BoxFuture<'_, Answer<Option<Vec<RoomInfo>>>> {
        ready(Ok(None)).boxed()
    }

    fn typing(&self, room: &RoomId, name: &str) {
        self.feeds.write(room, News::Typing(name.to_owned()));
    }

    /// Searches with a connection of its own, because it can take longer than reading.
    fn search(&self, search: Search) -> BoxFuture<'_, Answer<Vec<Said>>> {
        ask(&self.searcher, move |store| store.search(&search)).boxed()
    }

    fn horizon(&self) -> u64 {
        self.retention.map_or(0, horizon)
    }

    fn degraded(&self) -> watch::Receiver<bool> {
        self.degraded.clone()
    }

    /// Closes the file.
    fn close(&self) -> BoxFuture<'_, ()> {
        async {
            let (done, closed) = oneshot::channel();
            let _ = self.requests.send(Request::Close(done)).await;
            let _ = closed.await;
        }
        .boxed()
    }
}
// ANCHOR_END: answers

// ANCHOR: ask
impl Embedded {
    /// Hands a message to the writer.
    async fn hand_over(&self, draft: Draft) -> oneshot::Receiver<Answer<Appended>> {
        let (answer, answered) = oneshot::channel();
        // If the writer is gone, so is `answer` now, and `answered` says so.
        let _ = self.requests.send(Request::Append(draft, answer)).await;
        answered
    }

    /// Has the writer do something else than store messages. As for a message, the answer comes
    /// when it is safe. Whatever `work` can fail at while the log is well belongs into its `T`: an
    /// error is taken for a sign that the log is away.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<T> {
        write(&self.requests, work).await
    }

    /// Reads something.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn ask<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<T> {
        ask(&self.reader, read).await
    }
}

/// Hands work to the writer.
async fn write<T: Send + 'static>(
    requests: &Sender<Request>,
    work: impl FnOnce(&mut Store) -> rusqlite::Result<T> + Send + 'static,
) -> Answer<T> {
    let (answer, answered) = oneshot::channel();
    let work = Box::new(move |writer: &mut Writer| {
        // Nobody listens if a client has left meanwhile. The work is done all the same.
        let _ = answer.send(writer.work(work));
    });
    let _ = requests.send(Request::Work(work)).await;
    answered.await.unwrap_or(Err(Unavailable))
}

/// Reads on a thread where waiting for the disk holds up no other task. Whoever waits for its turn
/// before that waits as a task: a thousand who come back at once do not take a thousand threads.
async fn ask<T: Send + 'static>(
    reader: &Arc<Mutex<Store>>,
    read: impl FnOnce(&Store) -> rusqlite::Result<T> + Send + 'static,
) -> Answer<T> {
    let store = Arc::clone(reader).lock_owned().await;
    let reading = spawn_blocking(move || read(&store).map_err(away));
    reading.await.unwrap_or(Err(Unavailable))
}

/// The time before which messages are too old, in milliseconds since 1970.
fn horizon(retention: Duration) -> u64 {
    now().saturating_sub(millis(retention))
}

/// Deletes the messages that are too old, few at a time, until nobody has the log any more.
async fn expire(requests: mpsc::WeakSender<Request>, retention: Duration) {
    while let Some(requests) = requests.upgrade() {
        let before = horizon(retention);
        let deleted = write(&requests, move |store| store.expire(before, EXPIRE)).await;
        drop(requests);
        let is_behind = deleted == Ok(EXPIRE);
        sleep(if is_behind { EXPIRE_PAUSE } else { EXPIRE_EVERY.min(retention / 10) }).await;
    }
}

/// Asks for a probe each second while the log is away.
async fn probe(requests: mpsc::WeakSender<Request>, mut degraded: watch::Receiver<bool>) {
    while degraded.wait_for(|degraded| *degraded).await.is_ok() {
        sleep(PROBE_EVERY).await;
        let Some(requests) = requests.upgrade() else { return };
        let _ = requests.send(Request::Probe).await;
    }
}

/// Notes why the log is away.
fn away(error: rusqlite::Error) -> Unavailable {
    tracing::warn!(%error, "the log is away");
    Unavailable
}
// ANCHOR_END: ask

// ANCHOR: writer
/// The thread that writes.
struct Writer {
    store: Store,
    epoch: Uuid,
    feeds: Arc<Feeds<RoomId>>,
    degraded: watch::Sender<bool>,
}

impl Writer {
    // ANCHOR: batch
    /// Does what it is asked to do, until it is asked to close.
    fn run(mut self, mut requests: Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            // While the last commit was on its way, others have come: one commit for all of them.
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(next) = requests.try_recv()
            {
                batch.push(next);
            }
            if let Some(done) = self.take(batch) {
                self.store.tidy();
                let _ = done.send(());
                return;
            }
        }
    }
    // ANCHOR_END: batch

    /// Does what a batch asks for, and gives back the request to close if it is among it.
    fn take(&mut self, batch: Vec<Request>) -> Option<oneshot::Sender<()>> {
        let (mut drafts, mut senders) = (Vec::new(), Vec::new());
        let (mut works, mut close) = (Vec::new(), None);
        for request in batch {
            match request {
                Request::Append(draft, sender) => {
                    drafts.push(draft);
                    senders.push(sender);
                }
                Request::Work(work) => works.push(work),
                Request::Probe => self.probe(),
                Request::Close(done) => close = Some(done),
            }
        }
        if !drafts.is_empty() {
            self.append(drafts, senders);
        }
        works.into_iter().for_each(|work| work(self));
        close
    }

    fn probe(&self) {
        if self.is_degraded() && self.store.probe().map_err(away).is_ok() {
            tracing::info!("the log is back");
            self.degraded.send_replace(false);
        }
    }

    /// Does something else, unless the log is away.
    fn work<T>(&mut self, work: impl FnOnce(&mut Store) -> rusqlite::Result<T>) -> Answer<T> {
        if self.is_degraded() {
            return Err(Unavailable);
        }
        let done = work(&mut self.store).map_err(away);
        if done.is_err() {
            self.degraded.send_replace(true);
        }
        done
    }

    /// Stores messages, and then tells the rooms and who sent them, in this order: whoever has the
    /// answer finds the message in the room's feed.
    fn append(&mut self, drafts: Vec<Draft>, senders: Vec<oneshot::Sender<Answer<Appended>>>) {
        let kept = self.work(|store| store.append(&drafts));
        let mut stored: HashMap<RoomId, Vec<Said>> = HashMap::new();
        let mut answer = |(kept, Draft { namespace, room, .. })| match kept {
            Kept::Stored(said) => {
                let seq = said.seq;
                stored.entry(RoomId { namespace, room }).or_default().push(said);
                Appended::Stored(seq)
            }
            Kept::Repeated(seq) => Appended::Repeated(seq),
            Kept::Conflict => Appended::Conflict,
        };
        let answers: Answer<Vec<Appended>> =
            kept.map(|kept| kept.into_iter().zip(drafts).map(&mut answer).collect());
        for (room, messages) in stored {
            self.feeds.write(&room, News::Said { epoch: self.epoch, before: None, messages });
        }
        for (n, sender) in senders.into_iter().enumerate() {
            let answer = answers.as_ref().map(|answers| answers.get(n).copied());
            // Nobody listens if a room has ended meanwhile. The message is stored all the same.
            let _ = sender.send(answer.ok().flatten().ok_or(Unavailable));
        }
    }

    fn is_degraded(&self) -> bool {
        *self.degraded.borrow()
    }
}
// ANCHOR_END: writer

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn directory() -> PathBuf {
        std::env::temp_dir().join(Uuid::new_v4().to_string())
    }

    fn rust() -> RoomId {
        RoomId { namespace: "", room: "rust".to_owned() }
    }

    fn draft(text: &str) -> Draft {
        let (room, from, text) = ("rust".to_owned(), "ada".to_owned(), text.to_owned());
        Draft { namespace: "", room, id: Uuid::new_v4(), from, text }
    }

    #[tokio::test]
    async fn what_was_answered_is_there_after_a_restart_in_the_same_epoch() {
        let dir = directory();
        let log = Embedded::open(&dir).unwrap();
        let answers = [log.append(draft("one")).await, log.append(draft("two")).await];
        for (seq, answer) in (1..).zip(answers) {
            let stored = answer.await.unwrap().unwrap();
            assert_eq!(stored, Appended::Stored(seq));
        }
        let (before, _) = log.look(&rust()).await.unwrap();
        log.close().await;
        drop(log);

        let log = Embedded::open(&dir).unwrap();
        let (position, messages) = log.look(&rust()).await.unwrap();
        assert_eq!((position, before.seq, messages.len()), (before, 2, 2));
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn the_feed_has_a_message_before_its_sender_has_the_answer() {
        let dir = directory();
        let log = Embedded::open(&dir).unwrap();
        let mut feed = log.follow(&rust()).await.unwrap();
        let (position, _) = log.look(&rust()).await.unwrap();
        log.append(draft("one")).await.await.unwrap().unwrap();
        let Some(News::Said { epoch, messages, .. }) = feed.next().now_or_never() else { panic!() };
        assert_eq!((epoch, messages[0].seq, messages.len()), (position.epoch, 1, 1));
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn work_that_fails_tells_that_the_log_is_away_until_it_is_back() {
        let dir = directory();
        let log = Embedded::open(&dir).unwrap();
        let fails = |store: &mut Store| store.db.execute("INSERT INTO nowhere VALUES (1)", []);
        assert_eq!(log.write(fails).await, Err(Unavailable));
        let mut degraded = log.degraded();
        assert!(*degraded.borrow_and_update());
        degraded.wait_for(|degraded| !degraded).await.unwrap();
        assert_eq!(log.write(|store| store.expire(0, 1)).await, Ok(0));
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn what_is_too_old_goes_by_itself() {
        let dir = directory();
        let log = Embedded::open(&dir).unwrap().keep_for(Duration::from_millis(200));
        log.append(draft("one")).await.await.unwrap().unwrap();
        assert_eq!(log.look(&rust()).await.unwrap().1.len(), 1);
        while !log.look(&rust()).await.unwrap().1.is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(log.look(&rust()).await.unwrap().0.seq, 1);
        log.close().await;
        drop(log);
        while Embedded::open(&dir).is_err() {
            sleep(Duration::from_millis(20)).await;
        }
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn two_servers_do_not_share_a_directory() {
        let dir = directory();
        let _log = Embedded::open(&dir).unwrap();
        assert!(matches!(Embedded::open(&dir), Err(LogError::InUse(_))));
        fs::remove_dir_all(dir).unwrap();
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn nobody_else_can_read_a_new_directory() {
        use std::os::unix::fs::PermissionsExt;
        let dir = directory();
        let _log = Embedded::open(&dir.join("deep")).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn a_locked_log_stores_nothing_still_reads_and_comes_back() {
        let dir = directory();
        let log = Embedded::open(&dir).unwrap();
        log.append(draft("one")).await.await.unwrap().unwrap();
        let mut degraded = log.degraded();

        let other = rusqlite::Connection::open(dir.join("chat.db")).unwrap();
        other.execute_batch("BEGIN EXCLUSIVE").unwrap();
        assert_eq!(log.append(draft("two")).await.await.unwrap(), Err(Unavailable));
        degraded.wait_for(|degraded| *degraded).await.unwrap();
        assert_eq!(log.look(&rust()).await.unwrap().1.len(), 1);
        assert_eq!(log.read(&rust(), 0, 1).await.unwrap().len(), 1);
        assert_eq!(log.write(|store| store.expire(0, 1)).await, Err(Unavailable));

        other.execute_batch("ROLLBACK").unwrap();
        degraded.wait_for(|degraded| !degraded).await.unwrap();
        let stored = log.append(draft("three")).await.await.unwrap().unwrap();
        assert_eq!(stored, Appended::Stored(2));
        fs::remove_dir_all(dir).unwrap();
    }
}
// ANCHOR_END: all
