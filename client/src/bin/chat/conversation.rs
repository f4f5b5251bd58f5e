// ANCHOR: all
//! The loop that carries lines to the server and events to the screen, from hello to goodbye. Where
//! the server keeps sessions, `resilient` has another one.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, bail};
use client::{
    ClientEvent, Close, Connection, Error, Options, Reader, ServerEvent, Session, Settings, Writer,
    account,
};
use tokio::time::{Instant, sleep_until, timeout};
use uuid::Uuid;

use crate::arguments::Arguments;
use crate::command::{self, Command};
use crate::console::{Console, Input};
use crate::display::Line;
use crate::resilient;
use crate::sign_in;
use crate::view::{Step, View};

/// How long the server may take to answer before we take it for dead.
const ANSWER: Duration = Duration::from_secs(5);

/// How long our goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

// ANCHOR: run
/// Connects, says who we are, and talks until the person, the script or the server ends it.
///
/// # Errors
/// A sentence that says what went wrong and what to do.
pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut options = Options { origin: arguments.origin.clone(), ..Options::default() };
    let result = talk(arguments, &mut options).await;
    if let Some(token) = options.token {
        // Nobody needs it any more. If the server can't hear that, the token ends by itself later.
        let _ = timeout(GOODBYE, account::logout(&arguments.url, &token)).await;
    }
    result
}

/// Opens a connection. Signs in before, if we were told to or the server wants us to.
async fn open(arguments: &Arguments, options: &mut Options) -> anyhow::Result<Connection> {
    if sign_in::is_wanted(arguments) {
        options.token = Some(sign_in::sign_in(arguments).await?);
    }
    match Connection::open_with(&arguments.url, options).await {
        Err(error) if error.wants_sign_in() && options.token.is_none() => {
            options.token = Some(sign_in::sign_in(arguments).await?);
            Ok(Connection::open_with(&arguments.url, options).await?)
        }
        opened => Ok(opened?),
    }
}

async fn talk(arguments: &Arguments, options: &mut Options) -> anyhow::Result<()> {
    let Arguments { url, name, room, .. } = arguments;
    let mut connection = open(arguments, options).await?;
    let (view, session) = match greet(&mut connection, name, options).await {
        Ok(welcome) => welcome,
        Err(error) => {
            let _ = connection.close().await;
            return Err(error);
        }
    };

    let console = Console::open().context("can't use this terminal")?;
    if let Some(session) = session {
        let settings = Settings { options: options.clone(), ..Settings::new(url) };
        let name = view.name().to_owned();
        let session = Session::adopt(settings, connection, name, session);
        return resilient::run(session, console, view, room.as_deref()).await;
    }
    let (reader, writer) = connection.into_split();
    let mut conversation = Conversation { reader, writer, console, view, answer_due: None };
    let result = conversation.hold(room.as_deref()).await;
    conversation.leave().await;
    result
}

/// Says hello, unless a token has said who we are, and waits until the server has taken the name.
/// If it keeps sessions, it gives ours.
async fn greet(
    connection: &mut Connection,
    name: &str,
    options: &Options,
) -> anyhow::Result<(View, Option<Uuid>)> {
    if options.token.is_none() {
        connection.send(&ClientEvent::hello(name)).await?;
    }
    timeout(ANSWER, welcome(connection, name)).await.with_context(|| {
        let seconds = ANSWER.as_secs();
        format!("the server has not said welcome within {seconds} seconds: is it a chat, and is it alive?")
    })?
}

async fn welcome(
    connection: &mut Connection,
    wanted: &str,
) -> anyhow::Result<(View, Option<Uuid>)> {
    while let Some(event) = connection.next().await? {
        match event {
            ServerEvent::Welcome { name, users, session, .. } => {
                return Ok((View::new(name, users), session));
            }
            ServerEvent::Error { code, message, .. }
                if code == "name_taken" || code == "bad_name" =>
            {
                return Err(sign_in::name_refused(wanted, &message));
            }
            ServerEvent::Error { code, message, .. } => {
                bail!("the server does not let us in: {message} ({code})")
            }
            _ => {}
        }
    }
    Err(ended(connection.closed()).into())
}
// ANCHOR_END: run

// ANCHOR: conversation
/// A conversation after the welcome.
struct Conversation {
    reader: Reader,
    writer: Writer,
    console: Console,
    view: View,
    /// Until when the server has to answer what we sent last.
    answer_due: Option<Instant>,
}

