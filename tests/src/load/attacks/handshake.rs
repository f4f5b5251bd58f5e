//! Attacks on the way in: before the server knows who it is.

use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::select;
use tokio::time::{interval, sleep};

use super::{Attack, Attacker, End};
use crate::load::door::address;
use crate::raw::{Opened, connect_from};

/// Half-open handshakes.
pub const HALF_OPEN: Attack = Attack {
    name: "half-open handshakes",
    what: "a head that never ends: nothing, half of it, or a byte a second",
    attackers: 500,
    ends: &[End::Cut, End::Status(408), End::Status(429), End::Status(503)],
    welcome: 0,
    limit: Duration::from_secs(15),
    run: |attacker| Box::pin(half_open(attacker)),
};

/// Many connections from one address.
pub const CONNECTIONS: Attack = Attack {
    name: "connection flood",
    what: "proper upgrades, all from one address",
    attackers: 400,
    ends: &[End::Status(429), End::Status(503)],
    welcome: 150,
    limit: Duration::from_secs(15),
    run: |attacker| Box::pin(connection(attacker)),
};

/// How long those who were let in stay: until the others have been refused, also on a busy machine.
const STAY: Duration = Duration::from_secs(10);

async fn half_open(attacker: Attacker) -> Result<End> {
    let Attacker { door, street, number, .. } = attacker;
    let mut stream = connect_from(address(street, number), door.address()).await?;
    let head = format!("GET /ws HTTP/1.1\r\nHost: {}\r\nX-Long: ", door.address());
    let drips = match number % 3 {
        0 => false,
        1 => {
            stream.write_all(head.as_bytes()).await?;
            false
        }
        _ => true,
    };
    let (mut reading, mut writing) = stream.split();
    let drip = async {
        let mut seconds = interval(Duration::from_secs(1));
        for byte in head.bytes().chain(std::iter::repeat(b'x')) {
            seconds.tick().await;
            if !drips || writing.write_all(&[byte]).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    select! {
        _ = reading.read_to_end(&mut answer) => {}
        () = drip => {}
    }
    let status = String::from_utf8_lossy(&answer);
    let status = status.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    Ok(status.map_or(End::Cut, End::Status))
}

async fn connection(attacker: Attacker) -> Result<End> {
    let opened = attacker.door.ask(address(attacker.street, 0), &attacker.account).await;
    match opened {
        Ok(Opened::Socket(_socket)) => {
            sleep(STAY).await;
            Ok(End::LetIn)
        }
        Ok(Opened::Refused(answer)) => Ok(End::Status(answer.status)),
        Err(_no_answer) => Ok(End::Cut),
    }
}
