//! Those who take their time: half requests, half frames, and readers that don't read.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::event::text;
use crate::raw::{Frame, PONG};
use crate::rules::flow::flood;
use crate::scenario::{Check, SLOW, Scenario};
use crate::scene::Scene;
use crate::step4::resume::{epoch, numbers, resume};
use crate::wire::Wire;

/// How long a request's head or a message may take, and some room for a busy machine.
const DUE: Duration = Duration::from_secs(10);
const ROOM: Duration = Duration::from_secs(5);

/// How many half-open connections stand in somebody's way.
const HALF_OPEN: usize = 100;

const SLOWLORIS: Scenario = Scenario { limit: SLOW, ..Scenario::of(5, "deep/threat-model.html") };

const HEAD_HINT: &str = "hyper's `header_read_timeout`, with a timer, and a `timeout` around the whole time before the upgrade.";
const MESSAGE_HINT: &str = "A deadline that begins with the first byte of a message and ends with its last, whatever comes between: 10 seconds, then 1008.";

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "half_a_request_is_hung_up_on",
        sentence: "Half a request is hung up on, and so is a connection that says nothing",
        expected: "the end of the connection about 10 seconds after it was opened",
        hint: HEAD_HINT,
        run: |scene| Box::pin(half_requests(scene)),
        ..SLOWLORIS
    },
    Scenario {
        name: "a_request_a_byte_at_a_time_is_hung_up_on",
        sentence: "A request that comes a byte at a time is hung up on",
        expected: "the end of the connection about 10 seconds after it was opened, although it was never silent",
        hint: HEAD_HINT,
        run: |scene| Box::pin(request_by_bytes(scene)),
        ..SLOWLORIS
    },
    Scenario {
        name: "a_body_that_never_comes_is_not_waited_for",
        sentence: "A body that never comes whole is not waited for",
        expected: "an answer from 400 to 499, or the end of the connection, about 10 seconds after the request began",
        hint: "A `timeout` around reading the body, not only around reading the head.",
        run: |scene| Box::pin(half_bodies(scene)),
        ..SLOWLORIS
    },
    Scenario {
        name: "half_open_connections_are_in_nobody_s_way",
        sentence: "A hundred half-open connections are in nobody's way",
        expected: "an `ack` within 2 seconds while they are open",
        hint: "Each connection is a task of its own from `accept` on: nothing waits for a handshake but its own task.",
        run: |scene| Box::pin(many_half_open(scene)),
        ..SLOWLORIS
    },
    Scenario {
        name: "a_frame_a_byte_at_a_time_is_closed",
        sentence: "A frame that comes a byte at a time is closed",
        expected: "close code 1008 about 10 seconds after its first byte",
        hint: MESSAGE_HINT,
        run: |scene| Box::pin(frame_by_bytes(scene)),
        ..SLOWLORIS
    },
    Scenario {
        name: "half_a_frame_is_closed",
        sentence: "Half a frame and then nothing is closed",
        expected: "close code 1008 about 10 seconds after its first byte",
        hint: MESSAGE_HINT,
        run: |scene| Box::pin(half_frame(scene)),
        ..SLOWLORIS
    },
    Scenario {
        name: "a_message_without_its_end_is_closed",
        sentence: "A message without its last fragment is closed, although its sender answers pings and sends some",
        expected: "close code 1008 about 10 seconds after its first fragment",
        hint: MESSAGE_HINT,
        run: |scene| Box::pin(no_last_fragment(scene)),
        ..SLOWLORIS
    },
    Scenario {
        name: "who_was_too_slow_comes_back_and_has_everything",
        sentence: "Who was closed for being too slow comes back and has everything",
        expected: "for a client that was closed because it did not read, a resume with every message that was missed",
        hint: "The log has it. A queue that is full loses a connection, not a message.",
        alone: true,
        run: |scene| Box::pin(recovers(scene)),
        ..SLOWLORIS
    },
];

