// ANCHOR: all
//! One client of the swarm: a session in one room, which talks when it is told to.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use client::backoff::random;
use client::{ClientEvent, Delivery, Event, ServerEvent, Session, State};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::arguments::Arguments;
use crate::tally::Tally;

/// What the clients are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Listen.
    Quiet,
    /// Say something now and then.
    Talking,
    /// Say goodbye.
    Over,
}

// ANCHOR: member
/// A client.
pub struct Member {
    index: usize,
    room: String,
    session: Session,
    tally: Arc<Tally>,
    phase: watch::Receiver<Phase>,
    pace: Pace,
    /// When we said what is not stored yet; a session stores the messages for a room in order.
    spoken: VecDeque<Instant>,
    /// How often the whole swarm has been cut when we looked last.
    cuts: usize,
}

/// When to speak.
enum Pace {
    /// Never.
    Silent,
    /// So often, and next time then.
    Every { period: Duration, next: Instant },
    /// As soon as the last message is stored.
    Eager { is_waiting: bool },
}

impl Member {
    /// A client with a new session.
    pub fn new(
        arguments: &Arguments,
        index: usize,
        run: &str,
        session: Session,
        tally: Arc<Tally>,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        let room = format!("swarm-{run}-{}", tally.room_of(index));
        // A new session has room for one order.
        let _ = session.send(ClientEvent::join(&room));
        let pace = match arguments.senders {
            Some(senders) if index < senders => Pace::Eager { is_waiting: false },
            Some(_) => Pace::Silent,
            None => {
                let period =
                    Duration::from_secs_f64(arguments.clients as f64 / arguments.rate as f64);
                Pace::Every { period, next: Instant::now() }
            }
        };
        Self { index, room, session, tally, phase, pace, spoken: VecDeque::new(), cuts: 0 }
    }

    /// Runs until the swarm is over.
    pub async fn run(mut self) {
        loop {
            let is_talking = *self.phase.borrow() == Phase::Talking;
            tokio::select! {
                event = self.session.next() => match event {
                    Some(event) => self.heard(event),
                    None => return,
                },
                changed = self.phase.changed() => {
                    if changed.is_err() || *self.phase.borrow() == Phase::Over {
                        return self.session.close().await;
                    }
                    self.begin();
                }
                () = turn(&self.pace), if is_talking => self.speak(),
            }
        }
    }

    /// Begins a phase.
    fn begin(&mut self) {
        let cuts = self.tally.cuts();
        if cuts > self.cuts {
            self.cuts = cuts;
            let _ = self.session.cut();
        } else if let Pace::Every { period, next } = &mut self.pace {
            // Spread, as people are.
            *next = Instant::now() + period.mul_f64(random());
        }
    }

    fn speak(&mut self) {
        let text = self.tally.stamp();
        // If the outbox is full, this one is not said: a swarm that can't keep up says less.
        let said = self.session.send(ClientEvent::message(Some(self.room.clone()), text));
        self.tally.said(said.is_ok());
        if said.is_ok() {
            self.spoken.push_back(Instant::now());
        }
        match &mut self.pace {
            Pace::Silent => {}
            Pace::Every { period, next } => *next += *period,
            Pace::Eager { is_waiting } => *is_waiting = said.is_ok(),
        }
    }

    fn heard(&mut self, event: Event) {
        match event {
            Event::Came(ServerEvent::Joined { history, gap, .. }) => {
                history.into_iter().for_each(|event| self.seen(event));
                self.tally.joined(self.index, gap);
            }
            Event::Came(event) => self.seen(event),
            Event::Delivery { id, delivery } => {
                match delivery {
                    Delivery::Sent { seq, .. } => {
                        let took = self.spoken.pop_front().map(|said| said.elapsed());
                        self.tally.stored(self.index, seq, id, took);
                    }
                    Delivery::Failed { code, .. } => {
                        self.spoken.pop_front();
                        self.tally.failed(&code);
                    }
                }
                if let Pace::Eager { is_waiting } = &mut self.pace {
                    *is_waiting = false;
                }
            }
            Event::State(State::Waiting { why, .. }) => self.tally.problem(&why),
            Event::State(State::Ended(why)) => self.tally.ended(&why),
            Event::State(State::Connecting | State::Connected | State::Degraded) => {}
        }
    }

    fn seen(&self, event: ServerEvent) {
        if let ServerEvent::Message { seq: Some(seq), id, text, .. } = event {
            self.tally.seen(self.index, seq, id, &text);
        }
    }
}

/// Waits until it is time to speak.
async fn turn(pace: &Pace) {
    match pace {
        Pace::Every { next, .. } => sleep_until(*next).await,
        Pace::Eager { is_waiting: false } => {}
        Pace::Silent | Pace::Eager { is_waiting: true } => std::future::pending().await,
    }
}
// ANCHOR_END: member
// ANCHOR_END: all
