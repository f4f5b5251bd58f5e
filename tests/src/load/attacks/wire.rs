//! Attacks by those who are in.

use std::io;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpSocket, TcpStream};
use tokio::select;
use tokio::time::{interval, sleep};
use uuid::Uuid;

use super::{ARCHIVE, Attack, Attacker, End, HALL};
use crate::load::door::{address, say};
use crate::raw::{CONTINUATION, Frame, Opened, Socket, TEXT};

/// What all of them have in common.
const ATTACK: Attack = Attack {
    name: "",
    what: "",
    attackers: 20,
    ends: &[],
    welcome: 0,
    limit: Duration::from_secs(15),
    run: |_| Box::pin(async { Ok(End::Never) }),
};

/// A message that never ends.
pub const TRICKLE: Attack = Attack {
    name: "byte a second",
    what: "a message of 1,000 bytes, one of them a second; every other with a ping between its fragments",
    ends: &[End::Close(1008)],
    run: |attacker| match attacker.number % 2 {
        0 => Box::pin(attack(attacker, trickle)),
        _ => Box::pin(attack(attacker, trickle_with_pings)),
    },
    ..ATTACK
};

/// A message of nothing, without end.
pub const FRAGMENTS: Attack = Attack {
    name: "empty fragments",
    what: "a message in 100,000 empty fragments, and no last one",
    ends: &[End::Close(1008), End::Close(4029), End::Close(1009)],
    run: |attacker| Box::pin(attack(attacker, fragments)),
    ..ATTACK
};

/// Deeply nested JSON that is too long.
pub const NESTED: Attack = Attack {
    name: "100,000 brackets",
    what: "`[` 100,000 times in one message",
    ends: &[End::Close(1009)],
    limit: Duration::from_secs(5),
    run: |attacker| Box::pin(attack(attacker, nested)),
    ..ATTACK
};

/// Deeply nested JSON, over and over.
pub const BRACKETS: Attack = Attack {
    name: "60,000 brackets",
    what: "`[` 60,000 times in one message, over and over",
    ends: &[End::Close(4029)],
    run: |attacker| Box::pin(attack(attacker, brackets)),
    ..ATTACK
};

/// Frames that promise more than there is in the world.
pub const PROMISES: Attack = Attack {
    name: "promises",
    what: "the head of a frame of 2^63 bytes",
    ends: &[End::Close(1009), End::Close(1002)],
    limit: Duration::from_secs(5),
    run: |attacker| Box::pin(attack(attacker, promise)),
    ..ATTACK
};

/// Messages, as many as the wire takes.
pub const MESSAGES: Attack = Attack {
    name: "message flood",
    what: "messages in the room of the healthy ones, as fast as the wire takes them",
    ends: &[End::Close(4029)],
    run: |attacker| Box::pin(attack(attacker, messages)),
    ..ATTACK
};

/// Pings, as many as the wire takes.
pub const PINGS: Attack = Attack {
    name: "ping flood",
    what: "pings as fast as the wire takes them",
    ends: &[End::Close(4029)],
    run: |attacker| Box::pin(attack(attacker, pings)),
    ..ATTACK
};

/// In and out.
pub const JOINS: Attack = Attack {
    name: "join and leave",
    what: "into the room of the healthy ones and out, as fast as the wire takes it",
    ends: &[End::Close(4029)],
    run: |attacker| Box::pin(attack(attacker, joins)),
    ..ATTACK
};

/// Those who ask for much and read nothing.
pub const SLOW_READERS: Attack = Attack {
    name: "slow readers",
    what: "ask sixty times for a history of 400 KB, and read nothing",
    ends: &[End::Cut, End::Close(4008)],
    limit: Duration::from_secs(40),
    run: |attacker| Box::pin(slow_reader(attacker)),
    ..ATTACK
};

/// Comes in, does something to the server, and reads how it ends.
async fn attack(
    attacker: Attacker,
    mut how: impl AsyncFnMut(&mut OwnedWriteHalf) -> io::Result<()>,
) -> Result<End> {
    let Attacker { door, account, street, number } = attacker;
    let socket = door.enter(address(street, number), &account, HALL).await?;
    let (mut reading, mut writing) = socket.split();
    let ending = async {
        loop {
            match reading.next().await {
                Ok(Some(frame)) => match frame.close_code() {
                    Some(code) => return End::Close(code),
                    None => continue,
                },
                Ok(None) | Err(_) => return End::Cut,
            }
        }
    };
    tokio::pin!(ending);
    select! {
        end = &mut ending => Ok(end),
        // It has done what it wanted to do, or is no longer listened to.
        _ = how(&mut writing) => Ok(ending.await),
    }
}