/// A bare connection.
async fn tcp(scene: &Scene) -> Check<TcpStream> {
    let connected = scene.within("a connection", TcpStream::connect(scene.address())).await?;
    connected.map_err(|error| scene.mismatch(&error.to_string()))
}

const HALF: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n";

/// A connection must end by itself, in time. An answer may come before.
async fn ends(scene: &Scene, stream: &mut TcpStream, since: Instant) -> Check {
    scene.journal.wait_for("the end of the connection");
    let mut answer = Vec::new();
    let left = (DUE + ROOM).saturating_sub(since.elapsed());
    match timeout(left, stream.read_to_end(&mut answer)).await {
        Ok(_ended) if since.elapsed() < DUE / 2 => {
            Err(scene.mismatch(&format!("the end after {:?} already", since.elapsed())))
        }
        Ok(_ended) => Ok(()),
        Err(_elapsed) => {
            Err(scene.mismatch(&format!("an open connection after {:?}", since.elapsed())))
        }
    }
}

async fn half_requests(scene: &mut Scene) -> Check {
    let began = Instant::now();
    let mut streams = Vec::new();
    for part in ["", "GET /ws HT", HALF] {
        let mut stream = tcp(scene).await?;
        scene.journal.note(&format!("sent \"{}\" and nothing more", part.trim()));
        let _ = stream.write_all(part.as_bytes()).await;
        streams.push(stream);
    }
    for stream in &mut streams {
        ends(scene, stream, began).await?;
    }
    Ok(())
}

