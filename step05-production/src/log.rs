// ANCHOR: all
//! The log: what is in it is never lost. A thread of its own writes, and answers after the commit.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{Mutex, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use uuid::Uuid;

use crate::protocol::{Said, now};
use crate::schema::OpenError;
use crate::store::{Appended, Draft, Store};

/// The file in the directory.
pub const FILE: &str = "chat.db";

/// How many requests may wait for the writer. Whoever finds no place waits.
const QUEUE: usize = 1024;

/// How many messages one commit stores at most. The disk takes as long for one as for hundreds.
const BATCH: usize = 256;

/// How often the writer tries whether the log is back.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// How many messages [`Log::tail`] gives.
const TAIL: usize = 512;

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

/// The log is away: nothing was stored, or it is not known whether.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the log is away")]
pub struct Unavailable;

/// What the log answers.
pub type Answer<T> = Result<T, Unavailable>;

// ANCHOR: log
/// The log. Clones reach the same one.
#[derive(Clone)]
pub struct Log {
    requests: Sender<Request>,
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

impl Log {
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
        let writer = Writer { store, degraded };
        thread::spawn(move || writer.run(waiting));
        tokio::spawn(probe(requests.downgrade(), watching.clone()));

        let (reader, searcher) = (Arc::new(Mutex::new(reader)), Arc::new(Mutex::new(searcher)));
        let (retention, lock) = (None, Arc::new(lock));
        Ok(Self { requests, reader, searcher, epoch, retention, degraded: watching, _lock: lock })
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

// ANCHOR: ask
impl Log {
    /// Which life of the log this is: all its numbers are counted in this one.
    pub fn epoch(&self) -> Uuid {
        self.epoch
    }

    /// Tells whether the log is away, and when that changes.
    pub fn degraded(&self) -> watch::Receiver<bool> {
        self.degraded.clone()
    }

    /// Hands a message to the writer. It answers when the message is safe; drafts are stored, and
    /// answered, in the order in which they were handed over.
    pub async fn append(&self, draft: Draft) -> oneshot::Receiver<Answer<Appended>> {
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

    /// Reads something that can take longer, and that nobody else should wait for.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn search<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<T> {
        ask(&self.searcher, read).await
    }

    /// Messages from before this time, in milliseconds since 1970, are too old to be shown.
    pub fn horizon(&self) -> u64 {
        self.retention.map_or(0, horizon)
    }

    /// Reads the last messages of a room, oldest first.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn tail(&self, namespace: &'static str, room: &str) -> Answer<Vec<Said>> {
        let room = room.to_owned();
        self.ask(move |store| store.tail(namespace, &room, TAIL)).await
    }

    /// The last number that was given in a room, or 0. The message may be too old to be there.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn last_seq(&self, namespace: &'static str, room: &str) -> Answer<u64> {
        let room = room.to_owned();
        self.ask(move |store| store.last_seq(namespace, &room)).await
    }

    /// Reads the messages of a room that come after `after`, `last` included: all of them, or the
    /// first page.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn read(
        &self,
        namespace: &'static str,
        room: &str,
        after: u64,
        last: u64,
    ) -> Answer<Vec<Said>> {
        let room = room.to_owned();
        self.ask(move |store| store.read(namespace, &room, after, last)).await
    }

    /// Closes the file, when everything handed over has been stored.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        let _ = self.requests.send(Request::Close(done)).await;
        let _ = closed.await;
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
    now().saturating_sub(u64::try_from(retention.as_millis()).unwrap_or(u64::MAX))
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
            self.append(&drafts, senders);
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

    /// Stores messages, and then tells who sent them.
    fn append(&mut self, drafts: &[Draft], senders: Vec<oneshot::Sender<Answer<Appended>>>) {
        let appended = self.work(|store| store.append(drafts));
        let mut appended = appended.map(Vec::into_iter);
        for sender in senders {
            let answer = match &mut appended {
                Ok(appended) => appended.next().ok_or(Unavailable),
                Err(Unavailable) => Err(Unavailable),
            };
            // Nobody listens if a room has ended meanwhile. The message is stored all the same.
            let _ = sender.send(answer);
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

    fn draft(text: &str) -> Draft {
        let (room, from, text) = ("rust".to_owned(), "ada".to_owned(), text.to_owned());
        Draft { namespace: "", room, id: Uuid::new_v4(), from, text }
    }

    #[tokio::test]
    async fn what_was_answered_is_there_after_a_restart_in_the_same_epoch() {
        let dir = directory();
        let log = Log::open(&dir).unwrap();
        let answers = [log.append(draft("one")).await, log.append(draft("two")).await];
        for (seq, answer) in (1..).zip(answers) {
            let stored = answer.await.unwrap().unwrap();
            assert!(matches!(stored, Appended::Stored(said) if said.seq == seq));
        }
        let epoch = log.epoch();
        log.close().await;
        drop(log);

        let log = Log::open(&dir).unwrap();
        assert_eq!(log.epoch(), epoch);
        assert_eq!(log.tail("", "rust").await.unwrap().len(), 2);
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn work_that_fails_tells_that_the_log_is_away_until_it_is_back() {
        let dir = directory();
        let log = Log::open(&dir).unwrap();
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
        let log = Log::open(&dir).unwrap().keep_for(Duration::from_millis(200));
        log.append(draft("one")).await.await.unwrap().unwrap();
        assert_eq!(log.tail("", "rust").await.unwrap().len(), 1);
        while !log.tail("", "rust").await.unwrap().is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(log.last_seq("", "rust").await, Ok(1));
        log.close().await;
        drop(log);
        while Log::open(&dir).is_err() {
            sleep(Duration::from_millis(20)).await;
        }
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn two_servers_do_not_share_a_directory() {
        let dir = directory();
        let _log = Log::open(&dir).unwrap();
        assert!(matches!(Log::open(&dir), Err(LogError::InUse(_))));
        fs::remove_dir_all(dir).unwrap();
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn nobody_else_can_read_a_new_directory() {
        use std::os::unix::fs::PermissionsExt;
        let dir = directory();
        let _log = Log::open(&dir.join("deep")).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn a_locked_log_stores_nothing_still_reads_and_comes_back() {
        let dir = directory();
        let log = Log::open(&dir).unwrap();
        log.append(draft("one")).await.await.unwrap().unwrap();
        let mut degraded = log.degraded();

        let other = rusqlite::Connection::open(dir.join("chat.db")).unwrap();
        other.execute_batch("BEGIN EXCLUSIVE").unwrap();
        assert_eq!(log.append(draft("two")).await.await.unwrap(), Err(Unavailable));
        degraded.wait_for(|degraded| *degraded).await.unwrap();
        assert_eq!(log.tail("", "rust").await.unwrap().len(), 1);
        assert_eq!(log.read("", "rust", 0, 1).await.unwrap().len(), 1);
        assert_eq!(log.write(|store| store.expire(0, 1)).await, Err(Unavailable));

        other.execute_batch("ROLLBACK").unwrap();
        degraded.wait_for(|degraded| !degraded).await.unwrap();
        let stored = log.append(draft("three")).await.await.unwrap().unwrap();
        assert!(matches!(stored, Appended::Stored(Said { seq: 2, .. })));
        fs::remove_dir_all(dir).unwrap();
    }
}
// ANCHOR_END: all
