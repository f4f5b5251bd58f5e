//! What whoever operates the server has: health, metrics, backups, and an end in good order.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::sleep;

use super::settings::told;
use crate::event::{json_of, text};
use crate::process::stop;
use crate::program::{Ended, Stop as Signal};
use crate::raw::Answer;
use crate::scenario::{Check, Needs, SLOW, Scenario, Stop};
use crate::scene::{Scene, status};
use crate::step4::acks::history;
use crate::step4::resume::{epoch, numbers, resume};

/// How long the program may take for a backup.
const END: Duration = Duration::from_secs(10);

/// How often to look again.
const AGAIN: Duration = Duration::from_millis(20);
const TRIES: usize = 250;

const OPERATING: Scenario =
    Scenario { needs: Needs::Program, ..Scenario::of(5, "production/operating.html") };

const READY_HINT: &str =
    "`/readyz` asks what a load balancer wants to know: may I send somebody there now?";
const BACKUP_HINT: &str = "SQLite's `VACUUM INTO` or its backup API copies a database that is in use. A restored one begins another epoch, and has no sessions.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "health_and_metrics_are_on_the_admin_port",
        sentence: "Health and metrics are on a port of their own",
        expected: "status 200 for /livez, /readyz and /metrics on the admin port, 404 on the public one; and no chat on the admin port",
        hint: "A second listener on 127.0.0.1, with routes of its own.",
        run: |scene| Box::pin(own_port(scene)),
        ..OPERATING
    },
    Scenario {
        name: "a_full_server_is_not_ready",
        sentence: "A full server is alive, but not ready",
        expected: "503 at /readyz and 200 at /livez while MAX_CONNECTIONS are open, 200 at both once one has left",
        hint: READY_HINT,
        run: |scene| Box::pin(full(scene)),
        ..OPERATING
    },
    Scenario {
        name: "a_draining_server_is_not_ready",
        sentence: "A server that is about to stop is alive, but not ready, and lets nobody in",
        expected: "after SIGTERM 503 at /readyz and 200 at /livez, and 503 with `Retry-After` for an upgrade",
        hint: READY_HINT,
        limit: SLOW,
        run: |scene| Box::pin(draining(scene)),
        ..OPERATING
    },
    Scenario {
        name: "metrics_can_be_scraped",
        sentence: "Metrics can be scraped",
        expected: "lines of Prometheus' text format, each sample of a metric that has a TYPE, and numbers that move",
        hint: "`metrics-exporter-prometheus` renders them: build the recorder without its own listener.",
        run: |scene| Box::pin(scraped(scene)),
        ..OPERATING
    },
    Scenario {
        name: "metrics_do_not_grow_with_rooms_and_users",
        sentence: "The number of metrics does not grow with rooms and users",
        expected: "the same series after thirty rooms and ten users as before, and none of their names",
        hint: "A label has a handful of values that you know beforehand. Rooms, names and addresses belong in the log.",
        limit: SLOW,
        run: |scene| Box::pin(bounded(scene)),
        ..OPERATING
    },
    Scenario {
        name: "a_backup_is_made_while_the_server_runs",
        sentence: "A backup is made while the server runs, and restored elsewhere",
        expected: "exit code 0 and a file; after a restore the history and the accounts, another epoch, and nobody signed in",
        hint: BACKUP_HINT,
        limit: SLOW,
        needs: Needs::File,
        run: |scene| Box::pin(backup(scene)),
        ..OPERATING
    },
    Scenario {
        name: "a_backup_that_is_none_is_not_restored",
        sentence: "What is no backup is not restored, and neither is one into a running server's data",
        expected: "one sentence and exit code 1, and data as they were",
        hint: "Look at the file before you touch the data, and take the directory's lock.",
        limit: SLOW,
        needs: Needs::File,
        run: |scene| Box::pin(bad_backups(scene)),
        ..OPERATING
    },
    Scenario {
        name: "data_of_a_newer_version_are_refused",
        sentence: "Data of a newer version are refused instead of misread",
        expected: "one sentence on stderr and exit code 1, and data as they were",
        hint: "`PRAGMA user_version` says which version wrote the file: compare it before anything else.",
        limit: SLOW,
        needs: Needs::File,
        run: |scene| Box::pin(newer(scene)),
        ..OPERATING
    },
    Scenario {
        name: "with_retention_old_messages_go",
        sentence: "With RETENTION old messages go, and the newer ones stay",
        expected: "with RETENTION=1d, no message of two days ago in the history or the search, the others with their numbers, and `gap` for a cursor among the old ones",
        hint: "Delete by time, from the start of a room on, in small steps; and once when the server starts.",
        limit: SLOW,
        needs: Needs::File,
        run: |scene| Box::pin(retention(scene)),
        ..OPERATING
    },
];

