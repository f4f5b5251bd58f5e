// ANCHOR: all
//! The log: what is in it is never lost. A thread of its own writes, and answers after the commit.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use uuid::Uuid;

use crate::protocol::Said;
use crate::store::{Appended, Draft, OpenError, Store};

/// How many requests may wait for the writer. Whoever finds no place waits.
const QUEUE: usize = 1024;

/// How many messages one commit stores at most. The disk takes as long for one as for hundreds.
const BATCH: usize = 256;

/// How often the writer tries whether the log is back.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// How many messages [`Log::tail`] gives.
const TAIL: usize = 512;

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
    epoch: Uuid,
    degraded: watch::Receiver<bool>,
    /// Locked for as long as this server uses the directory.
    _lock: Arc<File>,
}

/// What the writer is asked to do.
enum Request {
    /// Store a message.
    Append(Draft, oneshot::Sender<Answer<Appended>>),
    /// Try whether writing works again.
    Probe,
    /// Close the file.
    Close(oneshot::Sender<()>),
}

impl Log {
    /// Opens the log in a directory, and makes both if they are missing.
    ///
    /// # Errors
    /// A [`LogError`] that says what to do.
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        let lock = lock(dir)?;
        let file = dir.join("chat.db");
        let failed = |error| LogError::File { file: file.display().to_string(), error };
        let store = Store::open(&file).map_err(failed)?;
        let reader = Store::open(&file).map_err(failed)?;
        let epoch = store.epoch().map_err(|error| failed(error.into()))?;

        let (requests, waiting) = mpsc::channel(QUEUE);
        let (degraded, watching) = watch::channel(false);
        let writer = Writer { store, degraded };
        thread::spawn(move || writer.run(waiting));
        tokio::spawn(probe(requests.downgrade(), watching.clone()));

        let (reader, lock) = (Arc::new(Mutex::new(reader)), Arc::new(lock));
        Ok(Self { requests, reader, epoch, degraded: watching, _lock: lock })
    }
}

/// Makes the directory, and makes sure that no other server uses it.
fn lock(dir: &Path) -> Result<File, LogError> {
    let name = dir.display().to_string();
    let failed = |error| LogError::Directory { dir: name.clone(), error };
    fs::create_dir_all(dir).map_err(failed)?;
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

    /// Reads the last messages of a room, oldest first.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn tail(&self, namespace: &'static str, room: &str) -> Answer<Vec<Said>> {
        let room = room.to_owned();
        self.ask_reader(move |store| store.tail(namespace, &room, TAIL)).await
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
        self.ask_reader(move |store| store.read(namespace, &room, after, last)).await
    }

    /// Reads on a thread where waiting for the disk holds up no other task.
    async fn ask_reader(
        &self,
        read: impl FnOnce(&Store) -> rusqlite::Result<Vec<Said>> + Send + 'static,
    ) -> Answer<Vec<Said>> {
        let reader = Arc::clone(&self.reader);
        let reading = spawn_blocking(move || {
            let store = reader.lock().unwrap_or_else(PoisonError::into_inner);
            read(&store).map_err(away)
        });
        reading.await.unwrap_or(Err(Unavailable))
    }

    /// Closes the file, when everything handed over has been stored.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        let _ = self.requests.send(Request::Close(done)).await;
        let _ = closed.await;
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
        let (mut drafts, mut senders, mut close) = (Vec::new(), Vec::new(), None);
        for request in batch {
            match request {
                Request::Append(draft, sender) => {
                    drafts.push(draft);
                    senders.push(sender);
                }
                Request::Probe => self.probe(),
                Request::Close(done) => close = Some(done),
            }
        }
        if !drafts.is_empty() {
            self.append(&drafts, senders);
        }
        close
    }

    fn probe(&self) {
        if self.is_degraded() && self.store.probe().map_err(away).is_ok() {
            tracing::info!("the log is back");
            self.degraded.send_replace(false);
        }
    }

    /// Stores messages, and then tells who sent them.
    fn append(&mut self, drafts: &[Draft], senders: Vec<oneshot::Sender<Answer<Appended>>>) {
        let appended = if self.is_degraded() { Err(Unavailable) } else { self.store(drafts) };
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

    fn store(&mut self, drafts: &[Draft]) -> Answer<Vec<Appended>> {
        let appended = self.store.append(drafts).map_err(away);
        if appended.is_err() {
            self.degraded.send_replace(true);
        }
        appended
    }

    fn is_degraded(&self) -> bool {
        *self.degraded.borrow()
    }
}
// ANCHOR_END: writer

#[cfg(test)]
mod tests {
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
    async fn two_servers_do_not_share_a_directory() {
        let dir = directory();
        let _log = Log::open(&dir).unwrap();
        assert!(matches!(Log::open(&dir), Err(LogError::InUse(_))));
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

        other.execute_batch("ROLLBACK").unwrap();
        degraded.wait_for(|degraded| !degraded).await.unwrap();
        let stored = log.append(draft("three")).await.await.unwrap().unwrap();
        assert!(matches!(stored, Appended::Stored(Said { seq: 2, .. })));
        fs::remove_dir_all(dir).unwrap();
    }
}
// ANCHOR_END: all
