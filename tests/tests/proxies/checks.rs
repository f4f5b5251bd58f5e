//! What a proxy must do for the chat. Each check gives what it has measured.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tests::load::door::{Account, Door};
use tests::load::process::wait_until;
use tests::program::Stop;
use tests::raw::{self, Frame, Opened, PING, Socket, TEXT};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::front::{Change, Kind};
use crate::stage::{Events, Guest, PATIENCE, ROOM, Stage, has_status, refusal, talk};

/// How long a client is quiet. The server pings at the latest after 25 s, and nothing else keeps a
/// proxy from taking the connection for a dead one.
const QUIET: Duration = Duration::from_secs(40);

/// How long a connection is watched after a reload; the broken configurations cut it after a second.
const AFTER_RELOAD: Duration = Duration::from_millis(2500);

/// One byte more than an event may have.
const TOO_LARGE: usize = 64 * 1024 + 1;

/// How many connections from one address the node lets in, in the check of addresses.
const PER_ADDRESS: u8 = 3;

/// How long a proxy may still send clients to a node that drains: two rounds of its questions.
const NOTICED: Duration = Duration::from_secs(5);

/// How long between two who come.
const BETWEEN: Duration = Duration::from_millis(100);

/// How many clients come while a node is away.
const COMERS: usize = 5;

/// A WebSocket opens, and what one says the other hears.
pub async fn chats(kind: Kind, changes: &[Change]) -> Result<String> {
    let stage = Stage::set(kind, changes).await?;
    let mut ada = stage.enter("ada").await?;
    let mut grace = stage.enter("grace").await?;
    let start = Instant::now();
    talk(&mut ada, &mut grace, "hello through the proxy").await?;
    stage.was_allowed_all()?;
    Ok(format!("a message went from one client to the other in {}", millis(start)))
}

/// A message that is too large is answered with 1009, and not with a connection that breaks.
pub async fn too_large(kind: Kind, changes: &[Change]) -> Result<String> {
    let stage = Stage::set(kind, changes).await?;
    let mut ada = stage.enter("ada").await?;
    ada.0.send(&Frame::text("x".repeat(TOO_LARGE))).await?;
    let code = timeout(PATIENCE, code_of(&mut ada)).await.context("no close frame in time")??;
    ensure!(code == 1009, "closed with {code}");
    Ok(format!("{TOO_LARGE} bytes were closed with 1009"))
}

/// The code of the goodbye.
async fn code_of(guest: &mut Guest) -> Result<u16> {
    loop {
        if let Some(code) = guest.frame().await?.close_code() {
            return Ok(code);
        }
    }
}

/// An event of a stream comes when it happens.
pub async fn streams(kind: Kind, changes: &[Change]) -> Result<String> {
    let delay = delay(kind, changes).await?;
    Ok(format!("an event came {} ms after it was said", delay.as_millis()))
}

/// How long an event of a stream takes.
pub async fn delay(kind: Kind, changes: &[Change]) -> Result<Duration> {
    let stage = Stage::set(kind, changes).await?;
    let grace = stage.account("grace").await?;
    let mut stream = Events::open(&stage, &grace, &format!("/events?join={ROOM}")).await?;
    let mut ada = stage.enter("ada").await?;
    let start = Instant::now();
    ada.say("as it happens").await?;
    stream.hear("as it happens").await?;
    Ok(start.elapsed())
}

/// A session without a WebSocket: each of its requests may come to any node.
pub async fn goes_on_anywhere(kind: Kind, changes: &[Change]) -> Result<String> {
    let stage = Stage::set(kind, changes).await?;
    let ada = stage.account("ada").await?;
    let hello = stage.post(&ada, "/hello", &json!({"type": "hello"})).await?;
    let session = hello.get("session").and_then(Value::as_str).context("no session")?.to_owned();
    let path = format!("/events?session={session}&join={ROOM}");
    let mut stream = Events::open(&stage, &ada, &path).await?;
    for number in 0..COMERS {
        let words = format!("said by request {number}");
        let event = json!({"type": "message", "id": Uuid::new_v4(), "room": ROOM, "text": words});
        let answer = stage.post(&ada, &format!("/events?session={session}"), &event).await?;
        let is_ack = answer.get("type").and_then(Value::as_str) == Some("ack");
        ensure!(is_ack, "{answer} instead of an ack");
        stream.hear(&words).await?;
    }
    stage.was_allowed_all()?;
    let nodes = stage.nodes.len();
    Ok(format!("a session without a WebSocket went on over {nodes} nodes"))
}

