//! What a trial is played on: two nodes, a proxy in front of them, and clients that come through it.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tests::load::door::{Account, Door, say};
use tests::program::{Program, Running};
use tests::raw::{self, Answer, Frame, Opened, PING, PONG, Socket, TEXT, connect_from};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use uuid::Uuid;

use crate::front::{Change, Front, HEALTH, Kind, NODE, Street, Upstream};
use crate::redis::Redis;

/// How soon an event must have come through.
pub const PROMPT: Duration = Duration::from_secs(1);

/// No answer takes longer.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The room in which everything is said.
pub const ROOM: &str = "hall";

/// Two nodes and a proxy.
pub struct Stage {
    /// The addresses.
    pub street: Street,
    /// The proxy.
    pub front: Front,
    /// The nodes.
    pub nodes: Vec<Running>,
    /// The Redis that they share.
    redis: Option<Redis>,
}

impl Stage {
    /// Nodes that know the same people, and a proxy.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn set(kind: Kind, changes: &[Change]) -> Result<Self> {
        Self::shared(kind, changes, &[]).await
    }

    /// Two nodes that share a Redis.
    async fn shared(kind: Kind, changes: &[Change], settings: &[(&str, &str)]) -> Result<Self> {
        let redis = Redis::start(&[]).await?;
        let url = redis.url_file().display().to_string();
        let settings = [&[("REDIS_URL_FILE", url.as_str())], settings].concat();
        let stage = Self::of(kind, changes, 2, &settings).await?;
        Ok(Self { redis: Some(redis), ..stage })
    }

    /// So many nodes with these settings.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn of(
        kind: Kind,
        changes: &[Change],
        count: u8,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let street = Street::new();
        let mut nodes = Vec::new();
        for number in 0..count {
            nodes.push(node(street, number, settings).start().await?);
        }
        let upstream = Upstream([street.node(0), street.node(count - 1)]);
        let front = Front::start(kind, street, upstream, changes).await?;
        Ok(Self { street, front, nodes, redis: None })
    }

    /// Two nodes that know the same person.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn twins(
        kind: Kind,
        changes: &[Change],
        settings: &[(&str, &str)],
    ) -> Result<(Self, Account)> {
        let stage = Self::shared(kind, changes, settings).await?;
        let account = stage.account("ada").await?;
        Ok((stage, account))
    }

    /// Fails if the Redis of these nodes has refused them something.
    ///
    /// # Errors
    /// What it was.
    pub fn was_allowed_all(&self) -> Result<()> {
        let refused = self.redis.as_ref().map(Redis::refused).transpose()?.unwrap_or_default();
        ensure!(refused.is_empty(), "Redis refuses a node something: {refused}");
        Ok(())
    }

    /// The way in: through the proxy.
    pub fn door(&self) -> Door {
        Door::at(&self.front.address(), 5)
    }

    /// Makes an account and signs in, through the proxy.
    ///
    /// # Errors
    /// The answer.
    pub async fn account(&self, name: &str) -> Result<Account> {
        self.door().register(self.street.client(0), name).await
    }

    /// Somebody in the room, through the proxy.
    ///
    /// # Errors
    /// The answer.
    pub async fn enter(&self, name: &str) -> Result<Guest> {
        let account = self.account(name).await?;
        Ok(Guest(self.door().enter(self.street.client(0), &account, ROOM).await?))
    }

    /// Sends an event without a WebSocket, through the proxy, and gives the one in the answer.
    ///
    /// # Errors
    /// Another status than 200.
    pub async fn post(&self, account: &Account, path: &str, event: &Value) -> Result<Value> {
        let authorization = account.authorization().context("a name is not enough")?;
        let headers =
            [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let (address, body) = (self.front.address(), event.to_string());
        let asked = raw::request_with(&address, "POST", path, &headers, &body);
        let answer = timeout(PATIENCE, asked).await.context("no answer in time")??;
        ensure!(answer.status == 200, "status {}: {}", answer.status, answer.body);
        Ok(serde_json::from_str(&answer.body)?)
    }

    /// Asks for a WebSocket from an address of one's own, with any path and headers.
    ///
    /// # Errors
    /// No answer.
    pub async fn ask(
        &self,
        from: Ipv4Addr,
        account: &Account,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Opened> {
        let address = self.front.address();
        let authorization = account.authorization().context("a name is not enough")?;
        let own = [("Authorization", authorization.as_str())];
        let headers = [headers, &own].concat();
        let asking = async {
            let stream = connect_from(from, &address).await?;
            Socket::open_on(stream, &address, path, &headers).await
        };
        Ok(timeout(PATIENCE, asking).await.context("no answer in time")??)
    }
}

/// A stream of events, through the proxy.
pub struct Events {
    socket: TcpStream,
    read: Vec<u8>,
}

impl Events {
    /// Opens it, up to the answer to its join.
    ///
    /// # Errors
    /// It does not begin soon.
    pub async fn open(stage: &Stage, account: &Account, path: &str) -> Result<Self> {
        let authorization = account.authorization().context("a name is not enough")?;
        // As a browser asks: nginx would hold what it compresses and buffers until the stream ends.
        let headers = [
            ("Authorization", authorization.as_str()),
            ("Accept", "text/event-stream"),
            ("Accept-Encoding", "gzip"),
        ];
        let address = stage.front.address();
        let begun = timeout(PROMPT * 3, raw::begin(&address, "GET", path, &headers, "")).await;
        let (answer, read, socket) = begun.context("no event: the stream does not begin")??;
        has_status(&answer, 200)?;
        let mut events = Self { socket, read };
        events.hear("\"joined\"").await?;
        Ok(events)
    }

    /// Waits until something with these words has come.
    ///
    /// # Errors
    /// It does not come soon.
    pub async fn hear(&mut self, words: &str) -> Result<()> {
        let heard = async {
            while !String::from_utf8_lossy(&self.read).contains(words) {
                ensure!(self.socket.read_buf(&mut self.read).await? > 0, "the stream has ended");
            }
            Ok(())
        };
        timeout(PROMPT, heard).await.with_context(|| format!("no event with {words} in time"))?
    }
}

/// A node on its street, with the ports of the configuration. It believes the proxy, which comes from
/// 127.0.0.1: no client does.
pub fn node(street: Street, number: u8, settings: &[(&str, &str)]) -> Program {
    let host = street.node(number);
    let program = Program::cargo_package("step05-production")
        .unlimited()
        .env("HOST", host)
        .env("PORT", NODE)
        .env("ADMIN_HOST", host)
        .env("ADMIN_PORT", HEALTH)
        .env("TRUSTED_PROXIES", "127.0.0.1/32");
    settings.iter().fold(program, |program, (name, value)| program.env(name, value))
}

/// What a handshake must have been answered with.
///
/// # Errors
/// It let us in.
pub fn refusal(opened: Opened) -> Result<Answer> {
    match opened {
        Opened::Refused(answer) => Ok(answer),
        Opened::Socket(_) => bail!("let in"),
    }
}

/// Somebody in the room.
pub struct Guest(pub Socket);

impl Guest {
    /// Says something.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn say(&mut self, words: &str) -> Result<()> {
        let event = json!({"type": "message", "id": Uuid::new_v4(), "room": ROOM, "text": words});
        say(&mut self.0, &event).await
    }

    /// Waits until somebody has said this.
    ///
    /// # Errors
    /// The connection ends, or nobody does.
    pub async fn hear(&mut self, words: &str) -> Result<()> {
        let heard = async {
            while let Some(event) = self.event().await? {
                if is_said(&event, words) {
                    return Ok(());
                }
            }
            bail!("the connection ended")
        };
        timeout(PATIENCE, heard).await.with_context(|| format!("nobody said {words:?}"))?
    }

    /// The next event; `None` at the goodbye. Answers pings.
    ///
    /// # Errors
    /// The connection ends without a goodbye.
    pub async fn event(&mut self) -> Result<Option<Value>> {
        loop {
            let frame = self.frame().await?;
            if frame.close_code().is_some() {
                return Ok(None);
            } else if frame.opcode == TEXT {
                return Ok(Some(serde_json::from_slice(&frame.payload)?));
            }
        }
    }

    /// The next frame. Answers pings.
    ///
    /// # Errors
    /// The connection ends.
    pub async fn frame(&mut self) -> Result<Frame> {
        let frame = self.0.next().await?.context("cut: the connection ended without a goodbye")?;
        if frame.opcode == PING {
            self.0.send(&Frame::new(PONG, frame.payload.clone())).await?;
        }
        Ok(frame)
    }
}

/// Whether an event is a message with these words.
fn is_said(event: &Value, words: &str) -> bool {
    let is = |field, value| event.get(field).and_then(Value::as_str) == Some(value);
    is("type", "message") && is("text", words)
}

/// The whole way: one says something, the other hears it.
///
/// # Errors
/// It is not heard.
pub async fn talk(from: &mut Guest, to: &mut Guest, words: &str) -> Result<()> {
    from.say(words).await?;
    to.hear(words).await
}

/// Fails unless the status is this one.
///
/// # Errors
/// It is not.
pub fn has_status(answer: &Answer, wanted: u16) -> Result<()> {
    ensure!(answer.status == wanted, "status {} instead of {wanted}", answer.status);
    Ok(())
}
