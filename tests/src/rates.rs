//! How many messages a second are acked, beside what the raw disk can do at that moment.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::json;
use tokio::time::timeout;
use uuid::Uuid;

use crate::model::Draft;
use crate::program::{Program, Running, Scratch};
use crate::raw::{Frame, Opened, PING, PONG, Socket};

/// No ack takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a second a file of the server's disk can be written and brought to the disk, one small
/// block after the other.
///
/// # Errors
/// The file can't be written.
pub fn fsyncs(time: Duration) -> Result<f64> {
    let data = Scratch::new();
    std::fs::create_dir_all(data.path())?;
    let mut file = File::create(data.path().join("fsync"))?;
    let (began, mut count) = (Instant::now(), 0_u32);
    while began.elapsed() < time {
        // As long as a frame of SQLite's write-ahead log.
        file.write_all(&[7; 4096 + 24])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}

/// How many messages a second so many senders get acked, when each sends the next one as soon as it
/// has the ack of the last. Gives the acks a second and the median time of one.
///
/// # Errors
/// The server refuses somebody, or an ack does not come.
pub async fn acks(program: &Program, senders: usize, time: Duration) -> Result<(f64, Duration)> {
    let program = program.clone().env("RUST_LOG", "error").env("MAX_CONNECTIONS", "2000");
    let server = program.start().await?;
    let mut all = Vec::new();
    for number in 0..senders {
        // Each in a room of its own: what is measured is storing, not telling everyone.
        all.push((enter(&server, number).await?, format!("room{number}")));
    }
    let began = Instant::now();
    let tasks: Vec<_> = all
        .into_iter()
        .map(|(socket, room)| tokio::spawn(send(socket, room, began + time)))
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    let took = began.elapsed().as_secs_f64();
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    Ok((times.len() as f64 / took, median))
}

async fn enter(server: &Running, number: usize) -> Result<Socket> {
    let opened = Socket::open(server.address(), "/ws", &[]).await?;
    let Opened::Socket(mut socket) = opened else { bail!("refused: {opened:?}") };
    let hello = json!({"type": "hello", "name": format!("sender{number}")});
    socket.send(&Frame::text(hello.to_string())).await?;
    let join = json!({"type": "join", "room": format!("room{number}")});
    socket.send(&Frame::text(join.to_string())).await?;
    until(&mut socket, "\"joined\"").await?;
    Ok(socket)
}

/// Sends and waits for the ack, over and over; gives how long each took.
async fn send(mut socket: Socket, room: String, end: Instant) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    while Instant::now() < end {
        let sent = Instant::now();
        let draft =
            Draft { id: Uuid::new_v4(), room: room.clone(), text: "How are you?".to_owned() };
        socket.send(&Frame::text(draft.event())).await?;
        until(&mut socket, "\"ack\"").await?;
        times.push(sent.elapsed());
    }
    Ok(times)
}

/// Reads up to an event of this type.
async fn until(socket: &mut Socket, kind: &str) -> Result<()> {
    let start = format!("{{\"type\":{kind}");
    loop {
        let Some(frame) = timeout(PATIENCE, socket.next()).await?? else { bail!("the end") };
        if frame.opcode == PING {
            socket.send(&Frame::new(PONG, frame.payload)).await?;
        } else if frame.payload.starts_with(start.as_bytes()) {
            return Ok(());
        } else if frame.payload.starts_with(b"{\"type\":\"error\"") {
            bail!("{}", frame.describe());
        }
    }
}