/// A client that says nothing is kept by the server's pings.
pub async fn stays_quiet(kind: Kind, changes: &[Change]) -> Result<String> {
    let stage = Stage::set(kind, changes).await?;
    let mut ada = stage.enter("ada").await?;
    let start = Instant::now();
    let mut pings = 0;
    while let Some(left) = QUIET.checked_sub(start.elapsed()) {
        let Ok(frame) = timeout(left, ada.frame()).await else { break };
        match frame.with_context(|| format!("cut after {}", millis(start)))? {
            frame if frame.opcode == PING => pings += 1,
            frame if frame.opcode == TEXT => {}
            frame => bail!("cut after {} by {}", millis(start), frame.describe()),
        }
    }
    ensure!(pings > 0, "no ping in {QUIET:?}");
    ada.say("still here").await?;
    ada.hear("still here").await?;
    Ok(format!("quiet for {} s, kept by {pings} pings", QUIET.as_secs()))
}

/// Who is connected while the configuration is read again stays so, and others still get in.
pub async fn keeps_clients(kind: Kind, changes: &[Change]) -> Result<String> {
    let stage = Stage::set(kind, changes).await?;
    let (mut ada, mut grace) = (stage.enter("ada").await?, stage.enter("grace").await?);
    let start = Instant::now();
    stage.front.reload().await?;
    let reloaded = millis(start);
    let mut eve = stage.enter("eve").await?;
    talk(&mut eve, &mut ada, "I am new").await.context("cut by the reload")?;
    if let Ok(ended) = timeout(AFTER_RELOAD, silence(&mut grace)).await {
        bail!("cut {} after the reload: {ended}", millis(start));
    }
    talk(&mut grace, &mut ada, "I am still here").await.context("cut by the reload")?;
    Ok(format!("reloaded in {reloaded}, with its clients kept"))
}

/// What the end of a connection looks like, when it comes.
async fn silence(guest: &mut Guest) -> String {
    loop {
        match guest.frame().await {
            Ok(frame) if frame.close_code().is_some() => return frame.describe(),
            Ok(_) => {}
            Err(error) => return format!("{error:#}"),
        }
    }
}

/// Caddy cuts everyone at a reload, unless it is told to wait. Those who come back get in at once.
pub async fn cuts_clients(kind: Kind, changes: &[Change]) -> Result<String> {
    let stage = Stage::set(kind, changes).await?;
    let mut ada = stage.enter("ada").await?;
    let start = Instant::now();
    stage.front.reload().await?;
    let ended = timeout(PATIENCE, silence(&mut ada)).await.context("not cut")?;
    let cut = millis(start);
    stage.enter("grace").await.context("nobody gets in after the reload")?;
    Ok(format!("a reload cuts WebSockets, here after {cut} by {ended}"))
}

/// The server sees the address of the client, whatever the client says it is.
pub async fn tells_the_address(kind: Kind, changes: &[Change]) -> Result<String> {
    let cap = PER_ADDRESS.to_string();
    let settings = [("MAX_CONNECTIONS_PER_ADDRESS", cap.as_str())];
    let stage = Stage::of(kind, changes, 1, &settings).await?;
    let account = stage.account("ada").await?;
    let (here, elsewhere) = (stage.street.client(1), stage.street.client(2));
    let mut open = Vec::new();
    for number in 0..PER_ADDRESS {
        let opened = stage.ask(here, &account, "/ws", &[]).await?;
        let Opened::Socket(socket) = opened else { bail!("number {number}: {opened:?}") };
        open.push(socket);
    }
    has_status(&refusal(stage.ask(here, &account, "/ws", &[]).await?)?, 429)?;
    let forgeries = [
        ("X-Forwarded-For", "198.51.100.7"),
        ("X-Forwarded-For", "198.51.100.8, 203.0.113.9"),
        ("Forwarded", "for=198.51.100.7"),
    ];
    for forged in forgeries {
        let refused = refusal(stage.ask(here, &account, "/ws", &[forged]).await?);
        let refused = refused.with_context(|| format!("fooled by {}: {}", forged.0, forged.1))?;
        has_status(&refused, 429)?;
    }
    let opened = stage.ask(elsewhere, &account, "/ws", &[]).await?;
    ensure!(matches!(opened, Opened::Socket(_)), "another address: {opened:?}");
    Ok(format!(
        "{PER_ADDRESS} connections of one address, no more with a forged one, and others get in"
    ))
}

