//! What a client that never reads costs: its bounded queue, and nobody else's time.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde_json::{Value, json};
use tests::program::{Program, Running};
use tests::raw::{CLOSE, Frame, Opened, PING, PONG, Reading, Socket, TEXT, request_with};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use uuid::Uuid;

/// The milestones: the number, the package, and how much is offered to the client that never reads, in
/// bytes. Milestones 4 and 5 bring all of it to the disk, so it takes longer for the same.
const MILESTONES: [(u8, &str, usize); 4] = [
    (2, "step02-multiuser", 256_000_000),
    (3, "step03-rooms", 256_000_000),
    (4, "step04-resilience", 64_000_000),
    (5, "step05-production", 64_000_000),
];

/// How much the server may grow meanwhile, in KiB. In milestone 4 these are the last 512 messages of the
/// room, 4 MB, which it keeps for those who come back.
const GROWTH_KIB: u64 = 10 * 1000;

/// One message: 2,000 characters of four bytes.
const CHARACTERS: usize = 1990;

/// No message may take longer to come back, although somebody does not read.
const PATIENCE: Duration = Duration::from_secs(3);

/// How many messages are on their way at once.
const WINDOW: usize = 128;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One measurement at a time, so that the figures mean something.
    arguments.test_threads = Some(1);
    let trials = MILESTONES.map(|(milestone, package, offered)| {
        let name = format!("{package}::a_client_that_never_reads_costs_no_more_than_its_queue");
        Trial::ignorable_test(name, move || measure(milestone, package, offered))
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

fn measure(milestone: u8, package: &str, offered: usize) -> Result<Completion, Failed> {
    if !cfg!(target_os = "linux") {
        return Ok(Completion::ignored_with("memory is measured on Linux only"));
    }
    let report = Runtime::new()?.block_on(offer(milestone, package, offered))?;
    println!("{package}: {report}");
    Ok(Completion::Completed)
}

/// Offers much to a client that never reads, through a sender and beside a third client.
async fn offer(milestone: u8, package: &str, offered: usize) -> anyhow::Result<String> {
    let program = Program::cargo_package(package).env("RUST_LOG", "warn").unlimited();
    let server = program.start().await?;
    let mut sender = Speaker::enter(&server, milestone, "ada").await?;
    let mut third = Speaker::enter(&server, milestone, "grace").await?;
    let silent = enter(&server, milestone, "silent").await?;
    // Warmed up: what the server needs for these three in any case is not growth.
    talk(&mut sender, &mut third, 0..100).await?;
    let before = memory(&server)?;
    let mut highest = before;

    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    let count = offered / (CHARACTERS * 4);
    for first in (0..count).step_by(WINDOW) {
        let sent = Instant::now();
        talk(&mut sender, &mut third, first..count.min(first + WINDOW)).await?;
        slowest = slowest.max(sent.elapsed());
        highest = highest.max(memory(&server)?);
    }
    let took = start.elapsed();
    let ending = ending_of(silent).await?;

    let growth = highest - before;
    anyhow::ensure!(growth < GROWTH_KIB, "grew by {growth} KiB, from {before} to {highest}");
    anyhow::ensure!(slowest < PATIENCE, "{WINDOW} messages took {slowest:?}");
    Ok(format!(
        "{count} messages, {} MB, in {:.1} s; RSS {before} KiB before, {highest} KiB at most (+{growth}); \
         slowest {WINDOW} messages {:.0} ms; the silent client: {ending}",
        offered / 1_000_000,
        took.as_secs_f64(),
        slowest.as_secs_f64() * 1000.0,
    ))
}

fn memory(server: &Running) -> anyhow::Result<u64> {
    server.rss_kib().ok_or_else(|| anyhow::anyhow!("the server has ended:\n{}", server.stderr()))
}

/// Says these numbers, and waits until both have heard each of them in order.
async fn talk(
    sender: &mut Speaker,
    third: &mut Speaker,
    numbers: std::ops::Range<usize>,
) -> anyhow::Result<()> {
    for number in numbers.clone() {
        sender.say(number).await?;
    }
    for number in numbers {
        sender.hear(number).await?;
        third.hear(number).await?;
    }
    Ok(())
}

/// Opens a WebSocket, says hello, and from milestone 3 on joins the room.
async fn enter(server: &Running, milestone: u8, name: &str) -> anyhow::Result<Socket> {
    let bearer = if milestone >= 5 { sign_in(server, name).await? } else { String::new() };
    let who = [("Authorization", bearer.as_str())];
    let headers = if milestone >= 5 { who.as_slice() } else { &[] };
    let opened = Socket::open(server.address(), "/ws", headers).await?;
    let Opened::Socket(mut socket) = opened else { anyhow::bail!("refused: {opened:?}") };
    if milestone < 5 {
        socket.send(&Frame::text(json!({"type": "hello", "name": name}).to_string())).await?;
    }
    until(&mut socket, "welcome").await?;
    if milestone >= 3 {
        socket.send(&Frame::text(json!({"type": "join", "room": "hall"}).to_string())).await?;
        until(&mut socket, "joined").await?;
    }
    Ok(socket)
}

/// Makes an account, and gives what its connections show.
async fn sign_in(server: &Running, name: &str) -> anyhow::Result<String> {
    let body = json!({"name": name, "password": "long enough"}).to_string();
    let headers = [("Content-Type", "application/json")];
    request_with(server.address(), "POST", "/api/register", &headers, &body).await?;
    let answer = request_with(server.address(), "POST", "/api/token", &headers, &body).await?;
    let answer: Value = serde_json::from_str(&answer.body)?;
    Ok(format!("Bearer {}", answer.get("token").and_then(Value::as_str).unwrap_or_default()))
}

/// Reads up to an event of this type.
async fn until(socket: &mut Socket, kind: &str) -> anyhow::Result<()> {
    let start = format!("{{\"type\":\"{kind}\"");
    for _ in 0..100 {
        match timeout(PATIENCE, socket.next()).await?? {
            Some(frame) if frame.payload.starts_with(start.as_bytes()) => return Ok(()),
            Some(_) => {}
            None => break,
        }
    }
    anyhow::bail!("no {kind}")
}

/// Reads what was left for the silent client. Whatever it is, it must come to an end.
async fn ending_of(mut silent: Socket) -> anyhow::Result<String> {
    loop {
        match timeout(Duration::from_secs(10), silent.next()).await? {
            Ok(Some(frame)) if frame.opcode == CLOSE => {
                anyhow::ensure!(frame.close_code() == Some(4008), "{}", frame.describe());
                return Ok("closed with 4008".to_owned());
            }
            Ok(Some(_)) => {}
            Ok(None) => return Ok("the connection ended".to_owned()),
            Err(error) => return Ok(format!("the connection ended: {error}")),
        }
    }
}

/// A client that always reads.
struct Speaker {
    milestone: u8,
    writing: OwnedWriteHalf,
    heard: mpsc::UnboundedReceiver<Frame>,
    reader: JoinHandle<()>,
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Speaker {
    async fn enter(server: &Running, milestone: u8, name: &str) -> anyhow::Result<Self> {
        let (reading, writing) = enter(server, milestone, name).await?.split();
        let (sender, heard) = mpsc::unbounded_channel();
        let reader = tokio::spawn(read(reading, sender));
        Ok(Self { milestone, writing, heard, reader })
    }

    async fn say(&mut self, number: usize) -> anyhow::Result<()> {
        let text = format!("{number} {}", "🦀".repeat(CHARACTERS));
        let event = if self.milestone >= 3 {
            // Milestone 3 ignores the id, later ones need it.
            json!({"type": "message", "id": Uuid::new_v4(), "room": "hall", "text": text})
        } else {
            json!({"type": "message", "text": text})
        };
        self.writing.write_all(&Frame::text(event.to_string()).encode()).await?;
        Ok(())
    }

    /// The next message must be this one.
    async fn hear(&mut self, number: usize) -> anyhow::Result<()> {
        let wanted = format!("\"text\":\"{number} ");
        loop {
            let frame = timeout(PATIENCE, self.heard.recv()).await?;
            let Some(frame) = frame else { anyhow::bail!("the connection ended at {number}") };
            if frame.opcode != TEXT {
                anyhow::bail!("{} at {number}", frame.describe());
            }
            let text = String::from_utf8_lossy(&frame.payload);
            if text.contains(&wanted) {
                return Ok(());
            }
            // Only who comes and who goes may come between, and the acks.
            anyhow::ensure!(
                ["_joined\"", "_left\"", "\"ack\""].iter().any(|kind| text.contains(kind)),
                "number {number} is missing"
            );
        }
    }
}

async fn read(mut reading: Reading<OwnedReadHalf>, heard: mpsc::UnboundedSender<Frame>) {
    while let Ok(Some(frame)) = reading.next().await {
        if [PING, PONG].contains(&frame.opcode) {
            continue;
        }
        if heard.send(frame).is_err() {
            return;
        }
    }
}
