//! What a scenario is played with: the server, and its clients.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::timeout;
use uuid::Uuid;

use crate::client::Client;
use crate::journal::Journal;
use crate::program::{Program, Running, Scratch};
use crate::raw::{self, Answer, Frame, Opened, Socket};
use crate::scenario::{Check, Needs, Scenario, Stop, Target};
use crate::wire::Wire;

/// How long a server may take for one answer. It takes a millisecond; the rest is for busy machines.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// The server of one scenario, and what the scenario knows about it.
#[derive(Debug)]
pub struct Scene {
    /// What was sent and what came.
    pub journal: Journal,
    /// Which milestone's protocol is spoken.
    pub milestone: u8,
    /// In every name and room of this scenario, so that many can be played at one server at once.
    pub tag: String,
    /// The tokens of those who are signed in, by the name's base.
    pub(crate) tokens: Arc<Mutex<BTreeMap<String, String>>>,
    address: String,
    program: Option<Program>,
    running: Option<Running>,
    /// Where the scenario's own servers keep their data, one after the other.
    data: Scratch,
}

impl Scene {
    /// Sets the scene for a scenario: finds its server, or starts one.
    ///
    /// # Errors
    /// The server does not start, or the scenario needs a program and there is only a URL.
    pub async fn set(scenario: &Scenario, target: &Target) -> Check<Self> {
        let mut tag = Uuid::new_v4().simple().to_string();
        tag.truncate(8);
        let mut scene = Self {
            journal: Journal::new(scenario.expected),
            milestone: scenario.milestone,
            tag,
            tokens: Arc::default(),
            address: String::new(),
            program: target.get_program().cloned(),
            running: None,
            data: Scratch::new(),
        };
        match (scenario.needs, target.shared_url()) {
            (Needs::NoRateLimits, Some(_)) if scene.program.is_none() => return Err(limited()),
            (Needs::Url | Needs::NoRateLimits, Some(url)) => scene.address = address_of(url)?,
            (Needs::Url | Needs::NoRateLimits, None) => scene.start(&[]).await?,
            // It starts its server by itself, with the settings it needs.
            (Needs::Program, _) => drop(scene.program()?),
            (Needs::File, _) if scene.program()?.is_in_redis() => return Err(no_files()),
            (Needs::File, _) => {}
        }
        Ok(scene)
    }

    /// Another server of the same program for the same people: they sign in at one, and use them all.
    pub fn beside(&self) -> Self {
        Self {
            journal: self.journal.clone(),
            milestone: self.milestone,
            tag: self.tag.clone(),
            tokens: Arc::clone(&self.tokens),
            address: String::new(),
            program: self.program.clone(),
            running: None,
            data: Scratch::new(),
        }
    }

    /// The program under test.
    ///
    /// # Errors
    /// Only its URL is known.
    pub fn program(&self) -> Check<Program> {
        let reason = "it has to start the server itself, and only a URL was given";
        self.program.clone().ok_or_else(|| Stop::Skipped(reason.to_owned()))
    }