async fn own_port(scene: &mut Scene) -> Check {
    scene.start(&[]).await?;
    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = scene.admin("GET", path).await?;
        scene.has_status(&answer, 200)?;
        let answer = scene.http("GET", path, &[]).await?;
        scene.has_status(&answer, 404)?;
    }
    for path in ["/debug", "/health", "/admin"] {
        let answer = scene.http("GET", path, &[]).await?;
        scene.has_status(&answer, 404)?;
    }
    for path in ["/", "/ws", "/api/me", "/events"] {
        let answer = scene.admin("GET", path).await?;
        scene.has_status(&answer, 404)?;
    }
    let admin = scene.running()?.admin_address().unwrap_or_default().to_owned();
    scene.journal.wait_for("an address of this machine alone");
    if admin.starts_with("127.0.0.1:") { Ok(()) } else { Err(scene.mismatch(&admin)) }
}

/// Looks until a path of the admin port has this status.
async fn until(scene: &Scene, path: &str, wanted: u16) -> Check<Answer> {
    for _ in 0..TRIES {
        let answer = scene.admin("GET", path).await?;
        if answer.status == wanted {
            return Ok(answer);
        }
        sleep(AGAIN).await;
    }
    scene.journal.wait_for(&format!("status {wanted} at {path}"));
    Err(scene.mismatch("another one, again and again"))
}

async fn full(scene: &mut Scene) -> Check {
    scene.start(&[("MAX_CONNECTIONS", "1")]).await?;
    until(scene, "/readyz", 200).await?;
    let ada = scene.wire("ada").await?;
    until(scene, "/readyz", 503).await?;
    let answer = scene.admin("GET", "/livez").await?;
    scene.has_status(&answer, 200)?;
    ada.close_in_order(1000).await?;
    until(scene, "/readyz", 200).await.map(drop)
}

async fn draining(scene: &mut Scene) -> Check {
    scene.start(&[("DRAIN_SECONDS", "5")]).await?;
    let bearer = scene.bearer("ada").await?;
    let _stays = scene.enter_without_reading("ada").await?;
    stop(scene, Signal::Term).await?;
    until(scene, "/readyz", 503).await?;
    let answer = scene.admin("GET", "/livez").await?;
    scene.has_status(&answer, 200)?;
    let opened = scene.ask_as_it_is("/ws", &[("Authorization", &bearer)]).await?;
    let answer = scene.was_refused(opened, 503)?;
    scene.journal.wait_for("Retry-After in seconds");
    let seconds = answer.header("retry-after").and_then(|value| value.parse::<u64>().ok());
    if seconds.is_some() { Ok(()) } else { Err(scene.mismatch(&format!("{:?}", answer.headers))) }
}

/// The samples of the metrics: each with its labels and its value.
async fn samples(scene: &Scene) -> Check<Vec<(String, f64)>> {
    let answer = scene.admin("GET", "/metrics").await?;
    scene.has_status(&answer, 200)?;
    let kind = answer.header("content-type").unwrap_or_default();
    scene.journal.wait_for("a Content-Type of text/plain, and samples of metrics with a TYPE");
    if !kind.starts_with("text/plain") {
        return Err(scene.mismatch(kind));
    }
    let mut typed = BTreeSet::new();
    let mut samples = Vec::new();
    for line in answer.body.lines().filter(|line| !line.trim().is_empty()) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            typed.extend(rest.split(' ').next().map(str::to_owned));
        } else if !line.starts_with('#') {
            samples.push(sample(line, &typed).ok_or_else(|| scene.mismatch(line))?);
        }
    }
    Ok(samples)
}

/// Takes a line apart: a name, perhaps labels in braces, a value.
fn sample(line: &str, typed: &BTreeSet<String>) -> Option<(String, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let name = series.split('{').next()?;
    let is_char = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let is_typed = |name: &str| typed.contains(name);
    let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
    let is_right = name.chars().all(is_char)
        && (series.len() == name.len() || series.ends_with('}'))
        && (is_typed(name) || stem.is_some_and(is_typed));
    is_right.then_some((series.to_owned(), value.parse().ok()?))
}

async fn scraped(scene: &mut Scene) -> Check {
    scene.start(&[]).await?;
    let mut ada = scene.enter("ada").await?;
    let before = samples(scene).await?;
    scene.journal.wait_for("some samples");
    if before.len() < 5 {
        return Err(scene.mismatch(&format!("{before:?}")));
    }
    let _grace = scene.enter("grace").await?;
    for _ in 0..7 {
        ada.store("hi").await?;
    }
    let after = samples(scene).await?;
    let grown = |by: f64| {
        after.iter().any(|(series, value)| {
            let old = before.iter().find(|(other, _)| other == series).map_or(0.0, |(_, old)| *old);
            (value - old - by).abs() < 0.001
        })
    };
    scene
        .journal
        .wait_for("a number that is 7 higher after seven messages, and one that is 1 higher");
    if grown(7.0) && grown(1.0) { Ok(()) } else { Err(scene.mismatch(&format!("{after:?}"))) }
}