impl Conversation {
    /// Talks until somebody ends it. A line from a pipe waits for the answer to the one before, so
    /// that a script's lines act in their order, and nothing is on its way when the pipe ends.
    async fn hold(&mut self, room: Option<&str>) -> anyhow::Result<()> {
        let greeting = self.view.greeting();
        self.show(&greeting)?;
        if let Some(room) = room {
            self.act(Command::Join(room.to_owned())).await?;
        }
        let mut stop = pin!(stop_signal());
        loop {
            let due = self.answer_due.filter(|_| self.console.is_pipe());
            tokio::select! {
                biased;
                () = &mut stop => return Ok(()),
                // First, so that the screen keeps up with a server that never pauses.
                input = self.console.next(), if due.is_none() => match input? {
                    Input::Line(line) if self.typed(&line).await? => return Ok(()),
                    Input::Line(_) => {}
                    Input::End => return Ok(()),
                },
                event = self.reader.next() => self.heard(event)?,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    bail!("the server has not answered within {} seconds: the last line may be lost", ANSWER.as_secs())
                }
            }
        }
    }
}
// ANCHOR_END: conversation

// ANCHOR: typed
impl Conversation {
    /// Does what a line asks for. Gives whether that was to leave.
    async fn typed(&mut self, line: &str) -> anyhow::Result<bool> {
        match command::parse(line) {
            Ok(Some(command)) => return self.act(command).await,
            Ok(None) => {}
            Err(mistake) => self.show(&[Line::mistake(mistake.to_string())])?,
        }
        Ok(false)
    }

    async fn act(&mut self, command: Command) -> anyhow::Result<bool> {
        match self.view.ask(command) {
            Step::Send(event) => self.send(&event).await?,
            Step::Show(lines) => self.show(&lines)?,
            Step::Quit => return Ok(true),
        }
        Ok(false)
    }

    async fn send(&mut self, event: &ClientEvent) -> anyhow::Result<()> {
        let sent = timeout(ANSWER, self.writer.send(event)).await;
        match sent.context("the server takes nothing more: it may be frozen")? {
            Err(error @ Error::TooLong { .. }) => {
                self.show(&[Line::mistake(format!("Not sent: {error}"))])?;
            }
            // If the connection is over, the reader tells why: the close frame is on its side.
            Ok(()) | Err(_) => self.answer_due = Some(Instant::now() + ANSWER),
        }
        self.console.turn_to(self.view.current(), "")?;
        Ok(())
    }
}
// ANCHOR_END: typed

// ANCHOR: heard
impl Conversation {
    /// Shows what came from the server.
    fn heard(&mut self, event: Result<Option<ServerEvent>, Error>) -> anyhow::Result<()> {
        let event = match event {
            Ok(Some(event)) => event,
            Ok(None) => return Err(ended(self.reader.closed()).into()),
            Err(error @ Error::BadEvent { .. }) => {
                return self.show(&[Line::mistake(error.to_string())]);
            }
            Err(error) => return Err(error.into()),
        };
        if self.view.is_answer(&event) {
            self.answer_due = None;
        }
        let lines = self.view.take(event);
        self.show(&lines)
    }

    fn show(&mut self, lines: &[Line]) -> anyhow::Result<()> {
        self.console.show(lines)?;
        self.console.turn_to(self.view.current(), "")?;
        Ok(())
    }
}

/// Why the server's side of the conversation has ended.
fn ended(close: Option<&Close>) -> Error {
    match close {
        Some(close) => Error::Closed(close.clone()),
        None => Error::Lost { problem: "it ended without a goodbye".to_owned() },
    }
}
// ANCHOR_END: heard

// ANCHOR: leave
impl Conversation {
    /// Gives the terminal back, says goodbye with code 1000, and waits for the server's goodbye.
    async fn leave(self) {
        let Self { mut reader, mut writer, console, .. } = self;
        let _ = console.close();
        // If the connection is over already, there is nobody to say goodbye to.
        let _ = timeout(GOODBYE, async {
            if writer.close().await.is_ok() {
                while let Ok(Some(_)) = reader.next().await {}
            }
        })
        .await;
    }
}

/// Waits for Ctrl-C where no terminal makes a key of it, or for a request to end.
pub async fn stop_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
// ANCHOR_END: leave
// ANCHOR_END: all
