//! Where clients come in: with a name in milestone 4, signed in from milestone 5 on, and from as many
//! addresses as one likes.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::event::text;
use crate::program::{Program, Running, Scratch, Stop};
use crate::raw::{Answer, Frame, Opened, PING, PONG, Socket, connect_from, request_on};

/// No answer takes longer, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The password of everyone here.
pub const PASSWORD: &str = "correct horse battery staple";

/// How many accounts are made at once: a password is hashed on purpose slowly.
const AT_ONCE: usize = 4;

/// How many clients come from one address, so that there are enough ports for all.
const PER_ADDRESS: usize = 100;

/// An address of this machine for a client with this number. Those of one `street` have nothing to do
/// with those of another.
pub fn address(street: u8, number: usize) -> Ipv4Addr {
    let house = number / PER_ADDRESS;
    let (high, low) = (house / 250 % 250, house % 250 + 1);
    Ipv4Addr::new(127, street, u8::try_from(high).unwrap_or(0), u8::try_from(low).unwrap_or(1))
}

/// A program with what load needs: room for many, and no limits on how often. It says only what went wrong.
pub fn without_limits(program: &Program) -> Program {
    let caps = ["MAX_CONNECTIONS", "MAX_CONNECTIONS_PER_ADDRESS", "MAX_CONNECTIONS_PER_USER"];
    let program = program.clone().env("RUST_LOG", "error").env("RATE_LIMIT", "off");
    caps.iter().fold(program, |program, cap| program.env(cap, "20000"))
}

/// A server that knows some accounts, and has done nothing else since its start: checking passwords
/// takes much memory, which is not what is measured here.
#[derive(Debug)]
pub struct Home {
    /// The server.
    pub server: Running,
    /// Its door.
    pub door: Door,
    /// Who may come in.
    pub accounts: Vec<Account>,
    _data: Scratch,
}

impl Home {
    /// Makes accounts for so many connections at once, and starts the server afresh.
    ///
    /// # Errors
    /// The server does not start, or refuses somebody.
    pub async fn of(program: &Program, milestone: u8, connections: usize) -> Result<Self> {
        let data = Scratch::new();
        let program = program.clone().env("DATA_DIR", data.path().display());
        let mut server = program.start().await?;
        let mut door = Door::of(&server, milestone);
        let accounts = door.accounts_for(1, "guest", connections).await?;
        server.signal(Stop::Term).await?;
        server.wait_exit(PATIENCE).await?;
        server = program.start().await?;
        door = Door::of(&server, milestone);
        Ok(Self { server, door, accounts, _data: data })
    }

    /// Who the connection with this number belongs to.
    pub fn account(&self, number: usize) -> Account {
        self.accounts.get(number % self.accounts.len().max(1)).cloned().unwrap_or_default()
    }
}

/// Somebody who may come in.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// The name.
    pub name: String,
    /// What a program shows instead of a cookie; none before milestone 5.
    pub token: Option<String>,
}

impl Account {
    /// The header that says who comes.
    pub fn authorization(&self) -> Option<String> {
        self.token.as_ref().map(|token| format!("Bearer {token}"))
    }
}

/// The way into a running server.
#[derive(Debug, Clone)]
pub struct Door {
    address: String,
    milestone: u8,
}

impl Door {
    /// The door of a server that speaks this milestone's protocol.
    pub fn of(server: &Running, milestone: u8) -> Self {
        Self { address: server.address().to_owned(), milestone }
    }

    /// The door at an address, as of a proxy with servers of this milestone behind it.
    pub fn at(address: &str, milestone: u8) -> Self {
        Self { address: address.to_owned(), milestone }
    }

    /// Which milestone it is.
    pub fn milestone(&self) -> u8 {
        self.milestone
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sends an HTTP request with a JSON body.
    ///
    /// # Errors
    /// No answer.
    pub async fn post(&self, from: Ipv4Addr, path: &str, body: &Value) -> Result<Answer> {
        let stream = connect_from(from, &self.address).await?;
        let (body, kind) = (body.to_string(), [("Content-Type", "application/json")]);
        let request = request_on(stream, &self.address, "POST", path, &kind, &body);
        Ok(timeout(PATIENCE, request).await??)
    }

    /// Makes an account and signs in. Before milestone 5 a name is all there is to it.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn register(&self, from: Ipv4Addr, name: &str) -> Result<Account> {
        if self.milestone < 5 {
            return Ok(Account { name: name.to_owned(), token: None });
        }
        let body = json!({"name": name, "password": PASSWORD});
        let answer = self.post(from, "/api/register", &body).await?;
        ensure!(answer.status == 201, "register {name}: {} {}", answer.status, answer.body);
        let answer = self.post(from, "/api/token", &body).await?;
        ensure!(answer.status == 200, "token of {name}: {} {}", answer.status, answer.body);
        let json: Value = serde_json::from_str(&answer.body)?;
        let token = text(&json, "token").to_owned();
        ensure!(!token.is_empty(), "no token for {name}: {}", answer.body);
        Ok(Account { name: name.to_owned(), token: Some(token) })
    }