async fn bounded(scene: &mut Scene) -> Check {
    scene.start(&[]).await?;
    let mut names: Vec<BTreeSet<String>> = Vec::new();
    // The first round makes each series there is; the second has other names and many more of them.
    for (round, users, rooms) in [("one", 1, 1), ("two", 10, 30)] {
        for user in 0..users {
            let mut client = scene.enter(&format!("{round}-{user}")).await?;
            for room in 0..rooms {
                client.join(&scene.name(&format!("{round}-{room}"))).await?;
            }
            client.store("hi").await?;
            client.send_text("{").await;
            client.answer("an `error`").await?;
            client.leave().await?;
        }
        let nobody = scene.credentials("nobody");
        scene.post("/api/login", &[], &nobody).await?;
        let path = format!("/{round}-{}", scene.tag);
        for path in [path.as_str(), "/api/me"] {
            scene.http("GET", path, &[]).await?;
        }
        names.push(samples(scene).await?.into_iter().map(|(series, _)| series).collect());
    }
    scene.journal.wait_for("the same series as before, without anybody's name");
    let [before, after] = names.as_slice() else { return Err(scene.mismatch("no metrics")) };
    let named = after.iter().find(|series| series.contains(&scene.tag));
    match named.or_else(|| after.difference(before).next()) {
        None => Ok(()),
        Some(series) => Err(scene.mismatch(series)),
    }
}

/// Runs the program with a command and its file, on data of its own.
async fn run(scene: &Scene, command: &str, file: &Path, data: &Path) -> Check<Ended> {
    let (file, data) = (file.display(), data.display().to_string());
    scene.journal.note(&format!("ran the program with {command} {file} and DATA_DIR={data}"));
    let program = scene.program_with(&[("DATA_DIR", &data)])?.arg(command).arg(file);
    let ended = program.run_to_end(END).await;
    ended.map_err(|error| scene.mismatch(&format!("{error:#}")))
}

/// A program must have done what it was asked.
fn is_done(scene: &Scene, ended: &Ended) -> Check {
    scene.journal.wait_for("exit code 0");
    if ended.code == Some(0) { Ok(()) } else { Err(scene.mismatch(&told(ended))) }
}

/// A program must have refused, in one sentence.
fn is_refused(scene: &Scene, ended: &Ended) -> Check {
    scene.journal.wait_for("one sentence on stderr, and exit code 1");
    let lines = ended.stderr.lines().filter(|line| !line.trim().is_empty()).count();
    let is_sentence = lines == 1 && !ended.stderr.contains("panicked");
    if ended.code == Some(1) && is_sentence { Ok(()) } else { Err(scene.mismatch(&told(ended))) }
}

async fn backup(scene: &mut Scene) -> Check {
    scene.start(&[]).await?;
    let mut ada = scene.enter("ada").await?;
    let room = ada.room.clone();
    let old = epoch(&ada.join(&room).await?).to_owned();
    for words in ["one", "two"] {
        ada.store(words).await?;
    }
    let bearer = scene.bearer("ada").await?;
    let file = scene.data().join("copy.backup");
    is_done(scene, &run(scene, "backup", &file, scene.data()).await?)?;
    // The server goes on, and what comes now is not in the copy.
    ada.store("three").await?;
    let restored = scene.data().join("restored");
    is_done(scene, &run(scene, "restore", &file, &restored).await?)?;

    scene.again_with(&[("DATA_DIR", &restored.display().to_string())]).await?;
    let answer = scene.http("GET", "/api/me", &[("Authorization", &bearer)]).await?;
    scene.is_error(&answer, 401, "unauthorized")?;
    scene.tokens.lock().await.clear();
    let mut ada = scene.greet("ada").await?;
    let joined = resume(&mut ada, &old, 2).await?;
    let is_right = epoch(&joined) != old
        && joined.get("gap") == Some(&true.into())
        && history(&joined).iter().map(|said| text(said, "text")).eq(["one", "two"]);
    if is_right { Ok(()) } else { Err(ada.mismatch(&json_of(&joined))) }
}