async fn request_by_bytes(scene: &mut Scene) -> Check {
    let began = Instant::now();
    let mut stream = tcp(scene).await?;
    let (mut reading, mut writing) = stream.split();
    scene.journal.note("sent a handshake, two bytes a second");
    let sending = async {
        for byte in HALF.as_bytes() {
            if writing.write_all(&[*byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_millis(500)).await;
        }
    };
    scene.journal.wait_for("the end of the connection");
    let mut answer = Vec::new();
    let ending = timeout(DUE + ROOM, reading.read_to_end(&mut answer));
    let ended = tokio::select! {
        ended = ending => ended.is_ok(),
        () = sending => false,
    };
    if ended && began.elapsed() > DUE / 2 {
        return Ok(());
    }
    Err(scene.mismatch(&format!("an end: {ended}, after {:?}", began.elapsed())))
}

async fn half_bodies(scene: &mut Scene) -> Check {
    let bearer = scene.bearer("ada").await?;
    let began = Instant::now();
    let mut waiting = Vec::new();
    for path in ["/api/login", "/api/register", "/hello", "/events"] {
        let mut stream = tcp(scene).await?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {bearer}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{",
            scene.address()
        );
        scene.journal.note(&format!("sent POST {path} with one byte of its body"));
        let _ = stream.write_all(head.as_bytes()).await;
        waiting.push((path, stream));
    }
    for (path, mut stream) in waiting {
        scene.journal.wait_for(&format!("an answer at {path}, or the end of the connection"));
        let mut answer = [0; 12];
        let left = (DUE + ROOM).saturating_sub(began.elapsed());
        let came = timeout(left, stream.read(&mut answer)).await;
        let is_right = came.is_ok_and(|read| read.is_err() || answer[0] == 0 || answer[9] == b'4');
        if !is_right {
            let got = String::from_utf8_lossy(&answer).into_owned();
            return Err(scene.mismatch(&format!("\"{got}\" after {:?}", began.elapsed())));
        }
    }
    Ok(())
}

async fn many_half_open(scene: &mut Scene) -> Check {
    let mut streams = Vec::new();
    for number in 0..HALF_OPEN {
        let mut stream = tcp(scene).await?;
        let part = HALF.get(..number % HALF.len()).unwrap_or_default();
        let _ = stream.write_all(part.as_bytes()).await;
        streams.push(stream);
    }
    scene.journal.note(&format!("opened {HALF_OPEN} connections with parts of a handshake"));
    let began = Instant::now();
    let mut ada = scene.enter("ada").await?;
    ada.store("still here").await?;
    let took = began.elapsed();
    drop(streams);
    if took < Duration::from_secs(4) { Ok(()) } else { Err(ada.mismatch(&format!("{took:?}"))) }
}

/// The server must close with 1008, about 10 seconds after the message began.
async fn closes(scene: &Scene, wire: &mut Wire, since: Instant) -> Check {
    let frame = loop {
        let left = (DUE + ROOM).saturating_sub(since.elapsed());
        let frame = wire.next_within(left, "a close frame with code 1008").await?;
        if frame.opcode == crate::raw::CLOSE {
            break frame;
        }
    };
    let is_in_time = since.elapsed() > DUE / 2;
    if frame.close_code() == Some(1008) && is_in_time {
        return wire.expect_end().await;
    }
    Err(scene.mismatch(&format!("{} after {:?}", frame.describe(), since.elapsed())))
}

async fn frame_by_bytes(scene: &mut Scene) -> Check {
    let mut ada = scene.wire("ada").await?;
    let frame = Frame::text(json!({"type": "rooms", "padding": "x".repeat(500)}).to_string());
    let since = Instant::now();
    scene.journal.note("ada sent a frame, five bytes a second");
    for byte in frame.encode() {
        // A deadline that each byte moves on would be far away now.
        if since.elapsed() > DUE * 4 / 5 {
            break;
        }
        ada.send_quietly(&[byte]).await;
        sleep(Duration::from_millis(200)).await;
    }
    closes(scene, &mut ada, since).await
}

async fn half_frame(scene: &mut Scene) -> Check {
    let since = Instant::now();
    let frame = Frame::text(json!({"type": "rooms", "padding": "x".repeat(500)}).to_string());
    let bytes = frame.encode();
    let mut wires = Vec::new();
    // A byte, a header, and half of what it promises.
    for length in [1, 8, 250] {
        let mut wire = scene.wire("ada").await?;
        let part = bytes.get(..length).unwrap_or_default();
        wire.send_bytes(part, &format!("{length} bytes of a frame, and nothing more")).await;
        wires.push(wire);
    }
    for wire in &mut wires {
        closes(scene, wire, since).await?;
    }
    Ok(())
}

async fn no_last_fragment(scene: &mut Scene) -> Check {
    let mut ada = scene.wire("ada").await?;
    let since = Instant::now();
    ada.send(&Frame::text("{\"type\":").unfinished()).await;
    for _ in 0..3 {
        sleep(Duration::from_secs(2)).await;
        ada.send(&Frame::ping("still here")).await;
        ada.expect(PONG, b"still here").await?;
        ada.send(&Frame::new(crate::raw::CONTINUATION, " ").unfinished()).await;
    }
    closes(scene, &mut ada, since).await
}

async fn recovers(scene: &mut Scene) -> Check {
    let mut ada = scene.enter("ada").await?;
    let slow = scene.enter_without_reading("slow").await?;
    let mut grace = scene.enter("grace").await?;
    let room = grace.room.clone();
    let epoch = epoch(&grace.join(&room).await?).to_owned();
    let (last, gone) = flood(&mut ada, &mut grace, &scene.name("slow")).await?;
    if !gone {
        scene.journal.wait_for("the server to let go of slow");
        return Err(scene.mismatch(&format!("nothing of that after {last} messages of 8 KB")));
    }
    drop(slow);
    let mut again = scene.greet("slow").await?;
    let all = last as u64 + 1;
    let mut at = 0;
    let mut joined = resume(&mut again, &epoch, 0).await?;
    loop {
        for number in numbers(&joined) {
            if number != at + 1 {
                return Err(again.mismatch(&format!("number {number} after number {at}")));
            }
            at = number;
        }
        if at >= all {
            return Ok(());
        }
        joined = again.expect_field("joined", "room", &room).await?;
        if text(&joined, "epoch") != epoch {
            return Err(again.mismatch("another epoch"));
        }
    }
}
