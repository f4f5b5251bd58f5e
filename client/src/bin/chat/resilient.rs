// ANCHOR: all
//! The loop with a server that keeps sessions: it goes on while there is no connection, and says so.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use anyhow::{anyhow, bail};
use client::{ClientEvent, Delivery, Error, Event, ServerEvent, Session, State};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::command::{self, Command};
use crate::console::{Console, Input};
use crate::conversation::stop_signal;
use crate::display::Line;
use crate::view::{Step, View};

/// How long a line from a pipe waits for its answer. A server that restarts is back by then.
const PATIENCE: Duration = Duration::from_secs(60);

/// After this long a message is late, and the person is told that it waits.
const LATE: Duration = Duration::from_secs(1);

/// How often the line to type in shows how long it takes until the next attempt.
const TICK: Duration = Duration::from_secs(1);

// ANCHOR: resilient
/// A conversation over any number of connections.
struct Resilient {
    session: Session,
    console: Console,
    view: View,
    wire: Wire,
    /// What we have said and the server has not stored yet, oldest first.
    pending: VecDeque<Pending>,
    /// What the next line out of a pipe waits for, and until when.
    due: Option<(Answer, Instant)>,
    /// The person wants to leave although something is pending.
    is_leaving: bool,
}

/// A message that is not stored yet.
struct Pending {
    id: Uuid,
    since: Instant,
}

/// How the connection is doing.
enum Wire {
    Up,
    /// The server can't store messages.
    Degraded,
    Connecting,
    /// The next attempt is made then.
    Down(Instant),
}

/// The answer that a line gets.
enum Answer {
    Delivery(Uuid),
    Joined(String),
    Left,
    Rooms,
}

/// Talks until somebody ends it for good.
///
/// # Errors
/// A sentence that says what went wrong, or how many messages have not been stored.
pub async fn run(
    session: Session,
    console: Console,
    view: View,
    room: Option<&str>,
) -> anyhow::Result<()> {
    let (wire, pending) = (Wire::Up, VecDeque::new());
    let mut resilient =
        Resilient { session, console, view, wire, pending, due: None, is_leaving: false };
    let result = resilient.hold(room).await;
    let Resilient { session, console, pending, .. } = resilient;
    let _ = console.close();
    session.close().await;
    result.and_then(|()| match pending.len() {
        0 => Ok(()),
        1 => Err(anyhow!("1 message has not been stored")),
        count => Err(anyhow!("{count} messages have not been stored")),
    })
}

impl Resilient {
    /// Talks. As in the simpler loop, a line from a pipe waits for the answer to the one before.
    async fn hold(&mut self, room: Option<&str>) -> anyhow::Result<()> {
        let greeting = self.view.greeting();
        self.show(&greeting)?;
        if let Some(room) = room {
            self.act(Command::Join(room.to_owned()))?;
        }
        let mut stop = pin!(stop_signal());
        loop {
            let due = self.due.as_ref().map(|(_, until)| *until);
            let tick = self.next_tick();
            tokio::select! {
                biased;
                () = &mut stop => return Ok(()),
                input = self.console.next(), if due.is_none() => match input? {
                    Input::Line(line) if !self.typed(&line)? => {}
                    Input::Line(_) | Input::End => if self.leave()? {
                        return Ok(());
                    },
                },
                event = self.session.next() => match event {
                    Some(event) => self.heard(event)?,
                    None => bail!("the session has ended"),
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    bail!("the server has not answered within {} seconds: the last line may be lost", PATIENCE.as_secs())
                }
                () = sleep_until(tick.unwrap_or_else(Instant::now)), if tick.is_some() => {
                    self.turn()?;
                }
            }
        }
    }

    /// Gives whether to leave now. Who would leave something behind has to say so twice.
    fn leave(&mut self) -> anyhow::Result<bool> {
        if self.pending.is_empty() || self.is_leaving || self.console.is_pipe() {
            return Ok(true);
        }
        self.is_leaving = true;
        let count = waiting(self.pending.len());
        self.show(&[Line::mistake(format!("{count}. Leave once more to leave without."))])?;
        Ok(false)
    }
}
// ANCHOR_END: resilient

