//! What a delivery costs the server, and how long it takes: some talk in a room, and everyone in it
//! hears them.
//!
//! The generator runs on one thread with one buffer for all, so that it takes little of the processor
//! that it shares with the server ([`pin`]).

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::sleep;
use uuid::Uuid;

use crate::load::door::{Home, PATIENCE, address, without_limits};
use crate::load::process::{Process, millis, percentile, thousands, wait_until};
use crate::program::Program;
use crate::raw::{CLOSE, Frame, PING, PONG, Socket, TEXT, first_frame};

/// How long everyone talks before anything is counted.
const WARM_UP: Duration = Duration::from_secs(1);

/// How many come in at once.
const AT_ONCE: usize = 32;

/// How long a message's text is, in bytes.
const TEXT_BYTES: usize = 100;

/// How many connections are opened to see what opening one costs.
const HANDSHAKES: usize = 4000;

/// Puts this process, and every server it starts from now on, on one processor. Where they share one,
/// figures repeat within a tenth; where the system places them, a delivery costs up to twice as much.
///
/// # Errors
/// There is no `taskset`, or no such processor.
pub async fn pin(processor: usize) -> Result<()> {
    let me = std::process::id().to_string();
    let mut taskset = Command::new("taskset");
    taskset.args(["--all-tasks", "--cpu-list", "--pid", &processor.to_string(), &me]);
    let output = taskset.output().await.context("can't run taskset")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Who talks, and who hears it.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// How many are in the room.
    pub members: usize,
    /// How many of them talk.
    pub senders: usize,
    /// How many messages each of these may have sent and not heard yet.
    pub window: usize,
}

impl Shape {
    /// Those that are measured.
    pub const ALL: [Self; 5] = [
        Self { members: 100, senders: 1, window: 1 },
        Self { members: 100, senders: 1, window: 16 },
        Self { members: 1000, senders: 1, window: 1 },
        Self { members: 1000, senders: 1, window: 16 },
        Self { members: 100, senders: 100, window: 1 },
    ];
}

/// What came of a run.
#[derive(Debug)]
pub struct Fanout {
    /// The server.
    pub server: String,
    /// What was done.
    pub shape: Shape,
    /// Over what time it was counted.
    pub took: Duration,
    /// How often a message came to a member.
    pub deliveries: u64,
    /// How many messages were acked.
    pub acked: u64,
    /// The server's CPU time.
    pub cpu: Duration,
    /// The median time from sending to hearing.
    pub median: Duration,
    /// The time that 99 of 100 deliveries took at most.
    pub p99: Duration,
}

impl Fanout {
    /// What the columns of a row are.
    pub const HEAD: &str = "\
| server | senders to members | in flight each | messages acked/s (each on the disk before) | deliveries/s | server CPU a delivery, µs | p50, ms | p99, ms |
|---|---|---|---|---|---|---|---|";
}

impl fmt::Display for Fanout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let a_second = |count: u64| (count as f64 / self.took.as_secs_f64()).round() as u64;
        write!(
            f,
            "| {} | {} to {} | {} | {} | {} | {:.2} | {} | {} |",
            self.server,
            self.shape.senders,
            thousands(self.shape.members),
            self.shape.window,
            thousands(a_second(self.acked)),
            thousands(a_second(self.deliveries)),
            self.cpu.as_secs_f64() * 1e6 / self.deliveries.max(1) as f64,
            millis(self.median),
            millis(self.p99)
        )
    }
}

/// Lets them talk for so long. Runs on the thread that calls it.
///
/// # Errors
/// The server refuses somebody, or somebody misses a message, hears one twice or out of order.
pub async fn fanout(
    program: &Program,
    milestone: u8,
    shape: Shape,
    time: Duration,
) -> Result<Fanout> {
    LocalSet::new().run_until(talk(program, milestone, shape, time)).await
}

async fn talk(program: &Program, milestone: u8, shape: Shape, time: Duration) -> Result<Fanout> {
    let home = Home::of(&without_limits(program), milestone, shape.members).await?;
    let process = Process::of(&home.server)?;
    let crowd = Crowd::gather(&home, shape).await?;
    sleep(WARM_UP).await;

    let (cpu, before, began) = (process.cpu()?, crowd.state.counts(), Instant::now());
    crowd.state.times.borrow_mut().clear();
    sleep(time).await;
    let (took, after) = (began.elapsed(), crowd.state.counts());
    let cpu = process.cpu()?.since(&cpu);
    let mut times = crowd.state.times.take();
    crowd.finish(shape).await?;

    Ok(Fanout {
        server: program.name().to_owned(),
        shape,
        took,
        deliveries: after.heard - before.heard,
        acked: after.acked - before.acked,
        cpu,
        median: percentile(&mut times, 0.5),
        p99: percentile(&mut times, 0.99),
    })
}

