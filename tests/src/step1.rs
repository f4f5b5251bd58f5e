//! The promises of milestone 1, the echo.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::scenario::{Check, SLOW, Scenario};
use crate::scene::{Scene, status};
use crate::{echo, frames, process};

/// How long half a handshake may stay open: the server's 10 seconds, and a little for its goodbye.
const HALF_OPEN: Duration = Duration::from_secs(14);

const HANDSHAKE: Scenario = Scenario::of(1, "implementation/step1.html");

const HANDSHAKES: &[Scenario] = &[
    Scenario {
        name: "a_plain_http_request_gets_an_http_error",
        sentence: "A plain HTTP request gets an HTTP error",
        expected: "an HTTP answer with a status from 400 to 499",
        hint: "When the handshake fails, the client still speaks HTTP: write `HTTP/1.1 400 Bad Request` before you hang up.",
        run: |scene| Box::pin(plain_http(scene)),
        ..HANDSHAKE
    },
    Scenario {
        name: "half_a_handshake_is_not_waited_for",
        sentence: "Half a handshake is not waited for longer than ten seconds",
        expected: "the end of the connection about 10 seconds after it was opened",
        hint: "Put `timeout(Duration::from_secs(10), …)` around the handshake.",
        limit: SLOW,
        run: |scene| Box::pin(half_open(scene)),
        ..HANDSHAKE
    },
];

/// The scenarios.
pub fn scenarios() -> Vec<Scenario> {
    let one = [process::BAD_MESSAGE_LIMIT, process::OTHER_MESSAGE_LIMIT];
    [echo::SCENARIOS, frames::SCENARIOS, HANDSHAKES, process::SCENARIOS, &one].concat()
}

async fn plain_http(scene: &mut Scene) -> Check {
    let answer = scene.http("GET", "/", &[]).await?;
    scene.journal.wait_for("a status from 400 to 499");
    if (400..500).contains(&answer.status) { Ok(()) } else { Err(scene.mismatch(&status(&answer))) }
}

async fn half_open(scene: &mut Scene) -> Check {
    let connected = scene.within("a connection", TcpStream::connect(scene.address())).await?;
    let mut stream = connected.map_err(|error| scene.mismatch(&error.to_string()))?;
    let half = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n";
    let _ = stream.write_all(half.as_bytes()).await;
    scene.journal.note("sent half of a handshake");
    scene.journal.wait_for("the end of the connection");
    let mut answer = Vec::new();
    match timeout(HALF_OPEN, stream.read_to_end(&mut answer)).await {
        Ok(_ended) => Ok(()),
        Err(_elapsed) => Err(scene.mismatch(&format!("an open connection after {HALF_OPEN:?}"))),
    }
}