    /// Starts the scenario's own server, with these environment variables.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(&mut self, env: &[(&str, &str)]) -> Check {
        let program = self.program_with(env)?;
        self.journal.wait_for("the server to start and to print \"listening on …\"");
        let running =
            program.start().await.map_err(|error| self.journal.mismatch(&format!("{error:#}")))?;
        self.address = running.address().to_owned();
        self.running = Some(running);
        Ok(())
    }

    /// The program with these environment variables and the scenario's data.
    ///
    /// # Errors
    /// Only its URL is known.
    pub fn program_with(&self, env: &[(&str, &str)]) -> Check<Program> {
        let program = self.program()?.env("DATA_DIR", self.data.path().display());
        let program = if self.milestone >= 5 { program.unlimited() } else { program };
        // Those of one scenario find what was there before, and nobody else's.
        let program =
            if program.is_in_redis() { program.env("REDIS_PREFIX", &self.tag) } else { program };
        Ok(env.iter().fold(program, |program, (name, value)| program.env(name, value)))
    }

    /// The scenario's own server.
    ///
    /// # Errors
    /// The scenario has not started one.
    pub fn running(&mut self) -> Check<&mut Running> {
        let reason = "it has no server of its own";
        self.running.as_mut().ok_or_else(|| Stop::Skipped(reason.to_owned()))
    }

    /// Kills the scenario's own server, as a power cut does, and starts another one with its data.
    ///
    /// # Errors
    /// The next one does not start.
    pub async fn kill_and_restart(&mut self) -> Check {
        self.again_with(&[]).await
    }

    /// The same with other settings for the next one.
    ///
    /// # Errors
    /// The next one does not start.
    pub async fn again_with(&mut self, env: &[(&str, &str)]) -> Check {
        self.journal.note("killed the server (kill -9) and started it again");
        let killed = self.running()?.kill().await;
        killed.map_err(|error| self.mismatch(&error.to_string()))?;
        self.start(env).await
    }

    /// Where the scenario's own server keeps its data, unless it was told otherwise.
    pub fn data(&self) -> &std::path::Path {
        self.data.path()
    }

    /// The server's host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where the milestone's WebSocket is.
    pub fn path(&self) -> &'static str {
        if self.milestone == 1 { "/" } else { "/ws" }
    }

    /// A name that nobody has who is not in this scenario.
    pub fn name(&self, base: &str) -> String {
        format!("{base}-{}", self.tag)
    }

    /// A failure: what came instead of what was expected.
    pub fn mismatch(&self, got: &str) -> Stop {
        self.journal.mismatch(got)
    }

    /// Waits for something, but not for ever.
    ///
    /// # Errors
    /// It takes too long.
    pub async fn within<T>(&self, what: &str, wait: impl Future<Output = T>) -> Check<T> {
        self.journal.wait_for(what);
        timeout(PATIENCE, wait).await.map_err(|_| self.mismatch(&nothing(PATIENCE)))
    }

    /// Asks for a WebSocket and gives what came of it. From milestone 5 on it is somebody signed in who
    /// asks, unless the headers say who.
    ///
    /// # Errors
    /// No answer.
    pub async fn ask(&self, path: &str, headers: &[(&str, &str)]) -> Check<Opened> {
        self.ask_for("somebody", path, headers).await
    }

    async fn ask_for(&self, who: &str, path: &str, headers: &[(&str, &str)]) -> Check<Opened> {
        let says_who = |(name, _): &(&str, &str)| ["Authorization", "Cookie"].contains(name);
        if self.milestone < 5 || headers.iter().any(says_who) {
            return self.ask_as_it_is(path, headers).await;
        }
        let bearer = self.bearer(&who.replace(' ', "-")).await?;
        let own = [("Authorization", bearer.as_str())];
        self.ask_as_it_is(path, &[headers, &own].concat()).await
    }

    /// Asks for a WebSocket with these headers, and nothing that says who asks.
    ///
    /// # Errors
    /// No answer.
    pub async fn ask_as_it_is(&self, path: &str, headers: &[(&str, &str)]) -> Check<Opened> {
        let shown: String =
            headers.iter().map(|(name, value)| format!(", {name}: {value}")).collect();
        self.journal.note(&format!("asked for a WebSocket at {path}{shown}"));
        let opened = self.within("an answer", Socket::open(&self.address, path, headers)).await?;
        let opened = opened.map_err(|error| self.mismatch(&broken(&error)))?;
        self.journal.has_come();
        Ok(opened)
    }

    /// Opens a WebSocket whose frames the scenario sends and reads by itself.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn wire(&self, who: &str) -> Check<Wire> {
        self.wire_at(who, self.path(), &[]).await
    }

    /// The same at another path, or with headers of one's own.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn wire_at(&self, who: &str, path: &str, headers: &[(&str, &str)]) -> Check<Wire> {
        match self.ask_for(who, path, headers).await? {
            Opened::Socket(socket) => {
                self.begun(Wire::new(who, self.journal.clone(), socket)).await
            }
            Opened::Refused(answer) => {
                self.journal.wait_for("status 101, Switching Protocols");
                Err(self.mismatch(&status(&answer)))
            }
        }
    }

    /// A connection whose first words have been said: from milestone 5 on, the server's.
    async fn begun(&self, mut wire: Wire) -> Check<Wire> {
        if self.milestone >= 5 {
            wire.welcome = Some(wire.expect_event("welcome").await?);
        }
        Ok(wire)
    }

    /// Asks for a WebSocket that must be refused with this status.
    ///
    /// # Errors
    /// It is not.
    pub async fn refused(&self, path: &str, headers: &[(&str, &str)], wanted: u16) -> Check {
        let opened = self.ask(path, headers).await?;
        self.was_refused(opened, wanted).map(drop)
    }

    /// What was asked for must have been refused with this status.
    ///
    /// # Errors
    /// It was not.
    pub fn was_refused(&self, opened: Opened, wanted: u16) -> Check<Answer> {
        self.journal.wait_for(&format!("status {wanted}"));
        match opened {
            Opened::Refused(answer) if answer.status == wanted => Ok(answer),
            Opened::Refused(answer) => Err(self.mismatch(&status(&answer))),
            Opened::Socket(_) => Err(self.mismatch("status 101: the server let it in")),
        }
    }

    /// Sends a plain HTTP request.
    ///
    /// # Errors
    /// No answer.
    pub async fn http(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Check<Answer> {
        self.http_with(method, path, headers, "").await
    }

    /// The same with a body.
    ///
    /// # Errors
    /// No answer.
    pub async fn http_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Check<Answer> {
        self.journal.note(&format!("sent {method} {path} {body}"));
        let request = raw::request_with(&self.address, method, path, headers, body);
        let answer = self.within("an HTTP answer", request).await?;
        answer.map_err(|error| self.mismatch(&broken(&error)))
    }

    /// Sends a plain HTTP request to the admin port.
    ///
    /// # Errors
    /// No answer, or there is no such port.
    pub async fn admin(&self, method: &str, path: &str) -> Check<Answer> {
        self.journal.note(&format!("sent {method} {path} to the admin port"));
        let address = self.running.as_ref().and_then(Running::admin_address);
        self.journal.wait_for("a line \"admin on http://…\" before \"listening on …\"");
        let address = address.ok_or_else(|| self.mismatch("no such line"))?;
        let answer =
            self.within("an HTTP answer", raw::request(address, method, path, &[])).await?;
        answer.map_err(|error| self.mismatch(&broken(&error)))
    }

    /// Connects a client that has not said hello, and from milestone 5 on need not.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn connect(&self, base: &str) -> Check<Client> {
        self.connect_to(base, self.path()).await
    }

    /// The same at another path.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn connect_to(&self, base: &str, path: &str) -> Check<Client> {
        let wire = self.wire_at(base, path, &[]).await?;
        Ok(Client::new(wire, self))
    }

    /// Connects a client and says hello for it.
    ///
    /// # Errors
    /// The server refuses, or the name is not welcome.
    pub async fn greet(&self, base: &str) -> Check<Client> {
        let mut client = self.connect(base).await?;
        client.hello().await?;
        Ok(client)
    }

    /// Connects a client that can hear and be heard: from step 3 on, in the scenario's room.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn enter(&self, base: &str) -> Check<Client> {
        let mut client = self.greet(base).await?;
        if self.milestone >= 3 {
            let room = client.room.clone();
            client.join(&room).await?;
        }
        Ok(client)
    }

    /// The same for a client that reads only when the scenario does.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn enter_without_reading(&self, base: &str) -> Check<Wire> {
        let mut wire = self.wire(base).await?;
        if wire.welcome.is_none() {
            let hello = json!({"type": "hello", "name": self.name(base)});
            wire.send(&Frame::text(hello.to_string())).await;
            wire.expect_event("welcome").await?;
        }
        if self.milestone >= 3 {
            let join = json!({"type": "join", "room": self.name("room")});
            wire.send(&Frame::text(join.to_string())).await;
            wire.expect_event("joined").await?;
        }
        Ok(wire)
    }
}