/// The log has the path of a request, and nothing of what stands behind the `?`.
pub async fn logs_no_query(kind: Kind, changes: &[Change]) -> Result<String> {
    let stage = Stage::set(kind, changes).await?;
    let account = stage.account("ada").await?;
    let (secret, path) = secret();
    let opened = stage.ask(stage.street.client(0), &account, &path, &[]).await?;
    let Opened::Socket(mut socket) = opened else { bail!("{opened:?}") };
    socket.send(&Frame::close(1000)).await?;
    while let Ok(Some(_)) = socket.next().await {}
    drop(socket);
    Ok(format!("logs {}", logged(&stage, &account, &secret).await?))
}

/// The same for a request for which there is no server: errors have a log of their own.
pub async fn logs_no_query_of_errors(kind: Kind, changes: &[Change]) -> Result<String> {
    let mut stage = Stage::of(kind, changes, 1, &[]).await?;
    let account = stage.account("ada").await?;
    stage.nodes.first_mut().context("no node")?.kill().await?;
    let (secret, path) = secret();
    refusal(stage.ask(stage.street.client(0), &account, &path, &[]).await?)?;
    Ok(format!("logs {}", logged(&stage, &account, &secret).await?))
}

/// A session that nobody has, and a path with it.
fn secret() -> (String, String) {
    let secret = Uuid::new_v4().to_string();
    let path = format!("/ws?session={secret}");
    (secret, path)
}

/// The line of a request for a WebSocket, once there is one. Nothing secret may be in the log by then.
async fn logged(stage: &Stage, account: &Account, secret: &str) -> Result<String> {
    let is_logged = async || stage.front.said().lines().any(|line| line.contains("/ws"));
    ensure!(wait_until(PATIENCE, is_logged).await, "not logged:\n{}", stage.front.said());
    let log = stage.front.said();
    ensure!(!log.contains(secret), "the session is in the log:\n{log}");
    let token = account.token.as_deref().unwrap_or_default();
    ensure!(!log.contains(token), "the token is in the log:\n{log}");
    Ok(log.lines().find(|line| line.contains("/ws")).unwrap_or_default().to_owned())
}

/// An address gets no more connections than the configuration says, here lowered to five.
pub async fn limits_an_address(kind: Kind, changes: &[Change]) -> Result<String> {
    let stage = Stage::set(kind, changes).await?;
    let account = stage.account("ada").await?;
    let here = stage.street.client(1);
    let mut open = Vec::new();
    for _ in 0..5 {
        let Opened::Socket(socket) = stage.ask(here, &account, "/ws", &[]).await? else {
            bail!("refused too early")
        };
        open.push(socket);
    }
    has_status(&refusal(stage.ask(here, &account, "/ws", &[]).await?)?, 429)?;
    let opened = stage.ask(stage.street.client(2), &account, "/ws", &[]).await?;
    ensure!(matches!(opened, Opened::Socket(_)), "another address: {opened:?}");
    Ok("a sixth connection from one address gets 429, one from another gets in".to_owned())
}