async fn bad_backups(scene: &mut Scene) -> Check {
    scene.start(&[]).await?;
    let mut ada = scene.enter("ada").await?;
    ada.store("one").await?;
    let good = scene.data().join("copy.backup");
    is_done(scene, &run(scene, "backup", &good, scene.data()).await?)?;
    ada.store("two").await?;
    // Into the data of a server that runs.
    is_refused(scene, &run(scene, "restore", &good, scene.data()).await?)?;
    // Over a file that is there, and from data that are not.
    let nowhere = scene.data().join("nowhere");
    is_refused(scene, &run(scene, "backup", &scene.data().join("x.backup"), &nowhere).await?)?;
    let bad = scene.data().join("bad.backup");
    let written = std::fs::write(&bad, "this is no backup");
    written.map_err(|error| Stop::Skipped(error.to_string()))?;
    for file in [bad, scene.data().join("missing.backup")] {
        is_refused(scene, &run(scene, "restore", &file, &nowhere).await?)?;
    }
    ada.store("three").await?;
    let room = ada.room.clone();
    let mut grace = scene.greet("grace").await?;
    let joined = grace.join(&room).await?;
    if numbers(&joined) == [1, 2, 3] { Ok(()) } else { Err(grace.mismatch(&json_of(&joined))) }
}

/// Runs some lines of Python on the data file, while no server does.
async fn python(scene: &Scene, lines: &str) -> Check {
    let skipped = |reason: &str| Stop::Skipped(reason.to_owned());
    let file = crate::step4::degraded::database(scene.data());
    let file = file.ok_or_else(|| skipped("it changes an SQLite file, and there is none"))?;
    scene.journal.note(&format!("changed {} by hand", file.display()));
    let mut changing = Command::new("python3");
    let script =
        format!("import sqlite3, sys\ndb = sqlite3.connect(sys.argv[1])\n{lines}\ndb.commit()\n");
    changing.args(["-c", &script]).arg(file).stdin(Stdio::null()).stderr(Stdio::piped());
    let output = changing.output().await;
    let output = output.map_err(|_| skipped("it takes Python 3 to change the data by hand"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(skipped(String::from_utf8_lossy(&output.stderr).trim()))
}

async fn newer(scene: &mut Scene) -> Check {
    scene.start(&[]).await?;
    let mut ada = scene.enter("ada").await?;
    ada.store("one").await?;
    let killed = scene.running()?.kill().await;
    killed.map_err(|error| scene.mismatch(&error.to_string()))?;
    python(scene, "db.execute('PRAGMA user_version = 1000')").await?;
    let ended = scene.program_with(&[])?.run_to_end(END).await;
    let ended = ended.map_err(|error| scene.mismatch(&format!("{error:#}")))?;
    is_refused(scene, &ended)
}

/// Makes the first three messages of every room older by two days.
const AGE: &str = "
tables = [row[0] for row in db.execute(\"SELECT name FROM sqlite_master WHERE type = 'table'\")]
columns = {table: [row[1] for row in db.execute(f'PRAGMA table_info({table})')] for table in tables}
table = next(table for table in tables if {'seq', 'at', 'room'} <= set(columns[table]))
db.execute(f'UPDATE {table} SET at = at - 172800000 WHERE seq <= 3')
";

async fn retention(scene: &mut Scene) -> Check {
    scene.start(&[]).await?;
    let mut ada = scene.enter("ada").await?;
    let room = ada.room.clone();
    let epoch = epoch(&ada.join(&room).await?).to_owned();
    for number in 1..=5 {
        ada.store(&format!("needle {number}")).await?;
    }
    let killed = scene.running()?.kill().await;
    killed.map_err(|error| scene.mismatch(&error.to_string()))?;
    python(scene, AGE).await?;
    // Without the setting they stay.
    scene.start(&[]).await?;
    let mut ada = scene.greet("ada").await?;
    let joined = resume(&mut ada, &epoch, 0).await?;
    if numbers(&joined) != [1, 2, 3, 4, 5] {
        return Err(ada.mismatch(&json_of(&joined)));
    }
    scene.again_with(&[("RETENTION", "1d")]).await?;
    for _ in 0..TRIES {
        let mut ada = scene.greet("ada").await?;
        let joined = resume(&mut ada, &epoch, 0).await?;
        if numbers(&joined) == [4, 5] {
            return gone(scene, &joined, &room).await;
        }
        sleep(AGAIN).await;
    }
    scene.journal.wait_for("the messages 4 and 5 alone");
    Err(scene.mismatch("older ones as well, again and again"))
}

/// What is gone must be gone everywhere, and be told as a gap.
async fn gone(scene: &mut Scene, joined: &serde_json::Value, room: &str) -> Check {
    scene.journal.wait_for("`gap` true for a cursor before the messages that are gone");
    if joined.get("gap") != Some(&true.into()) {
        return Err(scene.mismatch(&json_of(joined)));
    }
    let bearer = scene.bearer("ada").await?;
    let path = format!("/api/search?room={room}&q=needle");
    let answer = scene.http("GET", &path, &[("Authorization", &bearer)]).await?;
    let found = scene.json(&answer, 200)?;
    let count = found.get("messages").and_then(serde_json::Value::as_array).map(Vec::len);
    scene.journal.wait_for("two messages in the search");
    if count == Some(2) { Ok(()) } else { Err(scene.mismatch(&status(&answer))) }
}