async fn trickle(writing: &mut OwnedWriteHalf) -> io::Result<()> {
    writing.write_all(&Frame::text("").header(1000)).await?;
    let mut seconds = interval(Duration::from_secs(1));
    for _ in 0..999 {
        seconds.tick().await;
        writing.write_all(b"x").await?;
    }
    Ok(())
}

/// The same in fragments: pings may come between them, and are no reason to wait for longer.
async fn trickle_with_pings(writing: &mut OwnedWriteHalf) -> io::Result<()> {
    let mut seconds = interval(Duration::from_secs(1));
    let mut opcode = TEXT;
    for _ in 0..999 {
        seconds.tick().await;
        writing.write_all(&Frame::new(opcode, "x").unfinished().encode()).await?;
        writing.write_all(&Frame::ping("still here").encode()).await?;
        opcode = CONTINUATION;
    }
    Ok(())
}

async fn fragments(writing: &mut OwnedWriteHalf) -> io::Result<()> {
    writing.write_all(&Frame::text("").unfinished().encode()).await?;
    let hundred = Frame::new(CONTINUATION, "").unfinished().encode().repeat(100);
    for _ in 0..1000 {
        writing.write_all(&hundred).await?;
    }
    Ok(())
}

async fn nested(writing: &mut OwnedWriteHalf) -> io::Result<()> {
    writing.write_all(&Frame::text("[".repeat(100_000)).encode()).await
}

async fn brackets(writing: &mut OwnedWriteHalf) -> io::Result<()> {
    let frame = Frame::text("[".repeat(60_000)).encode();
    loop {
        writing.write_all(&frame).await?;
    }
}

async fn promise(writing: &mut OwnedWriteHalf) -> io::Result<()> {
    writing.write_all(&Frame::new(TEXT, "").header(1 << 63)).await
}

async fn messages(writing: &mut OwnedWriteHalf) -> io::Result<()> {
    loop {
        let event = json!({"type": "message", "id": Uuid::new_v4(), "room": HALL, "text": "spam"});
        writing.write_all(&Frame::text(event.to_string()).encode()).await?;
    }
}

async fn pings(writing: &mut OwnedWriteHalf) -> io::Result<()> {
    let (empty, long) = (Frame::ping("").encode(), Frame::ping("x".repeat(125)).encode());
    loop {
        writing.write_all(&empty).await?;
        writing.write_all(&long).await?;
    }
}

async fn joins(writing: &mut OwnedWriteHalf) -> io::Result<()> {
    let event = |kind: &str| Frame::text(json!({"type": kind, "room": HALL}).to_string()).encode();
    let both = [event("leave"), event("join")].concat();
    loop {
        writing.write_all(&both).await?;
    }
}

/// Asks for more than its connection can hold. It is ended when nobody takes what it sends any more:
/// reading would be just what it does not do.
async fn slow_reader(attacker: Attacker) -> Result<End> {
    let Attacker { door, account, street, number } = attacker;
    let stream = narrow(street, number, door.address()).await?;
    let authorization = account.authorization();
    let headers: Vec<_> =
        authorization.iter().map(|value| ("Authorization", value.as_str())).collect();
    let opened = Socket::open_on(stream, door.address(), "/ws", &headers).await?;
    let Opened::Socket(mut socket) = opened else { bail!("refused: {opened:?}") };
    if door.milestone() < 5 {
        say(&mut socket, &json!({"type": "hello", "name": account.name})).await?;
    }
    for _ in 0..60 {
        say(&mut socket, &json!({"type": "join", "room": ARCHIVE})).await?;
    }
    while socket.send(&Frame::new(crate::raw::PONG, "")).await.is_ok() {
        sleep(Duration::from_millis(500)).await;
    }
    Ok(End::Cut)
}

/// A connection that holds little of what comes.
async fn narrow(street: u8, number: usize, to: &str) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    socket.bind((address(street, number), 0).into())?;
    Ok(socket.connect(to.parse()?).await?)
}