/// When all nodes are away, clients are told when to come back.
pub async fn says_when_to_come_back(kind: Kind, changes: &[Change]) -> Result<String> {
    let mut stage = Stage::of(kind, changes, 1, &[]).await?;
    stage.nodes.first_mut().context("no node")?.kill().await?;
    let (address, start) = (stage.front.address(), Instant::now());
    let answer = timeout(PATIENCE, raw::request(&address, "GET", "/", &[])).await;
    let answer = answer.context("no answer in time")??;
    has_status(&answer, 503)?;
    let after = answer.header("retry-after").context("no Retry-After")?;
    Ok(format!("with no node left it says 503, Retry-After: {after}, in {}", millis(start)))
}

/// When a node is killed, whoever comes next gets in at the other one.
pub async fn goes_to_the_other(kind: Kind, changes: &[Change]) -> Result<String> {
    let mut slowest = Duration::ZERO;
    for dead in [0, 1] {
        let (mut stage, account) = Stage::twins(kind, changes, &[]).await?;
        // The proxy prefers the node with fewer connections, and a dead one will have none.
        let mut open = vec![come(&stage, &account).await?, come(&stage, &account).await?];
        stage.nodes.get_mut(dead).context("no such node")?.kill().await?;
        for _ in 0..COMERS {
            let start = Instant::now();
            let came = come(&stage, &account).await;
            open.push(came.with_context(|| format!("node {dead} is dead"))?);
            slowest = slowest.max(start.elapsed());
        }
    }
    Ok(format!("after a node was killed, the slowest to get in took {} ms", slowest.as_millis()))
}

/// Somebody comes, and must get in.
async fn come(stage: &Stage, account: &Account) -> Result<Socket> {
    match stage.ask(stage.street.client(1), account, "/ws", &[]).await? {
        Opened::Socket(socket) => Ok(socket),
        Opened::Refused(answer) => bail!("status {}", answer.status),
    }
}

/// What a node that drains does to those who come: how many it refused, and until when.
async fn while_draining(kind: Kind, changes: &[Change]) -> Result<(usize, Duration)> {
    let (stage, account) = Stage::twins(kind, changes, &[("DRAIN_SECONDS", "30")]).await?;
    let leaving = stage.nodes.first().context("no node")?;
    // Who stays keeps it from ending.
    let door = Door::at(leaving.address(), 5);
    let stays = door.connect(stage.street.client(0), &account).await?;
    leaving.signal(Stop::Term).await?;
    let admin = leaving.admin_address().context("no admin port")?;
    let is_draining = async || {
        raw::request(admin, "GET", "/readyz", &[]).await.is_ok_and(|answer| answer.status == 503)
    };
    ensure!(wait_until(PATIENCE, is_draining).await, "it does not drain");
    let start = Instant::now();
    // All that get in stay, so that the node that drains has fewer, and is preferred.
    let (mut open, mut refused, mut last) = (vec![stays], 0, Duration::ZERO);
    while start.elapsed() < NOTICED {
        match stage.ask(stage.street.client(1), &account, "/ws", &[]).await? {
            Opened::Socket(socket) => open.push(socket),
            Opened::Refused(answer) => {
                has_status(&answer, 503)?;
                (refused, last) = (refused + 1, start.elapsed());
            }
        }
        sleep(BETWEEN).await;
    }
    Ok((refused, last))
}

/// Nobody is refused because one node of two is about to end.
pub async fn spares_a_draining_node(kind: Kind, changes: &[Change]) -> Result<String> {
    let (refused, last) = while_draining(kind, changes).await?;
    ensure!(refused == 0, "{refused} were refused by the node that drains, up to {last:?}");
    Ok("nobody was refused by a node that drains".to_owned())
}

/// The same, but a proxy that does not ask twice needs a moment to notice.
pub async fn soon_spares_a_draining_node(kind: Kind, changes: &[Change]) -> Result<String> {
    let (refused, last) = while_draining(kind, changes).await?;
    ensure!(
        last < NOTICED - Duration::from_secs(1),
        "{refused} were refused by the node that drains, up to {last:?}"
    );
    Ok(format!("{refused} were refused by a node that drains, for {} ms", last.as_millis()))
}

fn millis(start: Instant) -> String {
    format!("{} ms", start.elapsed().as_millis())
}