/// What all members have sent and heard together.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    sent: u64,
    heard: u64,
    acked: u64,
}

/// What the members share. All of them are on one thread.
#[derive(Debug)]
struct State {
    since: Instant,
    counts: Cell<Counts>,
    times: RefCell<Vec<Duration>>,
    /// The buffer into which everyone reads.
    buffer: RefCell<Vec<u8>>,
    is_over: Cell<bool>,
}

impl State {
    fn counts(&self) -> Counts {
        self.counts.get()
    }

    fn count(&self, change: impl Fn(&mut Counts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }
}

/// Everyone in the room.
#[derive(Debug)]
struct Crowd {
    state: Rc<State>,
    members: Vec<JoinHandle<Result<()>>>,
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.members.iter().for_each(JoinHandle::abort);
    }
}

impl Crowd {
    /// Lets everyone in, and the talk begin.
    async fn gather(home: &Home, shape: Shape) -> Result<Self> {
        let state = Rc::new(State {
            since: Instant::now(),
            counts: Cell::default(),
            times: RefCell::default(),
            buffer: RefCell::new(vec![0; 256 * 1024]),
            is_over: Cell::default(),
        });
        let enter = |number: usize| async move {
            home.door.enter(address(1, number), &home.account(number), "hall").await
        };
        let all: Vec<Socket> =
            stream::iter(0..shape.members).map(enter).buffered(AT_ONCE).try_collect().await?;
        let members = all.into_iter().enumerate().map(|(number, socket)| {
            let window = if number < shape.senders { shape.window } else { 0 };
            let member = Member::new(number, window, shape.senders, Rc::clone(&state), socket);
            spawn_local(async move { member?.live().await })
        });
        let members = members.collect();
        Ok(Self { state, members })
    }

    /// Lets the talk end, and waits until everyone has heard everything.
    async fn finish(mut self, shape: Shape) -> Result<()> {
        self.state.is_over.set(true);
        let members = shape.members as u64;
        let state = Rc::clone(&self.state);
        let complete = || {
            let Counts { sent, heard, acked } = state.counts();
            heard == sent * members && acked == sent
        };
        let is_complete = wait_until(PATIENCE, async || complete()).await;
        for member in &mut self.members {
            if member.is_finished() {
                member.await??;
            }
        }
        ensure!(is_complete, "of {members} members: {:?}", self.state.counts());
        Ok(())
    }
}

/// One of them.
struct Member {
    number: usize,
    /// How many messages it may have on their way; 0 if it only listens.
    window: usize,
    stream: TcpStream,
    /// What was read of a frame that is not complete.
    rest: Vec<u8>,
    /// The number of the last message of each sender.
    heard: Vec<u64>,
    said: u64,
    state: Rc<State>,
}

impl Member {
    fn new(
        number: usize,
        window: usize,
        senders: usize,
        state: Rc<State>,
        socket: Socket,
    ) -> Result<Self> {
        let (stream, rest) = socket.into_stream()?;
        Ok(Self { number, window, stream, rest, heard: vec![0; senders], said: 0, state })
    }

    /// Talks and listens, until it is dropped.
    async fn live(mut self) -> Result<()> {
        self.read().await?;
        self.say(self.window).await?;
        loop {
            self.stream.readable().await?;
            let read = {
                let mut buffer = self.state.buffer.borrow_mut();
                match self.stream.try_read(&mut buffer) {
                    Ok(0) => bail!("member {}: the end of the connection", self.number),
                    Ok(length) => buffer.get(..length).map(<[u8]>::to_vec).unwrap_or_default(),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                    Err(error) => return Err(error.into()),
                }
            };
            self.rest.extend(read);
            self.read().await?;
        }
    }