    /// Makes so many accounts, named `base0`, `base1` and so on.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn register_all(&self, street: u8, base: &str, count: usize) -> Result<Vec<Account>> {
        let one = |number: usize| async move {
            self.register(address(street, number), &format!("{base}{number}")).await
        };
        stream::iter(0..count).map(one).buffered(AT_ONCE).try_collect().await
    }

    /// Accounts for so many connections at once. From milestone 5 on one account may have many of
    /// them, before that each needs a name of its own.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn accounts_for(&self, street: u8, base: &str, count: usize) -> Result<Vec<Account>> {
        let accounts = if self.milestone < 5 { count } else { count.div_ceil(PER_ADDRESS) };
        self.register_all(street, base, accounts).await
    }

    /// Asks for a WebSocket.
    ///
    /// # Errors
    /// No connection, or no answer in time.
    pub async fn ask(&self, from: Ipv4Addr, account: &Account) -> Result<Opened> {
        let stream = connect_from(from, &self.address).await?;
        let authorization = account.authorization();
        let headers: Vec<_> =
            authorization.iter().map(|value| ("Authorization", value.as_str())).collect();
        let opening = Socket::open_on(stream, &self.address, "/ws", &headers);
        Ok(timeout(PATIENCE, opening).await??)
    }

    /// Comes in, up to the welcome.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn connect(&self, from: Ipv4Addr, account: &Account) -> Result<Socket> {
        let opened = self.ask(from, account).await?;
        let Opened::Socket(mut socket) = opened else { bail!("refused: {opened:?}") };
        if self.milestone < 5 {
            say(&mut socket, &json!({"type": "hello", "name": account.name})).await?;
        }
        until(&mut socket, "welcome").await?;
        Ok(socket)
    }

    /// Comes in and joins a room.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn enter(&self, from: Ipv4Addr, account: &Account, room: &str) -> Result<Socket> {
        let mut socket = self.connect(from, account).await?;
        join(&mut socket, room).await?;
        Ok(socket)
    }
}

/// Sends an event.
///
/// # Errors
/// The connection is gone.
pub async fn say(socket: &mut Socket, event: &Value) -> Result<()> {
    Ok(socket.send(&Frame::text(crate::event::json_of(event))).await?)
}

/// Joins a room and waits for the answer.
///
/// # Errors
/// The server refuses.
pub async fn join(socket: &mut Socket, room: &str) -> Result<()> {
    say(socket, &json!({"type": "join", "room": room})).await?;
    until(socket, "joined").await
}

/// Reads up to an event of this type, which is not an error unless that is what is waited for.
///
/// # Errors
/// Another answer, or none.
pub async fn until(socket: &mut Socket, kind: &str) -> Result<()> {
    let start = format!("{{\"type\":\"{kind}\"");
    loop {
        let frame = timeout(PATIENCE, socket.next()).await.with_context(|| format!("no {kind}"))?;
        let Some(frame) = frame? else { bail!("the end of the connection instead of {kind}") };
        if frame.opcode == PING {
            socket.send(&Frame::new(PONG, frame.payload)).await?;
        } else if frame.payload.starts_with(start.as_bytes()) {
            return Ok(());
        } else if frame.payload.starts_with(b"{\"type\":\"error\"") || frame.close_code().is_some()
        {
            bail!("{} instead of {kind}", frame.describe());
        }
    }
}

/// Reads whatever comes and answers pings, to the end of the connection.
pub async fn listen(mut socket: Socket) {
    while let Ok(Some(frame)) = socket.next().await {
        if frame.opcode == PING && socket.send(&Frame::new(PONG, frame.payload)).await.is_err() {
            return;
        }
    }
}