/// Why a scenario is left out at a server that has rate limits, as far as we know.
fn limited() -> Stop {
    let reason = "it sends more at once than rate limits let pass, and only a URL was given";
    Stop::Skipped(reason.to_owned())
}

/// Why a scenario is left out at a server that keeps everything in Redis.
fn no_files() -> Stop {
    Stop::Skipped("it is about files, and this server keeps everything in Redis".to_owned())
}

/// Host and port of a URL.
fn address_of(url: &str) -> Check<String> {
    let unusable = || Stop::Skipped(format!("{url} is not a URL like ws://127.0.0.1:3001"));
    let (scheme, rest) = url.split_once("://").ok_or_else(unusable)?;
    let address = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match scheme {
        "ws" | "http" if address.contains(':') => Ok(address.to_owned()),
        "ws" | "http" if !address.is_empty() => Ok(format!("{address}:80")),
        _ => Err(unusable()),
    }
}

/// The status of an answer, for people.
pub fn status(answer: &Answer) -> String {
    format!("status {} {}", answer.status, answer.body.trim())
}

/// Silence, for people.
pub(crate) fn nothing(limit: Duration) -> String {
    format!("nothing for {} s", limit.as_secs())
}

/// A broken connection, for people.
pub(crate) fn broken(error: &io::Error) -> String {
    format!("a broken connection: {error}")
}