// ANCHOR: typed
impl Resilient {
    /// Does what a line asks for. Gives whether that was to leave.
    fn typed(&mut self, line: &str) -> anyhow::Result<bool> {
        match command::parse(line) {
            Ok(Some(command)) => return self.act(command),
            Ok(None) => {}
            Err(mistake) => self.show(&[Line::mistake(mistake.to_string())])?,
        }
        Ok(false)
    }

    fn act(&mut self, command: Command) -> anyhow::Result<bool> {
        match self.view.ask(command) {
            Step::Send(event) => self.send(event)?,
            Step::Show(lines) => self.show(&lines)?,
            Step::Quit => return Ok(true),
        }
        Ok(false)
    }

    fn send(&mut self, event: ClientEvent) -> anyhow::Result<()> {
        self.is_leaving = false;
        let answer = match &event {
            ClientEvent::Join { room, .. } => Some(Answer::Joined(room.clone())),
            ClientEvent::Leave { .. } => Some(Answer::Left),
            ClientEvent::Rooms => Some(Answer::Rooms),
            _ => None,
        };
        let text = preview(&event);
        let answer = match self.session.send(event) {
            Ok(Some(id)) => {
                self.pending.push_back(Pending { id, since: Instant::now() });
                if !matches!(self.wire, Wire::Up) {
                    self.show(&[Line::waiting(&text)])?;
                }
                Some(Answer::Delivery(id))
            }
            Ok(None) => answer,
            Err(rejected) => {
                self.show(&[Line::mistake(format!("Not sent: {rejected}"))])?;
                None
            }
        };
        if self.console.is_pipe() {
            self.due = answer.map(|answer| (answer, Instant::now() + PATIENCE));
        }
        self.turn()
    }
}

/// How a message looks while it waits.
fn preview(event: &ClientEvent) -> String {
    match event {
        ClientEvent::Message { room: Some(room), text, .. } => format!("[{room}] {text}"),
        ClientEvent::Direct { to, text, .. } => format!("you -> {to}: {text}"),
        _ => String::new(),
    }
}
// ANCHOR_END: typed

// ANCHOR: heard
impl Resilient {
    /// Shows what the session tells.
    fn heard(&mut self, event: Event) -> anyhow::Result<()> {
        self.settle(&event);
        let lines = match event {
            Event::Came(event) => self.view.take(event),
            Event::State(state) => self.changed(state)?,
            Event::Delivery { id, delivery } => {
                self.pending.retain(|pending| pending.id != id);
                match delivery {
                    Delivery::Sent { .. } => vec![],
                    Delivery::Failed { message, text, .. } => {
                        vec![Line::mistake(format!("Not sent: {message} ({text})"))]
                    }
                }
            }
        };
        self.show(&lines)
    }

    /// Notes whether the answer has come that the next line waits for.
    fn settle(&mut self, event: &Event) {
        let is_answer = |answer: &Answer| match (answer, event) {
            (Answer::Delivery(wanted), Event::Delivery { id, .. }) => id == wanted,
            (Answer::Joined(wanted), Event::Came(ServerEvent::Joined { room, .. })) => {
                room == wanted
            }
            (Answer::Left, Event::Came(ServerEvent::Left { .. }))
            | (Answer::Rooms, Event::Came(ServerEvent::Rooms { .. })) => true,
            (
                Answer::Joined(_) | Answer::Left | Answer::Rooms,
                Event::Came(ServerEvent::Error { .. }),
            ) => true,
            _ => false,
        };
        self.due.take_if(|(answer, _)| is_answer(answer));
    }

