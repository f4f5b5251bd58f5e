//! When the log is away: reading goes on, sending waits, and it mends itself.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::acks::{history, seq};
use super::resume::{epoch, numbers, resume};
use crate::client::Client;
use crate::event::{is, json_of, text};
use crate::scenario::{Check, Needs, SLOW, Scenario, Stop};
use crate::scene::{PATIENCE, Scene};

/// How long the server may take to notice that the log is back, and how often to look.
const TRIES: usize = 100;
const AGAIN: Duration = Duration::from_millis(100);

const DEGRADED: Scenario = Scenario {
    needs: Needs::File,
    limit: SLOW,
    ..Scenario::of(4, "production/graceful-degradation.html")
};

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "without_its_log_the_server_says_so",
        sentence: "Without its log the server says so, and that the message should be sent later",
        expected: "`error` with code `unavailable`, the message's id and `retry_after`; `status` with `degraded` true for everyone, newcomers too",
        hint: "A failed write sets a flag that all connections watch (`tokio::sync::watch`).",
        run: |scene| Box::pin(says_so(scene)),
        ..DEGRADED
    },
    Scenario {
        name: "without_its_log_the_server_still_reads",
        sentence: "Without its log the server still reads",
        expected: "`joined` with the history, and `typing` and the list of rooms as ever",
        hint: "Only what writes needs the writer. History comes from memory, or from a connection of its own.",
        run: |scene| Box::pin(still_reads(scene)),
        ..DEGRADED
    },
    Scenario {
        name: "the_server_recovers_by_itself",
        sentence: "When the log is back, the server recovers by itself",
        expected: "`status` with `degraded` false, then an `ack` for the message that was refused, without a hole in the numbers and nothing twice",
        hint: "Try a small write each second while the log is away.",
        run: |scene| Box::pin(recovers(scene)),
        ..DEGRADED
    },
];

async fn says_so(scene: &mut Scene) -> Check {
    scene.start(&[]).await?;
    let mut ada = scene.enter("ada").await?;
    let mut grace = scene.enter("grace").await?;
    ada.store("before").await?;
    scene.prepare("alan").await?;
    let _lock = Lock::take(scene).await?;
    refused(&mut ada, "too late").await?;
    until_status(&mut grace, true).await?;
    let mut alan = scene.greet("alan").await?;
    until_status(&mut alan, true).await
}

async fn still_reads(scene: &mut Scene) -> Check {
    scene.start(&[]).await?;
    let mut ada = scene.enter("ada").await?;
    let mut grace = scene.enter("grace").await?;
    let room = ada.room.clone();
    let epoch = epoch(&ada.join(&room).await?).to_owned();
    for words in ["one", "two"] {
        ada.store(words).await?;
        grace.expect_field("message", "text", words).await?;
    }
    let _lock = Lock::take(scene).await?;
    refused(&mut ada, "too late").await?;
    until_status(&mut grace, true).await?;
    grace.send(json!({"type": "typing", "room": room})).await;
    until(&mut ada, "a `typing`", |event| is(event, "typing")).await?;
    let joined = resume(&mut grace, &epoch, 0).await?;
    if numbers(&joined) != [1, 2] {
        return Err(grace.mismatch(&json_of(&joined)));
    }
    grace.send(json!({"type": "rooms"})).await;
    grace.expect("rooms").await.map(drop)
}

async fn recovers(scene: &mut Scene) -> Check {
    scene.start(&[]).await?;
    let mut ada = scene.enter("ada").await?;
    let mut grace = scene.enter("grace").await?;
    ada.store("one").await?;
    let lock = Lock::take(scene).await?;
    let message = refused(&mut ada, "two").await?;
    drop(lock);
    until_status(&mut grace, false).await?;
    let ack = again(&mut ada, &message).await?;
    if seq(&ack) != 2 {
        return Err(ada.mismatch(&json_of(&ack)));
    }
    grace.store("three").await?;
    let mut alan = scene.greet("alan").await?;
    let room = alan.room.clone();
    let joined = alan.join(&room).await?;
    let texts: Vec<String> =
        history(&joined).iter().map(|said| text(said, "text").to_owned()).collect();
    if texts == ["one", "two", "three"] { Ok(()) } else { Err(alan.mismatch(&json_of(&joined))) }
}

/// Says something that the server has to refuse, and gives the message.
pub(crate) async fn refused(client: &mut Client, words: &str) -> Check<Value> {
    let message = client.message(words);
    client.send(message.clone()).await;
    let what = "`error` with code `unavailable`, the message's id and `retry_after`";
    let error = until(client, what, |event| is(event, "error")).await?;
    let is_right = text(&error, "code") == "unavailable"
        && text(&error, "id") == text(&message, "id")
        && error.get("retry_after").and_then(Value::as_u64).is_some_and(|millis| millis > 0);
    if is_right { Ok(message) } else { Err(client.mismatch(&json_of(&error))) }
}

/// Sends a message again until it is acked.
pub(crate) async fn again(client: &mut Client, message: &Value) -> Check<Value> {
    for _ in 0..TRIES {
        client.send(message.clone()).await;
        match client.ack(text(message, "id")).await {
            Ok(ack) => return Ok(ack),
            Err(_unavailable) => sleep(AGAIN).await,
        }
    }
    Err(client.mismatch("`unavailable`, again and again"))
}

pub(crate) async fn until_status(client: &mut Client, degraded: bool) -> Check {
    let what = format!("`status` with `degraded` {degraded}");
    let wanted = json!({"type": "status", "degraded": degraded});
    until(client, &what, |event| *event == wanted).await.map(drop)
}

/// Reads until an event fulfills a condition.
pub(crate) async fn until(
    client: &mut Client,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Check<Value> {
    loop {
        let event = client.next(what).await?;
        if wanted(&event) {
            return Ok(event);
        }
    }
}

/// Another program that has locked the log, until it is dropped.
#[derive(Debug)]
struct Lock(#[expect(dead_code, reason = "it is killed when it is dropped")] Child);

/// Takes the lock and keeps it until its end.
const LOCK: &str = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
db.execute('BEGIN EXCLUSIVE')
print('locked', flush=True)
sys.stdin.read()
";

impl Lock {
    /// Locks the log of the scenario's server, as SQLite's own command-line tool could do.
    async fn take(scene: &Scene) -> Check<Self> {
        let skipped = |reason: &str| Stop::Skipped(reason.to_owned());
        let file = database(scene.data()).ok_or_else(|| {
            skipped("it locks an SQLite file (*.db), and there is none in DATA_DIR")
        })?;
        scene.journal.note(&format!("locked {}", file.display()));
        let mut locking = Command::new("python3");
        locking.args(["-c", LOCK]).arg(file).stdin(Stdio::piped()).stdout(Stdio::piped());
        let locking = locking.stderr(Stdio::null()).kill_on_drop(true).spawn();
        let mut locking = locking.map_err(|_| skipped("it takes Python 3 to lock the log"))?;
        let stdout = locking.stdout.take().ok_or_else(|| skipped("no stdout"))?;
        let mut lines = BufReader::new(stdout).lines();
        match timeout(PATIENCE, lines.next_line()).await {
            Ok(Ok(Some(_locked))) => Ok(Self(locking)),
            _ => Err(skipped("Python could not lock the log: has it the module sqlite3?")),
        }
    }
}

/// The SQLite file in a directory.
pub(crate) fn database(directory: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(directory).ok()?.flatten().map(|file| file.path());
    let mut files = files.filter(|path| {
        path.extension().is_some_and(|end| end == "db" || end == "sqlite" || end == "sqlite3")
    });
    files.next()
}