    /// Takes in all frames that are complete. Who has heard itself says the next thing.
    async fn read(&mut self) -> Result<()> {
        let (mut own, mut start, rest) = (0, 0, std::mem::take(&mut self.rest));
        while let Some((head, payload, length)) =
            first_frame(rest.get(start..).unwrap_or_default())?
        {
            start += length;
            match head.opcode {
                TEXT => own += usize::from(self.hear(payload)?),
                PING => self.stream.write_all(&Frame::new(PONG, payload).encode()).await?,
                CLOSE => bail!("member {} was sent away", self.number),
                _ => {}
            }
        }
        self.rest.extend(rest.get(start..).unwrap_or_default());
        if own > 0 && !self.state.is_over.get() {
            self.say(own).await?;
        }
        Ok(())
    }

    /// Says so many things. Each tells who says it, its number, and when.
    async fn say(&mut self, count: usize) -> Result<()> {
        let mut bytes = Vec::new();
        for _ in 0..count {
            self.said += 1;
            let now = self.state.since.elapsed().as_nanos();
            let text = format!("{} {} {now} ", self.number, self.said);
            let (id, text) = (Uuid::new_v4(), format!("{text:.<TEXT_BYTES$}"));
            let event =
                format!(r#"{{"type":"message","id":"{id}","room":"hall","text":"{text}"}}"#);
            bytes.extend(Frame::text(event).encode());
        }
        self.state.count(|counts| counts.sent += count as u64);
        Ok(self.stream.write_all(&bytes).await?)
    }

    /// Takes in an event; whether it is a message of its own.
    fn hear(&mut self, event: &[u8]) -> Result<bool> {
        if event.starts_with(b"{\"type\":\"ack\"") {
            self.state.count(|counts| counts.acked += 1);
        }
        ensure!(!event.starts_with(b"{\"type\":\"error\""), "{}", String::from_utf8_lossy(event));
        if !event.starts_with(b"{\"type\":\"message\"") {
            return Ok(false);
        }
        let (from, number, sent) = numbers(event).context("a message of somebody else")?;
        let before = self.heard.get_mut(from).context("a message of somebody else")?;
        ensure!(*before + 1 == number, "{number} of {from} came after {before}");
        *before = number;
        let time = self.state.since.elapsed().saturating_sub(Duration::from_nanos(sent));
        self.state.times.borrow_mut().push(time);
        self.state.count(|counts| counts.heard += 1);
        Ok(from == self.number)
    }
}

/// The three numbers at the beginning of a message's text.
fn numbers(event: &[u8]) -> Option<(usize, u64, u64)> {
    const FIELD: &[u8] = b"\"text\":\"";
    let start = event.windows(FIELD.len()).position(|bytes| bytes == FIELD)? + FIELD.len();
    let text = std::str::from_utf8(event.get(start..)?).ok()?;
    let mut words = text.splitn(4, ' ');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// What opening connections costs.
#[derive(Debug)]
pub struct Handshakes {
    /// The server.
    pub server: String,
    /// How many were opened.
    pub count: usize,
    /// How long all of them took.
    pub took: Duration,
    /// The server's CPU time.
    pub cpu: Duration,
}

impl Handshakes {
    /// What the columns of a row are.
    pub const HEAD: &str = "\
| server | connections opened, from TCP to `welcome`, 32 at once | handshakes/s | server CPU each, µs |
|---|---|---|---|";
}

impl fmt::Display for Handshakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "| {} | {} | {} | {:.0} |",
            self.server,
            thousands(self.count),
            thousands((self.count as f64 / self.took.as_secs_f64()) as u64),
            self.cpu.as_secs_f64() * 1e6 / self.count.max(1) as f64
        )
    }
}

/// Opens many connections, and keeps all of them until they are counted.
///
/// # Errors
/// The server refuses somebody.
pub async fn handshakes(program: &Program, milestone: u8) -> Result<Handshakes> {
    let home = Home::of(&without_limits(program), milestone, HANDSHAKES).await?;
    let process = Process::of(&home.server)?;
    let connect = |number: usize| {
        let (door, account) = (home.door.clone(), home.account(number));
        async move { door.connect(address(1, number), &account).await }
    };
    let (cpu, began) = (process.cpu()?, Instant::now());
    let all: Vec<Socket> =
        stream::iter(0..HANDSHAKES).map(connect).buffer_unordered(AT_ONCE).try_collect().await?;
    let took = began.elapsed();
    let cpu = process.cpu()?.since(&cpu);
    Ok(Handshakes { server: program.name().to_owned(), count: all.len(), took, cpu })
}