    /// What to say about another state. Only the first of many attempts in a row is worth a line.
    fn changed(&mut self, state: State) -> Result<Vec<Line>, Error> {
        let was_up = matches!(self.wire, Wire::Up | Wire::Degraded);
        let (wire, text) = match state {
            State::Connecting => (Wire::Connecting, None),
            State::Waiting { delay, why } => {
                let text = format!("Offline, trying again in {}: {}", seconds(delay), short(&why));
                (Wire::Down(Instant::now() + delay), was_up.then_some(text))
            }
            State::Connected => (Wire::Up, self.good_news()),
            State::Degraded => {
                let text = "The server can't store messages for now. What you write waits.";
                (Wire::Degraded, Some(text.to_owned()))
            }
            State::Ended(why) => return Err(why),
        };
        self.wire = wire;
        Ok(text.map(Line::notice).into_iter().collect())
    }

    fn good_news(&self) -> Option<String> {
        let what = match self.wire {
            Wire::Up => return None,
            Wire::Degraded => "The server stores messages again",
            Wire::Connecting | Wire::Down(_) => "Connected again",
        };
        Some(match self.pending.len() {
            0 => format!("{what}."),
            count => format!("{what}; sending what waits ({count})."),
        })
    }

    fn show(&mut self, lines: &[Line]) -> anyhow::Result<()> {
        self.console.show(lines)?;
        self.turn()
    }
}
// ANCHOR_END: heard

// ANCHOR: status
impl Resilient {
    /// Brings what stands before the line to type in up to date.
    fn turn(&mut self) -> anyhow::Result<()> {
        let status = self.status(Instant::now());
        self.console.turn_to(self.view.current(), &status)?;
        Ok(())
    }

    /// What keeps messages from getting through, in a few words; nothing if nothing does.
    fn status(&self, now: Instant) -> String {
        let wire = match self.wire {
            Wire::Up => None,
            Wire::Degraded => Some("not storing for now".to_owned()),
            Wire::Connecting => Some("connecting".to_owned()),
            Wire::Down(next) => {
                Some(format!("reconnecting in {}", seconds(next.saturating_duration_since(now))))
            }
        };
        let oldest = self.pending.front().map(|pending| now.duration_since(pending.since));
        let is_late = wire.is_some() || oldest >= Some(LATE);
        let pending = Some(self.pending.len()).filter(|count| *count > 0 && is_late).map(waiting);
        Vec::from_iter(wire.into_iter().chain(pending)).join(", ")
    }

    /// When that changes by itself.
    fn next_tick(&self) -> Option<Instant> {
        let counts = matches!(self.wire, Wire::Down(_)) || !self.pending.is_empty();
        counts.then(|| Instant::now() + TICK)
    }
}

/// What went wrong, without the advice to do what the session does anyway.
fn short(why: &Error) -> String {
    match why {
        Error::Lost { .. } => "the connection was lost".to_owned(),
        Error::Closed(close) => close.meaning().to_owned(),
        why => why.to_string(),
    }
}

/// How many messages wait, in words.
fn waiting(count: usize) -> String {
    if count == 1 {
        "1 message is waiting".to_owned()
    } else {
        format!("{count} messages are waiting")
    }
}

/// A time to wait in whole seconds, never zero.
fn seconds(time: Duration) -> String {
    format!("{} s", time.as_millis().div_ceil(1000).max(1))
}
// ANCHOR_END: status

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_numbers_are_said_in_words() {
        assert_eq!(seconds(Duration::ZERO), "1 s");
        assert_eq!(seconds(Duration::from_millis(2001)), "3 s");
        assert_eq!(
            (waiting(1), waiting(2)),
            ("1 message is waiting".into(), "2 messages are waiting".into())
        );
    }

    #[test]
    fn what_waits_is_shown_with_where_it_goes() {
        let message = ClientEvent::message(Some("rust".into()), "hi");
        assert_eq!(preview(&message), "[rust] hi");
        assert_eq!(preview(&ClientEvent::direct("grace", "psst")), "you -> grace: psst");
    }
}
// ANCHOR_END: all
